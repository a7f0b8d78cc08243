"""Greedy generation in batches: the same texts as one prompt at a time, to the precision of the model.

Prompts go by length, padded on the left, through transformers' `generate`. Whatever a checkpoint's generation
configuration says about sampling, beams or penalties is left aside: only its special tokens count.

Whenever half of a batch has ended, the other half goes on alone with its keys and values. A model whose cache is more
than these, such as a recurrent one, gets prompts of one length a batch, without padding, and all of them are computed
until the last has ended.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList

from taskmix_trainer.evaluation.choices import Tokens, prompt_tokens
from taskmix_trainer.evaluation.ranking import TOKENS_PER_BATCH, cache_name, evaluating, has_plain_cache, padded

_KEPT = ("bos_token_id", "decoder_start_token_id", "forced_bos_token_id")


@dataclass(frozen=True)
class Generated:
    """What a model wrote after one prompt.

    Attributes:
        text: without special tokens, and without the stop string and what followed it.
        tokens: how many tokens were generated, the end token included.
        ended: by the end token, by a stop string, or at the greatest length.
    """

    text: str
    tokens: int
    ended: Literal["end", "stop", "length"]


@dataclass(frozen=True)
class Generation:
    """The texts in the order of the prompts, and how many prompts lost tokens at their start."""

    generated: tuple[Generated, ...]
    truncated: int

    @property
    def endless(self) -> int:
        """Return how many texts came to no end by themselves."""
        return sum(each.ended == "length" for each in self.generated)


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 128,
    stops: Sequence[str] = (),
    max_length: int | None = None,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    complete: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> Generation:
    """Return the most likely continuation, token by token, of each prompt.

    Args:
        model: causal or encoder-decoder. It is in evaluation mode meanwhile.
        tokenizer: the model's; its start tokens come first if it adds such to texts, and once only.
        prompts: the texts that are given.
        max_new_tokens: how many tokens are written at most.
        stops: texts that end the answer, such as what parts worked examples; they count in what is generated alone.
        max_length: how many tokens the model takes. Prompts lose tokens at their start so that the answer fits.
        tokens_per_batch: an upper bound, padding and answers included; a prompt that is larger is a batch of its own.
        complete: whether prompts have all special tokens already, as chats have by their template.
        progress: called with the number of prompts that are done, after each batch.

    Raises:
        ValueError: a stop string is empty, or `max_new_tokens` is not positive.
    """
    if max_new_tokens < 1 or not all(stops):
        raise ValueError("max_new_tokens is positive, and no stop string is empty")
    encoder = bool(model.config.is_encoder_decoder)
    given = prompt_tokens(tokenizer, prompts, encoder, complete=complete)
    room = None if max_length is None else max(1, max_length if encoder else max_length - max_new_tokens)
    new = max_new_tokens if max_length is None else min(max_new_tokens, max(1, max_length - (0 if encoder else 1)))
    kept = [each.last(room) for each in given]
    config = _config(model, tokenizer, new)
    ends = frozenset(_ids(config.eos_token_id))
    plain = has_plain_cache(model)
    found: list[Generated | None] = [None] * len(prompts)
    done = 0
    with evaluating(model), _generation_config(model, config):
        for batch in _batches(kept, new, tokens_per_batch, padless=not encoder and not plain):
            stopping = _Stopping(tokenizer, stops, ends, leaves=plain)
            for at, row in _written(model, [kept[at] for at in batch], config, stopping):
                found[batch[at]] = _finished(tokenizer, row, ends, stops)
            done += len(batch)
            progress(done)
    return Generation(
        generated=tuple(each for each in found if each is not None),
        truncated=sum(len(one) != len(other.tokens) for one, other in zip(kept, given, strict=True)),
    )


def _written(
    model: Any, prompts: Sequence[Tokens], config: GenerationConfig, stopping: "_Stopping"
) -> Iterator[tuple[int, list[int]]]:
    """Yield the index of each prompt with the new tokens after it, and whatever fills them up, when it has ended."""
    encoder = bool(model.config.is_encoder_decoder)
    ids, mask = padded(prompts, model.device, left=not encoder)
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    if encoder:
        # read once, since it goes on with some of it
        encoded = model.get_encoder()(**given)
        given = {"encoder_outputs": encoded, "attention_mask": mask}
    stopping.start = 1 if encoder else ids.shape[1]
    members, most = list(range(len(prompts))), config.max_new_tokens
    config = copy.deepcopy(config)
    while members:
        stopping.begin(len(members))
        made = model.generate(
            **given,
            generation_config=config,
            stopping_criteria=StoppingCriteriaList([stopping]),
        )
        new = made.sequences[:, stopping.start :].tolist()
        config.max_new_tokens = most - len(new[0])
        left = stopping.going if config.max_new_tokens else []
        for at in sorted(set(range(len(members))) - set(left)):
            yield members[at], new[at]
        members = [members[at] for at in left]
        if members:
            given = _going_on(model, given, made, torch.tensor(left, device=model.device))


def _going_on(model: Any, given: Mapping[str, Any], made: Any, rows: Tensor) -> dict[str, Any]:
    """Return what `generate` takes to go on with some rows."""
    name = cache_name(model)
    cache = made[name]
    cache.batch_select_indices(rows)
    ids, mask = made.sequences[rows], given["attention_mask"][rows]
    if "encoder_outputs" in given:
        given["encoder_outputs"]["last_hidden_state"] = given["encoder_outputs"]["last_hidden_state"][rows]
        # without their mask, all tokens would be read again
        own = {"decoder_input_ids": ids, "decoder_attention_mask": torch.ones_like(ids)}
        return {**given, **own, "attention_mask": mask, name: cache}
    whole = torch.nn.functional.pad(mask, (0, ids.shape[1] - mask.shape[1]), value=1)
    return {"input_ids": ids, "attention_mask": whole, name: cache}


class _Stopping(StoppingCriteria):
    """Ends the rows whose new text has a stop string; what a prompt ends on is no part of it.

    Where rows can leave a batch, it ends all when so many have that the others had better go on without them.

    Attributes:
        start: where new text starts.
        going: the rows that have not ended.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str], ends: frozenset[int], *, leaves: bool
    ) -> None:
        self.tokenizer, self.stops, self.ends, self.leaves = tokenizer, stops, ends, leaves
        # a token has at least a byte, but for marks that decode to nothing
        self.reach = max((len(stop.encode()) for stop in stops), default=0) + 8
        self.start = 0
        self.begin(0)

    def begin(self, rows: int) -> None:
        """Take all of so many rows for going."""
        self.rows, self.going = rows, list(range(rows))

    def __call__(self, input_ids: Any, scores: Any, **options: Any) -> Any:
        new = input_ids[:, self.start :]
        last = new[:, -1].tolist()
        self.going = [at for at in self.going if last[at] not in self.ends]
        if self.stops:
            rows = new.tolist()
            self.going = [
                at for at in self.going if not (self._has_stop(rows[at][-self.reach :]) and self._has_stop(rows[at]))
            ]
        done = torch.ones(self.rows, dtype=torch.bool, device=input_ids.device)
        if not (self.leaves and len(self.going) * 2 <= self.rows):
            done[self.going] = False
        return done

    def _has_stop(self, tokens: list[int]) -> bool:
        text = _text(self.tokenizer, tokens)
        return any(stop in text for stop in self.stops)


def _finished(
    tokenizer: PreTrainedTokenizerBase, row: list[int], ends: frozenset[int], stops: Sequence[str]
) -> Generated:
    """Return the answer that a row of new tokens, with whatever fills it up, holds."""
    end = next((at for at, token in enumerate(row) if token in ends), None)
    text = _text(tokenizer, row if end is None else row[:end])
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    if places:
        return Generated(text[: min(places)], _tokens_until_stop(tokenizer, row, stops), "stop")
    if end is not None:
        return Generated(text, end + 1, "end")
    return Generated(text, len(row), "length")


def _tokens_until_stop(tokenizer: PreTrainedTokenizerBase, row: list[int], stops: Sequence[str]) -> int:
    """Return how many tokens it takes until the text has a stop string."""
    low, high = 1, len(row)
    while low < high:
        middle = (low + high) // 2
        text = _text(tokenizer, row[:middle])
        low, high = (low, middle) if any(stop in text for stop in stops) else (middle + 1, high)
    return low


def _text(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _batches(rows: Sequence[Tokens], new: int, tokens: int, padless: bool) -> Iterator[list[int]]:
    """Yield the indices of rows, longest first, in batches of at most so many tokens with padding and answers."""
    batch: list[int] = []
    longest = 0
    for at in sorted(range(len(rows)), key=lambda at: (-len(rows[at]), at)):
        if batch and ((len(batch) + 1) * (longest + new) > tokens or (padless and len(rows[at]) != longest)):
            yield batch
            batch = []
        longest = longest if batch else len(rows[at])
        batch.append(at)
    if batch:
        yield batch


def _ids(value: Any) -> list[int]:
    return [] if value is None else [int(each) for each in (value if isinstance(value, list | tuple) else [value])]


def _config(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, new: int) -> GenerationConfig:
    """Return a greedy configuration that has the model's special tokens and nothing else of it."""
    own = model.generation_config
    ends = dict.fromkeys([*_ids(getattr(own, "eos_token_id", None)), *_ids(tokenizer.eos_token_id)])
    pads = [*_ids(tokenizer.pad_token_id), *_ids(getattr(own, "pad_token_id", None)), *ends, 0]
    kept = {name: getattr(own, name, None) for name in _KEPT}
    if model.config.is_encoder_decoder and kept["decoder_start_token_id"] is None:
        kept["decoder_start_token_id"] = getattr(model.config, "decoder_start_token_id", None)
    made: Any = GenerationConfig
    config: GenerationConfig = made(
        do_sample=False,
        num_beams=1,
        max_new_tokens=new,
        eos_token_id=list(ends) or None,
        pad_token_id=pads[0],
        return_dict_in_generate=True,
        **{name: value for name, value in kept.items() if value is not None},
    )
    return config


@contextmanager
def _generation_config(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """Give the model this configuration for a while, from which `generate` fills in what the given one leaves open."""
    own = model.generation_config
    model.generation_config = copy.deepcopy(config)
    try:
        yield
    finally:
        model.generation_config = own

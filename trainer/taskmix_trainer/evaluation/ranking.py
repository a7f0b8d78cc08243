"""Rank classification: which of its choices a model finds most likely after a prompt.

The score of a choice is the sum of the log-probabilities of its tokens (T0, Sanh et al. 2022; lm-evaluation-harness'
`acc`), or that divided by the number of its characters (`acc_norm`). Sums are in natural logarithms, in fp32 from the
model's logits on.

A prompt is read once for all of its choices: its keys and values are computed in a batch padded on the left, and
repeated for each choice. That is exact where a layer's cache is the keys and values of the tokens themselves; other
models (recurrent layers, caches of their own) read prompt and choice together, padded on the right. A probe before the
first batch compares both ways on the model at hand, and falls back where they differ. Choices that differ in their last
token alone, such as letters, need one pass together.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from taskmix_trainer.evaluation.choices import Question, Tokens

TOKENS_PER_BATCH = 16_384
_LOGITS_PER_BATCH = 1 << 28
"""How many logits a batch may have: 1 GiB in fp32."""


@dataclass(frozen=True)
class Ranked:
    """The summed log-likelihood of each choice, and its length in characters."""

    sums: tuple[float, ...]
    characters: tuple[int, ...]

    @property
    def per_character(self) -> tuple[float, ...]:
        """Return the sums divided by the choices' lengths."""
        return tuple(each / length for each, length in zip(self.sums, self.characters, strict=True))

    @property
    def best(self) -> int:
        """Return the index of the most likely choice; the first of equals, which choices of the same tokens are."""
        return int(np.argmax(self.sums))

    @property
    def best_per_character(self) -> int:
        """Return the index of the most likely choice for its length; the first of equals."""
        return int(np.argmax(self.per_character))


@dataclass(frozen=True)
class Ranking:
    """All questions in their order, and what to tell about them.

    Attributes:
        ranked: a result a question.
        truncated: how many prompts lost tokens at their start.
        choices_cut: how many choices lost tokens at their end.
        cached: whether prompts were read once for all of their choices.
        tokens: how many tokens went through the model, without padding.
    """

    ranked: tuple[Ranked, ...]
    truncated: int
    choices_cut: int
    cached: bool
    tokens: int


@dataclass(frozen=True)
class _Pass:
    """A question as passes of the model: `inputs` are what follows the prefix, each of them once.

    `targets` are, for each choice that is unlike those before it, the index of its input and its tokens.
    """

    index: int
    prefix: Tokens
    inputs: list[Tokens] = field(default_factory=list)
    targets: dict[Tokens, int] = field(default_factory=dict)

    @property
    def width(self) -> int:
        return max(map(len, self.targets))


def rank(
    model: PreTrainedModel,
    questions: Sequence[Question],
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    cached: bool | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Ranking:
    """Return the log-likelihoods of the choices of each question.

    Args:
        model: causal or encoder-decoder, on any device, in any precision. It is in evaluation mode meanwhile.
        questions: made by `causal_questions` or `encoder_questions`, as the model is.
        tokens_per_batch: an upper bound, padding included; a question that is larger is a batch of its own.
        cached: whether to read prompts once for all of their choices; by default where that is exact.
        progress: called with the number of questions that are done, after each batch.
    """
    passes = [_passes(index, question) for index, question in enumerate(questions)]
    scores: list[dict[Tokens, float]] = [{} for _ in questions]
    seen = tokens = 0
    with evaluating(model):
        encoder = bool(model.config.is_encoder_decoder)
        may_cache = not encoder and cached is not False and any(_shares(each) for each in passes)
        if may_cache and cached is None:
            may_cache = _caches_exactly(model)
        groups: list[tuple[list[_Pass], Callable[[PreTrainedModel, list[_Pass]], list[Tensor]], bool]] = []
        if encoder:
            groups.append((passes, _encoded, False))
        else:
            groups.append(([each for each in passes if may_cache and _shares(each)], _with_cache, False))
            groups.append(([each for each in passes if not (may_cache and _shares(each))], _together, True))
        for group, forward, repeats in groups:
            for batch in _batches(group, tokens_per_batch, _vocabulary(model)):
                tokens += sum(_tokens(each, repeats) for each in batch)
                for each, found in zip(batch, forward(model, batch), strict=True):
                    scores[each.index] = dict(zip(each.targets, found.tolist(), strict=True))
                seen += len(batch)
                progress(seen)
    return Ranking(
        ranked=tuple(
            Ranked(tuple(found[choice] for choice in question.choices), question.characters)
            for question, found in zip(questions, scores, strict=True)
        ),
        truncated=sum(question.cut > 0 for question in questions),
        choices_cut=sum(question.choices_cut for question in questions),
        cached=may_cache,
        tokens=tokens,
    )


def _passes(index: int, question: Question) -> _Pass:
    found = _Pass(index, question.prefix)
    places: dict[Tokens, int] = {}
    for choice in question.choices:
        found.targets[choice] = places.setdefault(choice[:-1], len(places))
    found.inputs.extend(places)
    return found


def _shares(each: _Pass) -> bool:
    """Whether several passes share a prefix of which more than the last token can be kept."""
    return len(each.inputs) > 1 and len(each.prefix) > 1


def _tokens(each: _Pass, repeats: bool) -> int:
    own = sum(map(len, each.inputs))
    return own + len(each.prefix) * len(each.inputs) if repeats else own + len(each.inputs) + len(each.prefix) - 1


def _batches(passes: list[_Pass], tokens: int, vocabulary: int) -> Iterator[list[_Pass]]:
    """Yield the passes, longest first, in batches of at most so many tokens after padding, and of bounded logits."""
    batch: list[_Pass] = []
    rows = longest = width = 0
    for each in sorted(passes, key=lambda one: (-len(one.prefix) - one.width, one.index)):
        more = rows + len(each.inputs)
        long, wide = max(longest, len(each.prefix)), max(width, each.width)
        if batch and (
            more * (long + wide) > tokens
            or more * (wide + long - min(map(_prefix, [*batch, each]))) * vocabulary > _LOGITS_PER_BATCH
        ):
            yield batch
            batch, more, long, wide = [], len(each.inputs), len(each.prefix), each.width
        batch.append(each)
        rows, longest, width = more, long, wide
    if batch:
        yield batch


def _prefix(each: _Pass) -> int:
    return len(each.prefix)


def _together(model: PreTrainedModel, batch: list[_Pass]) -> list[Tensor]:
    """Score with prefix and choice in one row, padded on the right, which no causal model sees."""
    rows = [each.prefix + own for each in batch for own in each.inputs]
    ids, mask = padded(rows, model.device)
    first = min(map(_prefix, batch)) - 1
    options: dict[str, Any] = {"attention_mask": mask, "use_cache": False}
    if "logits_to_keep" in _parameters(model):
        options["logits_to_keep"] = ids.shape[1] - first
    logits = model(input_ids=ids, **options).logits[:, -(ids.shape[1] - first) :]
    return _scored(logits, batch, [len(each.prefix) - 1 - first for each in batch])


def _with_cache(model: PreTrainedModel, batch: list[_Pass]) -> list[Tensor]:
    """Score with all but the last token of each prefix read once, padded on the left."""
    name = cache_name(model)
    cache = _new_cache(model)
    ids, mask = padded([each.prefix[:-1] for each in batch], model.device, left=True)
    options: dict[str, Any] = {name: cache, "use_cache": True, "attention_mask": mask}
    takes = _parameters(model)
    if "position_ids" in takes:
        options["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    if "logits_to_keep" in takes:
        options["logits_to_keep"] = 1
    model(input_ids=ids, **options)
    repeated = torch.tensor([at for at, each in enumerate(batch) for _ in each.inputs], device=model.device)
    cache.batch_select_indices(repeated)
    rows = [(each.prefix[-1], *own) for each in batch for own in each.inputs]
    own_ids, own_mask = padded(rows, model.device)
    options = {name: cache, "use_cache": True, "attention_mask": torch.cat([mask[repeated], own_mask], dim=1)}
    if "position_ids" in takes:
        options["position_ids"] = mask.sum(1)[repeated, None] + torch.arange(own_ids.shape[1], device=model.device)
    logits = model(input_ids=own_ids, **options).logits
    return _scored(logits, batch, [0] * len(batch))


def _encoded(model: PreTrainedModel, batch: list[_Pass]) -> list[Tensor]:
    """Score with each prompt through the encoder once, and the choices through the decoder."""
    ids, mask = padded([each.prefix for each in batch], model.device)
    encoded = model.get_encoder()(input_ids=ids, attention_mask=mask)
    repeated = torch.tensor([at for at, each in enumerate(batch) for _ in each.inputs], device=model.device)
    encoded["last_hidden_state"] = encoded["last_hidden_state"][repeated]
    start = decoder_start(model)
    own_ids, _ = padded([(start, *own) for each in batch for own in each.inputs], model.device)
    logits = model(
        encoder_outputs=encoded, attention_mask=mask[repeated], decoder_input_ids=own_ids, use_cache=False
    ).logits
    return _scored(logits, batch, [0] * len(batch))


def _scored(logits: Tensor, batch: list[_Pass], starts: list[int]) -> list[Tensor]:
    """Return the summed log-probabilities of each pass' targets, which are predicted from `starts` of their rows on."""
    rows: list[int] = []
    columns: list[int] = []
    tokens: list[int] = []
    owners: list[int] = []
    first = owner = 0
    for each, start in zip(batch, starts, strict=True):
        for choice, place in each.targets.items():
            rows += [first + place] * len(choice)
            columns += range(start, start + len(choice))
            tokens += choice
            owners += [owner] * len(choice)
            owner += 1
        first += len(each.inputs)
    device = logits.device
    at = torch.tensor(rows, device=device), torch.tensor(columns, device=device)
    normaliser = torch.logsumexp(logits.float(), dim=-1)
    found = logits[(*at, torch.tensor(tokens, device=device))].float() - normaliser[at]
    sums = torch.zeros(owner, dtype=torch.float64)
    sums.index_add_(0, torch.tensor(owners), found.double().cpu())
    return list(torch.split(sums, [len(each.targets) for each in batch]))


def padded(rows: Sequence[Tokens], device: torch.device, left: bool = False) -> tuple[Tensor, Tensor]:
    """Return ids and mask of shape (rows, longest); padding is id 0, which the mask hides."""
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for at, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(len(row))
        ids[at, place] = torch.tensor(row, dtype=torch.long)
        mask[at, place] = 1
    return ids.to(device), mask.to(device)


def decoder_start(model: PreTrainedModel) -> int:
    """Return the token that the decoder of an encoder-decoder model starts from.

    Raises:
        ValueError: its configuration names none.
    """
    for config in (model.config, model.generation_config):
        for name in ("decoder_start_token_id", "bos_token_id"):
            if isinstance(token := getattr(config, name, None), int):
                return token
    raise ValueError("the model's configuration has no decoder_start_token_id")


def model_length(model: PreTrainedModel) -> int | None:
    """Return how many tokens a model takes by its configuration; None if it names no bound, as T5's."""
    config = model.config.get_text_config(decoder=True)
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"):
        # T5 names the length it was trained with `n_positions`; its positions are relative
        if isinstance(found := getattr(config, name, None), int) and not hasattr(
            config, "relative_attention_num_buckets"
        ):
            return found
    return None


def has_plain_cache(model: PreTrainedModel) -> bool:
    """Whether each layer's cache is the keys and values of the tokens, of all of them or of a window."""
    from transformers import cache_utils

    try:
        layers = _new_cache(model).layers
    except (TypeError, AttributeError, ValueError):
        return False
    kinds = (cache_utils.DynamicLayer, cache_utils.DynamicSlidingWindowLayer)
    return bool(layers) and all(type(layer) in kinds for layer in layers)


def _caches_exactly(model: PreTrainedModel) -> bool:
    """Whether keys and values can be repeated, and a small probe gives the same scores with and without."""
    if not has_plain_cache(model):
        return False
    vocabulary = _vocabulary(model)
    spread = [(7 + 31 * at * at) % vocabulary for at in range(16)]
    questions = [
        Question(tuple(spread[:5]), (tuple(spread[5:7]), tuple(spread[8:11])), (1, 1)),
        Question(tuple(spread[4:6]), (tuple(spread[6:7]) * 2, tuple(spread[11:14])), (1, 1)),
    ]
    passes = [_passes(index, question) for index, question in enumerate(questions)]
    try:
        one, other = torch.cat(_with_cache(model, passes)), torch.cat(_together(model, passes))
    except (TypeError, AttributeError, ValueError, NotImplementedError, RuntimeError):
        return False
    tolerance = 1e-4 if model.dtype in (torch.float32, torch.float64) else 2e-2
    return bool(torch.allclose(one, other, rtol=tolerance, atol=10 * tolerance))


def _new_cache(model: PreTrainedModel) -> Any:
    from transformers import DynamicCache

    return DynamicCache(config=model.config)


def cache_name(model: PreTrainedModel) -> str:
    """Return how `forward` calls its cache: transformers 5.24 renamed it."""
    return "cache" if "cache" in _parameters(model) else "past_key_values"


def _parameters(model: PreTrainedModel) -> frozenset[str]:
    base = getattr(model, "get_base_model", None)  # of peft
    inner: Any = base() if callable(base) else model
    return frozenset(inspect.signature(inner.forward).parameters)


def _vocabulary(model: PreTrainedModel) -> int:
    embeddings: Any = model.get_input_embeddings()
    return int(embeddings.weight.shape[0])


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Put the model into evaluation mode, without gradients, and back into its own."""
    modes = [(module, module.training) for module in model.modules()]
    model.train(False)
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training

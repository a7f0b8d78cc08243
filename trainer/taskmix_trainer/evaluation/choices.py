"""Prompts and choices as tokens: where a prompt ends and a choice begins.

A choice is scored by the tokens that it adds to its prompt, and tokens may run across the boundary. So each prompt is
tokenised together with each of its choices, and what all of these and the prompt alone have in common at the start is
the *prefix*. Everything after it counts as choice. One prefix serves all choices of a prompt: if one of them changes
the prompt's last token, all of them are scored from before that token on, since otherwise the others would get it for
free.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from taskmix_trainer.tokens.texts import missing, start_tokens

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Prompt:
    """The tokens of a prompt, of which the first `start` are start tokens."""

    tokens: Tokens
    start: int = 0

    def last(self, count: int | None) -> Tokens:
        """Return the tokens that are kept where there is room for so many: start tokens, and the end."""
        if count is None or len(self.tokens) <= count:
            return self.tokens
        start = min(self.start, count - 1)
        return self.tokens[:start] + self.tokens[len(self.tokens) - count + start :]


@dataclass(frozen=True)
class Question:
    """A prompt and its choices.

    Attributes:
        prefix: the tokens that are given, at least one; of an encoder-decoder model, what the encoder reads.
        choices: the tokens to score for each choice, at least one each.
        characters: the length of each choice's text, by which log-likelihoods are normalised (lm-eval's `acc_norm`).
        cut: how many tokens of the prompt were left out at its start, for the model takes no more.
        choices_cut: how many choices lost tokens at their end, since they alone are longer than the model takes.
    """

    prefix: Tokens
    choices: tuple[Tokens, ...]
    characters: tuple[int, ...]
    cut: int = 0
    choices_cut: int = 0

    def __post_init__(self) -> None:
        if not self.prefix or not self.choices or not all(self.choices):
            raise ValueError("a question has a prefix and choices, none of them empty")
        if len(self.characters) != len(self.choices) or min(self.characters) < 1:
            raise ValueError("each choice has a number of characters, at least 1")


def causal_questions(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    choices: Sequence[Sequence[str]],
    *,
    max_length: int | None = None,
    separator_scored: bool = False,
    complete: bool = False,
) -> list[Question]:
    """Return what a causal model is asked.

    Args:
        tokenizer: the model's. Its start tokens come first if it adds such to texts, and once only.
        prompts: the texts that are given.
        choices: the texts to choose from, for each prompt.
        max_length: how many tokens the model takes; prompts lose tokens at their start (not the start tokens) so that
            the longest choice fits.
        separator_scored: whether white space at a prompt's end is scored with each choice, as lm-evaluation-harness has
            it. It adds the same to each, so the ranking by sums stays; that by characters may not.
        complete: whether prompts have all special tokens already, as chats have by their template.

    Raises:
        ValueError: a prompt has no choices, or a choice is empty or adds no token.
    """
    _check(prompts, choices)
    start = () if complete else start_tokens(tokenizer)
    alone = tokenised(tokenizer, [prompt.rstrip() if separator_scored else prompt for prompt in prompts])
    joint = iter(
        tokenised(tokenizer, [prompt + each for prompt, few in zip(prompts, choices, strict=True) for each in few])
    )
    questions = []
    for row, (own, texts) in enumerate(zip(alone, choices, strict=True)):
        whole = [next(joint) for _ in texts]
        shared = min(_common(own, each) for each in whole)
        prefix = _started(tokenizer, own[:shared], start)
        rest = [each[shared:] for each in whole]
        for text, added in zip(texts, rest, strict=True):
            if not added:
                raise ValueError(f"choice {text!r} of prompt {row} adds no token")
        questions.append(_fitted(prefix, rest, texts, max_length))
    return questions


def encoder_questions(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    choices: Sequence[Sequence[str]],
    *,
    max_length: int | None = None,
) -> list[Question]:
    """Return what an encoder-decoder model is asked: the prompt with its special tokens, and choices without any.

    Args and errors are those of `causal_questions`; `max_length` holds for the encoder and the decoder.
    """
    _check(prompts, choices)
    read = prompt_tokens(tokenizer, prompts, encoder=True)
    written = iter(tokenised(tokenizer, [each for few in choices for each in few]))
    questions = []
    for row, (given, texts) in enumerate(zip(read, choices, strict=True)):
        rest = [next(written) for _ in texts]
        for text, added in zip(texts, rest, strict=True):
            if not added:
                raise ValueError(f"choice {text!r} of prompt {row} has no token")
        kept = given.last(max_length)
        short = tuple(each[:max_length] for each in rest)
        questions.append(
            Question(
                kept,
                short,
                tuple(map(len, texts)),
                cut=len(given.tokens) - len(kept),
                choices_cut=sum(len(one) != len(other) for one, other in zip(short, rest, strict=True)),
            )
        )
    return questions


def prompt_tokens(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], encoder: bool, *, complete: bool = False
) -> list[Prompt]:
    """Return the tokens that a model reads of each prompt, at least one.

    An encoder gets all special tokens that the tokenizer adds; a causal model those alone that come before a text, as
    in training, since an end token would end it, and none where prompts are `complete`.
    """
    start = () if complete and not encoder else start_tokens(tokenizer)
    if not encoder:
        return [_started(tokenizer, each, start) for each in tokenised(tokenizer, prompts)]
    if not prompts:
        return []
    read = tokenizer(list(prompts), add_special_tokens=True, verbose=False)["input_ids"]
    return [Prompt(tuple(each)) if each else _started(tokenizer, (), start) for each in read]


def tokenised(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[Tokens]:
    """Return the tokens of each text without special ones."""
    if not texts:
        return []
    return [tuple(ids) for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]


def _started(tokenizer: PreTrainedTokenizerBase, tokens: Tokens, start: Tokens) -> Prompt:
    """Return the tokens with the start tokens before them, once.

    Where nothing else is given, a text starts from its start token, else its end token: lm-evaluation-harness' rule.
    """
    whole = missing(start, tokens) + tokens
    if whole:
        return Prompt(whole, len(start))
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if isinstance(token, int):
            return Prompt((token,), 1)
    raise ValueError("a prompt without tokens needs a tokenizer with a start or end token")


def _check(prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> None:
    if len(prompts) != len(choices):
        raise ValueError(f"{len(prompts)} prompts but {len(choices)} lists of choices")
    for row, texts in enumerate(choices):
        if not texts or not all(texts):
            raise ValueError(f"prompt {row} has no choices or an empty one: {list(texts)}")


def _common(one: Tokens, other: Tokens) -> int:
    """Return how many tokens two sequences share at their start."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _fitted(prefix: Prompt, choices: Sequence[Tokens], texts: Sequence[str], max_length: int | None) -> Question:
    """Return the question with its prefix cut so that prefix and longest choice, without its last token, fit."""
    characters = tuple(map(len, texts))
    if max_length is None:
        return Question(prefix.tokens, tuple(choices), characters)
    short = tuple(each[:max_length] for each in choices)
    kept = prefix.last(max(1, max_length + 1 - max(map(len, short))))
    cut = sum(len(one) != len(other) for one, other in zip(short, choices, strict=True))
    return Question(kept, short, characters, cut=len(prefix.tokens) - len(kept), choices_cut=cut)

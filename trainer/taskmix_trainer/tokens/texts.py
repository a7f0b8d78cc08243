"""Instruction examples as tokens: which there are, and which of them are trained on.

A model is asked with the tokens of the prompt alone, so these must be the first tokens of the example too. Tokenising
prompt and completion as one text mostly gives that; where a token would reach over the border, or the prompt's last
ones would change, both are tokenised apart and put together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskmix_trainer.errors import ModelError

PLAIN_CHAT = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""The chat template of a tokenizer that has none. It is saved with the model."""


@dataclass(frozen=True)
class Tokens:
    """An example: its tokens, and the spans of them that are trained on, as starts and ends one after the other."""

    ids: list[int]
    trained: list[int]


def join(tokenizer: Any, prompts: Sequence[str], completions: Sequence[str]) -> list[Tokens]:
    """Return prompt, completion and the end token; the completion and the end are trained on.

    Raises:
        ModelError: the tokenizer has no end token.
    """
    end = end_token(tokenizer)
    # what the tokenizer puts before a text, as the beginning token, goes before the whole; what it puts after it, not
    heads = _ids(tokenizer, prompts)
    wholes = _ids(tokenizer, [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)])
    apart = [
        at
        for at, (head, whole) in enumerate(zip(heads, wholes, strict=True))
        if whole[: len(head)] != head or (len(whole) == len(head) and completions[at])
    ]
    tails = _ids(tokenizer, [completions[at] for at in apart])
    for at, tail in zip(apart, tails, strict=True):
        wholes[at] = heads[at] + tail
    before = _before(tokenizer)
    joined = []
    for head, whole in zip(heads, wholes, strict=True):
        start = len(before) + len(head)
        # without a prompt or a beginning token, the first token has nothing that it could be predicted from
        joined.append(Tokens([*before, *whole, end], [max(start, 1), len(before) + len(whole) + 1]))
    return joined


def prompts_alone(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    """Return the tokens that a model is asked with: the first ones of what `join` gives."""
    before = _before(tokenizer)
    return [[*before, *ids] for ids in _ids(tokenizer, prompts)]


def whole_texts(tokenizer: Any, texts: Sequence[str]) -> list[Tokens]:
    """Return texts and the end token, all of it trained on but a beginning token, and without one the first."""
    end, before = end_token(tokenizer), _before(tokenizer)
    return [
        Tokens([*before, *ids, end], [max(len(before), 1), len(before) + len(ids) + 1])
        for ids in _ids(tokenizer, texts)
    ]


def chats(tokenizer: Any, conversations: Sequence[Sequence[Mapping[str, str]]]) -> list[Tokens]:
    """Return conversations under the tokenizer's chat template; what the assistant says is trained on, its end too.

    Raises:
        ModelError: the template cannot be used: what it makes of a beginning is not the beginning of what it makes.
    """
    ensure_chat_template(tokenizer)
    texts, spans = [], []
    for messages in conversations:
        text, found = _rendered(tokenizer, messages)
        texts.append(text)
        spans.append(found)
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    return [
        Tokens(ids, _spans_of(offsets, found))
        for ids, offsets, found in zip(encoded["input_ids"], encoded["offset_mapping"], spans, strict=True)
    ]


def chat_prompt(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Return the tokens with which an assistant's answer to a conversation is asked for."""
    ensure_chat_template(tokenizer)
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def ensure_chat_template(tokenizer: Any) -> None:
    """Give a tokenizer that has no chat template `PLAIN_CHAT`."""
    if tokenizer.chat_template is None:
        end_token(tokenizer)
        tokenizer.chat_template = PLAIN_CHAT


def end_token(tokenizer: Any) -> int:
    """Return the id of the token that ends a text. Raises ModelError if there is none."""
    for found in (tokenizer.eos_token_id, tokenizer.sep_token_id):
        if found is not None:
            return int(found)
    raise ModelError("the tokenizer has no end token, so that a model could not learn where to stop")


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    if not texts:
        return []
    encoded = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False)
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def _before(tokenizer: Any) -> list[int]:
    """Return the tokens that the tokenizer puts before a text, such as a beginning token."""
    probe = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for at in range(len(whole) - len(probe) + 1):
        if whole[at : at + len(probe)] == probe:
            return list(whole[:at])
    return []


def _rendered(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> tuple[str, list[tuple[int, int]]]:
    """Return a conversation's text, and the characters of what the assistant says in it."""
    messages = list(messages)
    text: str = tokenizer.apply_chat_template(messages, tokenize=False)
    spans = []
    for at, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        asked = tokenizer.apply_chat_template(messages[:at], tokenize=False, add_generation_prompt=True)
        told = tokenizer.apply_chat_template(messages[: at + 1], tokenize=False)
        if not text.startswith(asked) or not text.startswith(told):
            raise ModelError(
                "the chat template changes earlier turns when later ones come, so that what is trained on is not clear",
                hint="build the mixture with one exchange each, or train with another chat template",
            )
        # the line break that templates put after a turn is not the assistant's
        spans.append((len(asked), len(told.rstrip("\n"))))
    return text, spans


def _spans_of(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[int]:
    """Return the tokens that lie within spans of characters, as starts and ends."""
    trained: list[int] = []
    for start, end in spans:
        inside = [at for at, (a, b) in enumerate(offsets) if a >= start and b <= end and b > a]
        if inside:
            trained += [max(inside[0], 1), inside[-1] + 1]
    return trained

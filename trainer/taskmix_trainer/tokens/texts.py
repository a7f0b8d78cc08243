"""Instruction examples as tokens: which there are, and which of them are trained on.

A model is asked with the tokens of the prompt alone, so these must be the first tokens of the example too. Tokenising
prompt and completion as one text mostly gives that; where a token would reach over the border, or the prompt's last
ones would change, both are tokenised apart and put together.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskmix_trainer.errors import ModelError
from taskmix_trainer.tokens.beginnings import beginnings, encoded

PLAIN_CHAT = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""The chat template of a tokenizer that has none. It is saved with the model.

The line break after a turn is written in braces: transformers drops one that follows a block.
"""


@dataclass(frozen=True)
class Tokens:
    """An example.

    Attributes:
        ids: its tokens.
        trained: the spans of them that are trained on, as starts and ends one after the other.
        before: how many of the first ones the tokenizer puts before any text.
    """

    ids: list[int]
    trained: list[int]
    before: int = 0


def join(tokenizer: Any, prompts: Sequence[str], completions: Sequence[str]) -> list[Tokens]:
    """Return prompt, completion and the end token; the completion and the end are trained on.

    Raises:
        ModelError: the tokenizer has no end token.
    """
    end = end_token(tokenizer)
    texts = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
    begun = [each for (each,) in beginnings(tokenizer, texts, [[len(prompt)] for prompt in prompts])]
    heads, wholes = [each.ids for each in begun], [each.whole.ids for each in begun]
    apart = [
        at
        for at, (head, whole) in enumerate(zip(heads, wholes, strict=True))
        if whole[: len(head)] != head or (len(whole) == len(head) and completions[at])
    ]
    tails = _ids(tokenizer, [completions[at] for at in apart])
    for at, tail in zip(apart, tails, strict=True):
        wholes[at] = heads[at] + tail
    # what the tokenizer puts before a text, as the beginning token, goes before the whole; what it puts after it, not
    start = start_tokens(tokenizer)
    joined = []
    for head, whole in zip(heads, wholes, strict=True):
        ids = [*missing(start, head), *whole, end]
        # without a prompt or a beginning token, the first token has nothing that it could be predicted from
        begins = max(len(ids) - 1 - len(whole) + len(head), 1)
        joined.append(Tokens(ids, [begins, len(ids)], len(start)))
    return joined


def whole_texts(tokenizer: Any, texts: Sequence[str]) -> list[Tokens]:
    """Return texts and the end token, all of it trained on but a beginning token, and without one the first."""
    end, start = end_token(tokenizer), start_tokens(tokenizer)
    made = [[*missing(start, ids), *ids, end] for ids in _ids(tokenizer, texts)]
    return [Tokens(ids, [max(len(start), 1), len(ids)], len(start)) for ids in made]


def chats(tokenizer: Any, conversations: Sequence[Sequence[Mapping[str, str]]]) -> list[Tokens]:
    """Return conversations under the tokenizer's chat template; what the assistant says is trained on, its end too.

    They end with the assistant's last turn. Where the template does not close that with the tokenizer's end token,
    which is what a model is stopped by, the token is put there.

    Raises:
        ModelError: the template cannot be used: what it makes of a beginning is not the beginning of what it makes.
    """
    ensure_chat_template(tokenizer)
    rendered = [_rendered(tokenizer, messages) for messages in conversations]
    grown = _grown(
        tokenizer, [(text, [*(start for start, _ in spans), spans[-1][1]]) for text, spans in rendered if spans]
    )
    made = []
    for _, spans in rendered:
        if spans:
            ids, offsets, marks = next(grown)
            made.append(_ended(tokenizer, ids, _trained(offsets, marks, spans)))
        else:
            made.append(Tokens([], []))
    return made


def _grown(
    tokenizer: Any, texts: Sequence[tuple[str, Sequence[int]]]
) -> Iterator[tuple[list[int], list[tuple[int, int]], list[int]]]:
    """Yield for each text and its cuts: the tokens up to the last cut, their characters, and how many each cut has.

    The tokens up to a cut are those that the text would have if it ended there, as a model sees it that is asked at
    this place. Where a text tokenised further has others, what comes after the cut is tokenised apart.
    """
    begun = beginnings(tokenizer, [text[: cuts[-1]] for text, cuts in texts], [cuts for _, cuts in texts])
    for text, cuts in texts:
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        marks: list[int] = []
        last = 0
        for cut, beginning in zip(cuts, next(begun), strict=True):
            more, places = beginning.ids, beginning.offsets
            if more[: len(ids)] != ids:
                (apart,) = encoded(tokenizer, [text[last:cut]])
                more, places = ids + apart.ids, offsets + [(last + a, last + b) for a, b in apart.offsets]
            ids, offsets, last = more, places, cut
            marks.append(len(ids))
        yield ids, offsets, marks


def _trained(offsets: Sequence[tuple[int, int]], marks: Sequence[int], spans: Sequence[tuple[int, int]]) -> list[int]:
    """Return the tokens from each cut on that lie within a span of characters, as starts and ends."""
    trained: list[int] = []
    for start, (_, last) in zip(marks, spans, strict=False):
        end = start
        while end < len(offsets) and offsets[end][1] <= last:
            end += 1
        # the first token has nothing that it could be predicted from
        if end > max(start, 1):
            trained += [max(start, 1), end]
    return trained


def _ended(tokenizer: Any, ids: list[int], trained: list[int]) -> Tokens:
    """Return a conversation with the end token after the assistant's last turn, if it is not there."""
    if trained[-1:] != [len(ids)]:
        # the tokenizer leaves nothing of that turn, such as a control character: it ends at once
        trained = [*trained, len(ids), len(ids)]
    end = end_token(tokenizer)
    if trained[-1] == trained[-2] or ids[-1] != end:
        ids, trained = [*ids, end], [*trained[:-1], len(ids) + 1]
    return Tokens(ids, trained, 1 if ids[0] == tokenizer.bos_token_id else 0)


def chat_prompt(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Return the tokens with which an assistant's answer to a conversation is asked for."""
    ensure_chat_template(tokenizer)
    messages = list(messages)
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    asked = [_asked(tokenizer, messages[:at]) for at, message in enumerate(messages) if message["role"] == "assistant"]
    ((ids, _, _),) = _grown(tokenizer, [(text, [*(len(each) for each in asked if text.startswith(each)), len(text)])])
    return ids


def _asked(tokenizer: Any, messages: list[Mapping[str, str]]) -> str:
    asked: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return asked


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
    return [each.ids for each in encoded(tokenizer, texts)]


def start_tokens(tokenizer: Any) -> tuple[int, ...]:
    """Return the start tokens: what the tokenizer puts before any text, such as a beginning token."""
    probe = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for at in range(len(whole) - len(probe) + 1):
        if whole[at : at + len(probe)] == probe:
            return tuple(whole[:at])
    return ()


def missing(start: tuple[int, ...], ids: Sequence[int]) -> tuple[int, ...]:
    """Return the start tokens that are to go before a text's tokens: none where it begins with them itself."""
    return () if tuple(ids[: len(start)]) == start else start


def _rendered(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> tuple[str, list[tuple[int, int]]]:
    """Return a conversation's text, and the characters of what the assistant says in it."""
    messages = list(messages)
    text: str = tokenizer.apply_chat_template(messages, tokenize=False)
    spans = []
    for at, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        asked = _asked(tokenizer, messages[:at])
        told = tokenizer.apply_chat_template(messages[: at + 1], tokenize=False)
        if not text.startswith(asked) or not text.startswith(told):
            raise ModelError(
                "the chat template changes earlier turns when later ones come, so that what is trained on is not clear",
                hint="build the mixture with one exchange each, or train with another chat template",
            )
        # the line break that templates put after a turn is not the assistant's
        spans.append((len(asked), len(told.rstrip("\n"))))
    return text, spans

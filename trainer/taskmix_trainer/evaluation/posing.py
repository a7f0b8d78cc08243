"""The evaluation rows of a mixture, as a model is asked them.

Rows of one task under one template and style belong together: they have one figure. With worked examples (*shots*), a
row comes after others of its task and template: from `train` where the mixture has enough, else from the same split,
never the row itself nor another rendering of its source row. Which ones follows from the seed and the row; a limit
changes neither the rows that may be shown nor what a row is shown.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from taskmix import hashing
from taskmix.errors import UsageError
from taskmix.mixing.styles import BETWEEN_SHOTS
from taskmix.text import quoted
from taskmix_trainer.reading import mixture_batches
from taskmix_trainer.targets import Mixture
from taskmix_trainer.tokens import texts

PLAIN = "zero-shot"
TRAIN = "train"
CHATS = ("messages", "sharegpt")
_SHOWN = 32
"""Worked examples of a task and template that are kept to draw from."""


@dataclass(frozen=True)
class Example:
    """A row: the text that a model is given, the one that it should give, and what else is right.

    `choices` are the completions to choose from and `answer` the index of the right one; both None where any text may
    be given. `references` are all completions that are right. `source_split` and `source_row` are the row's origin.
    """

    id: str
    source_row: int
    prompt: str
    completion: str
    choices: tuple[str, ...] | None
    answer: int | None
    references: tuple[str, ...]
    source_split: str = ""

    @property
    def origin(self) -> tuple[str, int]:
        """Return the source's split and the row in it."""
        return self.source_split, self.source_row


@dataclass(frozen=True)
class Group:
    """The rows of a task under a template and style, in one split.

    `shown` are rows that may be worked examples before others; they are there however few are evaluated.
    """

    split: str
    task: str
    cluster: str
    kind: str
    template: str
    style: str
    examples: list[Example] = field(default_factory=list)
    shown: list[Example] = field(default_factory=list)

    @property
    def ranks(self) -> bool:
        """Whether its examples have choices."""
        return all(example.choices is not None for example in self.examples)


def read_groups(
    mixture: Mixture,
    splits: Sequence[str],
    tokenizer: Any,
    *,
    limit: int | None = None,
    shots: int = 0,
    seed: int = 0,
    encoder: bool = False,
) -> list[Group]:
    """Return the evaluation rows of a mixture.

    Args:
        mixture: its folder.
        splits: the splits to read.
        tokenizer: the model's, whose chat template puts messages into words.
        limit: at most so many source rows a task and split, the same for all templates.
        shots: worked examples before each row.
        seed: other seeds, other worked examples.
        encoder: whether the model reads with an encoder, whose prompts are those that it was trained on: without white
            space at their ends, and chats as plain paragraphs.

    Raises:
        UsageError: the mixture has no such split, or no rows for worked examples.
        SourceError: a file cannot be read.
    """
    known = [name for name, each in mixture.lock["splits"].items() if each["rows"] and name != TRAIN]
    if not known:
        hint = "give its tasks validation splits, or hold some out"
        raise UsageError(f"the mixture {mixture.name} has no evaluation rows", hint=hint)
    if shots and mixture.format in CHATS:
        raise UsageError("worked examples before chat messages are not supported", hint="leave out --shots")
    groups = []
    for split in splits:
        if split not in known:
            hint = f"it has {', '.join(known)}"
            raise UsageError(f"the mixture {mixture.name} has no evaluation rows in {quoted(split)}", hint=hint)
        groups += _groups(mixture, split, limit, _Asking(tokenizer, encoder))
    return _with_shots(mixture, groups, _Asking(tokenizer, encoder), shots, seed) if shots else groups


@dataclass(frozen=True)
class _Asking:
    """How rows become prompts: by the model's tokenizer, and by whether the model has an encoder."""

    tokenizer: Any
    encoder: bool


def _groups(mixture: Mixture, split: str, limit: int | None, asking: _Asking) -> list[Group]:
    """Return the rows of a split by task, template and style, in the order of names and source rows."""
    found: dict[tuple[str, str, str], Group] = {}
    kept: dict[str, dict[tuple[str, int], None]] = {}
    for row in _rows(mixture, split):
        task, origin = row["task"], (row["source_split"], row["source_row"])
        key = (task, row["template"], row["style"])
        if key not in found:
            kind = mixture.lock["tasks"][task]["spec"]["kind"]
            found[key] = Group(split, task, row["cluster"], kind, row["template"], row["style"])
        group, rows = found[key], kept.setdefault(task, {})
        chosen = limit is None or origin in rows or len(rows) < limit
        if not chosen and len(group.shown) >= _SHOWN:
            continue
        example = _example(row, asking)
        if chosen:
            rows[origin] = None
            group.examples.append(example)
        if len(group.shown) < _SHOWN:
            group.shown.append(example)
    for group in found.values():
        group.examples.sort(key=lambda example: (example.origin, example.id))
    # under a template of its own, a row that was too long for others may be all there is
    return [found[key] for key in sorted(found) if found[key].examples]


_ANSWERS = ("choices", "answer", "references")
_COMMON = ("id", "task", "cluster", "template", "style", "source_split", "source_row", *_ANSWERS)


def _rows(mixture: Mixture, split: str) -> Iterator[dict[str, Any]]:
    for values in mixture_batches(mixture, split, _COMMON):
        for row in zip(*values.values(), strict=True):
            yield dict(zip(values, row, strict=True))


def _example(row: Mapping[str, Any], asking: _Asking) -> Example:
    references = tuple(row["references"] or ())
    prompt, completion = _asked(row, references, asking)
    if asking.encoder:
        prompt = prompt.rstrip()
    return Example(
        id=row["id"],
        source_row=row["source_row"],
        prompt=prompt,
        completion=completion,
        choices=tuple(row["choices"]) if row["choices"] else None,
        answer=row["answer"],
        references=references or (completion,),
        source_split=row["source_split"],
    )


def _asked(row: Mapping[str, Any], references: Sequence[str], asking: _Asking) -> tuple[str, str]:
    """Return the text that a model goes on after, and the one that it should give."""
    if "prompt" in row:
        return row["prompt"], row["completion"]
    if "text" in row:
        # the first reference is the completion, which the text ends on
        completion = references[0] if references else row["choices"][row["answer"]]
        return row["text"].removesuffix(completion), completion
    *before, last = row["messages"]
    if asking.encoder:
        return "\n\n".join(turn["content"] for turn in before), last["content"]
    return _chat(asking.tokenizer, before), last["content"]


def _chat(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> str:
    texts.ensure_chat_template(tokenizer)
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))


def _with_shots(mixture: Mixture, groups: Sequence[Group], asking: _Asking, shots: int, seed: int) -> list[Group]:
    """Return groups whose prompts begin with worked examples."""
    trained = _train_examples(mixture, {(group.task, group.template) for group in groups}, asking)
    found = []
    for group in groups:
        pools = (trained.get((group.task, group.template), []), group.shown)
        examples = [_after(_drawn(example, pools, group, shots, seed), example, asking) for example in group.examples]
        found.append(replace(group, style=_style(group.style, shots), examples=examples))
    return found


def _drawn(example: Example, pools: Sequence[Sequence[Example]], group: Group, shots: int, seed: int) -> list[Example]:
    """Return the worked examples of a row, from the first pool with enough others than itself."""
    for pool in pools:
        # a row of train has a number of its own, and may still ask the same
        others = [each for each in pool if each.origin != example.origin and each.prompt != example.prompt]
        if len(others) >= shots:
            return sorted(others, key=lambda each: hashing.key(seed, "shots", example.id, each.id))[:shots]
    where = f"task {group.task}, template {group.template}"
    raise UsageError(f"there are no {shots} worked examples to show", where=where, hint="fewer --shots")


def _after(shown: Sequence[Example], example: Example, asking: _Asking) -> Example:
    # an encoder's prompts have lost the white space that parts them from their answers
    gap = "\n\n" if asking.encoder else ""
    before = "".join(f"{each.prompt}{gap}{each.completion}{BETWEEN_SHOTS}" for each in shown)
    return replace(example, prompt=before + example.prompt)


def _style(style: str, shots: int) -> str:
    return f"{shots}-shot" if style == PLAIN else f"{style}+{shots}-shot"


def _train_examples(
    mixture: Mixture, wanted: set[tuple[str, str]], asking: _Asking
) -> dict[tuple[str, str], list[Example]]:
    """Return plain rows of train by task and template: the first in the mixture's random order."""
    found: dict[tuple[str, str], list[Example]] = {}
    if not mixture.lock["splits"].get(TRAIN, {}).get("rows"):
        return found
    for row in _rows(mixture, TRAIN):
        key = (row["task"], row["template"])
        rows = found.setdefault(key, []) if key in wanted and row["style"] == PLAIN else None
        if rows is not None and len(rows) < _SHOWN:
            rows.append(_example(row, asking))
    return found

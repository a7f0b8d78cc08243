"""The evaluation rows of a mixture, as a model is asked them.

Rows of one task under one template and style belong together: they have one figure. With worked examples (*shots*), a
row comes after others of its task and template: from `train` where the mixture has such, else from the same evaluation
split, never the row itself nor another rendering of its source row. Which ones follows from the seed and the row.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from taskmix import hashing
from taskmix.errors import SourceError, UsageError
from taskmix_trainer.targets import Mixture
from taskmix_trainer.tokens import texts

BETWEEN_SHOTS = "\n\n\n"
"""What stands after each worked example, as in mixtures with the style `few-shot`."""
PLAIN = "zero-shot"
_SHOWN = 32
"""Worked examples of a task and template that are kept to draw from."""


@dataclass(frozen=True)
class Example:
    """A row: the text that a model is given, the one that it should give, and what else is right.

    `choices` are the completions to choose from and `answer` the index of the right one; both None where any text may
    be given. `references` are all completions that are right.
    """

    id: str
    source_row: int
    prompt: str
    completion: str
    choices: tuple[str, ...] | None
    answer: int | None
    references: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """The rows of a task under a template and style, in one split."""

    split: str
    task: str
    cluster: str
    kind: str
    template: str
    style: str
    examples: list[Example] = field(default_factory=list)

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
) -> list[Group]:
    """Return the evaluation rows of a mixture.

    Args:
        mixture: its folder.
        splits: the splits to read.
        tokenizer: the model's, whose chat template puts messages into words.
        limit: at most so many source rows a task and split, the same for all templates.
        shots: worked examples before each row.
        seed: other seeds, other worked examples.

    Raises:
        UsageError: the mixture has no such split, or no rows for worked examples.
        SourceError: a file cannot be read.
    """
    groups = []
    for split in splits:
        if not mixture.lock["splits"].get(split, {}).get("rows"):
            known = ", ".join(name for name, each in mixture.lock["splits"].items() if each["rows"])
            raise UsageError(f"the mixture {mixture.name} has no rows in {split}", hint=f"it has {known}")
        groups += _groups(mixture, split, tokenizer, limit)
    return _with_shots(mixture, groups, tokenizer, shots, seed) if shots else groups


def _groups(mixture: Mixture, split: str, tokenizer: Any, limit: int | None) -> list[Group]:
    """Return the rows of a split by task, template and style, in the order of names and ids."""
    found: dict[tuple[str, str, str], Group] = {}
    kept: dict[str, dict[int, None]] = {}
    for row in _rows(mixture, split):
        task, number = row["task"], row["source_row"]
        rows = kept.setdefault(task, {})
        if limit is not None and number not in rows and len(rows) >= limit:
            continue
        rows[number] = None
        key = (task, row["template"], row["style"])
        if key not in found:
            kind = mixture.lock["tasks"][task]["spec"]["kind"]
            found[key] = Group(split, task, row["cluster"], kind, row["template"], row["style"])
        found[key].examples.append(_example(mixture.format, row, tokenizer))
    for group in found.values():
        group.examples.sort(key=lambda example: (example.source_row, example.id))
    return [found[key] for key in sorted(found)]


_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "prompt-completion": ("prompt", "completion"),
    "messages": ("messages",),
    "alpaca": ("instruction", "input", "output"),
    "sharegpt": ("conversations",),
    "text": ("text",),
}
_COMMON = ("id", "task", "cluster", "template", "style", "source_row", "choices", "answer", "references")


def _rows(mixture: Mixture, split: str) -> Iterator[dict[str, Any]]:
    columns = [*_COMMON, *_COLUMNS[mixture.format]]
    for name in sorted(mixture.lock["outputs"]):
        if not name.startswith(f"data/{split}-"):
            continue
        try:
            with pq.ParquetFile(mixture.folder / name) as file:
                for batch in file.iter_batches(5000, columns=columns):
                    yield from batch.to_pylist()
        except (OSError, pa.ArrowInvalid) as error:
            raise SourceError(f"cannot be read: {error}", where=str(mixture.folder / name)) from None


def _example(form: str, row: Mapping[str, Any], tokenizer: Any) -> Example:
    references = tuple(row["references"] or ())
    prompt, completion = _asked(form, row, references, tokenizer)
    choices = tuple(row["choices"]) if row["choices"] else None
    return Example(
        row["id"], row["source_row"], prompt, completion, choices, row["answer"], references or (completion,)
    )


def _asked(form: str, row: Mapping[str, Any], references: Sequence[str], tokenizer: Any) -> tuple[str, str]:
    """Return the text that a model goes on after, and the one that it should give."""
    if form == "prompt-completion":
        return row["prompt"], row["completion"]
    if form == "alpaca":
        return "\n\n".join(part for part in (row["instruction"], row["input"]) if part) + "\n\n", row["output"]
    if form == "text":
        # the first reference is the completion, which the text ends on
        completion = references[0] if references else row["choices"][row["answer"]]
        return row["text"].removesuffix(completion), completion
    turns = [(turn["role"], turn["content"]) for turn in row.get("messages") or ()] or [
        ({"human": "user", "gpt": "assistant"}.get(turn["from"], turn["from"]), turn["value"])
        for turn in row["conversations"]
    ]
    *before, (_, completion) = turns
    return _chat(tokenizer, before), completion


def _chat(tokenizer: Any, turns: Sequence[tuple[str, str]]) -> str:
    texts.ensure_chat_template(tokenizer)
    messages = [{"role": role, "content": content} for role, content in turns]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def _with_shots(mixture: Mixture, groups: Sequence[Group], tokenizer: Any, shots: int, seed: int) -> list[Group]:
    """Return groups whose prompts begin with worked examples."""
    if mixture.format in ("messages", "sharegpt"):
        raise UsageError("worked examples before chat messages are not supported", hint="leave out --shots")
    shown = _train_examples(mixture, {(group.task, group.template) for group in groups}, tokenizer)
    found = []
    for group in groups:
        pool = shown.get((group.task, group.template)) or group.examples[:_SHOWN]
        if len(pool) <= shots:
            where = f"task {group.task}, template {group.template}"
            raise UsageError(f"there are no {shots} worked examples to show", where=where, hint="fewer --shots")
        own = Group(group.split, group.task, group.cluster, group.kind, group.template, _style(group.style, shots))
        for example in group.examples:
            # rows of train have numbers of another split: what is compared is the text as well
            others = [each for each in pool if each.id != example.id and each.prompt != example.prompt]
            drawn = sorted(others, key=lambda each: hashing.key(seed, "shots", example.id, each.id))[:shots]
            before = "".join(f"{each.prompt}{each.completion}{BETWEEN_SHOTS}" for each in drawn)
            own.examples.append(
                Example(
                    example.id,
                    example.source_row,
                    before + example.prompt,
                    example.completion,
                    example.choices,
                    example.answer,
                    example.references,
                )
            )
        found.append(own)
    return found


def _style(style: str, shots: int) -> str:
    return f"{shots}-shot" if style == PLAIN else f"{style}+{shots}-shot"


def _train_examples(
    mixture: Mixture, wanted: set[tuple[str, str]], tokenizer: Any
) -> dict[tuple[str, str], list[Example]]:
    """Return plain rows of train by task and template: the first in the mixture's random order."""
    found: dict[tuple[str, str], list[Example]] = {}
    if not mixture.lock["splits"].get("train", {}).get("rows"):
        return found
    for row in _rows(mixture, "train"):
        key = (row["task"], row["template"])
        rows = found.setdefault(key, []) if key in wanted and row["style"] == PLAIN else None
        if rows is not None and len(rows) < _SHOWN:
            rows.append(_example(mixture.format, row, tokenizer))
    return found

"""The rows of a target, batch by batch, under the names that heads know."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from taskmix.errors import SourceError, UsageError
from taskmix_trainer.heads.base import Rows
from taskmix_trainer.targets import Mixture, RawTask

BATCH = 1000
"""Rows that are tokenised at a time."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "text-classification": ("text", "text_pair", "label"),
    "token-classification": ("tokens", "tags"),
    "question-answering": ("context", "question", "answers", "answer_starts"),
    "multiple-choice": ("question", "context", "choices", "label"),
    "text-generation": ("input", "target", "targets"),
    "conversation": ("messages",),
}
"""The variables of a kind that make up its raw form."""

_SIDES = {"human": "user", "gpt": "assistant", "system": "system"}


class RawReader:
    """A raw task that is open: its labels, its splits, and their rows."""

    def __init__(self, target: RawTask, workers: Any) -> None:
        from taskmix.tasks.opening import open_bare

        self._task = open_bare(target.entry, target.mirror, workers)
        self.kind = target.entry.spec.kind
        if self.kind not in COLUMNS:
            raise UsageError(
                f"a {self.kind} task has no raw form to train on", hint="train on a mixture of it: --as instruct"
            )
        view = self._task.view
        self.labels: tuple[str, ...] = tuple(view.labels.words) if view.labels and self._has_fixed_labels else ()
        self.multi_label = view.multi_label
        self._parts = {str(name): part for name, part in self._task.splits.items()}
        self.splits = tuple(self._parts)

    @property
    def _has_fixed_labels(self) -> bool:
        return self.kind in ("text-classification", "token-classification")

    def rows(self, split: str, limit: int | None = None) -> Iterator[Rows]:
        """Yield the rows of a split: its kind's columns, and `row`, the source's split and the number in it.

        Raises:
            TaskmixError: a row cannot be used; file, task and row are named.
        """
        part = self._parts[split]
        left = limit
        for frame in self._task.batches(part, COLUMNS[self.kind]):
            for piece in frame.iter_slices(BATCH):
                taken = piece if left is None else piece.head(left)
                if not len(taken):
                    return
                left = None if left is None else left - len(taken)
                values = taken.to_dict(as_series=False)
                ids = [f"{part.source_split}:{row}" for row in values.pop("source_row")]
                yield _named(self.kind, {**values, "row": ids})

    def tests(self, split: str) -> Iterator[tuple[tuple[str, int], str, str]]:
        """Yield the origin of each row of a split with its tests, and what its program begins with.

        Nothing where the task has no column `tests`.

        Raises:
            TaskmixError: a row cannot be used; file, task and row are named.
        """
        part = self._parts[split]
        names = [name for name in ("tests", "program_start") if name in self._task.variables()]
        if "tests" not in names:
            return
        for frame in self._task.batches(part, names):
            for row in frame.iter_rows(named=True):
                tests, start = row["tests"], row.get("program_start")
                lines = "\n".join(map(str, tests)) if isinstance(tests, list) else str(tests or "")
                yield (part.source_split, row["source_row"]), lines, start or ""


@contextmanager
def open_raw(target: RawTask) -> Iterator[RawReader]:
    """Yield a task that can be read. Raises TaskmixError if it is not what the catalog says."""
    from taskmix.templates.rowwise import Workers

    with Workers(1) as workers:
        yield RawReader(target, workers)


def _named(kind: str, values: dict[str, Any]) -> Rows:
    """Return a raw row under the names of its head: text to write becomes a prompt and a completion."""
    if kind == "text-classification" and all(pair is None for pair in values.get("text_pair", ())):
        values.pop("text_pair", None)
    if kind == "text-generation":
        asked = values.get("input") or [None] * len(values["row"])
        return {
            "prompt": [f"{text.strip()}\n\n" if text else "" for text in asked],
            "completion": values["target"],
            "references": values["targets"],
            "row": values["row"],
        }
    return values


def mixture_rows(target: Mixture, split: str, limit: int | None = None) -> Iterator[Rows]:
    """Yield the rows of a mixture's split: `prompt` and `completion`, `messages` or `text`, and `row`, their ids.

    Raises:
        SourceError: a file cannot be read.
    """
    left = limit
    for values in mixture_batches(target, split, ("id",)):
        taken = values if left is None else {name: each[:left] for name, each in values.items()}
        ids = taken.pop("id")
        left = None if left is None else left - len(ids)
        if ids:
            yield {**taken, "row": ids}


def mixture_batches(target: Mixture, split: str, more: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """Yield batches of a mixture's split in what its format comes to, as `mixture_rows` has it, and more columns.

    Raises:
        SourceError: a file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns, named = _FORMATS[target.format]
    for name in sorted(target.lock["outputs"]):
        if not name.startswith(f"data/{split}-"):
            continue
        try:
            with pq.ParquetFile(target.folder / name) as file:
                for batch in file.iter_batches(BATCH, columns=[*more, *columns]):
                    values = batch.to_pydict()
                    yield {**named(values), **{each: values[each] for each in more}}
        except (OSError, pa.ArrowInvalid) as error:
            raise SourceError(f"cannot be read: {error}", where=str(target.folder / name)) from None


def mixture_splits(target: Mixture) -> tuple[str, ...]:
    """Return the splits that a mixture has."""
    return tuple(name for name, split in target.lock["splits"].items() if split["rows"])


def _pairs(values: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {"prompt": values["prompt"], "completion": values["completion"]}


def _alpaca(values: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    parts = zip(values["instruction"], values["input"], strict=True)
    prompts = ["\n\n".join(part for part in pair if part) + "\n\n" for pair in parts]
    return {"prompt": prompts, "completion": values["output"]}


def _messages(values: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {"messages": values["messages"]}


def _sharegpt(values: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {
        "messages": [
            [{"role": _SIDES[turn["from"]], "content": turn["value"]} for turn in turns]
            for turns in values["conversations"]
        ]
    }


def _text(values: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {"text": values["text"]}


_FORMATS: Mapping[str, tuple[tuple[str, ...], Callable[[Mapping[str, list[Any]]], dict[str, list[Any]]]]] = {
    "prompt-completion": (("prompt", "completion"), _pairs),
    "messages": (("messages",), _messages),
    "alpaca": (("instruction", "input", "output"), _alpaca),
    "sharegpt": (("conversations",), _sharegpt),
    "text": (("text",), _text),
}

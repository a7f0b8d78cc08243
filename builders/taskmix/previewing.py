"""Real rows under real templates, before anything is built."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from taskmix import hashing
from taskmix.catalog.loading import Catalog, load_catalog
from taskmix.errors import UsageError
from taskmix.frames import DRAW, SOURCE_ROW
from taskmix.mixing.examples import examples
from taskmix.rowsets import RowSet, lowest
from taskmix.tasks.opening import open_task
from taskmix.tasks.task import Split, Task
from taskmix.templates.files import Template, find_template
from taskmix.templates.rowwise import Workers
from taskmix.templates.sandbox import END, START

# of a template that drops rows so many are looked at for each that is shown
_LOOK_AT = 25
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preview:
    """One rendered example. `marked` are its prompt and completion with START and END around variables."""

    task: str
    template: str
    style: str
    source_split: str
    source_row: int
    prompt: str
    completion: str
    marked: tuple[str, str] = field(repr=False)
    messages: tuple[Mapping[str, str], ...] = ()


def preview(
    task: str,
    *,
    catalog: Catalog | None = None,
    template: str | None = None,
    rows: int = 1,
    split: str | None = None,
    seed: int = 0,
    mirror: Path | None = None,
) -> Iterator[Preview]:
    """Yield every template of a task, or one, rendered on rows drawn by the seed.

    Args:
        task: the task's name in the catalog.
        catalog: by default the one that `load_catalog` finds.
        template: a template's name; by default every one.
        rows: so many rows for each template.
        split: train or validation; by default the task's first.
        seed: other seeds show other rows.
        mirror: a folder with copies of hub datasets.

    Raises:
        TaskmixError: of the kind that fits.
    """
    with Workers(1) as workers:
        opened = open_task((catalog or load_catalog()).task(task), mirror, workers)
        yield from _task_previews(opened, template, rows, split, seed)


def _task_previews(task: Task, template: str | None, rows: int, split: str | None, seed: int) -> Iterator[Preview]:
    chosen = next((name for name in task.splits if split in (None, name)), None)
    if chosen is None:
        raise UsageError(f"the task {task.name!r} has no split {split!r}", hint=f"it has {', '.join(task.splits)}")
    part = task.splits[chosen]
    found = RowSet.of(batch[SOURCE_ROW].to_numpy() for batch in task.batches(part, ()))
    key = hashing.key(seed, task.name, "preview")
    templates = task.templates if template is None else (find_template(task.templates, template, task.name),)
    if not templates:
        yield from _conversations(task, part, lowest([found], [key], rows)[0], seed)
    for each in templates:
        yield from _previews(task, part, each, _full(task, part, each, found, key, rows, seed), seed)


def _full(task: Task, split: Split, template: Template, found: RowSet, key: int, count: int, seed: int) -> RowSet:
    """Return the first rows that a template does not drop; it looks at a bounded number of them."""
    if not template.drops_empty:
        return lowest([found], [key], count)[0]
    (looked_at,) = lowest([found], [key], count * _LOOK_AT)
    rendered = pl.concat(examples(task, split, [template], looked_at, seed, evaluation=False))
    kept = rendered.filter(pl.col("output").is_not_null())[SOURCE_ROW].sort()
    if not len(kept):
        _log.info("%s/%s leaves all of %d rows empty", task.name, template.name, len(looked_at))
    return lowest([RowSet.of([kept.to_numpy()])], [key], count)[0]


def _previews(task: Task, split: Split, template: Template, rows: RowSet, seed: int) -> Iterator[Preview]:
    if not len(rows):
        return
    plain = pl.concat(examples(task, split, [template], rows, seed, evaluation=False))
    values = pl.concat(task.rows(split, rows, template.names))
    key = hashing.key(seed, task.name, split.source_split, template.name, "choice")
    drawn = values.with_columns(hashing.draws(key, pl.col(SOURCE_ROW)).alias(DRAW))
    marks = task.workers.render(drawn, template, task.name, marked=True)
    for row, texts in zip(plain.rows(named=True), marks.rows(), strict=True):
        marked = _marked(template, texts)
        yield Preview(
            task.name,
            template.name,
            template.style,
            split.source_split,
            row[SOURCE_ROW],
            row["prompt"],
            row["output"],
            marked,
        )


def _conversations(task: Task, split: Split, rows: RowSet, seed: int) -> Iterator[Preview]:
    for frame in examples(task, split, [], rows, seed, evaluation=False):
        for row in frame.rows(named=True):
            turns = tuple(row["messages"])
            named = (task.name, "conversation", "zero-shot", split.source_split, row[SOURCE_ROW])
            yield Preview(*named, "", "", ("", ""), turns)


def _marked(template: Template, texts: Sequence[str]) -> tuple[str, str]:
    """Return prompt and completion of marked texts."""
    if template.strip:
        texts = [_strip_marked(text) for text in texts]
    parts = [text for text in texts[:2] if text.replace(START, "").replace(END, "")]
    return template.separator.join(parts) + template.ending, texts[2]


def _strip_marked(text: str) -> str:
    """Return text without the whitespace at its ends, also where that stands inside a mark."""
    pieces = re.split(f"([{START}{END}])", text)
    for positions, strip in ((range(len(pieces)), str.lstrip), (reversed(range(len(pieces))), str.rstrip)):
        for at in positions:
            if pieces[at] in (START, END):
                continue
            pieces[at] = strip(pieces[at])
            if pieces[at]:
                break
    return "".join(pieces)

"""What leaves train before anything is sampled: rows of evaluation splits, whole or nearly so, and duplicates."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import polars as pl

from taskmix.catalog.models import MixtureSpec
from taskmix.frames import SOURCE_ROW
from taskmix.mixing.contamination import Index, Limits, Origin, index
from taskmix.mixing.duplicates import Duplicates
from taskmix.mixing.parts import OutSplit
from taskmix.mixing.reading import Key, Reader, Usable
from taskmix.rowsets import RowSet
from taskmix.tasks.task import Split, Task

_FOUND = {
    "task": pl.String,
    "source_split": pl.String,
    SOURCE_ROW: pl.UInt64,
    "reason": pl.String,
    "overlap": pl.Float64,
    "evaluation_task": pl.String,
    "evaluation_split": pl.String,
    "evaluation_row": pl.UInt64,
}


@dataclass(frozen=True)
class Cleaned:
    """The rows of splits that may still be used, and those that may not be, each with the reason.

    `dropped` has a row's `task`, `source_split`, `source_row`, and for what reason it goes: `exact` or `near`, with the
    `overlap` and the evaluation row that it is (`evaluation_task`, `evaluation_split`, `evaluation_row`).
    """

    usable: Mapping[Key, Usable]
    dropped: pl.DataFrame


@dataclass(frozen=True)
class Evaluated:
    """Rows of a task's split that are in an evaluation split of the mixture."""

    task: Task
    split: Split
    name: OutSplit
    rows: RowSet


def clean(
    spec: MixtureSpec,
    reader: Reader,
    evaluated: Sequence[Evaluated],
    wanted: Sequence[tuple[Task, Split]],
    usable: Mapping[Key, Usable],
) -> Cleaned:
    """Take the rows of evaluation splits out of those to train on or to show as worked examples.

    Args:
        spec: the mixture's.
        reader: reads splits.
        evaluated: the rows of all evaluation splits.
        wanted: the tasks' splits that are to be cleaned.
        usable: what all splits have.
    """
    found = None
    if spec.decontamination != "off" and evaluated:
        found = index(_evaluation(evaluated), Limits(spec.decontamination.ngram, spec.decontamination.overlap))
    compare, left = spec.duplicates == "drop", dict(usable)
    if found is None and not compare:
        return Cleaned(usable, pl.DataFrame(schema=_FOUND))
    jobs = [
        partial(_look_through, reader, found, compare, *each, usable[each[0].name, each[1]].rows) for each in wanted
    ]
    dropped = [pl.DataFrame(schema=_FOUND)]
    for (task, split), (hits, same) in zip(wanted, reader.each(jobs), strict=True):
        left[task.name, split] = _without(usable[task.name, split], hits, same)
        dropped.append(hits)
    return Cleaned(left, pl.concat(dropped))


def _evaluation(evaluated: Iterable[Evaluated]) -> Iterable[tuple[Origin, pl.DataFrame]]:
    for each in evaluated:
        for frame in each.task.rows(each.split, each.rows, each.task.asked()):
            yield Origin(each.task.name, each.name), _inputs(each.task, frame)


def _inputs(task: Task, frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(SOURCE_ROW, *(name for name in task.asked() if name in frame.columns))


def _look_through(
    reader: Reader, found: Index | None, compare: bool, task: Task, split: Split, rows: RowSet
) -> tuple[pl.DataFrame, RowSet]:
    """Return the rows of a split that are those of evaluation splits, and those that are the same as an earlier one."""
    hits, same = [pl.DataFrame(schema=_FOUND)], Duplicates()
    for frame in task.rows(split, rows, {*task.asked(), *task.compared()}):
        if reader.stopped():
            break
        if found is not None:
            hits.append(_described(found.find(_inputs(task, frame)), task, split))
        if compare:
            same.add(frame.select(SOURCE_ROW, *task.compared()))
    return pl.concat(hits), RowSet(same.finish().bits)


def _described(found: pl.DataFrame, task: Task, split: Split) -> pl.DataFrame:
    """Return what was found of the rows of which something was."""
    return found.filter(pl.col("reason").is_not_null()).select(
        pl.lit(task.name).alias("task"),
        pl.lit(split.source_split).alias("source_split"),
        SOURCE_ROW,
        pl.col("reason").cast(pl.String),
        "overlap",
        pl.col("task").alias("evaluation_task"),
        pl.col("split").alias("evaluation_split"),
        "evaluation_row",
    )


def _without(usable: Usable, dropped: pl.DataFrame, same: RowSet) -> Usable:
    clean = usable.rows - RowSet.of([dropped[SOURCE_ROW].to_numpy()])
    rows = clean - same
    reasons = dict(sorted(Counter(dropped["reason"]).items()))
    counts = replace(usable.counts, contaminated=reasons, duplicates=len(clean) - len(rows), usable=len(rows))
    return Usable(rows, counts)

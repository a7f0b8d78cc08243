"""What leaves train before anything is sampled: rows of evaluation splits, whole or nearly so, and duplicates."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import polars as pl

from taskmix.caching.entries import Cache
from taskmix.catalog.models import MixtureSpec
from taskmix.frames import SOURCE_ROW
from taskmix.mixing.contamination import Index, Limits, Origin, index
from taskmix.mixing.duplicates import Duplicates
from taskmix.mixing.reading import Key, Reader, Usable
from taskmix.mixing.remembered import Evaluated, Looked, Memory, remark
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
_NOTHING, _NONE = pl.DataFrame(schema=_FOUND), RowSet.of(())
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cleaned:
    """The rows of splits that may still be used, and those that may not be, each with the reason.

    `dropped` has a row's `task`, `source_split`, `source_row`, and for what reason it goes: `exact` or `near`, with the
    `overlap` and the evaluation row that it is (`evaluation_task`, `evaluation_split`, `evaluation_row`).
    """

    usable: Mapping[Key, Usable]
    dropped: pl.DataFrame


def clean(
    spec: MixtureSpec,
    reader: Reader,
    evaluated: Sequence[Evaluated],
    wanted: Sequence[tuple[Task, Split]],
    usable: Mapping[Key, Usable],
    cache: Cache | None = None,
) -> Cleaned:
    """Take the rows of evaluation splits out of those to train on or to show as worked examples.

    Args:
        spec: the mixture's.
        reader: reads splits.
        evaluated: the rows of all evaluation splits.
        wanted: the tasks' splits that are to be cleaned.
        usable: what all splits have.
        cache: may know what comes of comparing splits, and is told.
    """
    limits, against = Limits(), tuple[Evaluated, ...]()
    if spec.decontamination != "off":
        limits = Limits(spec.decontamination.ngram, spec.decontamination.overlap)
        against = tuple(evaluated)
    compare, left = spec.duplicates == "drop", dict(usable)
    if not against and not compare:
        return Cleaned(usable, _NOTHING)
    memory = Memory(cache, against, limits)
    looked = [memory.look(*each, usable[each[0].name, each[1]].rows) for each in wanted]
    # what is not asked for is nothing
    looked = [each if against else replace(each, hits=_NOTHING) for each in looked]
    looked = [each if compare else replace(each, same=_NONE) for each in looked]
    found = index(_evaluation(against), limits) if any(each.hits is None for each in looked) else None
    dropped = [_NOTHING]
    for each in reader.each([partial(_look_through, reader, memory, found, each) for each in looked]):
        assert each.hits is not None, each
        assert each.same is not None, each
        place = each.task.name, each.split
        left[place] = _without(usable[place], each.hits, each.same)
        dropped.append(each.hits)
    if cache is not None:
        _LOG.info("%s", remark(looked))
    return Cleaned(left, pl.concat(dropped))


def _evaluation(evaluated: Iterable[Evaluated]) -> Iterable[tuple[Origin, pl.DataFrame]]:
    for each in evaluated:
        for frame in each.task.rows(each.split, each.rows, each.task.asked()):
            yield Origin(each.task.name, each.name), _inputs(each.task, frame)


def _inputs(task: Task, frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(SOURCE_ROW, *(name for name in task.asked() if name in frame.columns))


def _look_through(reader: Reader, memory: Memory, found: Index | None, looked: Looked) -> Looked:
    """Return a split with the rows that are those of evaluation splits, and those that are the same as an earlier one.

    What is known of it already is not looked for.
    """
    if looked.is_known:
        return looked
    task, split, hits, same = looked.task, looked.split, [_NOTHING], Duplicates()
    for frame in task.rows(split, looked.rows, {*task.asked(), *task.compared()}):
        if reader.stopped():
            break
        if looked.hits is None and found is not None:
            hits.append(_described(found.find(_inputs(task, frame)), task, split))
        if looked.same is None:
            same.add(frame.select(SOURCE_ROW, *task.compared()))
    done = replace(
        looked,
        hits=pl.concat(hits) if looked.hits is None else looked.hits,
        same=RowSet(same.finish().bits) if looked.same is None else looked.same,
    )
    if not reader.stopped():
        memory.keep(looked, done)
    return done


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

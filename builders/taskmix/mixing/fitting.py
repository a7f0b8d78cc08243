"""Which examples fit: those that their template leaves empty, and those that are too short or too long, are dropped."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from taskmix.catalog.models import LengthSpec
from taskmix.errors import CatalogError
from taskmix.frames import SOURCE_ROW
from taskmix.mixing.assignment import SLOT, TEMPLATE
from taskmix.mixing.examples import Posing, Turn, lengths, posed
from taskmix.rowsets import RowSet
from taskmix.tasks.task import Task


@dataclass(frozen=True)
class Lost:
    """Examples that are not used: outside the limits of `length`, or left empty by their template."""

    length: int = 0
    empty: int = 0


def fit(posing: Posing, turns: Sequence[Turn], limits: LengthSpec | None) -> tuple[tuple[Turn, ...], Lost]:
    """Return the turns without the examples that are outside the limits or that their template leaves empty."""
    if limits is None and not any(template.drops_empty for template in posing.templates):
        return tuple(turns), Lost()
    total, empty = sum(len(turn.rows) for turn in turns), 0
    fitting: dict[int, list[pl.Series]] = {turn.slot: [] for turn in turns}
    by = TEMPLATE if posing.evaluation else SLOT
    for frame in posed(posing, turns):
        full = frame if "messages" in frame.columns else frame.filter(pl.col("output").is_not_null())
        empty += len(frame) - len(full)
        short = full if limits is None else full.filter(_fits(full, limits))
        for (slot,), group in short.group_by(by, maintain_order=True):
            fitting[slot].append(group[SOURCE_ROW])
    left = tuple(Turn(slot, RowSet.of(rows.to_numpy() for rows in found)) for slot, found in fitting.items())
    return left, Lost(total - empty - sum(len(turn.rows) for turn in left), empty)


def _fits(frame: pl.DataFrame, limits: LengthSpec) -> pl.Series:
    length = lengths(frame).sum_horizontal()
    fits = length >= limits.min_chars
    return fits if limits.max_chars is None else fits & (length <= limits.max_chars)


def nothing_left(task: Task, rows: int, lost: Lost) -> CatalogError:
    """Return the error that none of so many rows or examples of a task fits."""
    return CatalogError(
        f"no row of the task {task.name} is left of {rows:,}: {lost.empty:,} are empty, "
        f"{lost.length:,} outside the limits of `length`",
        where=task.entry.where(),
        hint="change `length` or the templates, or take the task out of the mixture",
    )

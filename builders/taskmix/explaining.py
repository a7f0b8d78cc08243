"""Where a row of a mixture comes from: its source row, its template and style, and the row rendered again, alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from taskmix import hashing
from taskmix.caching.entries import open_cache
from taskmix.catalog.loading import Catalog, load_catalog
from taskmix.errors import OutputError, UsageError
from taskmix.mixing.assignment import TEMPLATE
from taskmix.mixing.examples import Turn, posed, shown_rows
from taskmix.mixing.parts import Part
from taskmix.mixing.plan import Plan, make_plan
from taskmix.output.formats import narrow, origin, origins, widen
from taskmix.output.inputs import Json, pinned, recorded_commits
from taskmix.output.lock import read_lock
from taskmix.rowsets import RowSet
from taskmix.templates.rowwise import Workers
from taskmix.text import quoted


@dataclass(frozen=True)
class Explained:
    """A row and what it was made of.

    Attributes:
        row: the row, by column.
        split: the mixture's split.
        source: the source, and its commit or files with their hashes.
        source_row: what templates see of the source's row, by variable.
        template: the template's file and line, or "" for a conversation.
        exemplars: the numbers of the rows of its worked examples, in their order, and their split of the source.
        seed: the mixture's seed.
        number: which of the source row's examples it is, from 0.
        same: whether the row, rendered again, has the same bytes.
    """

    row: Mapping[str, object]
    split: str
    source: Json
    source_row: Mapping[str, object]
    template: str
    exemplars: tuple[int, ...]
    exemplar_split: str
    seed: int
    number: int
    same: bool


def explain(
    folder: Path, row_id: str, *, catalog: Catalog | None = None, mirror: Path | None = None, workers: int | None = None
) -> Explained:
    """Trace a row of a mixture to its source, and render it again.

    Args:
        folder: the mixture.
        row_id: the row's `id`.
        catalog: the catalog that it was built from; by default the one that `load_catalog` finds.
        mirror: a folder with copies of hub datasets, as it was built with.
        workers: processes that render what Jinja has to.

    Raises:
        UsageError: the mixture has no such row.
        OutputError: the folder is no mixture, or the catalog or its sources do not give this row any more.
        TaskmixError: of the kind that fits, where the mixture cannot be planned again.
    """
    lock = read_lock(folder)
    split, found = _row(folder, row_id)
    catalog = catalog or load_catalog()
    # a branch of a hub dataset may have moved on since
    catalog = pinned(catalog, recorded_commits(catalog, lock["tasks"]))
    with Workers(workers) as pool:
        plan = make_plan(
            catalog,
            lock["mixture"],
            workers=pool,
            mirror=mirror,
            seed=lock["seed"],
            limit=lock["limit"],
            cache=open_cache(),
        )
        return _explained(plan, lock, split, found)


def _row(folder: Path, row_id: str) -> tuple[str, pl.DataFrame]:
    """Return the split and the row with an id."""
    for file in sorted((folder / "data").glob("*.parquet")):
        found = pl.scan_parquet(file).filter(pl.col("id") == row_id).collect()
        if len(found):
            return file.name.rsplit("-", 3)[0], found
    raise UsageError(f"{folder} has no row {quoted(row_id)}", hint="`id` is a column of every row")


def _explained(plan: Plan, lock: Json, split: str, found: pl.DataFrame) -> Explained:
    row = found.row(0, named=True)
    part = next((each for each in plan.parts_of(split) if each.task.name == row["task"]), None)
    if part is None:
        raise _changed(f"the mixture has no {row['task']} in {split} any more")
    turn, planned, again = _again(plan, part, found)
    exemplars = part.posing.exemplars
    alone = RowSet.of([np.array([row["source_row"]], np.uint64)])
    raw = next(part.task.rows(part.source, alone, part.task.variables()))
    template = part.templates[planned[TEMPLATE][0]] if part.templates else None
    return Explained(
        row=row,
        split=split,
        source=lock["tasks"][row["task"]],
        source_row=raw.row(0, named=True),
        template=template.where if template is not None else "",
        exemplars=tuple(shown_rows(part.posing, planned)),
        exemplar_split=exemplars.split.source_split if exemplars is not None else "",
        seed=plan.seed,
        number=turn.slot if split == "train" else 0,
        same=again.equals(found.select(again.columns)),
    )


def _again(plan: Plan, part: Part, found: pl.DataFrame) -> tuple[Turn, pl.DataFrame, pl.DataFrame]:
    """Return the turn and the planned example that give a row its id, and the row rendered again."""
    number = np.array([found["source_row"][0]], np.uint64)
    table, wanted = origins(part), found["id"][0]
    for turn in part.turns:
        if not len(turn.rows.between(int(number[0]), int(number[0]) + 1)):
            continue
        planned = part.posing.assignment(number, turn.slot)
        (frame,) = posed(part.posing, [Turn(turn.slot, RowSet.of([number]))])
        numbers = frame.select(origin(len(part.templates)).cast(pl.UInt32)).to_series()
        key = hashing.key(plan.seed, "shuffle", part.split)
        spec = plan.spec
        rows = narrow(
            frame, spec.format, spec.styles.system, numbers, table["high"], key, evaluation=part.is_evaluation
        )
        again = pl.DataFrame(widen(rows, table))
        if again["id"][0] == wanted:
            return turn, planned, again.cast(dict(found.schema))  # type: ignore[arg-type]
    raise _changed(f"row {number[0]} of {part.task.name} does not become it any more")


def _changed(what: str) -> OutputError:
    return OutputError(
        f"this row cannot be made again: {what}",
        hint="name the catalog, the mirror and the version of taskmix that it was built with: `mix diff` shows changes",
    )

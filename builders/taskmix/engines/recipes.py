"""What rendering a part of a plan needs, wherever it is done, and what is counted meanwhile."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import polars as pl

from taskmix import hashing
from taskmix.compiler.templates import RowWise
from taskmix.mixing.examples import Job, Posing, Progress, Turn, jobs, lengths
from taskmix.mixing.plan import Plan
from taskmix.output.formats import narrow, origin, origins
from taskmix.output.places import Place
from taskmix.output.shards import Written


@dataclass
class Tally:
    """What is counted while a part is rendered: characters of prompts and completions, and what Jinja rendered."""

    chars: Counter[str] = field(default_factory=Counter)
    handed_back: Counter[str] = field(default_factory=Counter)
    row_wise: dict[str, RowWise] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        """Add what was counted of more rows."""
        self.chars.update(other.chars)
        self.handed_back.update(other.handed_back)
        self.row_wise |= other.row_wise


@dataclass(frozen=True)
class Mixed:
    """A plan that was carried out: what was counted of each of its parts, in their order, and the written splits."""

    tallies: Sequence[Tally]
    written: Written


class Engine(Protocol):
    """Renders, shuffles and writes what a plan says."""

    def carry_out(self, plan: Plan, place: Place, rendered: Progress, written: Progress) -> Mixed:
        """Write the shards of all splits below a place; the plan and nothing else decides on their bytes.

        Args:
            plan: what to do.
            place: the folder of the mixture, where nothing else is written meanwhile.
            rendered: called with a task's name and the number of examples just rendered.
            written: called with a split's name and the number of rows of each shard just written.

        Raises:
            TaskmixError: a row cannot be rendered, a source has changed, or the place cannot be written.
        """


@dataclass(frozen=True)
class Recipe:
    """How rows of one part of a plan become rows of its split's shuffle.

    Attributes:
        posing: how they become examples.
        form: the mixture's format.
        system: the mixture's system message.
        keys: the keys `high` of all origins of the split (UInt64).
        first: the number of the part's first origin among them.
        shuffle_key: the key of the split's order.
        evaluation: whether the split is one to evaluate on.
    """

    posing: Posing
    form: str
    system: str | None
    keys: pl.Series
    first: int
    shuffle_key: int
    evaluation: bool

    def work(self, turns: Sequence[Turn]) -> Iterator[Callable[[], tuple[pl.DataFrame, Tally]]]:
        """Yield the work of rendering planned rows, in pieces that do not depend on each other.

        Each gives rows as the shuffle takes them, and what is counted of them.
        """
        return (partial(self._finish, job) for job in jobs(self.posing, turns))

    def _finish(self, job: Job) -> tuple[pl.DataFrame, Tally]:
        found, templates = job(), self.posing.templates
        numbers = found.rows.select((self.first + origin(len(templates))).cast(pl.UInt32)).to_series()
        rows = narrow(
            found.rows, self.form, self.system, numbers, self.keys, self.shuffle_key, evaluation=self.evaluation
        )
        name = templates[found.template].name if templates else ""
        tally = Tally(Counter(lengths(found.rows).sum().row(0, named=True)))
        if found.handed_back:
            tally.handed_back[name] = found.handed_back
        if found.row_wise:
            tally.row_wise[name] = found.row_wise
        return rows, tally


def recipes(plan: Plan, split: str) -> tuple[list[Recipe], pl.DataFrame]:
    """Return the recipes of a split's parts, in their order, and the table of the origins of all (see `origins`)."""
    parts = plan.parts_of(split)
    tables = [origins(part) for part in parts]
    table, first, found = pl.concat(tables), 0, []
    shuffle_key = hashing.key(plan.seed, "shuffle", split)
    for part, own in zip(parts, tables, strict=True):
        form, system = plan.spec.format, plan.spec.styles.system
        found.append(Recipe(part.posing, form, system, table["high"], first, shuffle_key, part.is_evaluation))
        first += len(own)
    return found, table


def in_parts(plan: Plan, tallies: Mapping[str, Sequence[Tally]]) -> list[Tally]:
    """Return the tallies of a plan's parts in their order, given those of each split."""
    left = {split: iter(found) for split, found in tallies.items()}
    return [next(left[part.split]) for part in plan.parts]

"""A task that can be read: a source's rows, seen as one kind."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from taskmix import hashing
from taskmix.catalog.loading import CatalogTask
from taskmix.catalog.models import SplitName
from taskmix.compiler.templates import RowWise, Vectorised
from taskmix.compiler.translator import Facts
from taskmix.errors import RowError
from taskmix.frames import SOURCE_ROW
from taskmix.kinds import Kind, View
from taskmix.rendering import compiled_for
from taskmix.rowsets import RowSet
from taskmix.sources.opening import Source
from taskmix.tasks import columns
from taskmix.tasks.held import Held
from taskmix.templates.files import Template
from taskmix.templates.parts import Expression
from taskmix.templates.rowwise import Workers
from taskmix.text import quoted


@dataclass(frozen=True)
class Split:
    """One of a task's splits: the source's split, and the band of row hashes that belong to it."""

    source_split: str
    low: int = 0
    high: int = 2**64

    @property
    def is_whole(self) -> bool:
        """Whether it takes all rows of the source's split."""
        return (self.low, self.high) == (0, 2**64)


@dataclass(frozen=True)
class Dropped:
    """Rows of a split that are not used: not of this split, or dropped by `where`."""

    cut: int = 0
    where: int = 0


@dataclass(frozen=True)
class Task:
    """A task that can be read. `workers` run the expressions of its catalog entry; `held` keeps what was read."""

    entry: CatalogTask
    kind: Kind
    view: View
    source: Source
    splits: Mapping[SplitName, Split]
    maps: tuple[columns.ColumnMap, ...]
    keep: Expression | None
    templates: tuple[Template, ...]
    template_path: Path | None
    workers: Workers = field(repr=False, compare=False)
    held: Held = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """Return the task's name in the catalog."""
        return self.entry.name

    def variables(self) -> frozenset[str]:
        """Return the names that a template of this task may use."""
        return self.kind.names | {each.name for each in self.maps} | set(self.schema())

    @property
    def facts(self) -> Facts:
        """Return what is known of the variables of all rows."""
        return Facts(tuple(sorted(self.kind.constants(self.view).items())), self.kind.never_null)

    def engines(self) -> Mapping[str, Vectorised | RowWise]:
        """Return how each template is rendered, by the types of the task's variables: as expressions, or row by row.

        Raises:
            SourceError, RowError, TemplateError: the first rows cannot be read.
        """
        names = frozenset().union(*(template.names for template in self.templates))
        rows = next((batch for batch in self.batches(next(iter(self.splits.values())), names) if len(batch)), None)
        schema = rows.schema if rows is not None else {}
        return {each.name: compiled_for(each, schema, None, self.facts) for each in self.templates}

    def batches(self, split: Split, names: Collection[str]) -> Iterator[pl.DataFrame]:
        """Yield a split's usable rows in order: `source_row`, and the named variables, checked.

        Raises:
            SourceError, RowError, TemplateError: with the file, or the row.
        """
        for kept, _ in self.kept_batches(split, names):
            yield kept

    def kept_batches(
        self, split: Split, names: Collection[str], wanted: RowSet | None = None
    ) -> Iterator[tuple[pl.DataFrame, Dropped]]:
        """Yield what `batches` does, of the wanted rows or of all, with the count of rows that each batch lost."""
        for batch in self._batches(split, names):
            chosen = batch if wanted is None else _among(batch, wanted)
            if wanted is not None and not len(chosen):
                continue
            kept, dropped = self._keep(columns.apply(chosen, self.maps, self.name, self.workers), split)
            yield self._canonical(kept, split, names), dropped

    def check(self, split: Split, names: Collection[str]) -> Iterator[tuple[pl.DataFrame, Dropped]]:
        """Read a split and check every row; yield the numbers of those to use, and the count of those that are lost.

        Where they fit into what is held, they need not be read again for `rows` with these names.
        """
        keeping = self.held.keeping((self.name, split), names)
        for batch in self._batches(split, names):
            kept, dropped = self._keep(columns.apply(batch, self.maps, self.name, self.workers), split)
            keeping.add(kept, batch)
            yield self._canonical(kept, split, ()), dropped
        keeping.finish()

    def rows(self, split: Split, wanted: RowSet, names: Collection[str]) -> Iterator[pl.DataFrame]:
        """Yield only the rows that are wanted, in order: `source_row` and the named variables.

        What `where` and the cut leave out is not checked again: `wanted` comes from a plan that did.
        """
        held = self.held.frames((self.name, split), names)
        for batch in self._batches(split, names, wanted.span) if held is None else held:
            chosen = _among(batch, wanted)
            if len(chosen):
                mapped = columns.apply(chosen, self.maps, self.name, self.workers) if held is None else chosen
                yield self._canonical(mapped, split, names)

    def _batches(
        self, split: Split, names: Collection[str], span: tuple[int, int] | None = None
    ) -> Iterator[pl.DataFrame]:
        """Yield batches with the source's columns that are needed."""
        used = self.used_columns(names)
        raw = [name for name in self.schema(split.source_split) if name in used]
        return self.source.batches(split.source_split, raw, span)

    def _keep(self, batch: pl.DataFrame, split: Split) -> tuple[pl.DataFrame, Dropped]:
        """Return the rows that belong to the split and that `where` keeps."""
        kept = batch
        if self.keep is not None:
            kept = batch.filter(self._truths(batch, self.keep))
        lost = len(batch) - len(kept)
        if split.is_whole:
            return kept, Dropped(where=lost)
        position = self._content_hashes(kept)
        inside = kept.filter(pl.Series([split.low <= each < split.high for each in position], dtype=pl.Boolean))
        return inside, Dropped(cut=len(kept) - len(inside), where=lost)

    def _truths(self, batch: pl.DataFrame, keep: Expression) -> pl.Series:
        values = columns.evaluate(batch, keep, "where", self.name, self.workers)
        if len(values) and values.dtype != pl.Boolean:
            where = f"{self.entry.where('where')}: task {self.name}, row {batch[SOURCE_ROW][0]}"
            raise RowError(f"`where` gives {quoted(values[0])}, not true or false", where=where)
        return values.cast(pl.Boolean)

    def _content_hashes(self, batch: pl.DataFrame) -> list[int]:
        """Return a 64-bit hash of what each row asks, so that equal rows are cut to the same side."""
        rows = batch.select(self.asked()).rows()
        return [hashing.key(json.dumps(row, ensure_ascii=False)) for row in rows]

    def asked(self) -> list[str]:
        """Return the columns that make up what a row asks; for rows as they are, all that templates can name."""
        asked = [name for name in self.kind.inputs if name in self.view.columns] or sorted(self.view.columns)
        return asked or [name for name, dtype in self.schema().items() if columns.is_plain(dtype)]

    def compared(self) -> list[str]:
        """Return the columns in which two rows must agree to be the same: all that the kind knows of."""
        return sorted(self.view.columns) or self.asked()

    def _canonical(self, batch: pl.DataFrame, split: Split, names: Collection[str]) -> pl.DataFrame:
        """Return the checked variables; a row that cannot be used is named with its source and split."""
        try:
            frame = self.kind.canonical(batch, self.view, names)
        except RowError as error:
            where = f"{self.entry.where()}: {self.source.label} ({split.source_split}): {error.where}"
            raise RowError(error.message, where=where, hint=error.hint) from None
        return frame.select(SOURCE_ROW, *self._available(names))

    def _available(self, names: Collection[str]) -> list[str]:
        return sorted(set(names) & self.variables())

    def used_columns(self, names: Collection[str]) -> frozenset[str]:
        """Return the names of source columns that are read for the canonical columns, `where` and variables."""
        mapped = frozenset(column for each in self.maps for column in each.uses)
        kept = self.keep.names if self.keep is not None else frozenset[str]()
        cut = frozenset[str]() if all(split.is_whole for split in self.splits.values()) else frozenset(self.asked())
        return mapped | self.view.columns | kept | cut | frozenset(names)

    def schema(self, split: str | None = None) -> pl.Schema:
        """Return the source's columns in one of its splits; by default in the first that the task uses."""
        return self.source.schema(split or next(iter(self.splits.values())).source_split)


def _among(batch: pl.DataFrame, wanted: RowSet) -> pl.DataFrame:
    """Return the rows of a batch that are wanted."""
    numbers = batch[SOURCE_ROW]
    if not len(numbers):
        return batch
    inside = wanted.between(numbers[0], numbers[-1] + 1)
    return batch if len(inside) == len(batch) else batch[numbers.search_sorted(inside)]

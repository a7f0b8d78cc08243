"""A catalog's `source:` made into files by split, wherever it lies."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from taskmix.catalog.loading import CatalogTask
from taskmix.errors import CatalogError, SourceError, nearest
from taskmix.frames import SOURCE_ROW
from taskmix.sources import files
from taskmix.sources.finding import Splits, Stamp, find_source, stamp
from taskmix.text import quoted, shown

BATCH_ROWS = 100_000
BATCH_BYTES = 32 << 20
_PIECE_ROWS = 10_000
"""What is read at once; pieces make up a batch until one of its limits is reached."""


@dataclass(frozen=True)
class Source:
    """A dataset as files by split. `label` names it in messages, `commit` pins a hub dataset."""

    label: str
    root: Path
    splits: Splits
    commit: str | None = None
    _found: Mapping[Path, Stamp | None] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_found", self._stamps())

    def _stamps(self) -> Mapping[Path, Stamp | None]:
        return {path: stamp(path) for paths in self.splits.values() for path in paths}

    def changed(self) -> Path | None:
        """Return the first file that is not what it was when the source was opened; None if all are."""
        return next((path for path, now in self._stamps().items() if now != self._found[path]), None)

    def check_unchanged(self) -> None:
        """Raise SourceError if a file is not what it was when the source was opened: what was read may be mixed."""
        if (path := self.changed()) is not None:
            raise SourceError("changed while it was read", where=shown(path), hint="build again")

    def schema(self, split: str) -> pl.Schema:
        """Return the columns of a split and their types."""
        return files.guarded(self.splits[split], lambda: files.scan(self.splits[split]).collect_schema())

    def class_names(self, split: str) -> Mapping[str, tuple[str, ...]]:
        """Return the ClassLabel names of the columns of a split."""
        return files.class_names(self.splits[split])

    def batches(
        self, split: str, columns: Sequence[str], span: tuple[int, int] | None = None
    ) -> Iterator[pl.DataFrame]:
        """Yield a split's columns in order, with `source_row` (UInt64), a bounded number of rows at a time.

        The rows of a batch are contiguous; long ones make smaller batches. With a `span` only the rows from its first
        number up to its second are read.
        """
        held, rows, size = list[pl.DataFrame](), 0, 0.0
        for piece in self._pieces(split, columns, span):
            held.append(piece)
            rows, size = rows + len(piece), size + piece.estimated_size()
            if rows >= BATCH_ROWS or size >= BATCH_BYTES:
                yield pl.concat(held, rechunk=True)
                held, rows, size = [], 0, 0.0
        if held:
            yield pl.concat(held, rechunk=True)

    def _pieces(self, split: str, columns: Sequence[str], span: tuple[int, int] | None) -> Iterator[pl.DataFrame]:
        paths = self.splits[split]
        # a frame without columns has no rows to number
        read = columns or self.schema(split).names()[:1]
        frame = files.scan(paths).select(read).with_row_index(SOURCE_ROW).cast({SOURCE_ROW: pl.UInt64})
        if span is not None:
            frame = frame.slice(span[0], span[1] - span[0])
        found = files.guarded(paths, lambda: iter(frame.collect_batches(chunk_size=_PIECE_ROWS)))
        while (piece := files.guarded(paths, lambda: next(found, None))) is not None:
            yield piece.select(SOURCE_ROW, *columns)

    def count(self, split: str) -> int:
        """Return the number of a split's rows."""
        paths = self.splits[split]
        counted = files.guarded(paths, lambda: files.scan(paths).select(pl.len()).collect())
        return int(counted.item())

    def require(self, split: str, where: str) -> str:
        """Return a split's name if the source has it. Raises CatalogError that shows those it has."""
        if split not in self.splits:
            has = ", ".join(sorted(self.splits))
            hint = nearest(split, self.splits)
            raise CatalogError(
                f"{self.label} has no split {quoted(split)}; it has {has}",
                where=where,
                hint=hint if hint.startswith("did") else "or cut one: `validation: {from: train, fraction: 0.05}`",
            )
        return split


def open_source(task: CatalogTask, mirror: Path | None) -> Source:
    """Find a task's files. Raises as `find_source` does."""
    found = find_source(task, mirror)
    return Source(found.label, found.root, found.splits, found.commit)

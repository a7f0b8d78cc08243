"""Shuffling rows by a hash: in memory as long as they fit, else in sorted runs on disk that are merged band by band.

The order follows from the hashes alone, so that both ways give the same.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from taskmix.frames import SOURCE_ROW
from taskmix.output.places import Place

ORDER = "order"
"""A row's place in the shuffle: a hash (UInt64)."""
ORIGIN = "origin"
"""Which task and template a row is of (UInt32)."""
MEMORY = 1 << 30
"""How many bytes of rows are held by default."""
_RUNS = 4
"""A run has so small a part of the memory: its rows are there twice while they are put in order."""
_RUNS_A_FILE = 16
"""Each thread that merges has all files open, of which a system allows a thousand or so."""
BAND_ROWS = 30_000
"""About how many rows have hashes of one band; those of a band are sorted at once."""
_HASHES = 2**64
_VIEW = 16
"""Bytes that Polars has for each text beside its characters."""


class Shuffled(Protocol):
    """Rows in the order of their hashes; several threads may read them at once."""

    def blocks(self, first: int, end: int, size: int) -> Iterator[pl.DataFrame]:
        """Yield the rows from `first` up to `end` in blocks of `size` rows, of which the last may have fewer."""


@dataclass
class Shuffle:
    """Takes rows (with `order`, `origin` and `source_row`) in any order, and gives them in that of their hashes.

    `total` is about how many will come. When more than `memory` bytes are held, they go to files in `place` as runs:
    sorted, one record batch a band of hashes, several runs one after the other in a file. From then on nothing is won
    by holding much, and each run is written as soon as it is complete.
    """

    place: Place
    total: int
    memory: int = MEMORY
    _held: "deque[tuple[pl.DataFrame, int]]" = field(default_factory=deque)
    _bytes: int = 0
    _runs: "list[Run]" = field(default_factory=list)
    _writer: pa.RecordBatchFileWriter | None = None
    _open: ExitStack = field(default_factory=ExitStack)

    def add(self, rows: pl.DataFrame) -> None:
        """Append rows that keep no other frame's memory alive."""
        size = int(rows.estimated_size()) + _VIEW * rows.width * len(rows)
        self._held.append((rows, size))
        self._bytes += size
        if self._bytes > (self.memory // _RUNS if self._runs else self.memory):
            self._write_runs()

    def finish(self) -> Shuffled:
        """Return all rows in order; nothing can be added after."""
        return merged(self.runs()) if self._runs else _sorted(self._take(self._bytes))

    def runs(self) -> "tuple[Run, ...]":
        """Return all rows in files, those too that were still held; nothing can be added after."""
        self._write_runs()
        self._open.close()
        return tuple(self._runs)

    def _write_runs(self) -> None:
        while self._held:
            self._write_run(_sorted(self._take(self.memory // _RUNS)))

    def _take(self, most: int) -> list[pl.DataFrame]:
        """Return frames that were held, the first ones, until they have so many bytes or more."""
        found, size = list[pl.DataFrame](), 0
        while self._held and (not found or size < most):
            rows, own = self._held.popleft()
            found.append(rows)
            size += own
        self._bytes -= size
        return found

    def _write_run(self, run: "_Sorted") -> None:
        """Append a run to the file that is open, or to a new one."""
        number, place = divmod(len(self._runs), _RUNS_A_FILE)
        edges, name = run.edges(-(-self.total // BAND_ROWS)), f"{number:05}.arrow"
        schema = arrow(run.rows.clear()).schema
        if not place:
            self._open.close()
            opened = self._open.enter_context(self.place.create(name))
            self._writer = self._open.enter_context(pa.ipc.new_file(opened, schema))
        assert self._writer is not None
        for low, high in pairwise(edges):
            table = arrow(run.rows[run.positions[low:high]])
            self._writer.write_batch(next(iter(table.to_batches()), pa.RecordBatch.from_pylist([], schema)))
        self._runs.append(Run(self.place, name, place * (len(edges) - 1), edges))


def _sorted(frames: list[pl.DataFrame]) -> "_Sorted":
    """Return the rows of frames, which are taken out of the list, in order."""
    rows = pl.concat(frames, rechunk=True)
    frames.clear()
    positions = pl.Series(np.argsort(rows[ORDER].to_numpy()), dtype=pl.get_index_type())
    if _tied(rows[ORDER][positions]):
        positions = rows.select(pl.arg_sort_by(ORDER, ORIGIN, SOURCE_ROW)).to_series()
    return _Sorted(rows, positions)


@dataclass(frozen=True)
class Run:
    """Sorted rows in a file, with a record batch for each band of hashes: `first` is the number of the first one.

    `edges` says where the bands lie among the rows.
    """

    place: Place
    name: str
    first: int
    edges: tuple[int, ...]


def merged(runs: "Sequence[Run]") -> Shuffled:
    """Return the rows of runs that were cut into the same bands, in order."""
    return _Merged(runs)


@dataclass(frozen=True)
class _Sorted:
    """Rows in memory, and their positions in order."""

    rows: pl.DataFrame
    positions: pl.Series

    def blocks(self, first: int, end: int, size: int) -> Iterator[pl.DataFrame]:
        for at in range(first, end, size):
            yield self.rows[self.positions[at : min(at + size, end)]]

    def edges(self, bands: int) -> tuple[int, ...]:
        """Return where each band of hashes begins, and where the last one ends."""
        width = -(-_HASHES // bands)
        hashes = pl.Series([band * width for band in range(bands)], dtype=pl.UInt64)
        return (*self.rows[ORDER][self.positions].search_sorted(hashes), len(self.rows))


@dataclass(frozen=True)
class _Merged:
    """Runs on disk, merged band by band."""

    runs: Sequence[Run]

    def blocks(self, first: int, end: int, size: int) -> Iterator[pl.DataFrame]:
        held = None
        for piece in self._pieces(first, end):
            held = piece if held is None else pl.concat([held, piece])
            while len(held) >= size:
                yield held.head(size)
                held = held.slice(size)
        if held is not None and len(held):
            yield held

    def _pieces(self, first: int, end: int) -> Iterator[pl.DataFrame]:
        """Yield what each band has of the rows from `first` up to `end`."""
        files = {(run.place, run.name) for run in self.runs}
        readers = {(place, name): pa.ipc.open_file(place.open(name)) for place, name in files}
        edges = map(sum, zip(*(run.edges for run in self.runs), strict=True))
        for band, (low, high) in enumerate(pairwise(edges)):
            if low < end and high > first:
                batches = [readers[run.place, run.name].get_batch(run.first + band) for run in self.runs]
                rows = _in_order(pl.DataFrame(pa.Table.from_batches(batches)))
                yield rows[max(first - low, 0) : end - low]


def _in_order(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows in the order of their hashes; should two have the same one, in that of what they are."""
    found = rows.sort(ORDER)
    return found.sort(ORDER, ORIGIN, SOURCE_ROW) if _tied(found[ORDER]) else found


def _tied(hashes: pl.Series) -> bool:
    return bool((hashes == hashes.shift(1)).any())


def arrow(rows: pl.DataFrame) -> pa.Table:
    """Return rows as Arrow, each column in one piece, in buffers of its own, texts one after the other."""
    return rows.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())

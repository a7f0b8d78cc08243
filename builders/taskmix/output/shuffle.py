"""Shuffling rows by a hash: in memory as long as they fit, else in sorted runs on disk that are merged shard by shard.

Which rows a shard holds, and in which order, follows from their hashes alone, so that both ways give the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa

from taskmix.frames import SOURCE_ROW

ORDER = "order"
"""A row's place in the shuffle: a hash (UInt64)."""
ORIGIN = "origin"
"""Which task and template a row is of (UInt32)."""
MEMORY = 1 << 30
"""How many bytes of rows are held by default."""
_HASHES = 2**64


@dataclass
class Shuffle:
    """Takes rows (with `order`, `origin` and `source_row`) in any order, and gives them in that of their hashes.

    `shards` is into how many bands of hashes they are cut. When more than `memory` bytes are held, a run of them goes
    to a file in `folder`, sorted, one record batch a shard.
    """

    folder: Path
    shards: int
    memory: int = MEMORY
    _held: list[pa.Table] = field(default_factory=list)
    _bytes: int = 0
    _runs: list[Path] = field(default_factory=list)

    def add(self, rows: pa.Table) -> None:
        """Append rows, as Arrow: a frame of Polars may keep far more memory alive than its rows have."""
        self._held.append(rows)
        self._bytes += rows.nbytes
        if self._bytes > self.memory:
            self._write_run()

    def sorted_shards(self) -> Iterator[pl.DataFrame]:
        """Yield the rows of each shard in order; nothing can be added after."""
        if not self._runs:
            yield from map(_sorted, self._cut_held())
            return
        if self._held:
            self._write_run()
        # not mapped into memory: what was read would count as the process's own
        runs = [pa.ipc.open_file(pa.OSFile(str(path))) for path in self._runs]
        for index in range(self.shards):
            table = pa.Table.from_batches([run.get_batch(index) for run in runs])
            yield _sorted(_frame(table))
        for path in self._runs:
            path.unlink()

    def _write_run(self) -> None:
        path = self.folder / f"{len(self._runs):05}.arrow"
        with pa.ipc.new_file(str(path), self._held[0].schema) as file:
            for rows in self._cut_held():
                (batch,) = rows.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches() or (
                    pa.RecordBatch.from_pylist([], self._held[0].schema),
                )
                file.write_batch(batch)
        self._runs.append(path)
        self._held, self._bytes = [], 0

    def _cut_held(self) -> Iterator[pl.DataFrame]:
        """Yield what each shard gets of the held rows."""
        rows = _frame(pa.concat_tables(self._held))
        positions = rows[ORDER].arg_sort()
        ordered = rows[ORDER][positions]
        width = -(-_HASHES // self.shards)
        bounds = ordered.search_sorted(pl.Series([index * width for index in range(self.shards)], dtype=pl.UInt64))
        for low, high in zip(bounds, [*bounds[1:], len(rows)], strict=True):
            yield rows[positions[low:high]]


def _frame(table: pa.Table) -> pl.DataFrame:
    found = pl.from_arrow(table)
    assert isinstance(found, pl.DataFrame)
    return found.rechunk()


def _sorted(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows by their hash and, should two rows have the same one, by what they are."""
    ordered = rows if rows[ORDER].is_sorted() else rows.sort(ORDER)
    if (ordered[ORDER] == ordered[ORDER].shift(1)).any():
        return ordered.sort(ORDER, ORIGIN, SOURCE_ROW)
    return ordered

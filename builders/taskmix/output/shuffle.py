"""Shuffling rows by a hash: in memory as long as they fit, else in sorted runs on disk that are merged band by band.

The order follows from the hashes alone, so that both ways give the same.
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

    They come in `bands` pieces, each a band of hashes. When more than `memory` bytes are held, they go to a file in
    `folder` as a run: sorted, one record batch a band.
    """

    folder: Path
    bands: int
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

    def sorted_bands(self) -> Iterator[pl.DataFrame]:
        """Yield the rows of each band in order; nothing can be added after."""
        if not self._runs:
            yield from map(_settled, self._sorted_held())
            return
        if self._held:
            self._write_run()
        # not mapped into memory: what was read would count as the process's own
        runs = [pa.ipc.open_file(pa.OSFile(str(path))) for path in self._runs]
        for band in range(self.bands):
            rows = pl.DataFrame(pa.Table.from_batches([run.get_batch(band) for run in runs]))
            yield _settled(rows.sort(ORDER))

    def _write_run(self) -> None:
        path, schema = self.folder / f"{len(self._runs):05}.arrow", self._held[0].schema
        with pa.ipc.new_file(str(path), schema) as file:
            for rows in self._sorted_held():
                table = rows.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
                file.write_batch(next(iter(table.to_batches()), pa.RecordBatch.from_pylist([], schema)))
        self._runs.append(path)
        self._held, self._bytes = [], 0

    def _sorted_held(self) -> Iterator[pl.DataFrame]:
        """Yield what each band gets of the held rows, in order."""
        rows = pl.DataFrame(pa.concat_tables(self._held)).rechunk()
        positions = rows[ORDER].arg_sort()
        width = -(-_HASHES // self.bands)
        edges = pl.Series([band * width for band in range(self.bands)], dtype=pl.UInt64)
        lows = rows[ORDER][positions].search_sorted(edges)
        for low, high in zip(lows, [*lows[1:], len(rows)], strict=True):
            yield rows[positions[low:high]]


def _settled(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows that are in the order of their hashes; should two have the same one, in that of what they are."""
    if (rows[ORDER] == rows[ORDER].shift(1)).any():
        return rows.sort(ORDER, ORIGIN, SOURCE_ROW)
    return rows

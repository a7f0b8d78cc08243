"""Exact duplicates among the rows of one task: which rows to drop, so that the first of each is left.

Rows are the same when they have the same values in all columns, byte for byte. They are compared by 128 bits: two
64-bit hashes of Polars with different seeds. `Expr.hash` may change from one version to the next, which does not matter
here, where hashes are compared within one run and only for being equal. Among 10**8 rows any two differ in those bits
unless chance has it otherwise, with a probability of about (10**8)**2 / 2**129, less than 10**-22 (the birthday bound).

Of each row 24 bytes are held: its hashes and number. Beyond a budget they go to files by the first bits of the hash,
so that all rows with one hash are in one file, and each file is looked through alone. The numbers of the rows to drop,
fewer than there are rows, are given in order, from a bit a row of the source.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import polars as pl

from taskmix.frames import SOURCE_ROW

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEMORY = 256 << 20
"""How many bytes of hashes are held by default."""
BUCKETS = 256
_SEEDS = (0x5EED, 0xC0FFEE)
_RECORD = np.dtype([("first", np.uint64), ("second", np.uint64), ("row", np.uint64)])
_SHIFT = np.uint64(64 - BUCKETS.bit_length() + 1)


@dataclass
class Duplicates:
    """Takes rows, in any order, and says which of them are the same as one with a smaller number.

    `folder` is an empty one for files, which are deleted when they have been read; `memory` is how many bytes of
    hashes are held before they go there.
    """

    folder: Path
    memory: int = MEMORY
    _held: "list[NDArray[np.void]]" = field(default_factory=list)
    _bytes: int = 0
    _rows: int = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Take rows: `source_row`, each number once, and the columns in which they are compared, the same each time."""
        records = _records(rows)
        self._held.append(records)
        self._bytes += records.nbytes
        self._rows = max(self._rows, int(records["row"].max(initial=0)) + 1)
        if self._bytes > self.memory:
            self._write()

    def finish(self) -> "Dropped":
        """Return the rows to drop; nothing can be added after."""
        files = [self.folder / str(bucket) for bucket in range(BUCKETS) if (self.folder / str(bucket)).exists()]
        if files:
            self._write()
        bits = np.zeros(-(-self._rows // 8), np.uint8)
        for records in _read(files) if files else [_together(self._held)]:
            _mark(bits, _repeated(records))
        self._held = []
        return Dropped(bits)

    def _write(self) -> None:
        records = _together(self._held)
        bucket = (records["first"] >> _SHIFT).astype(np.int64)
        records = records[np.argsort(bucket, kind="stable")]
        ends = np.concatenate(([0], np.cumsum(np.bincount(bucket, minlength=BUCKETS))))
        for number in range(BUCKETS):
            with (self.folder / str(number)).open("ab") as file:
                _append(file, records[ends[number] : ends[number + 1]])
        self._held, self._bytes = [], 0


@dataclass(frozen=True)
class Dropped:
    """Rows to drop: a bit for each number up to the last row's, the first bit of a byte being its lowest (uint8)."""

    bits: "NDArray[np.uint8]"

    def __len__(self) -> int:
        return int(np.bitwise_count(self.bits).sum())

    def has(self, rows: pl.Series) -> pl.Series:
        """Return which of some rows, by their numbers, are to be dropped (Boolean)."""
        numbers = rows.to_numpy().astype(np.int64)
        known = numbers < 8 * len(self.bits)
        at = np.where(known, numbers, 0)
        found = np.zeros(len(numbers), bool)
        if len(self.bits):
            found = known & (self.bits[at >> 3] >> (at & 7).astype(np.uint8) & 1).astype(bool)
        return pl.Series(found)

    def numbers(self, at_once: int = 1 << 20) -> Iterator[pl.Series]:
        """Yield the numbers of the rows to drop (UInt64, ascending), so many rows looked through at a time."""
        for low in range(0, len(self.bits), -(-at_once // 8)):
            bits = np.unpackbits(self.bits[low : low + -(-at_once // 8)], bitorder="little")
            found = np.flatnonzero(bits) + 8 * low
            if len(found):
                yield pl.Series(SOURCE_ROW, found.astype(np.uint64))


def _records(rows: pl.DataFrame) -> "NDArray[np.void]":
    """Return the hashes and numbers of rows."""
    whole = pl.struct(pl.all().exclude(SOURCE_ROW))
    hashes = rows.select(pl.col(SOURCE_ROW), *(whole.hash(seed).alias(f"hash {seed}") for seed in _SEEDS))
    records = np.empty(len(rows), _RECORD)
    for name, column in zip(("row", "first", "second"), hashes, strict=True):
        records[name] = column.to_numpy()
    return records


def _together(held: "list[NDArray[np.void]]") -> "NDArray[np.void]":
    return np.concatenate(held) if held else np.empty(0, _RECORD)


def _append(file: BinaryIO, records: "NDArray[np.void]") -> None:
    file.write(records.tobytes())


def _read(files: list[Path]) -> "Iterator[NDArray[np.void]]":
    for file in files:
        yield np.fromfile(file, _RECORD)
        file.unlink()


def _repeated(records: "NDArray[np.void]") -> "NDArray[np.int64]":
    """Return the numbers of records that have the hashes of one with a smaller number."""
    order = np.lexsort((records["row"], records["second"], records["first"]))
    ordered = records[order]
    same = (ordered["first"][1:] == ordered["first"][:-1]) & (ordered["second"][1:] == ordered["second"][:-1])
    found: NDArray[np.int64] = ordered["row"][1:][same].astype(np.int64)
    return found


def _mark(bits: "NDArray[np.uint8]", rows: "NDArray[np.int64]") -> None:
    np.bitwise_or.at(bits, rows >> 3, np.left_shift(1, rows & 7).astype(np.uint8))

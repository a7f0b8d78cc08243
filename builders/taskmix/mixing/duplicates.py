"""Exact duplicates among the rows of one task: which rows to drop, so that the first of each is left.

Rows are the same when they have the same values in all columns, byte for byte. They are compared by 128 bits: two
64-bit hashes of Polars with different seeds. `Expr.hash` may change from one version to the next, which does not matter
here, where hashes are compared within one run and only for being equal. Among 10**8 rows any two differ in those bits
unless chance has it otherwise, with a probability of about (10**8)**2 / 2**129, less than 10**-22 (the birthday bound).

Of each row 24 bytes are held: its hashes and number. Beyond a budget what is left of them without duplicates goes to
files by the first bits of the hash, so that all rows with one hash are in one file, and each file is looked through
alone: in memory is the budget, a few times, or a 256th of all different rows. Which rows to drop is a bit for each row.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from taskmix.errors import OutputError
from taskmix.frames import SOURCE_ROW

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEMORY = 16 << 20
"""How many bytes of hashes are held by default: more would save nothing, and they are there five times while sorted."""
BUCKETS = 256
_SEEDS = (0x5EED, 0xC0FFEE)
_RECORD = np.dtype([("first", np.uint64), ("second", np.uint64), ("row", np.uint64)])
_SHIFT = np.uint64(64 - BUCKETS.bit_length() + 1)


@dataclass
class Duplicates:
    """Takes rows, in any order, and says which of them are the same as one with a smaller number.

    `memory` is how many bytes of hashes are held before they go to files, in a temporary folder that is made only then
    and removed in the end.
    """

    memory: int = MEMORY
    _held: "list[NDArray[np.void]]" = field(default_factory=list)
    _bytes: int = 0
    _folder: "TemporaryDirectory[str] | None" = None
    _bits: "NDArray[np.uint8]" = field(default_factory=lambda: np.zeros(0, np.uint8))

    def add(self, rows: pl.DataFrame) -> None:
        """Take rows: `source_row`, each number once, and the columns in which they are compared, the same each time.

        Raises:
            OutputError: what is beyond the memory cannot be written.
        """
        records = _records(rows)
        self._held.append(records)
        self._bytes += records.nbytes
        if self._bytes > self.memory:
            self._write()

    def finish(self) -> "Dropped":
        """Return the rows to drop; nothing can be added after. Raises OutputError if the files cannot be written."""
        if self._folder is None:
            self._mark_repeated(self._take())
            return Dropped(self._bits)
        self._write()
        with self._folder as folder:
            for file in sorted(Path(folder).iterdir()):
                self._mark_repeated(np.fromfile(file, _RECORD))
        return Dropped(self._bits)

    def _write(self) -> None:
        """Append the first ones of the held records to the files. Raises OutputError if that cannot be."""
        records = self._mark_repeated(self._take())
        try:
            self._append(records)
        except OSError as error:
            hint = "$TMPDIR names the folder for temporary files; `duplicates: keep` needs none"
            raise OutputError(f"a temporary file cannot be written: {error.strerror}", hint=hint) from None

    def _take(self) -> "NDArray[np.void]":
        """Return the records that were held, which are held no longer."""
        records = np.concatenate(self._held) if self._held else np.empty(0, _RECORD)
        self._held, self._bytes = [], 0
        return records

    def _append(self, records: "NDArray[np.void]") -> None:
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="taskmix-")
        buckets = (np.arange(BUCKETS, dtype=np.uint64)) << _SHIFT
        ends = [*np.searchsorted(records["first"], buckets), len(records)]
        for number, (low, high) in enumerate(pairwise(ends)):
            if high > low:
                with (Path(self._folder.name) / str(number)).open("ab") as file:
                    file.write(records[low:high].tobytes())

    def _mark_repeated(self, records: "NDArray[np.void]") -> "NDArray[np.void]":
        """Mark the records that have the hashes of one with a smaller number, and return the others by their hashes."""
        ordered = records[np.lexsort((records["row"], records["second"], records["first"]))]
        same = np.zeros(len(ordered), bool)
        same[1:] = np.all([ordered[name][1:] == ordered[name][:-1] for name in ("first", "second")], axis=0)
        rows = ordered["row"][same]
        self._bits = _with_room(self._bits, int(rows.max(initial=0)))
        np.bitwise_or.at(self._bits, rows >> np.uint64(3), np.left_shift(1, rows & np.uint64(7)).astype(np.uint8))
        return ordered[~same]


@dataclass(frozen=True)
class Dropped:
    """Rows to drop: a bit for each number, the first bit of a byte being its lowest (uint8); none for those beyond."""

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


def _with_room(bits: "NDArray[np.uint8]", last: int) -> "NDArray[np.uint8]":
    """Return bits with room for that of a row."""
    missing = last // 8 + 1 - len(bits)
    return np.concatenate((bits, np.zeros(max(missing, len(bits)), np.uint8))) if missing > 0 else bits

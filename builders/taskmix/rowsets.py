"""Sets of rows of one source split, at a bit a row: what a plan keeps of a hundred million rows is twelve megabytes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from taskmix import hashing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.uint64]

_CHUNK = 1 << 18
"""Rows that are worked on at once: their hashes fit into the processor's cache."""
_TOP = 16
"""Bits of a hash by which `lowest` counts hashes before it sorts a few of them."""


@dataclass(frozen=True, eq=False)
class RowSet:
    """Numbers of rows, from 0: `bits` has eight rows a byte, the first in the lowest bit."""

    bits: "NDArray[np.uint8]"
    count: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", int(np.bitwise_count(self.bits).sum()))

    @classmethod
    def of(cls, pieces: "Iterable[Numbers]") -> "RowSet":
        """Return the set of the numbers in pieces (uint64, each ascending)."""
        bits = np.zeros(0, np.uint8)
        for numbers in pieces:
            if len(numbers):
                first, end = int(numbers[0]) // 8, int(numbers[-1]) // 8 + 1
                if end > len(bits):
                    bits = np.concatenate([bits, np.zeros(max(end, 2 * len(bits)) - len(bits), np.uint8)])
                inside = np.zeros((end - first) * 8, np.uint8)
                inside[numbers - np.uint64(first * 8)] = 1
                bits[first:end] |= np.packbits(inside, bitorder="little")
        return cls(bits)

    def __len__(self) -> int:
        return self.count

    def __or__(self, other: "RowSet") -> "RowSet":
        return self if other is self else RowSet(_joined(np.bitwise_or, self.bits, other.bits))

    def __and__(self, other: "RowSet") -> "RowSet":
        return self if other is self else RowSet(self.bits & _padded(other.bits, len(self.bits)))

    def __sub__(self, other: "RowSet") -> "RowSet":
        return RowSet(self.bits & ~_padded(other.bits, len(self.bits)))

    def __reduce__(self) -> tuple[object, ...]:
        # of a few rows among many only those are sent to another process
        used = np.flatnonzero(self.bits)
        first, end = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
        return _placed, (first, self.bits[first:end].tobytes())

    @property
    def span(self) -> tuple[int, int]:
        """Return the first number and the one after the last, or twice 0."""
        used = np.flatnonzero(self.bits)
        if not len(used):
            return 0, 0
        first, last = (self.between(int(byte) * 8, int(byte) * 8 + 8) for byte in (used[0], used[-1]))
        return int(first[0]), int(last[-1]) + 1

    def within(self, first: int, end: int) -> "RowSet":
        """Return the numbers from `first` up to `end` as a set of their own."""
        return RowSet.of([self.between(first, end)])

    def between(self, first: int, end: int) -> "Numbers":
        """Return the numbers from `first` up to `end`, ascending."""
        start = first // 8
        inside = np.unpackbits(self.bits[start : -(-end // 8)], bitorder="little")[first - start * 8 : end - start * 8]
        return np.flatnonzero(inside).astype(np.uint64) + np.uint64(first)

    def chunks(self) -> "Iterator[Numbers]":
        """Yield all numbers, ascending, a piece at a time."""
        for first in range(0, len(self.bits) * 8, _CHUNK):
            yield self.between(first, first + _CHUNK)

    def where(self, wanted: "Callable[[Numbers], NDArray[np.bool_]]") -> "RowSet":
        """Return the numbers for which a function is true."""
        return RowSet.of(numbers[wanted(numbers)] for numbers in self.chunks())


def _placed(first: int, content: bytes) -> RowSet:
    """Return the set whose bits from a byte on are these."""
    return RowSet(np.concatenate([np.zeros(first, np.uint8), np.frombuffer(content, np.uint8)]))


def _padded(bits: "NDArray[np.uint8]", length: int) -> "NDArray[np.uint8]":
    return bits[:length] if len(bits) >= length else np.concatenate([bits, np.zeros(length - len(bits), np.uint8)])


def _joined(join: np.ufunc, one: "NDArray[np.uint8]", other: "NDArray[np.uint8]") -> "NDArray[np.uint8]":
    length = max(len(one), len(other))
    found: NDArray[np.uint8] = join(_padded(one, length), _padded(other, length))
    return found


def lowest(sets: Sequence[RowSet], keys: Sequence[int], count: int) -> list[RowSet]:
    """Return of each set the rows whose draws, each set's under its own key, are among the `count` smallest of all.

    The draws are worked out three times rather than kept: what this needs does not grow with the rows.
    """
    if count >= sum(map(len, sets)):
        return list(sets)
    if not count:
        return [RowSet(np.zeros(0, np.uint8))] * len(sets)
    edge = _edge(sets, keys, count)

    def below(key: int) -> "Callable[[Numbers], NDArray[np.bool_]]":
        return lambda numbers: hashing.draw(np.uint64(key), numbers) <= edge

    return [rows.where(below(key)) for rows, key in zip(sets, keys, strict=True)]


def _edge(sets: Sequence[RowSet], keys: Sequence[int], count: int) -> np.uint64:
    """Return the draw of the last row that is taken."""
    shift, numbers = np.uint64(64 - _TOP), np.zeros(1 << _TOP, np.int64)
    for draws in _draws(sets, keys):
        numbers += np.bincount((draws >> shift).astype(np.int64), minlength=1 << _TOP)
    upto = np.cumsum(numbers)
    bucket = int(np.searchsorted(upto, count))
    before = int(upto[bucket] - numbers[bucket])
    inside = np.concatenate([draws[(draws >> shift) == bucket] for draws in _draws(sets, keys)])
    return np.uint64(np.sort(inside)[count - before - 1])


def _draws(sets: Sequence[RowSet], keys: Sequence[int]) -> "Iterator[Numbers]":
    for rows, key in zip(sets, keys, strict=True):
        for numbers in rows.chunks():
            yield hashing.draw(np.uint64(key), numbers)

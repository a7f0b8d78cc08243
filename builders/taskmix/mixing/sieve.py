"""A set of hashes that says of most others at once that they are none of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Places = NDArray[np.int64]


@dataclass(frozen=True)
class Sieve:
    """A set of hashes: `sorted` ones, and bits by which most others are rejected at once."""

    sorted: "Hashes"
    bits: "NDArray[np.uint8]"

    @classmethod
    def of(cls, hashes: "Hashes") -> "Sieve":
        """Return the set of some hashes, with 16 to 32 bits for each."""
        found = np.unique(hashes)
        bits = np.zeros(1 << max(len(found).bit_length() + 1, 10), np.uint8)
        np.bitwise_or.at(bits, *cls._at(found, len(bits)))
        return cls(found, bits)

    @staticmethod
    def _at(hashes: "Hashes", size: int) -> "tuple[Places, NDArray[np.uint8]]":
        """Return the byte and the bit of hashes."""
        byte = (hashes & np.uint64(size - 1)).astype(np.int64)
        return byte, np.left_shift(np.uint8(1), (hashes >> np.uint64(61)).astype(np.uint8))

    def __len__(self) -> int:
        return len(self.sorted)

    def find(self, hashes: "Hashes") -> "tuple[Places, Places]":
        """Return which of some hashes are in the set, and their places in `sorted`."""
        byte, bit = self._at(hashes, len(self.bits))
        likely = np.flatnonzero(self.bits[byte] & bit)
        places = np.searchsorted(self.sorted, hashes[likely])
        places[places == len(self.sorted)] = 0
        sure = self.sorted[places] == hashes[likely] if len(self.sorted) else np.zeros(len(likely), bool)
        return likely[sure], places[sure]

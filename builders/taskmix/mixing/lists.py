"""Lists of numbers that lie one after the other in one array: what many rows have of something, and how many each."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Places = NDArray[np.int64]
    Numbers = NDArray[Any]


def ends_of(counts: "Places") -> "Places":
    """Return where lists of so many items begin, one after the other, and where the last one ends."""
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)))


@dataclass(frozen=True)
class Lists:
    """Many lists: `values` of all of them, of which list i has those from `ends[i]` up to `ends[i + 1]`."""

    values: "Numbers"
    ends: "Places"

    def __len__(self) -> int:
        return len(self.ends) - 1

    @property
    def counts(self) -> "Places":
        """Return how many values each list has (int64)."""
        return np.diff(self.ends)

    @property
    def owners(self) -> "Places":
        """Return the number of the list that each value is of (int64)."""
        return np.repeat(np.arange(len(self)), self.counts)

    def places(self, chosen: "Places") -> "tuple[Places, Places]":
        """Return, for each value of the chosen lists in turn, which of `chosen` it is of, and its place in `values`."""
        counts = self.counts[chosen]
        which = np.repeat(np.arange(len(chosen)), counts)
        shift = self.ends[chosen] - ends_of(counts)[:-1]
        return which, np.arange(len(which)) + shift[which]

    def take(self, chosen: "Places") -> "tuple[Places, Numbers]":
        """Return, for each value of the chosen lists in turn, which of `chosen` it is of, and the value."""
        which, places = self.places(chosen)
        return which, self.values[places]


def grouped(owners: "Places", values: "Numbers", count: int) -> Lists:
    """Return `count` lists from values and the number of the list that each is of; a list keeps the values' order."""
    order = np.argsort(owners, kind="stable")
    return Lists(values[order], ends_of(np.bincount(owners, minlength=count)))


def distinct(first: "Places", second: "Places", size: int) -> "tuple[Places, Places, Places]":
    """Return the different pairs of two numbers, in order, the second below `size`, and which of them each pair is."""
    found, inverse = np.unique(first * size + second, return_inverse=True)
    return found // max(size, 1), found % max(size, 1), inverse

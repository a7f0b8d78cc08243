"""Bin packing: examples of different lengths into rows of one length."""

from bisect import bisect_left, insort

import numpy as np
from numpy.typing import NDArray


def best_fit_decreasing(lengths: NDArray[np.int64], capacity: int) -> list[list[int]]:
    """Return bins of indices whose lengths add up to at most `capacity` each.

    The longest is placed first, each into the bin with the least room that it fits into, or a new one (Johnson 1973,
    "Near-optimal bin packing algorithms": at most 11/9 of the fewest bins, and a few).

    Args:
        lengths: (examples,), each at least 1.
        capacity: at least the longest.

    Raises:
        ValueError: an example is longer than a bin.
    """
    if len(lengths) and int(lengths.max()) > capacity:
        raise ValueError(f"an example of {int(lengths.max())} does not fit into {capacity}")
    bins: list[list[int]] = []
    # (room, bin), in order of room
    rooms: list[tuple[int, int]] = []
    for index in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[index])
        at = bisect_left(rooms, (length, -1))
        if at == len(rooms):
            bins.append([index])
            room, chosen = capacity, len(bins) - 1
        else:
            room, chosen = rooms.pop(at)
            bins[chosen].append(index)
        if room - length:
            insort(rooms, (room - length, chosen))
    return bins

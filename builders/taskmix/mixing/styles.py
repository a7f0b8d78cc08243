"""What is wrapped around a rendered example, whatever its template: a list of options, worked examples."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa

from taskmix import hashing
from taskmix.catalog.models import OptionsSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.uint64]

_LETTERS = 26
_LISTS = pa.large_list(pa.large_string())
BETWEEN_SHOTS = "\n\n\n"


def option_lists(choices: pl.Series, draws: "Numbers", spec: OptionsSpec) -> pl.Series:
    """Return the lists of options of rows as text, from a blank line and the heading on.

    Args:
        choices: the outputs to choose from (List(String)).
        draws: a hash a row (uint64), from which the order and the marks follow.
        spec: the shares of each. Lists longer than the alphabet have no letters.
    """
    sizes = choices.list.len().to_numpy().astype(np.int64)
    ends = np.cumsum(sizes)
    row = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(row)) - (ends - sizes)[row]
    shuffled = hashing.draw(np.uint64(1), draws) < hashing.threshold(spec.shuffled)
    order = np.where(shuffled[row], hashing.draw(draws[row], place.astype(np.uint64)), place.astype(np.uint64))
    items = choices.explode(empty_as_null=False, keep_nulls=False).gather(np.lexsort((order, row)))
    lettered = (hashing.draw(np.uint64(2), draws) < hashing.threshold(spec.lettered)) & (sizes <= _LETTERS)
    marks = np.where(lettered[row], place, _LETTERS)
    lines = pl.select(pl.concat_str(_MARKS.gather(marks), items)).to_series()
    offsets = pa.py_buffer(np.concatenate([[0], ends]).astype(np.int64))
    nested = pa.Array.from_buffers(
        pa.large_list(pa.large_string()), len(sizes), [None, offsets], children=[_flat(lines)]
    )
    listed = pl.Series(nested).list.join("\n")
    return pl.select(pl.concat_str(pl.lit(f"\n\n{spec.heading}\n"), listed)).to_series()


_MARKS = pl.Series([*(f"({chr(ord('A') + index)}) " for index in range(_LETTERS)), "- "])


def _flat(texts: pl.Series) -> pa.Array:
    return texts.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())


def worked_examples(
    counts: "NDArray[np.uint8]", draws: "Numbers", own: "Numbers", texts: pl.Series, rows: "Numbers"
) -> pl.Series:
    """Return the worked examples before each row, one after the other, each followed by `BETWEEN_SHOTS`.

    Args:
        counts: how many each row has.
        draws: a hash a row (uint64), from which they follow.
        own: the number of each row, which is never its own example.
        texts: those to take from.
        rows: the numbers of their rows.
    """
    if len(texts) < 2:
        return pl.Series([""]).new_from_index(0, len(counts))
    texts, pieces = pl.select(pl.concat_str(texts, pl.lit(BETWEEN_SHOTS))).to_series(), []
    for place, use in places(counts, draws, own, rows):
        shown = texts.gather(place.astype(np.uint32))
        pieces.append(pl.select(pl.when(pl.Series(use)).then(shown).otherwise(pl.lit(""))).to_series())
    return pl.select(pl.concat_str(pieces)).to_series()


def places(
    counts: "NDArray[np.uint8]", draws: "Numbers", own: "Numbers", rows: "Numbers"
) -> "Iterator[tuple[Numbers, NDArray[np.bool_]]]":
    """Yield where to find the next worked example of each row, and whether it has one more; see `worked_examples`."""
    # of a prime number of places a step meets each one once
    prime = np.uint64(largest_prime(len(rows)))
    steps = max(prime - np.uint64(1), np.uint64(1))
    place, step = draws % prime, np.uint64(1) + hashing.draw(np.uint64(1), draws) % steps
    taken = np.zeros(len(counts), np.uint8)
    for _ in range(int(counts.max(initial=0)) + 1):
        use = (taken < counts) & (rows[place] != own)
        yield place, use
        taken += use
        place = (place + step) % prime


def largest_prime(limit: int) -> int:
    """Return the largest prime number up to a limit of at least 2."""
    return next(n for n in range(limit, 1, -1) if all(n % divisor for divisor in range(2, int(n**0.5) + 1)))

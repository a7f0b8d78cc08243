"""What is wrapped around a rendered example, whatever its template: a list of options, worked examples."""

from collections.abc import Iterator
from dataclasses import dataclass
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
BETWEEN_SHOTS = "\n\n\n"


def option_lists(choices: pl.Series, draws: "Numbers", spec: OptionsSpec) -> pl.Series:
    """Return the lists of options of rows as text, from a blank line and the heading on.

    Args:
        choices: the outputs to choose from (List(String)), of which each is listed once; null gives null.
        draws: a hash a row (uint64), from which the order and the marks follow.
        spec: the shares of each. Lists longer than the alphabet have no letters.
    """
    choices = _distinct(choices)
    sizes = choices.list.len().fill_null(0).to_numpy().astype(np.int64)
    ends = np.cumsum(sizes)
    row = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(row)) - (ends - sizes)[row]
    shuffled = hashing.draw(np.uint64(1), draws) < hashing.threshold(spec.shuffled)
    order = np.where(shuffled[row], hashing.draw(draws[row], place.astype(np.uint64)), place.astype(np.uint64))
    items = choices.explode(empty_as_null=False, keep_nulls=False).gather(np.lexsort((order, row)))
    lettered = has_letters(draws, spec) & (sizes <= _LETTERS)
    marks = np.where(lettered[row], place, _LETTERS)
    lines = pl.select(pl.concat_str(_MARKS.gather(marks), items)).to_series()
    offsets = pa.py_buffer(np.concatenate([[0], ends]).astype(np.int64))
    nested = pa.Array.from_buffers(
        pa.large_list(pa.large_string()), len(sizes), [None, offsets], children=[_flat(lines)]
    )
    listed = pl.Series(nested).list.join("\n")
    whole = pl.concat_str(pl.lit(f"\n\n{spec.heading}\n"), listed)
    return pl.select(pl.when(choices.is_not_null()).then(whole)).to_series()


def _distinct(choices: pl.Series) -> pl.Series:
    """Return lists without what is empty or stands twice: labels may have the same words, or none."""
    full = choices.list.eval(pl.element().filter(pl.element() != ""))
    return full if (full.list.n_unique() == full.list.len()).all() else full.list.unique(maintain_order=True)


def has_letters(draws: "Numbers", spec: OptionsSpec) -> "NDArray[np.bool_]":
    """Return which of the lists have letters, unless they are too long for that."""
    return hashing.draw(np.uint64(2), draws) < hashing.threshold(spec.lettered)


_MARKS = pl.Series([*(f"({chr(ord('A') + index)}) " for index in range(_LETTERS)), "- "])


def _flat(texts: pl.Series) -> pa.Array:
    return texts.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())


@dataclass(frozen=True)
class Shown:
    """Worked examples to take from.

    Attributes:
        rows: the numbers of their rows.
        looks: their texts, in one or several looks.
    """

    rows: "Numbers"
    looks: tuple[pl.Series, ...]

    @property
    def most(self) -> int:
        """Return how many there are for any row, beside itself."""
        return can_be_shown(len(self.rows))


def can_be_shown(rows: int) -> int:
    """Return how many worked examples there are for any row, if they are so many rows with it, perhaps, among them."""
    return largest_prime(rows) - 1 if rows > 1 else 0


def worked_examples(
    counts: "NDArray[np.uint8]", draws: "Numbers", own: "Numbers", shown: Shown, look: "NDArray[np.intp]"
) -> pl.Series:
    """Return the worked examples before each row, one after the other, each followed by `BETWEEN_SHOTS`.

    Args:
        counts: how many each row has, at most `shown.most`.
        draws: a hash a row (uint64), from which they follow.
        own: the number of each row, which is never its own example.
        shown: those to take from.
        look: the look of them that each row has.
    """
    assert int(counts.max(initial=0)) <= shown.most, (counts.max(), shown.most)
    size, pieces = len(shown.rows), []
    texts = pl.select(pl.concat_str(pl.concat(shown.looks), pl.lit(BETWEEN_SHOTS))).to_series()
    for place, use in places(counts, draws, own, shown.rows):
        piece = texts.gather((look.astype(np.uint64) * np.uint64(size) + place).astype(np.uint32))
        pieces.append(pl.select(pl.when(pl.Series(use)).then(piece).otherwise(pl.lit(""))).to_series())
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

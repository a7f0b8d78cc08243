"""Leads: the runs of words that a training and an evaluation row must share to be compared at all.

An evaluation row is led to by one of its columns: of those with at least `_LEAST` words that weigh anything (see
`overlaps`) the one that the fewest other rows have, the first of several. A lead is a run of n words in it that at most
`_COMMON` texts of the evaluation rows have, so that what many of them share (a fixed question, a form that all
questions of a task follow) leads nowhere. A row whose columns more than `_COMMON` rows have is led to by nothing.
Of a long text more than one lead is asked for, one for every `_ONE_IN` that it has: a copy with one word in ten changed
keeps about 0.9 ** n of them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from taskmix.mixing.lists import Lists, distinct, grouped
from taskmix.mixing.sieve import Sieve
from taskmix.mixing.words import Words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]
    Places = NDArray[np.int64]

_COMMON = 50
_LEAST = 8
_ONE_IN = 32


@dataclass(frozen=True)
class Leads:
    """Runs of `n` words, the texts to which each leads, and of how many of its own a text is in need."""

    ngrams: Sieve
    texts: Lists
    needed: "Places"
    n: int

    def of(self, found: Words) -> "tuple[Places, Places]":
        """Return the different pairs of a row and a text that share enough of them."""
        hashes, starts = found.ngrams(self.n)
        which, ngram = self.ngrams.find(hashes)
        rows = np.searchsorted(found.ends, starts[which], "right") - 1
        rows, ngram, _ = distinct(rows, ngram, len(self.ngrams))
        each, text = self.texts.take(ngram)
        row, text, pair = distinct(rows[each], text, len(self.needed))
        enough = np.bincount(pair, minlength=len(row)) >= self.needed[text]
        return row[enough], text[enough]


def leading(parts: Lists, telling: "Places") -> Lists:
    """Return of each text the rows to which it leads, given the texts of each row and how many words of each tell."""
    sharing = np.bincount(parts.values, minlength=len(telling))
    usable = (telling[parts.values] >= _LEAST) & (sharing[parts.values] <= _COMMON)
    rows, candidates = parts.owners[usable], parts.values[usable]
    order = np.lexsort((sharing[candidates], rows))
    rows, first = np.unique(rows[order], return_index=True)
    return grouped(candidates[order][first], rows, len(telling))


def leads(found: Words, chosen: "Flags", n: int) -> Leads:
    """Return the runs of n words that lead to the chosen ones of some texts."""
    hashes, starts = found.ngrams(n)
    different, ngram = np.unique(hashes, return_inverse=True)
    ngram, text, _ = distinct(ngram, found.owners[starts], len(found))
    few = np.bincount(ngram, minlength=len(different))[ngram] <= _COMMON
    ngram, text = ngram[few & chosen[text]], text[few & chosen[text]]
    kept, place = np.unique(ngram, return_inverse=True)
    needed = np.maximum(np.bincount(text, minlength=len(found)) // _ONE_IN, 1)
    return Leads(Sieve.of(different[kept]), grouped(place, text, len(kept)), needed, n)

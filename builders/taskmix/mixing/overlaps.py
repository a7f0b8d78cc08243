"""How much of an evaluation text stands in a training row: n-grams that both have, and words in a row."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from taskmix import hashing
from taskmix.mixing.lists import ends_of
from taskmix.mixing.sieve import Sieve
from taskmix.mixing.words import Words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Places = NDArray[np.int64]
    Flags = NDArray[np.bool_]
    Shares = NDArray[np.float64]

_AT_ONCE = 1 << 18
"""Words of texts that are compared at once."""
_TIMES = 50
_PAIR = 2


@dataclass(frozen=True)
class Texts:
    """The different texts of evaluation columns.

    Attributes:
        words: their words.
        weight: what the words before each place weigh together (int64, one more than there are words).
        vocabulary: the hashes of their n-grams.
        ngrams: for the place of each word, the number of the n-gram that begins there (int64); -1 for none.
        n: how many words an n-gram has.
    """

    words: Words
    weight: "Places"
    vocabulary: Sieve
    ngrams: "Places"
    n: int

    @property
    def plain(self) -> "Flags":
        """Return which texts have no n-gram, or no word that weighs anything."""
        found: Flags = (self.words.counts < self.n) | (np.diff(self.weight[self.words.ends]) == 0)
        return found


def texts(found: Words, splits: "Places", n: int = _PAIR) -> Texts:
    """Return what is needed to compare with texts, given their words and the number of the split that each is of."""
    hashes, starts = found.ngrams(n)
    vocabulary = Sieve.of(hashes)
    ngrams = np.full(len(found.values), -1)
    ngrams[starts] = np.searchsorted(vocabulary.sorted, hashes)
    return Texts(found, ends_of(_weights(found, splits)), vocabulary, ngrams, n)


def _weights(found: Words, splits: "Places") -> "Places":
    """Return the weight of each word: floor(log2(N / d)), where d of the N texts of a split have it."""
    split = splits[found.owners]
    # the same word is another one in another split
    own = hashing.draw(split.astype(np.uint64), found.values)
    distinct, word = np.unique(own, return_inverse=True)
    having = np.unique(word * len(found) + found.owners) // max(len(found), 1)
    having_it = np.bincount(having, minlength=len(distinct))[word]
    # the exponent of a float is exact, unlike a logarithm
    weights: Places = np.frexp(np.bincount(splits)[split] // having_it)[1].astype(np.int64) - 1
    return weights


@dataclass(frozen=True)
class Training:
    """Training rows as they are compared: their words, and where each has n-grams of the evaluation texts.

    `shared` has a number for each n-gram of each row (ascending): row times the size of the vocabulary plus n-gram;
    `places` is where it begins in the row. Of one that a row has more often the first `_TIMES` count.
    """

    words: Words
    shared: "Places"
    places: "Places"


def training(found: Words, evaluation: Texts) -> Training:
    """Return training rows, ready to compare."""
    hashes, starts = found.ngrams(evaluation.n)
    which, ngrams = evaluation.vocabulary.find(hashes)
    rows = np.searchsorted(found.ends, starts[which], "right") - 1
    key = rows * len(evaluation.vocabulary) + ngrams
    order = np.argsort(key, kind="stable")
    key, places = key[order], (starts[which] - found.ends[rows])[order]
    few = np.arange(len(key)) - np.searchsorted(key, key) < _TIMES
    return Training(found, key[few], places[few])


def overlaps(
    rows: "Places", chosen: "Places", train: Training, evaluation: Texts, strict: "Flags | None" = None
) -> "Shares":
    """Return how much of each chosen text stands in a training row (float64, 0 to 1).

    It is the weight of the text's words that lie in n-grams which a stretch of the row has too, over that of all its
    words. A stretch has twice as many words as the text, and begins at a multiple of the text's words. Of a text without
    n-grams or weight, and where `strict`, it is 1 if the text's words follow each other in the row, else 0.
    """
    found = np.zeros(len(rows))
    plain = evaluation.plain[chosen] if strict is None else evaluation.plain[chosen] | strict
    for pick, measure in ((~plain, _covered), (plain, _contained)):
        at = np.flatnonzero(pick)
        size = evaluation.words.counts[chosen[at]] if measure is _covered else train.words.counts[rows[at]]
        for piece in _pieces(at, size):
            found[piece] = measure(rows[piece], chosen[piece], train, evaluation)
    return found


def _pieces(numbers: "Places", sizes: "Places") -> "Iterator[Places]":
    """Yield numbers in pieces whose sizes add up to some `_AT_ONCE`."""
    ends = ends_of(sizes)
    cuts = np.unique(np.append(np.searchsorted(ends, np.arange(0, ends[-1], _AT_ONCE)), len(numbers)))
    for low, high in pairwise(np.append(0, cuts)):
        yield numbers[low:high]


def _covered(rows: "Places", chosen: "Places", train: Training, evaluation: Texts) -> "Shares":
    """Return the overlaps of texts that have n-grams."""
    pair, first, place = _matches(rows, chosen, train, evaluation)
    stretch = place // evaluation.words.counts[chosen][pair]
    # every place is in two stretches, of which the second begins where the first has its middle
    stretches = np.concatenate((stretch, stretch + 1))
    group, first = _sorted_pairs(np.tile(pair, 2) * (stretches.max(initial=0) + 1) + stretches, np.tile(first, 2))
    begin, same = first.copy(), group[1:] == group[:-1]
    # an n-gram adds the words that the one before it does not have
    begin[1:] = np.where(same, np.maximum(first[1:], first[:-1] + evaluation.n), first[1:])
    added = evaluation.weight[first + evaluation.n] - evaluation.weight[np.minimum(begin, first + evaluation.n)]
    starts = np.flatnonzero(np.concatenate((np.ones(min(len(group), 1), bool), ~same)))
    found = np.zeros(len(rows), np.int64)
    if len(group):
        np.maximum.at(found, group[starts] // (stretches.max() + 1), np.add.reduceat(added, starts))
    total = np.diff(evaluation.weight[evaluation.words.ends])[chosen]
    return found / total


def _matches(rows: "Places", chosen: "Places", train: Training, evaluation: Texts) -> "tuple[Places, Places, Places]":
    """Return for each n-gram of a text and each time that the row has it: the pair, and its places in text and row."""
    which, places = evaluation.words.places(chosen)
    ngrams = evaluation.ngrams[places]
    key = np.where(ngrams >= 0, rows[which] * len(evaluation.vocabulary) + ngrams, -1)
    low = np.searchsorted(train.shared, key)
    counts = np.searchsorted(train.shared, key, "right") - low
    index = np.repeat(np.arange(len(key)), counts)
    at = np.arange(len(index)) + (low - ends_of(counts)[:-1])[index]
    return which[index], places[index], train.places[at]


def _sorted_pairs(first: "Places", second: "Places") -> "tuple[Places, Places]":
    """Return the different pairs of numbers in ascending order."""
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    new = np.ones(len(order), bool)
    new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return first[new], second[new]


def _contained(rows: "Places", chosen: "Places", train: Training, evaluation: Texts) -> "Shares":
    which, places = train.words.places(rows)
    count, begin = evaluation.words.counts[chosen], evaluation.words.ends[chosen]
    follows = train.words.ends[rows + 1][which] - places >= count[which]
    for step in range(int(count.max(initial=0))):
        at = np.flatnonzero(follows & (step < count[which]))
        follows[at] = train.words.values[places[at] + step] == evaluation.words.values[begin[which[at]] + step]
    found: Shares = ((np.bincount(which[follows], minlength=len(rows)) > 0) | (count == 0)).astype(np.float64)
    return found

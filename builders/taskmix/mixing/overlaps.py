"""How much of an evaluation text stands in a training row: n-grams that both have, and words in a row."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from taskmix import hashing
from taskmix.mixing.lists import Lists, ends_of
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
        plain: which are to be found word for word.
        n: how many words an n-gram has.
    """

    words: Words
    weight: "Places"
    vocabulary: Sieve
    ngrams: "Places"
    plain: "Flags"
    n: int

    @property
    def telling(self) -> "Places":
        """Return how many words of each text weigh anything (int64)."""
        telling = (self.weight[1:] > self.weight[:-1]).astype(np.int64)
        return Lists(telling, ends_of(telling)[self.words.ends]).counts


def texts(found: Words, splits: "Places", least: int, n: int = _PAIR) -> Texts:
    """Return what is needed to compare with texts.

    Args:
        found: their words.
        splits: the number of the split that each is of.
        least: how many words a text has that is not plain; those in which no word weighs anything are plain too.
        n: how many words an n-gram has, at most `least`.
    """
    hashes, starts = found.ngrams(n)
    vocabulary, weight = Sieve.of(hashes), ends_of(_weights(found, splits))
    ngrams = np.full(len(found.values), -1)
    ngrams[starts] = np.searchsorted(vocabulary.sorted, hashes)
    plain = (found.counts < max(least, n)) | (np.diff(weight[found.ends]) == 0)
    return Texts(found, weight, vocabulary, ngrams, plain, n)


def _weights(found: Words, splits: "Places") -> "Places":
    """Return the weight of each word: floor(log2((N + 1) / d)), where d of the N texts of a split have it."""
    split = splits[found.owners]
    # the same word is another one in another split
    own = hashing.draw(split.astype(np.uint64), found.values)
    distinct, word = np.unique(own, return_inverse=True)
    having = np.unique(word * len(found) + found.owners) // max(len(found), 1)
    having_it = np.bincount(having, minlength=len(distinct))[word]
    # the exponent of a float is exact, unlike a logarithm
    weights: Places = np.frexp((np.bincount(splits)[split] + 1) // having_it)[1].astype(np.int64) - 1
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

    def times(self, keys: "Places") -> "tuple[Places, Places]":
        """Return where numbers like those in `shared` are among them first, and how often (0 for negative ones)."""
        low = np.searchsorted(self.shared, keys)
        return low, np.searchsorted(self.shared, keys, "right") - low


@dataclass(frozen=True)
class Pairs:
    """What to compare: the numbers of training rows and of texts.

    An n-gram counts only where the training row has it more often than row `own` of the training rows `others`, which
    are made of the other columns of the evaluation row; -1 is none.
    """

    rows: "Places"
    texts: "Places"
    own: "Places"

    def __getitem__(self, chosen: "Places") -> "Pairs":
        return Pairs(self.rows[chosen], self.texts[chosen], self.own[chosen])


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


def overlaps(pairs: Pairs, train: Training, evaluation: Texts, others: Training) -> "Shares":
    """Return how much of each text stands in a training row (float64, 0 to 1).

    It is the weight of the text's words that lie in n-grams which a stretch of the row has too, over that of all its
    words. A stretch has twice as many words as the text, and begins at a multiple of the text's words. Of a text
    that is `plain` it is 1 if the text's words follow each other in the row, else 0.
    """
    found = np.zeros(len(pairs.rows))
    plain = evaluation.plain[pairs.texts]
    for piece in _pieces(np.flatnonzero(~plain), evaluation.words.counts[pairs.texts[~plain]]):
        found[piece] = _covered(pairs[piece], train, evaluation, others)
    for piece in _pieces(np.flatnonzero(plain), train.words.counts[pairs.rows[plain]]):
        found[piece] = _contained(pairs[piece], train, evaluation)
    return found


def _pieces(numbers: "Places", sizes: "Places") -> "Iterator[Places]":
    """Yield numbers in pieces whose sizes add up to some `_AT_ONCE`."""
    ends = ends_of(sizes)
    cuts = np.unique([0, *np.searchsorted(ends, np.arange(0, ends[-1], _AT_ONCE)), len(numbers)])
    for low, high in pairwise(cuts):
        yield numbers[low:high]


def _covered(pairs: Pairs, train: Training, evaluation: Texts, others: Training) -> "Shares":
    """Return the overlaps of texts that have n-grams."""
    pair, first, place = _matches(pairs, train, evaluation, others)
    stretch = place // evaluation.words.counts[pairs.texts][pair]
    # every place is in two stretches, of which the second begins where the first has its middle
    stretches = np.concatenate((stretch, stretch + 1))
    group, first = _sorted_pairs(np.tile(pair, 2) * (stretches.max(initial=0) + 1) + stretches, np.tile(first, 2))
    begin, same = first.copy(), group[1:] == group[:-1]
    # an n-gram adds the words that the one before it does not have
    begin[1:] = np.where(same, np.maximum(first[1:], first[:-1] + evaluation.n), first[1:])
    added = evaluation.weight[first + evaluation.n] - evaluation.weight[np.minimum(begin, first + evaluation.n)]
    starts = np.flatnonzero(np.concatenate((np.ones(min(len(group), 1), bool), ~same)))
    found = np.zeros(len(pairs.rows), np.int64)
    if len(group):
        np.maximum.at(found, group[starts] // (stretches.max() + 1), np.add.reduceat(added, starts))
    total = np.diff(evaluation.weight[evaluation.words.ends])[pairs.texts]
    return found / total


def _matches(pairs: Pairs, train: Training, evaluation: Texts, others: Training) -> "tuple[Places, Places, Places]":
    """Return for each n-gram of a text and each time that the row has it: the pair, and its places in text and row."""
    which, places = evaluation.words.places(pairs.texts)
    ngrams, size = evaluation.ngrams[places], len(evaluation.vocabulary)
    low, times = train.times(np.where(ngrams >= 0, pairs.rows[which] * size + ngrams, -1))
    _, own = others.times(pairs.own[which] * size + ngrams)
    times = np.where(times > own, times, 0)
    index = np.repeat(np.arange(len(times)), times)
    at = np.arange(len(index)) + (low - ends_of(times)[:-1])[index]
    return which[index], places[index], train.places[at]


def _sorted_pairs(first: "Places", second: "Places") -> "tuple[Places, Places]":
    """Return the different pairs of numbers in ascending order."""
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    new = np.ones(len(order), bool)
    new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return first[new], second[new]


def _contained(pairs: Pairs, train: Training, evaluation: Texts) -> "Shares":
    """Return 1 for texts whose words follow each other in the row, and for those without words, else 0."""
    which, places = train.words.places(pairs.rows)
    count, begin = evaluation.words.counts[pairs.texts], evaluation.words.ends[pairs.texts]
    follows = train.words.ends[pairs.rows + 1][which] - places >= count[which]
    for step in range(int(count.max(initial=0))):
        at = np.flatnonzero(follows & (step < count[which]))
        follows[at] = train.words.values[places[at] + step] == evaluation.words.values[begin[which[at]] + step]
    found: Shares = ((np.bincount(which[follows], minlength=len(count)) > 0) | (count == 0)).astype(np.float64)
    return found

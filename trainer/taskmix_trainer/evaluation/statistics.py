"""How sure a figure is: bootstrap intervals, baselines from gold labels, spread over templates.

Randomness is `hashing.draw` of (seed, what for, resample, place), as everywhere in taskmix: the same intervals on every
machine and with every version of NumPy.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taskmix import hashing
from taskmix_trainer.evaluation.measures import Floats, Measure, pool

RESAMPLES = 1_000
LEVEL = 0.95
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A value, and the percentile interval of its bootstrap; all NaN where there are no examples."""

    value: float
    low: float
    high: float
    level: float = LEVEL


@dataclass(frozen=True)
class Difference:
    """A figure minus another's on the same examples, with its interval.

    Attributes:
        interval: of the difference.
        p: two-sided: twice the share of resamples on the other side of 0 (or on it), 0 to 1.
    """

    interval: Interval
    p: float

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval.low > 0 or self.interval.high < 0


@dataclass(frozen=True)
class Spread:
    """Median and spread of one figure over templates (T0 reports these): linear quartiles; all NaN of nothing."""

    count: int
    median: float
    low: float
    high: float
    first_quartile: float
    third_quartile: float

    @property
    def interquartile(self) -> float:
        """Return the distance between the quartiles."""
        return self.third_quartile - self.first_quartile


@dataclass(frozen=True)
class Baseline:
    """What a model gets that never looks at the input.

    Attributes:
        majority: by always giving the most frequent answer.
        chance: by drawing one of the choices at random, each as likely.
        answer: the most frequent answer (the first of several); None without examples.
    """

    majority: float
    chance: float
    answer: Hashable

    @property
    def best(self) -> float:
        """Return the higher of both."""
        return max(self.majority, self.chance)


def bootstrap(
    measure: Measure,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    clusters: Sequence[int] | None = None,
) -> Interval:
    """Return the metric with its percentile interval (Efron 1979): examples are drawn anew, with replacement.

    Args:
        measure: the metric and its examples.
        seed: of the draws.
        resamples: how many draws of as many examples.
        level: the share of resamples that lies between the bounds.
        clusters: what each example belongs to, such as the source row that it is a template's rendering of: then whole
            clusters are drawn, since examples of one row are not independent.
    """
    if not len(measure):
        return Interval(float("nan"), float("nan"), float("nan"), level)
    terms = measure.terms if clusters is None else _summed(measure.terms, clusters)
    values = _resampled([(measure.pooling, terms)], hashing.key(seed, "bootstrap"), resamples, lambda found: found[0])
    return Interval(measure.value, *_bounds(values, level), level)


def paired_bootstrap(
    one: Measure,
    other: Measure,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    clusters: Sequence[int] | None = None,
) -> Difference:
    """Return `one` minus `other`, measured on the same examples in the same order (Koehn 2004: paired bootstrap).

    Raises:
        ValueError: they have different numbers of examples.
    """
    if len(one) != len(other):
        raise ValueError(f"paired measures have the same examples, not {len(one)} and {len(other)}")
    if not len(one):
        return Difference(Interval(float("nan"), float("nan"), float("nan"), level), float("nan"))
    pairs = [(each.pooling, each.terms if clusters is None else _summed(each.terms, clusters)) for each in (one, other)]
    values = _resampled(pairs, hashing.key(seed, "paired"), resamples, lambda found: found[0] - found[1])
    p = min(1.0, 2 * min(float((values <= 0).mean()), float((values >= 0).mean())))
    return Difference(Interval(one.value - other.value, *_bounds(values, level), level), p)


@dataclass(frozen=True)
class Draws:
    """A figure and what it is in each resample, of shape (resamples,): what means and differences are made of."""

    value: float
    samples: Floats

    def interval(self, level: float = LEVEL) -> Interval:
        """Return the percentile interval; NaN where there are no samples or one is NaN."""
        if not len(self.samples) or np.isnan(self.samples).any() or np.isnan(self.value):
            return Interval(self.value, float("nan"), float("nan"), level)
        return Interval(self.value, *_bounds(self.samples, level), level)

    def minus(self, other: "Draws", level: float = LEVEL) -> Difference:
        """Return the difference, paired resample by resample: both are drawn by the same seed and name."""
        gap = Draws(self.value - other.value, self.samples - other.samples)
        below, above = float((gap.samples <= 0).mean()), float((gap.samples >= 0).mean())
        return Difference(gap.interval(level), min(1.0, 2 * min(below, above)))


def median_draws(
    measures: Sequence[Measure],
    rows: Sequence[Sequence[int] | None],
    name: str,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Draws:
    """Return the median over templates, source rows being drawn anew.

    A row that is drawn comes with its examples under all templates, since they are not independent of each other.

    Args:
        measures: one a template, of one metric.
        rows: the source row of each example; None: the first is row 0, and so on.
        name: of the task. With the seed it decides what is drawn, so that two models are drawn alike.
        seed: of the draws.
        resamples: how many.

    Raises:
        ValueError: an example has no row.
    """
    if not measures or not all(map(len, measures)):
        return Draws(float("nan"), np.full(resamples, np.nan))
    numbers = [
        np.arange(len(each)) if own is None else np.asarray(own) for each, own in zip(measures, rows, strict=True)
    ]
    for each, own in zip(measures, numbers, strict=True):
        if len(each) != len(own):
            raise ValueError(f"{len(each)} examples but {len(own)} source rows")
    known, places = np.unique(np.concatenate(numbers), return_inverse=True)
    parts = np.split(places, np.cumsum([len(each) for each in numbers])[:-1])
    tables = []
    for each, own in zip(measures, parts, strict=True):
        table = np.zeros((len(known), each.terms.shape[1]))
        np.add.at(table, own, each.terms)
        tables.append((each.pooling, table))
    samples = _resampled(
        tables, hashing.key(seed, "median", name), resamples, lambda found: np.median(np.stack(found), axis=0)
    )
    return Draws(float(np.median([each.value for each in measures])), samples)


def mean_draws(parts: Sequence[Draws]) -> Draws:
    """Return the unweighted mean of several tasks' figures, which are drawn apart; NaN of nothing."""
    if not parts:
        return Draws(float("nan"), np.zeros(0))
    return Draws(
        sum(each.value for each in parts) / len(parts), np.mean(np.stack([each.samples for each in parts]), axis=0)
    )


def baseline(answers: Sequence[Hashable], choices: Sequence[int] | int) -> Baseline:
    """Return the majority and chance accuracies of gold answers.

    Args:
        answers: the gold answer of each example: a label, or the index of the right choice.
        choices: how many there are to choose from, for all examples or for each.

    Raises:
        ValueError: there are fewer than one choices, or not as many numbers as answers.
    """
    counts = np.asarray([choices] * len(answers) if isinstance(choices, int) else choices, dtype=np.float64)
    if len(counts) != len(answers):
        raise ValueError(f"{len(answers)} answers but {len(counts)} numbers of choices")
    if not len(answers):
        return Baseline(float("nan"), float("nan"), None)
    if counts.min() < 1:
        raise ValueError("an example has no choices")
    (answer, most), *_ = Counter(answers).most_common(1)
    return Baseline(most / len(answers), float((1 / counts).mean()), answer)


def majority_macro_f1(answers: Sequence[Hashable]) -> float:
    """Return the macro-F1 of always giving the most frequent answer, over the classes that occur."""
    if not answers:
        return float("nan")
    counts = Counter(answers)
    share = counts.most_common(1)[0][1] / len(answers)
    return 2 * share / (1 + share) / len(counts)


def above_chance(interval: Interval, baseline: Baseline | float) -> bool:
    """Whether the whole interval lies above the better baseline; with NaN it does not."""
    return interval.low > (baseline if isinstance(baseline, float) else baseline.best)


def spread(values: Sequence[float]) -> Spread:
    """Return median, extremes and quartiles."""
    if not len(values):
        nan = float("nan")
        return Spread(0, nan, nan, nan, nan, nan)
    low, first, median, third, high = np.quantile(np.asarray(values, np.float64), [0, 0.25, 0.5, 0.75, 1]).tolist()
    return Spread(len(values), median, low, high, first, third)


def _summed(terms: Floats, clusters: Sequence[int]) -> Floats:
    """Return the terms summed by cluster, in order of the clusters' numbers."""
    if len(clusters) != len(terms):
        raise ValueError(f"{len(terms)} examples but {len(clusters)} clusters")
    _, places = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.zeros((int(places.max()) + 1, terms.shape[1]))
    np.add.at(sums, places, terms)
    return sums


def _resampled(
    measured: Sequence[tuple[str, Floats]], key: int, resamples: int, combine: Callable[[list[Floats]], Floats]
) -> Floats:
    """Return the combined values of each resample; all of `measured` are drawn alike."""
    count = len(measured[0][1])
    at_once = max(1, _AT_ONCE // count)
    parts = []
    for start in range(0, resamples, at_once):
        weights = _weights(key, start, min(at_once, resamples - start), count)
        parts.append(combine([pool(pooling, weights @ terms) for pooling, terms in measured]))
    return np.concatenate(parts)


def _weights(key: int, start: int, resamples: int, count: int) -> Floats:
    """Return how often each example is in each resample, of shape (resamples, count)."""
    places = np.arange(start * count, (start + resamples) * count, dtype=np.uint64)
    drawn: NDArray[np.uint64] = hashing.draw(np.uint64(key), places)
    # the upper half of a draw, scaled to 0 … count - 1 by a product that fits in 64 bits
    examples = ((drawn >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32)
    rows = np.repeat(np.arange(resamples, dtype=np.int64) * count, count)
    flat = np.bincount(rows + examples.astype(np.int64), minlength=resamples * count)
    return flat.reshape(resamples, count).astype(np.float64)


def _bounds(values: Floats, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return low, high

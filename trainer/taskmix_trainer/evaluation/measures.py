"""A metric of a set of examples, kept so that any resample of the examples can be scored too.

A corpus metric such as entity F1 or BLEU is no mean of the examples' scores. It is a function of *sums* over the
examples: of hits, of n-gram counts, of a confusion matrix. `Measure` keeps what is summed, a row an example, and the
name of the function (a *pooling*), which is all that a bootstrap needs, and all that has to be stored.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """One metric of a set of examples.

    Attributes:
        metric: its name, see `metrics.METRICS`.
        pooling: how sums become the value, a key of `POOLINGS`.
        terms: what is summed, of shape (examples, terms of the pooling).
    """

    metric: str
    pooling: str
    terms: Floats

    def __post_init__(self) -> None:
        if self.terms.ndim != 2:
            raise ValueError(f"terms of {self.metric} have {self.terms.ndim} axes, not (examples, terms)")
        if self.pooling not in POOLINGS:
            raise ValueError(f"{self.pooling!r} is no pooling; known: {', '.join(sorted(POOLINGS))}")

    def __len__(self) -> int:
        return len(self.terms)

    @property
    def value(self) -> float:
        """Return the metric over all examples, 0 to 1 (-1 to 1 for MCC); NaN if there are none."""
        if not len(self.terms):
            return float("nan")
        return float(pool(self.pooling, self.terms.sum(axis=0, keepdims=True))[0])


def mean_of(metric: str, scores: Sequence[float] | Floats | NDArray[np.bool_]) -> Measure:
    """Return the measure that is the mean of one score an example (0 to 1)."""
    values = np.asarray(scores, dtype=np.float64).reshape(-1, 1)
    return Measure(metric, "mean", np.concatenate([values, np.ones_like(values)], axis=1))


def concatenate(measures: Sequence[Measure]) -> Measure:
    """Return the measure of the examples of several, in their order.

    Raises:
        ValueError: there are none, or they are not of the same metric, pooling and number of terms.
    """
    kinds = {(each.metric, each.pooling, each.terms.shape[1]) for each in measures}
    if len(kinds) != 1:
        raise ValueError(f"measures of one metric and shape are joined, not {sorted(kinds)}")
    metric, pooling, _ = kinds.pop()
    return Measure(metric, pooling, np.concatenate([each.terms for each in measures]))


def pool(pooling: str, sums: Floats) -> Floats:
    """Return the values, of shape (resamples,), for sums of shape (resamples, terms)."""
    return POOLINGS[pooling](sums)


def _ratio(above: Floats, below: Floats) -> Floats:
    """Return above / below, and 0 where both are 0: what scikit-learn and seqeval call `zero_division=0`."""
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below != 0)


def _mean(sums: Floats) -> Floats:
    """Return the mean: (sum of scores, count)."""
    return _ratio(sums[:, 0], sums[:, 1])


def _f1(sums: Floats) -> Floats:
    """Return F1 of (hits, predicted, gold), the harmonic mean of hits / predicted and hits / gold."""
    return _ratio(2 * sums[:, 0], sums[:, 1] + sums[:, 2])


def _macro_f1(sums: Floats) -> Floats:
    """Return the mean F1 of the classes that occur: (hits, predicted, gold) of each class, class after class.

    A class counts if it is predicted or gold at least once, which is scikit-learn's rule where no labels are given.
    """
    classes = sums.reshape(len(sums), -1, 3)
    seen = (classes[:, :, 1] + classes[:, :, 2]) > 0
    return _ratio(
        _ratio(2 * classes[:, :, 0], classes[:, :, 1] + classes[:, :, 2]).sum(axis=1), seen.sum(axis=1).astype(float)
    )


def _mcc(sums: Floats) -> Floats:
    """Return Matthews' coefficient for several classes (Gorodkin 2004, R_K): (predicted, gold, hit) of each class.

    With c hits among s examples, and p_k and t_k the examples that are predicted as and are k:
    (c s - Σ p_k t_k) / √((s² - Σ p_k²)(s² - Σ t_k²)), and 0 where the root is 0.
    """
    classes = sums.reshape(len(sums), -1, 3)
    predicted, gold = classes[:, :, 0], classes[:, :, 1]
    hits, total = classes[:, :, 2].sum(axis=1), gold.sum(axis=1)
    above = hits * total - (predicted * gold).sum(axis=1)
    below = np.sqrt((total**2 - (predicted**2).sum(axis=1)) * (total**2 - (gold**2).sum(axis=1)))
    return _ratio(above, below)


def _bleu(sums: Floats) -> Floats:
    """Return sacrebleu's corpus BLEU / 100 of (hypothesis length, reference length, 4 matches, 4 totals)."""
    from sacrebleu.metrics.bleu import BLEU

    def one(row: list[int]) -> float:
        score = BLEU.compute_bleu(row[2:6], row[6:10], row[0], row[1], smooth_method="exp", smooth_value=None)
        return float(score.score) / 100

    return np.array([one([round(term) for term in row]) for row in sums.tolist()])


def _chrf(sums: Floats) -> Floats:
    """Return chrF2 (Popović 2015) as sacrebleu has it / 100: (hypothesis, reference, match) for each order 1 to 6.

    Precision and recall are averaged over the orders that both sides have, then joined with β = 2.
    """
    orders = sums.reshape(len(sums), -1, 3)
    hypothesis, reference, match = orders[:, :, 0], orders[:, :, 1], orders[:, :, 2]
    both = (hypothesis > 0) & (reference > 0)
    effective = both.sum(axis=1).astype(float)
    precision = _ratio(np.where(both, _ratio(match, hypothesis), 0).sum(axis=1), effective)
    recall = _ratio(np.where(both, _ratio(match, reference), 0).sum(axis=1), effective)
    factor = 2**2
    return _ratio((1 + factor) * precision * recall, factor * precision + recall)


POOLINGS: Mapping[str, Callable[[Floats], Floats]] = {
    "mean": _mean,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "mcc": _mcc,
    "bleu": _bleu,
    "chrf": _chrf,
}

"""Classification, with one label a row or several: accuracy, F1 and Matthews' correlation, per class and overall.

Sources: scikit-learn 1.9, whose numbers these are (tests/trainer/test_classification.py): `accuracy_score`,
`f1_score(average="macro")`, `matthews_corrcoef`, `precision_recall_fscore_support`, with `zero_division=0`. They are
counted here rather than called there since a bootstrap needs the terms of each example (`measures`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taskmix_trainer.evaluation.measures import Floats, Measure, mean_of

NOTHING = -1
"""The prediction that is no label at all, such as a generated text that names none."""


@dataclass(frozen=True)
class ClassScore:
    """How well one class or entity type is found; shares are 0 to 1, and 0 where nothing could be found.

    `support` is how often it is gold, `predicted` how often it is predicted.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


@dataclass(frozen=True)
class Classification:
    """Measures by name, the first being the one to quote, and the classes in the order of the labels."""

    measures: tuple[Measure, ...]
    classes: tuple[ClassScore, ...]


def class_score(name: str, hits: float, predicted: float, gold: float) -> ClassScore:
    """Return precision, recall and F1 of these counts."""
    return ClassScore(
        name,
        precision=hits / predicted if predicted else 0.0,
        recall=hits / gold if gold else 0.0,
        f1=2 * hits / (predicted + gold) if predicted + gold else 0.0,
        support=int(gold),
        predicted=int(predicted),
    )


def single_label(gold: Sequence[int], predicted: Sequence[int], names: Sequence[str]) -> Classification:
    """Return accuracy, macro-F1 and MCC.

    Args:
        gold: the label index of each example.
        predicted: the predicted one, or `NOTHING`: that is wrong, and no class of its own for macro-F1.
        names: the labels' words.

    Raises:
        ValueError: lengths differ, or an index is out of range.
    """
    right, guess = np.asarray(gold, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    _check_indices(right, guess, len(names))
    one_gold = _one_hot(right, len(names) + 1)
    one_guess = _one_hot(np.where(guess == NOTHING, len(names), guess), len(names) + 1)
    hits = one_gold * one_guess
    known = slice(0, len(names))
    macro = np.stack([hits[:, known], one_guess[:, known], one_gold[:, known]], axis=2)
    return Classification(
        measures=(
            mean_of("accuracy", right == guess),
            Measure("macro_f1", "macro_f1", _flat(macro)),
            Measure("mcc", "mcc", _flat(np.stack([one_guess, one_gold, hits], axis=2))),
        ),
        classes=_per_class(macro, names),
    )


def multi_label(
    gold: Sequence[Collection[int]], predicted: Sequence[Collection[int]], names: Sequence[str]
) -> Classification:
    """Return micro-F1, macro-F1 and the share of examples whose whole set of labels is right.

    Macro-F1 is over the labels that occur in gold or predictions; scikit-learn's, on indicator matrices, is over all
    columns, so name those as its `labels` to compare.

    Raises:
        ValueError: lengths differ, or an index is out of range.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold sets but {len(predicted)} predicted ones")
    right, guess = _indicators(gold, len(names)), _indicators(predicted, len(names))
    hits = right * guess
    macro = np.stack([hits, guess, right], axis=2)
    return Classification(
        measures=(
            Measure("micro_f1", "f1", macro.sum(axis=1)),
            Measure("macro_f1", "macro_f1", _flat(macro)),
            mean_of("subset_accuracy", (right == guess).all(axis=1)),
        ),
        classes=_per_class(macro, names),
    )


def _flat(terms: Floats) -> Floats:
    return terms.reshape(len(terms), terms.shape[1] * terms.shape[2])


def _check_indices(gold: NDArray[np.int64], predicted: NDArray[np.int64], count: int) -> None:
    if gold.shape != predicted.shape or gold.ndim != 1:
        raise ValueError(f"{gold.size} gold labels but {predicted.size} predicted ones")
    if gold.size and not (gold.min() >= 0 and gold.max() < count):
        raise ValueError(f"gold labels are 0 to {count - 1}, not {gold.min()} to {gold.max()}")
    if predicted.size and not (predicted.min() >= NOTHING and predicted.max() < count):
        raise ValueError(f"predictions are {NOTHING} to {count - 1}, not {predicted.min()} to {predicted.max()}")


def _one_hot(indices: NDArray[np.int64], count: int) -> Floats:
    encoded = np.zeros((len(indices), count))
    encoded[np.arange(len(indices)), indices] = 1
    return encoded


def _indicators(sets: Sequence[Collection[int]], count: int) -> Floats:
    encoded = np.zeros((len(sets), count))
    for row, labels in enumerate(sets):
        for label in labels:
            if not 0 <= label < count:
                raise ValueError(f"labels are 0 to {count - 1}, not {label}")
            encoded[row, label] = 1
    return encoded


def _per_class(terms: Floats, names: Sequence[str]) -> tuple[ClassScore, ...]:
    """Return the scores of each class for (hits, predicted, gold) of shape (examples, classes, 3)."""
    sums = terms.sum(axis=0).tolist()
    return tuple(class_score(name, *row) for name, row in zip(names, sums, strict=True))

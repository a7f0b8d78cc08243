"""Accuracy, F1 and Matthews' correlation are scikit-learn's."""

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from taskmix_trainer.evaluation.classification import NOTHING, Classification, multi_label, single_label
from taskmix_trainer.evaluation.measures import Measure, concatenate

NAMES = ("yes", "no", "maybe", "")
LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)
SETS = st.lists(st.tuples(st.sets(st.integers(0, 3)), st.sets(st.integers(0, 3))), min_size=1, max_size=20)


def value(found: Classification, metric: str) -> float:
    return next(each for each in found.measures if each.metric == metric).value


@given(pairs=LABELS)
def test_one_label_is_scored_as_scikit_learn_does(pairs: list[tuple[int, int]]) -> None:
    gold, predicted = (list(side) for side in zip(*pairs, strict=True))
    found = single_label(gold, predicted, NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a single class
        assert value(found, "accuracy") == pytest.approx(metrics.accuracy_score(gold, predicted))
        assert value(found, "macro_f1") == pytest.approx(
            metrics.f1_score(gold, predicted, average="macro", zero_division=0)
        )
        assert value(found, "mcc") == pytest.approx(metrics.matthews_corrcoef(gold, predicted))
    check_classes(found, metrics.precision_recall_fscore_support(gold, predicted, labels=range(4), zero_division=0))


def check_classes(found: Classification, expected: Sequence[Sequence[float]]) -> None:
    rows = [(each.precision, each.recall, each.f1, each.support) for each in found.classes]
    assert np.array(rows) == pytest.approx(np.array(expected).T)


@given(pairs=SETS)
def test_sets_of_labels_are_scored_as_scikit_learn_does(pairs: list[tuple[set[int], set[int]]]) -> None:
    gold, predicted = (list(side) for side in zip(*pairs, strict=True))
    found = multi_label(gold, predicted, NAMES)
    one, other = (np.array([[at in row for at in range(4)] for row in side], dtype=int) for side in (gold, predicted))
    assert value(found, "micro_f1") == pytest.approx(metrics.f1_score(one, other, average="micro", zero_division=0))
    seen = np.flatnonzero((one | other).any(axis=0))
    macro = metrics.f1_score(one, other, labels=seen, average="macro", zero_division=0) if len(seen) else 0.0
    assert value(found, "macro_f1") == pytest.approx(macro)
    assert value(found, "subset_accuracy") == pytest.approx(metrics.accuracy_score(one, other))
    check_classes(found, metrics.precision_recall_fscore_support(one, other, zero_division=0))


def test_an_answer_that_is_no_label_is_wrong_and_no_class() -> None:
    found = single_label([0, 1, 1], [0, NOTHING, 1], ("a", "b"))
    assert value(found, "accuracy") == pytest.approx(2 / 3)
    assert value(found, "macro_f1") == pytest.approx((1 + 2 / 3) / 2)
    assert value(found, "mcc") == pytest.approx(metrics.matthews_corrcoef([0, 1, 1], [0, 2, 1]))
    assert [(each.name, each.support, each.predicted) for each in found.classes] == [("a", 1, 1), ("b", 2, 1)]


def test_nothing_has_no_figure() -> None:
    assert np.isnan(value(single_label([], [], NAMES), "accuracy"))
    assert np.isnan(value(multi_label([], [], NAMES), "micro_f1"))


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ([0, 1], [0], "2 gold labels but 1"),
        ([4], [0], "gold labels are 0 to 3, not 4 to 4"),
        ([-1], [0], "gold labels are 0 to 3, not -1"),
        ([0], [-2], "predictions are -1 to 3, not -2"),
    ],
)
def test_wrong_indices_are_refused(gold: list[int], predicted: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        single_label(gold, predicted, NAMES)


def test_wrong_sets_are_refused() -> None:
    with pytest.raises(ValueError, match="2 gold sets but 1"):
        multi_label([{0}, {1}], [{0}], NAMES)
    with pytest.raises(ValueError, match="labels are 0 to 3, not 4"):
        multi_label([{0}], [{4}], NAMES)


@given(pairs=LABELS, cut=st.integers(0, 40))
def test_measures_of_parts_join_to_that_of_the_whole(pairs: list[tuple[int, int]], cut: int) -> None:
    gold, predicted = (list(side) for side in zip(*pairs, strict=True))
    whole = single_label(gold, predicted, NAMES)
    parts = [single_label(gold[part], predicted[part], NAMES) for part in (slice(cut), slice(cut, None))]
    for at, each in enumerate(whole.measures):
        assert concatenate([part.measures[at] for part in parts]).value == pytest.approx(each.value)


def test_only_measures_of_a_kind_are_joined() -> None:
    found = single_label([0], [0], NAMES).measures
    with pytest.raises(ValueError, match="one metric and shape"):
        concatenate(found)
    with pytest.raises(ValueError, match="no pooling"):
        Measure("m", "median", np.zeros((1, 1)))
    with pytest.raises(ValueError, match="1 axes"):
        Measure("m", "mean", np.zeros(1))

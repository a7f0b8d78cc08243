"""Every kind and cluster has metrics, and every metric is one that can be measured and shown."""

from typing import get_args

import pytest

from taskmix.catalog.models import KindName
from taskmix_trainer.evaluation.answers import answer_scores
from taskmix_trainer.evaluation.classification import NOTHING, multi_label, single_label
from taskmix_trainer.evaluation.entities import entity_scores
from taskmix_trainer.evaluation.measures import POOLINGS
from taskmix_trainer.evaluation.metrics import (
    CLUSTERS,
    METRICS,
    TEXT,
    raw_metrics,
    score_choices,
    score_texts,
    text_metrics,
)

KINDS = get_args(KindName)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_metrics_in_both_forms(kind: str) -> None:
    for metrics in (raw_metrics(kind), text_metrics(kind, "other"), text_metrics(kind, "other", choices=True)):
        assert metrics
        assert set(metrics) <= set(METRICS)


@pytest.mark.parametrize(
    ("cluster", "first"),
    [
        ("translation", "bleu"),
        ("math", "final_number"),
        ("word-math", "final_number"),
        ("code", "code_match"),
        ("summarization", "rouge_l"),
        ("aftermath", "rouge_l"),
    ],
)
def test_generated_text_is_measured_by_its_cluster(cluster: str, first: str) -> None:
    assert text_metrics("text-generation", cluster)[0] == first
    assert raw_metrics("text-generation", cluster)[0] == first


def test_a_task_with_choices_is_ranked_and_one_with_tests_is_run() -> None:
    assert text_metrics("text-classification", "nli", choices=True) == (
        "accuracy",
        "accuracy_per_character",
        "macro_f1",
        "mcc",
    )
    assert text_metrics("multiple-choice", "commonsense", choices=True) == ("accuracy", "accuracy_per_character")
    assert text_metrics("text-generation", "code", tests=True)[0] == "tests_passed"
    assert raw_metrics("text-classification", multi_label=True)[0] == "micro_f1"


@pytest.mark.parametrize("metrics", sorted({*TEXT.values(), *CLUSTERS.values()}))
def test_all_metrics_of_text_can_be_measured(metrics: tuple[str, ...]) -> None:
    found = score_texts(metrics, ["The 3 cats sat.", None], [["the 3 cats sat"], ["4", "5 dogs"]])
    assert [each.metric for each in found] == list(metrics)
    assert all(0 <= each.value <= 1 for each in found)


def test_what_measures_name_is_in_the_table() -> None:
    measured = [
        *single_label([0], [1], "ab").measures,
        *multi_label([{0}], [{1}], "ab").measures,
        *entity_scores([["O"]], [["O"]]).measures,
        *answer_scores(["a", ""], [["a"], []]).measures,
        *score_choices([0], [0], [1], "ab"),
    ]
    assert {each.metric for each in measured} <= set(METRICS)
    assert {each.pooling for each in measured} <= set(POOLINGS)


def test_unanswerable_questions_add_their_parts() -> None:
    found = score_texts(("squad_f1", "squad_exact"), ["x", "y"], [["x"], []])
    assert {each.metric: each.value for each in found} == {
        "squad_f1": 0.5,
        "squad_exact": 0.5,
        "has_answer_f1": 1,
        "has_answer_exact": 1,
        "no_answer_f1": 0,
        "no_answer_exact": 0,
    }


def test_ranked_choices_are_scored_by_both_likelihoods() -> None:
    found = score_choices([0, 1, 1], [0, 0, 1], [1, 1, NOTHING])
    assert {each.metric: each.value for each in found} == {
        "accuracy": pytest.approx(2 / 3),
        "accuracy_per_character": pytest.approx(1 / 3),
    }
    assert [each.metric for each in score_choices([0], [0], [0], "ab")] == list(
        text_metrics("text-classification", "", choices=True)
    )
    with pytest.raises(ValueError, match="1 answers but 2 and 1"):
        score_choices([0], [0, 0], [0])


def test_a_metric_that_is_none_of_texts_is_refused() -> None:
    with pytest.raises(ValueError, match="'mcc' is no metric of texts"):
        score_texts(("mcc",), ["a"], [["a"]])

"""Intervals cover what they should, and are what a plain bootstrap gives."""

import math
from typing import Any

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.dummy import DummyClassifier

from taskmix import hashing
from taskmix_trainer.evaluation import statistics
from taskmix_trainer.evaluation.classification import single_label
from taskmix_trainer.evaluation.measures import Measure, mean_of
from taskmix_trainer.evaluation.statistics import (
    Baseline,
    Interval,
    above_chance,
    baseline,
    bootstrap,
    majority_macro_f1,
    mean_draws,
    median_draws,
    paired_bootstrap,
    spread,
)
from taskmix_trainer.evaluation.texts import bleu_scores, chrf_scores


def resamples(count: int, times: int, seed: int = 0, purpose: str = "bootstrap") -> list[list[int]]:
    """The examples of each resample, drawn one by one."""
    key = hashing.key(seed, purpose)
    return [
        [(hashing.draw(key, time * count + at) >> 32) * count >> 32 for at in range(count)] for time in range(times)
    ]


@given(
    scores=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    seed=st.integers(0, 99),
    at_once=st.sampled_from([1, 60, 10**6]),
)
@settings(deadline=None, max_examples=40)
def test_an_interval_is_that_of_resamples_drawn_one_by_one(scores: list[float], seed: int, at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "_AT_ONCE", at_once)
        found = bootstrap(mean_of("accuracy", scores), seed, resamples=50, level=0.8)
    means = [np.mean([scores[at] for at in drawn]) for drawn in resamples(len(scores), 50, seed)]
    assert found.value == pytest.approx(np.mean(scores))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.1, 0.9])))


@given(pairs=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=20))
@settings(deadline=None, max_examples=30)
def test_corpus_metrics_are_resampled_as_metrics_not_as_means(pairs: list[tuple[int, int]]) -> None:
    gold, predicted = (list(side) for side in zip(*pairs, strict=True))
    measure = single_label(gold, predicted, "abc").measures[1]
    found = bootstrap(measure, resamples=20)
    values = []
    for drawn in resamples(len(pairs), 20):
        one, other = [gold[at] for at in drawn], [predicted[at] for at in drawn]
        values.append(metrics.f1_score(one, other, average="macro", zero_division=0))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_bleu_and_chrf_of_resamples_are_those_of_sacrebleu() -> None:
    texts = ["the cat sat on the mat", "a dog", "it runs in the large park", "no"]
    references = [["the cat sat on a mat", "a cat sat"], ["the dog"], ["it ran in the large park"], ["no"]]
    for score, official in ((bleu_scores, sacrebleu.corpus_bleu), (chrf_scores, sacrebleu.corpus_chrf)):
        found = bootstrap(score(texts, references), resamples=15)
        values = []
        for drawn in resamples(4, 15):
            streams: list[Any] = [[references[at][0] for at in drawn], [(references[at] + [None])[1] for at in drawn]]
            values.append(official([texts[at] for at in drawn], streams).score / 100)
        assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_intervals_of_a_share_are_as_wide_as_theory_has_them() -> None:
    scores = np.arange(2_000) % 10 < 7
    found = bootstrap(mean_of("accuracy", scores), resamples=4_000)
    error = math.sqrt(0.7 * 0.3 / 2_000)
    assert (found.low, found.high) == pytest.approx((0.7 - 1.96 * error, 0.7 + 1.96 * error), abs=0.002)


def test_examples_of_one_row_are_drawn_together() -> None:
    once = np.arange(100) % 2 == 0
    alone = bootstrap(mean_of("accuracy", once))
    repeated = mean_of("accuracy", np.repeat(once, 10))
    rows = np.repeat(np.arange(100), 10).tolist()
    together = bootstrap(repeated, clusters=rows)
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))
    apart = bootstrap(repeated)
    assert apart.high - apart.low < (together.high - together.low) / 2


def test_the_same_seed_gives_the_same_interval_on_every_machine() -> None:
    found = bootstrap(mean_of("accuracy", [1, 0, 1, 1, 0, 1, 0, 1]), seed=3, resamples=200)
    assert found == Interval(0.625, found.low, found.high)
    assert (found.low, found.high) == (0.25, 0.875)
    assert bootstrap(mean_of("accuracy", [1, 0, 1, 1, 0, 1, 0, 1]), seed=3, resamples=200) == found


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    base = np.arange(400) % 2 == 0
    better = base.copy()
    better[1:40:2] = True
    found = paired_bootstrap(mean_of("accuracy", better), mean_of("accuracy", base))
    assert found.interval.value == pytest.approx(0.05)
    assert 0.02 < found.interval.low < found.interval.high < 0.08
    assert found.certain
    assert found.p < 0.01
    same = paired_bootstrap(mean_of("accuracy", base), mean_of("accuracy", base))
    assert (same.interval.value, same.interval.low, same.interval.high, same.p) == (0, 0, 0, 1)
    assert not same.certain
    with pytest.raises(ValueError, match="not 2 and 1"):
        paired_bootstrap(mean_of("accuracy", [1, 0]), mean_of("accuracy", [1]))


def test_nothing_has_no_interval() -> None:
    nothing = mean_of("accuracy", [])
    for found in (
        bootstrap(nothing),
        paired_bootstrap(nothing, nothing).interval,
        median_draws([], [], "t").interval(),
    ):
        assert math.isnan(found.value)
        assert math.isnan(found.low)
        assert not above_chance(found, 0.0)


def test_the_median_over_templates_draws_rows_not_examples() -> None:
    right = np.arange(60) % 3 == 0
    one = mean_of("accuracy", right)
    order = np.arange(59, -1, -1)
    other = mean_of("accuracy", right[order])
    alone = median_draws([one], [None], "task").interval()
    # the same rows in another order under a second template tell nothing new
    both = median_draws([one, other], [None, order.tolist()], "task").interval()
    assert (both.value, both.low, both.high) == pytest.approx((alone.value, alone.low, alone.high))
    samples = [median_draws([one], [None], name).samples.tolist() for name in ("task", "task", "another")]
    assert samples[0] == samples[1] != samples[2]
    with pytest.raises(ValueError, match="60 examples but 1 source rows"):
        median_draws([one], [[0]], "task")


def test_a_mean_of_tasks_and_a_difference_of_models_are_drawn_alike() -> None:
    base, better = np.arange(200) % 2 == 0, np.arange(200) % 4 != 3
    first = [median_draws([mean_of("accuracy", scores)], [None], "a", seed=1) for scores in (base, better)]
    second = [median_draws([mean_of("accuracy", scores)], [None], "b", seed=1) for scores in (base, base)]
    means = [mean_draws([one, other]) for one, other in zip(first, second, strict=True)]
    gap = means[1].minus(means[0])
    assert gap.interval.value == pytest.approx(0.125)
    assert 0.09 < gap.interval.low < 0.125 < gap.interval.high < 0.16
    assert gap.p == 0
    assert math.isnan(mean_draws([]).interval().low)


@given(answers=st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_the_majority_is_that_of_a_dummy_classifier(answers: list[int]) -> None:
    dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(answers), 1)), answers)
    guesses = dummy.predict(np.zeros((len(answers), 1)))
    found = baseline(answers, 4)
    assert found.majority == pytest.approx(metrics.accuracy_score(answers, guesses))
    assert found.chance == 0.25
    assert majority_macro_f1(answers) == pytest.approx(
        metrics.f1_score(answers, guesses, average="macro", zero_division=0)
    )


def test_chance_counts_the_choices_of_each_example() -> None:
    found = baseline([0, 1, 1], [2, 4, 4])
    assert (found.majority, found.answer) == (2 / 3, 1)
    assert found.chance == pytest.approx((1 / 2 + 1 / 4 + 1 / 4) / 3)
    assert found.best == 2 / 3
    assert baseline([], 2).answer is None
    assert math.isnan(majority_macro_f1([]))
    with pytest.raises(ValueError, match="no choices"):
        baseline([0], [0])
    with pytest.raises(ValueError, match="1 answers but 2"):
        baseline([0], [2, 2])


def test_above_chance_is_the_whole_interval_above_the_better_baseline() -> None:
    guess = Baseline(0.5, 0.33, 0)
    assert above_chance(Interval(0.6, 0.51, 0.7), guess)
    assert not above_chance(Interval(0.6, 0.5, 0.7), guess)
    assert not above_chance(Interval(0.4, 0.34, 0.45), guess)
    assert above_chance(Interval(0.4, 0.34, 0.45), 0.33)


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_the_spread_over_templates(values: list[float]) -> None:
    found = spread(values)
    assert (found.count, found.low, found.high) == (len(values), min(values), max(values))
    assert found.median == pytest.approx(float(np.median(values)))
    assert found.interquartile == pytest.approx(float(np.subtract(*np.percentile(values, [75, 25]))))


def test_the_spread_of_nothing() -> None:
    assert spread([]).count == 0
    assert math.isnan(spread([]).median)


def test_draws_are_even() -> None:
    counts = statistics._weights(hashing.key(0, "x"), 0, 2_000, 7)
    assert counts.sum(axis=1).tolist() == [7.0] * 2_000
    assert counts.mean(axis=0) == pytest.approx(np.ones(7), abs=0.08)


def test_a_measure_of_one_pooling_has_no_value_of_another() -> None:
    assert Measure("m", "f1", np.array([[1.0, 2.0, 2.0]])).value == 0.5

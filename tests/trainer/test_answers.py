"""Span scores are those of torchmetrics and of SQuAD's own scripts."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torchmetrics.functional.text import squad

from taskmix_trainer.evaluation.answers import AnswerScores, answer_scores, best_threshold

WORDS = st.sampled_from(
    ["the", "a", "An", "cat", "Cat.", "dog", "!", "…", "é", "No", "1,000", "", "İ", "the-cat", "\u00a0"]
)
TEXTS = st.one_of(st.lists(WORDS, max_size=5).map(" ".join), st.text(max_size=8))
QUESTIONS = st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), min_size=1, max_size=6)


def values(found: AnswerScores) -> dict[str, float]:
    return {each.metric: each.value for each in found.measures}


@given(questions=QUESTIONS)
@example(questions=[("the", ["a"]), ("", ["cat"]), ("cat", ["the"])])
@settings(deadline=None)
def test_without_unanswerable_questions_it_is_torchmetrics(questions: list[tuple[str, list[str]]]) -> None:
    predictions = [text for text, _ in questions]
    references = [each for _, each in questions]
    expected = squad(
        [{"prediction_text": text, "id": str(at)} for at, text in enumerate(predictions)],
        [
            {"answers": {"answer_start": [0] * len(each), "text": each}, "id": str(at)}
            for at, each in enumerate(references)
        ],
    )
    found = values(answer_scores(predictions, references))
    assert 100 * found["squad_f1"] == pytest.approx(expected["f1"].item(), abs=1e-3)
    assert 100 * found["squad_exact"] == pytest.approx(expected["exact_match"].item(), abs=1e-3)


def test_a_question_without_an_answer_is_right_if_nothing_is_said() -> None:
    found = answer_scores(["", "Paris", None, "in Paris"], [[], [], ["Paris"], ["Paris", "the"]])
    assert values(found) == {
        "squad_f1": pytest.approx((1 + 0 + 0 + 2 / 3) / 4),
        "squad_exact": 0.25,
        "has_answer_f1": pytest.approx(1 / 3),
        "has_answer_exact": 0.0,
        "no_answer_f1": 0.5,
        "no_answer_exact": 0.5,
    }
    assert found.answerable == (False, False, True, True)


def test_under_version_2_references_that_are_nothing_are_none() -> None:
    assert values(answer_scores(["", "x"], [["the", "."], ["x"]], version_2=True))["squad_exact"] == 1
    assert answer_scores([""], [["the"]], version_2=True).answerable == (False,)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="2 predictions but 1"):
        answer_scores(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match="by the rules of 2"):
        answer_scores(["a"], [[]], version_2=False)


def official_threshold(scores: list[float], no_answer: list[float], has: list[bool]) -> tuple[float, float]:
    """`find_best_thresh` of the script of SQuAD 2.0, its dictionaries made lists."""
    current = best = float(sum(not each for each in has))
    threshold = 0.0
    for at in sorted(range(len(has)), key=lambda each: no_answer[each]):
        # `if preds[qid]` there: an answer would be given, and be wrong
        without = -1 if scores[at] == 0 else 0
        difference = scores[at] if has[at] else without
        current += difference
        if current > best:
            best, threshold = current, no_answer[at]
    return best / len(scores), threshold


@given(
    rows=st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.5, 1.0]), st.floats(-9, 9)), min_size=1, max_size=12)
)
def test_the_best_threshold_is_the_official_one(rows: list[tuple[bool, float, float]]) -> None:
    has, scores, no_answer = [each[0] for each in rows], [each[1] for each in rows], [each[2] for each in rows]
    found = best_threshold(np.array(scores), np.array(no_answer), has)
    assert found == pytest.approx(official_threshold(scores, no_answer, has))

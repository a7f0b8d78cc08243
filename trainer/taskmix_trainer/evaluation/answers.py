"""Exact match and F1 of short answers, as SQuAD scores them.

Source: the official evaluation scripts of SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, 2018), which torchmetrics follows
too. Both sides lose case, ASCII punctuation, the articles a, an and the, and surplus white space; F1 is over the bags
of words that are left. With several references the best counts.

SQuAD 2.0 adds: references that normalise to nothing are no references; a question without references is right when the
answer is empty, and only then.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from taskmix_trainer.evaluation.measures import Floats, Measure, mean_of

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class AnswerScores:
    """The measures `squad_f1` and `squad_exact`, and with unanswerable questions the same for each part.

    `answerable` tells which examples have an answer.
    """

    measures: tuple[Measure, ...]
    answerable: tuple[bool, ...]


def normalise(text: str) -> str:
    """Return the text without case, ASCII punctuation, English articles and surplus white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact(prediction: str, reference: str) -> float:
    """Return 1 if both are the same after `normalise`, else 0."""
    return float(normalise(prediction) == normalise(reference))


def overlap(prediction: str, reference: str) -> float:
    """Return the F1 of the two bags of words, 0 to 1; where one is empty, whether both are."""
    guess, right = normalise(prediction).split(), normalise(reference).split()
    if not guess or not right:
        return float(guess == right)
    return 2 * (Counter(guess) & Counter(right)).total() / (len(guess) + len(right))


def answer_scores(
    predictions: Sequence[str | None], references: Sequence[Sequence[str]], version_2: bool | None = None
) -> AnswerScores:
    """Return exact match and F1 over all questions, and for each part where some have no answer.

    Args:
        predictions: the answer given, empty or None for "no answer".
        references: the accepted answers of each question; none: it has no answer.
        version_2: whether the rules of SQuAD 2.0 apply; by default, if a question has no references.

    Raises:
        ValueError: lengths differ, or a question has no references under the rules of version 1.1.
    """
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions but {len(references)} lists of references")
    if version_2 is None:
        version_2 = not all(references)
    accepted = [_accepted(each) if version_2 else list(each) for each in references]
    if not all(accepted):
        raise ValueError("SQuAD 1.1 has no questions without references; score by the rules of 2.0")
    answerable = [any(normalise(text) for text in each) for each in accepted] if version_2 else [True] * len(accepted)
    pairs = [(prediction or "", each) for prediction, each in zip(predictions, accepted, strict=True)]
    f1s = np.array([max(overlap(text, one) for one in each) for text, each in pairs], dtype=np.float64)
    exacts = np.array([max(exact(text, one) for one in each) for text, each in pairs], dtype=np.float64)
    measures = [mean_of("squad_f1", f1s), mean_of("squad_exact", exacts)]
    if version_2:
        has = np.array(answerable, dtype=bool)
        for part, chosen in (("has_answer", has), ("no_answer", ~has)):
            measures += [mean_of(f"{part}_f1", f1s[chosen]), mean_of(f"{part}_exact", exacts[chosen])]
    return AnswerScores(tuple(measures), tuple(answerable))


def best_threshold(scores: Floats, no_answer: Floats, answerable: Sequence[bool]) -> tuple[float, float]:
    """Return the mean score at the best threshold, and the threshold above which "no answer" is given.

    This is `find_best_thresh` of the official script: a figure that is tuned on the examples it is measured on, and
    said to be so wherever it is shown. A threshold for use comes from other examples.

    Args:
        scores: of each example if its answer is given, (examples,).
        no_answer: how strongly the model holds that there is none, (examples,); the higher, the more.
        answerable: whether there is one.
    """
    has = np.asarray(answerable, dtype=bool)
    order = np.argsort(no_answer, kind="stable")
    # giving an answer gains its score where there is one; where there is none it loses the point for saying nothing,
    # unless the answer that would be given is empty as well
    change = np.where(has, scores, np.where(scores > 0, 0.0, -1.0))[order]
    totals = np.concatenate([[float((~has).sum())], (~has).sum() + np.cumsum(change)])
    best = int(np.argmax(totals))
    return float(totals[best] / max(len(has), 1)), float(no_answer[order[best - 1]]) if best else 0.0


def _accepted(references: Sequence[str]) -> list[str]:
    return [text for text in references if normalise(text)] or [""]

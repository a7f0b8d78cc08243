"""Which metrics a task gets, in one table, and what each of them is.

The first metric of a task is the one that is quoted, and that clusters and splits are averaged by.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from taskmix_trainer.evaluation.answers import answer_scores
from taskmix_trainer.evaluation.classification import single_label
from taskmix_trainer.evaluation.measures import Measure, mean_of
from taskmix_trainer.evaluation.numbers import number_scores
from taskmix_trainer.evaluation.texts import (
    best,
    bleu_scores,
    bleu_tokenizer,
    chrf_scores,
    identical,
    rouge_scores,
    same,
)

Texts = Sequence[str | None]
References = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Metric:
    """How a metric is shown, and what it is in a sentence. All are the better the higher, and shown times 100."""

    label: str
    meaning: str


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("accuracy", "share of examples with the right label or choice; choices by summed likelihood"),
    "accuracy_per_character": Metric("accuracy (per character)", "the same, likelihoods divided by choice length"),
    "macro_f1": Metric("macro-F1", "mean F1 of the classes that occur"),
    "micro_f1": Metric("micro-F1", "F1 over all labels of all examples"),
    "subset_accuracy": Metric("subset accuracy", "share of examples whose whole set of labels is right"),
    "mcc": Metric("MCC", "Matthews' correlation, for several classes"),
    "entity_f1": Metric("entity F1", "F1 of entities with the right type and ends, strictly well-formed"),
    "entity_f1_conll": Metric("entity F1 (conlleval)", "the same, malformed tags read as conlleval reads them"),
    "squad_f1": Metric("F1", "overlap of words with the best reference, as SQuAD has it"),
    "squad_exact": Metric("exact match (SQuAD)", "share that is a reference but for case, punctuation and articles"),
    "has_answer_f1": Metric("F1, answerable", "F1 of the questions that have an answer"),
    "has_answer_exact": Metric("exact match, answerable", "exact match of the questions that have an answer"),
    "no_answer_f1": Metric("F1, unanswerable", "share of the questions without an answer that get none"),
    "no_answer_exact": Metric("exact match, unanswerable", "the same"),
    "exact_match": Metric("exact match", "share that is a reference but for case, white space, quotes and full stop"),
    "rouge_l": Metric("ROUGE-L", "longest common subsequence of stemmed words with the best reference"),
    "bleu": Metric("BLEU", "corpus BLEU of sacrebleu"),
    "chrf": Metric("chrF", "corpus chrF2 of sacrebleu"),
    "final_number": Metric("final number", "share that ends on the number of a reference"),
    "code_match": Metric("exact code", "share that is a reference but for white space at line ends"),
    "tests_passed": Metric("tests passed", "share of programs whose tests pass"),
}

RAW: Mapping[str, tuple[str, ...]] = {
    "text-classification": ("accuracy", "macro_f1", "mcc"),
    "text-classification, multi-label": ("micro_f1", "macro_f1", "subset_accuracy"),
    "table": ("accuracy", "macro_f1", "mcc"),
    "token-classification": ("entity_f1", "entity_f1_conll"),
    "question-answering": ("squad_f1", "squad_exact"),
    "multiple-choice": ("accuracy",),
}
"""The metrics of a task in its raw form, by kind, where a classic head predicts labels, tags or spans."""

TEXT: Mapping[str, tuple[str, ...]] = {
    "question-answering": ("squad_f1", "squad_exact"),
    "text-classification": ("exact_match",),
    "multiple-choice": ("exact_match",),
    "table": ("exact_match",),
    "token-classification": ("exact_match", "rouge_l"),
    "text-generation": ("rouge_l", "exact_match"),
    "conversation": ("rouge_l", "chrf"),
}
"""The metrics of generated text by kind, where there are no choices to rank."""

CLUSTERS: Mapping[str, tuple[str, ...]] = {
    "translation": ("bleu", "chrf"),
    "math": ("final_number",),
    "maths": ("final_number",),
    "arithmetic": ("final_number",),
    "code": ("code_match", "chrf"),
    "programming": ("code_match", "chrf"),
}
"""Those of text-generation in clusters that have a word of these in their names, such as `math` or `word-math`."""

CHOICES = ("accuracy", "accuracy_per_character")
LABELS = ("accuracy", "accuracy_per_character", "macro_f1", "mcc")


def raw_metrics(kind: str, cluster: str = "", *, multi_label: bool = False) -> tuple[str, ...]:
    """Return the metrics of a task in its raw form; those of text for kinds whose head writes text."""
    if kind == "text-classification" and multi_label:
        return RAW["text-classification, multi-label"]
    return RAW[kind] if kind in RAW else text_metrics(kind, cluster)


def text_metrics(kind: str, cluster: str, *, choices: bool = False, tests: bool = False) -> tuple[str, ...]:
    """Return the metrics of a task of a mixture.

    Args:
        kind: the task's.
        cluster: the task's.
        choices: whether its examples have choices to rank.
        tests: whether its examples have tests, and the user lets generated code run.
    """
    if choices:
        return CHOICES if kind == "multiple-choice" else LABELS
    if tests:
        return ("tests_passed", "code_match")
    if kind == "text-generation":
        for word in _words(cluster):
            if word in CLUSTERS:
                return CLUSTERS[word]
    return TEXT[kind]


def is_code(cluster: str) -> bool:
    """Whether what is written in a cluster is code."""
    return CLUSTERS["code"] in (CLUSTERS.get(word) for word in _words(cluster))


def _words(cluster: str) -> list[str]:
    return cluster.replace("_", "-").split("-")


def score_choices(
    answers: Sequence[int],
    predicted: Sequence[int],
    per_character: Sequence[int],
    labels: Sequence[str] | None = None,
) -> tuple[Measure, ...]:
    """Return the measures of ranked choices.

    Args:
        answers: the index of the right choice of each example.
        predicted: that of the choice with the highest summed likelihood.
        per_character: that of the choice with the highest likelihood per character.
        labels: the words, where all examples have the same choices: then there are macro-F1 and MCC as well.

    Raises:
        ValueError: lengths differ, or an index is out of range.
    """
    if not len(answers) == len(predicted) == len(per_character):
        raise ValueError(f"{len(answers)} answers but {len(predicted)} and {len(per_character)} predictions")
    right = [one == other for one, other in zip(answers, predicted, strict=True)]
    normalised = [one == other for one, other in zip(answers, per_character, strict=True)]
    found = (mean_of("accuracy", right), mean_of("accuracy_per_character", normalised))
    return found if labels is None else (*found, *single_label(answers, predicted, labels).measures[1:])


def score_texts(metrics: Sequence[str], predictions: Texts, references: References) -> tuple[Measure, ...]:
    """Return measures of generated texts, the best reference counting.

    SQuAD's metrics add those of answerable and unanswerable questions where there are both; only they take an example
    without references.

    Args:
        metrics: names, of those in `TEXT` and `CLUSTERS`.
        predictions: a text an example; None counts as empty.
        references: the accepted texts of each.

    Raises:
        ValueError: lengths differ, an example has no references, or a metric is not one of texts.
    """
    found: dict[str, Measure] = {}
    for metric in metrics:
        if metric.startswith("squad_"):
            found |= {each.metric: each for each in answer_scores(predictions, references).measures}
        elif metric in _TEXT:
            found[metric] = _TEXT[metric](predictions, references)
        else:
            raise ValueError(f"{metric!r} is no metric of texts; known: {', '.join(sorted(_TEXT))}, squad_f1")
    first = [found[metric] for metric in metrics]
    return (*first, *(measure for name, measure in found.items() if name not in metrics))


def _exact(predictions: Texts, references: References) -> Measure:
    return mean_of("exact_match", best(same, predictions, references))


def _code(predictions: Texts, references: References) -> Measure:
    return mean_of("code_match", best(identical, predictions, references))


def _bleu(predictions: Texts, references: References) -> Measure:
    return bleu_scores(predictions, references, bleu_tokenizer(references))


_TEXT: Mapping[str, Callable[[Texts, References], Measure]] = {
    "exact_match": _exact,
    "code_match": _code,
    "rouge_l": rouge_scores,
    "bleu": _bleu,
    "chrf": chrf_scores,
    "final_number": number_scores,
}

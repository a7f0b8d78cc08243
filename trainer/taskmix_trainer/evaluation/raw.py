"""A classic head, or a language model's loss, on an evaluation split of a raw task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from taskmix_trainer.evaluation.answers import answer_scores
from taskmix_trainer.evaluation.classification import ClassScore, multi_label, single_label
from taskmix_trainer.evaluation.entities import entity_scores
from taskmix_trainer.evaluation.measures import Measure
from taskmix_trainer.heads import Head, spans, tagging
from taskmix_trainer.heads.base import Padding
from taskmix_trainer.predicting import Predictions, in_order, predict
from taskmix_trainer.tokens.folder import Manifest, Tokens
from taskmix_trainer.tokens.preparing import kept_rows

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class RawResult:
    """What a model makes of a split.

    Attributes:
        loss: the loss a label.
        measures: metrics by examples, the one to quote first; none for language models.
        classes: of each label or entity type.
        rows: the rows, in order.
        predictions: what was predicted for each row, in words.
        gold: the right label or option of each row, where there is one; and how many there are to choose from.
        choices: see `gold`.
    """

    loss: float
    measures: tuple[Measure, ...]
    classes: tuple[ClassScore, ...] = ()
    rows: tuple[str, ...] = ()
    predictions: tuple[Any, ...] = ()
    gold: tuple[int, ...] = ()
    choices: tuple[int, ...] = ()


def metric_of(head: Head, *, multi_label: bool) -> str:
    """Return the metric that the better of two models has more of; `loss` has the worse one more of."""
    return "micro_f1" if multi_label else head.metric or "loss"


def figures(
    model: Any,
    head: Head,
    manifest: Manifest,
    folder: Path,
    split: str,
    tokens: Tokens,
    padding: Padding,
    *,
    share: tuple[int, int] = (0, 1),
    most: int | None = None,
) -> dict[str, float]:
    """Return the loss and the metrics of a model on a split, by name. All processes that share it get the same."""
    result = evaluate_split(model, head, manifest, folder, split, tokens, padding, share=share, most=most)
    return {"loss": result.loss, **{measure.metric: measure.value for measure in result.measures}}


def evaluate_split(
    model: Any,
    head: Head,
    manifest: Manifest,
    folder: Path,
    split: str,
    tokens: Tokens,
    padding: Padding,
    *,
    share: tuple[int, int] = (0, 1),
    most: int | None = None,
    report: Callable[[int], None] = lambda features: None,
) -> RawResult:
    """Return what a model makes of a split.

    Args:
        model: the model.
        head: its head.
        manifest: what the tokens are.
        folder: the folder of tokens.
        split: the split's name.
        tokens: its features.
        padding: how batches are filled up.
        share: the number of this process, and how many share the work.
        most: only so many features, for language models.
        report: called with the features that are done.
    """
    order, found = predict(model, head, tokens, padding, share=share, most=most, report=report)
    order, found = _gathered(order, found, share[1])
    if not head.metric:
        return RawResult(found.mean_loss, ())
    rows = kept_rows(folder, split)
    each = in_order(order, found.each)
    names = tuple(row["row"] for row in rows)
    if head.name == "question-answering":
        answers = _answers(rows, tokens, each)
        scored = answer_scores(answers, [row["answers"] for row in rows])
        return RawResult(found.mean_loss, scored.measures, (), names, tuple(answers))
    if head.name == "token-classification":
        tags = [
            tagging.predicted_tags(best.tolist(), tokens[at]["words"].tolist(), len(row["tags"]), manifest.labels)
            for at, (row, best) in enumerate(zip(rows, each, strict=True))
        ]
        entities = entity_scores([row["tags"] for row in rows], tags)
        return RawResult(found.mean_loss, entities.measures, entities.types, names, tuple(tags))
    gold = [row["label"] for row in rows]
    if manifest.multi_label:
        sets = [np.flatnonzero(logits > 0).tolist() for logits in each]
        several = multi_label(gold, sets, manifest.labels)
        return RawResult(
            found.mean_loss,
            several.measures,
            several.classes,
            names,
            tuple([manifest.labels[at] for at in each] for each in sets),
        )
    best = [int(logits.argmax()) for logits in each]
    if head.name == "multiple-choice":
        options = max(len(row["choices"]) for row in rows)
        accuracy = single_label(gold, best, [str(at) for at in range(options)]).measures[:1]
        counts = tuple(len(row["choices"]) for row in rows)
        return RawResult(found.mean_loss, accuracy, (), names, tuple(best), tuple(gold), counts)
    one = single_label(gold, best, manifest.labels)
    words = tuple(manifest.labels[at] for at in best)
    counts = (len(manifest.labels),) * len(gold)
    return RawResult(found.mean_loss, one.measures, one.classes, names, words, tuple(gold), counts)


def gold_in_words(row: Mapping[str, Any], manifest: Manifest) -> Any:
    """Return what is right for a row, in the form of its prediction."""
    if "answers" in row:
        return row["answers"]
    if "tags" in row:
        return row["tags"]
    if "choices" in row:
        return row["label"]
    several = isinstance(row["label"], list)
    return [manifest.labels[at] for at in row["label"]] if several else manifest.labels[row["label"]]


def _answers(rows: Sequence[dict[str, Any]], tokens: Tokens, each: Sequence[Array]) -> list[str]:
    """Return the answer to each question, from all windows of its context; empty where there is none.

    A question may be found unanswerable only where the split has unanswerable ones.
    """
    windows: dict[str, list[tuple[Array, Array, int, Sequence[int]]]] = {row["row"]: [] for row in rows}
    for at, both in enumerate(each):
        feature = tokens[at]
        windows[feature["row"]].append((both[0], both[1], feature["first"], feature["offsets"].tolist()))
    may_be_none = not all(row["answers"] for row in rows)
    found = []
    for row in rows:
        best = spans.best_answer(windows[row["row"]])
        none = may_be_none and best.null_score > best.score
        found.append("" if none else row["context"][best.start : best.end])
    return found


def _gathered(order: Any, found: Predictions, world: int) -> tuple[Any, Predictions]:
    """Return what all processes predicted."""
    if world == 1:
        return order, found
    import torch.distributed as dist

    parts: list[Any] = [None] * world
    dist.all_gather_object(parts, (order, found))
    orders, each = zip(*parts, strict=True)
    whole = Predictions(
        sum(part.loss for part in each), sum(part.items for part in each), [one for part in each for one in part.each]
    )
    return np.concatenate(orders), whole

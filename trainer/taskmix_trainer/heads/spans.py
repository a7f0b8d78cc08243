"""Extractive question answering: where the answer starts and ends in the context, or that there is none.

A context that is too long is read in windows that overlap. A window which does not hold the whole answer, and every
window of an unanswerable question, points at the first token (Devlin et al. 2019, section 4.3).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from taskmix_trainer.heads.base import Batch, Encoder, Features, Head, Padding, Recipe, Rows, Tally, pad_inputs

MOST_TOKENS = 30
"""The longest answer that is looked for, in tokens."""
_BEST = 20


def encode(rows: Rows, encoder: Encoder) -> tuple[Features, Tally]:
    """Return the windows of each row.

    Of each: `start` and `end`, the tokens of the answer; `first`, the token that the context begins at; `offsets`, the
    characters at which each token of the context starts and ends, one after the other.
    """
    questions = _cut_questions([question.lstrip() for question in rows["question"]], encoder)
    encoded = encoder.tokenizer(
        questions,
        list(rows["context"]),
        truncation="only_second",
        max_length=encoder.max_length,
        stride=min(encoder.stride, encoder.max_length // 4),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    spans = [_span(*row) for row in zip(rows["context"], rows["answers"], rows["answer_starts"], strict=True)]
    tally = Tally({"answer not in the context": sum(span is _LOST for span in spans)})
    names = ("input_ids", "token_type_ids") if "token_type_ids" in encoded else ("input_ids",)
    features: dict[str, list[Any]] = {name: [] for name in (*names, "start", "end", "first", "offsets", "row")}
    for at, row in enumerate(encoded["overflow_to_sample_mapping"]):
        sequence = encoded.sequence_ids(at)
        first = sequence.index(1) if 1 in sequence else len(sequence)
        last = len(sequence) - sequence[::-1].index(1) if 1 in sequence else first
        offsets = encoded["offset_mapping"][at][first:last]
        start, end = _tokens(spans[row], offsets, first)
        for name in names:
            features[name].append(encoded[name][at])
        for name, value in (("start", start), ("end", end), ("first", first), ("row", rows["row"][row])):
            features[name].append(value)
        features["offsets"].append([edge for pair in offsets for edge in pair])
    tally["more than one window"] = len(features["row"]) - len(questions)
    return features, tally


_LOST = (-1, -1)


def _span(context: str, answers: Sequence[str], starts: Sequence[int] | None) -> tuple[int, int]:
    """Return the characters of the first answer; (0, 0) if there is none, `_LOST` if the context does not have it."""
    if not answers:
        return 0, 0
    answer = answers[0]
    start = starts[0] if starts else context.find(answer)
    if start < 0 or context[start : start + len(answer)] != answer:
        start = context.find(answer)
    return (start, start + len(answer)) if start >= 0 and answer else _LOST


def _tokens(span: tuple[int, int], offsets: Sequence[tuple[int, int]], first: int) -> tuple[int, int]:
    """Return the tokens of a span of characters within a window; (0, 0) if the window does not hold all of it."""
    start, end = span
    if end <= 0 or not offsets or start < offsets[0][0] or end > offsets[-1][1]:
        return 0, 0
    left = bisect_right([edge for edge, _ in offsets], start) - 1
    right = bisect_left([edge for _, edge in offsets], end)
    return first + left, first + right


def _cut_questions(questions: list[str], encoder: Encoder) -> list[str]:
    """Return questions that leave half of a window to the context."""
    most = encoder.max_length // 2
    encoded = encoder.tokenizer(
        questions, add_special_tokens=False, truncation=True, max_length=most, return_offsets_mapping=True
    )
    return [
        question[: offsets[-1][1]] if len(offsets) == most else question
        for question, offsets in zip(questions, encoded["offset_mapping"], strict=True)
    ]


def collate(features: Sequence[Mapping[str, Any]], padding: Padding) -> Batch:
    """Return inputs, `start` and `end`: (windows,)."""
    batch = pad_inputs(features, padding)
    batch["start"] = torch.tensor([feature["start"] for feature in features], dtype=torch.long)
    batch["end"] = torch.tensor([feature["end"] for feature in features], dtype=torch.long)
    return batch


def loss(outputs: Any, batch: Batch) -> Tensor:
    """Return the sum over windows of the mean of both cross-entropies.

    What fills a window up is no place for an answer: with it, the loss would depend on the batch that a window is in.
    """
    filled = batch["attention_mask"] == 0
    starts, ends = (
        functional.cross_entropy(logits.float().masked_fill(filled, -torch.inf), batch[edge], reduction="sum")
        for edge, logits in (("start", outputs.start_logits), ("end", outputs.end_logits))
    )
    return (starts + ends) / 2


@dataclass(frozen=True)
class Answer:
    """The best span of a row's windows: its characters in the context, its score, and the score of no answer."""

    start: int
    end: int
    score: float
    null_score: float


def best_answer(windows: Sequence[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int, Sequence[int]]]) -> Answer:
    """Return the best answer over windows: each its start and end logits (length,), `first` and `offsets`.

    The score of a span is the sum of its two logits; that of no answer is the least over windows of the first token's
    (the evaluation of Devlin et al. 2019).
    """
    best = Answer(0, 0, -np.inf, np.inf)
    for starts, ends, first, offsets in windows:
        null = min(best.null_score, float(starts[0] + ends[0]))
        found = (best.start, best.end, best.score)
        length = len(offsets) // 2
        left = first + np.argsort(-starts[first : first + length], kind="stable")[:_BEST]
        right = first + np.argsort(-ends[first : first + length], kind="stable")[:_BEST]
        for a in left:
            for b in right:
                score = float(starts[a] + ends[b])
                if a <= b < a + MOST_TOKENS and score > found[2]:
                    found = (offsets[2 * (a - first)], offsets[2 * (b - first) + 1], score)
        best = Answer(*found, null)
    return best


HEAD = Head(
    name="question-answering",
    model_class="AutoModelForQuestionAnswering",
    encode=encode,
    collate=collate,
    loss=loss,
    count=lambda rows: [1] * len(rows),
    counted="row",
    recipe=Recipe(learning_rate=3e-5, epochs=2, max_length=384, batch_size=12),
    metric="squad_f1",
    labels=("start", "end"),
)

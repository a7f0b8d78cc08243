"""Sequence classification: one label, or several, for a text or a pair of texts."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from taskmix_trainer.heads.base import (
    IGNORED,
    Batch,
    Encoder,
    Features,
    Head,
    Padding,
    Recipe,
    Rows,
    Tally,
    pad_inputs,
    were_cut,
)


def encode(rows: Rows, encoder: Encoder) -> tuple[Features, Tally]:
    """Return the tokens of `text` (and `text_pair`), the longer one cut first, and the label ids."""
    pairs = rows.get("text_pair")
    second = [pair or "" for pair in pairs] if pairs is not None else None
    encoded = encoder.tokenizer(list(rows["text"]), second, truncation=True, max_length=encoder.max_length)
    labels = [label if isinstance(label, Sequence) else [label] for label in rows["label"]]
    features = {"input_ids": encoded["input_ids"], "labels": labels, "row": rows["row"]}
    if "token_type_ids" in encoded:
        features["token_type_ids"] = encoded["token_type_ids"]
    return features, Tally({"cut": were_cut(encoded)})


def collate(features: Sequence[Mapping[str, Any]], padding: Padding) -> Batch:
    """Return inputs and `labels`: (rows,) of ids; with several labels a row, (rows, labels) of 0 and 1."""
    batch = pad_inputs(features, padding)
    if not padding.labels:
        batch["labels"] = torch.tensor([feature["labels"][0] for feature in features], dtype=torch.long)
        return batch
    marks = torch.zeros(len(features), padding.labels)
    for at, feature in enumerate(features):
        marks[at, torch.tensor(list(feature["labels"]), dtype=torch.long)] = 1.0
    batch["labels"] = marks
    return batch


def loss(outputs: Any, batch: Batch) -> Tensor:
    """Return the sum over rows of the cross-entropy; with several labels, the mean over labels of the binary one."""
    logits, labels = outputs.logits.float(), batch["labels"]
    if labels.is_floating_point():
        labelled = labels[:, 0] != IGNORED
        each = functional.binary_cross_entropy_with_logits(logits[labelled], labels[labelled], reduction="none")
        return each.mean(-1).sum()
    return functional.cross_entropy(logits, labels, reduction="sum")


HEAD = Head(
    name="sequence-classification",
    model_class="AutoModelForSequenceClassification",
    encode=encode,
    collate=collate,
    loss=loss,
    count=lambda rows: [1] * len(rows),
    counted="row",
    # Devlin et al. 2019, appendix A.3: batches of 16 or 32, 2e-5 to 5e-5, 2 to 4 epochs
    recipe=Recipe(learning_rate=2e-5, epochs=3, max_length=256, batch_size=32),
    metric="accuracy",
)

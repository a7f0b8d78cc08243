"""Multiple choice: each option is read beside the question, and gets one score."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from taskmix_trainer.heads.base import (
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
    """Return the tokens of all options of a row, one after the other, and in `lengths` how many each has."""
    contexts = rows.get("context") or [None] * len(rows["row"])
    asked = [
        f"{context}\n{question}" if context else question
        for context, question in zip(contexts, rows["question"], strict=True)
    ]
    first = [text for text, choices in zip(asked, rows["choices"], strict=True) for _ in choices]
    second = [choice for choices in rows["choices"] for choice in choices]
    encoded = encoder.tokenizer(first, second, truncation=True, max_length=encoder.max_length)
    ends = list(accumulate(len(choices) for choices in rows["choices"]))
    spans = list(zip([0, *ends[:-1]], ends, strict=True))
    features: dict[str, Sequence[Any]] = {
        "input_ids": [[token for option in encoded["input_ids"][a:b] for token in option] for a, b in spans],
        "lengths": [[len(option) for option in encoded["input_ids"][a:b]] for a, b in spans],
        "labels": list(rows["label"]),
        "row": rows["row"],
    }
    if "token_type_ids" in encoded:
        types = encoded["token_type_ids"]
        features["token_type_ids"] = [[token for option in types[a:b] for token in option] for a, b in spans]
    return features, Tally({"cut": were_cut(encoded)})


def collate(features: Sequence[Mapping[str, Any]], padding: Padding) -> Batch:
    """Return inputs of shape (1, options of all rows, length), `options`, how many each row has, and `labels` (rows,).

    One row of all options, so that rows with different numbers of them need no empty ones.
    """
    options = [option for feature in features for option in _options(feature)]
    batch = {name: value[None] for name, value in pad_inputs(options, padding).items()}
    batch["options"] = torch.tensor([len(feature["lengths"]) for feature in features], dtype=torch.long)
    batch["labels"] = torch.tensor([feature["labels"] for feature in features], dtype=torch.long)
    return batch


def _options(feature: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    ends = list(accumulate(feature["lengths"]))
    names = [name for name in ("input_ids", "token_type_ids") if name in feature]
    return [
        {name: feature[name][start:end] for name in names} for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def scores(outputs: Any, batch: Batch) -> Tensor:
    """Return the score of each option: (rows, most options), minus infinity where a row has fewer."""
    flat = outputs.logits.float().flatten()
    rows = flat.split(batch["options"].tolist())
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=float("-inf"))


def loss(outputs: Any, batch: Batch) -> Tensor:
    """Return the sum over rows of the cross-entropy of the options' scores."""
    return functional.cross_entropy(scores(outputs, batch), batch["labels"], reduction="sum")


HEAD = Head(
    name="multiple-choice",
    model_class="AutoModelForMultipleChoice",
    encode=encode,
    collate=collate,
    loss=loss,
    count=lambda rows: [1] * len(rows),
    counted="row",
    recipe=Recipe(learning_rate=2e-5, epochs=3, max_length=256, batch_size=16),
    metric="accuracy",
    labels=("labels", "options"),
)

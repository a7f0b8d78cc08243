"""What a head is, and what heads share.

Every head has one loss rule: the sum over what has a label, divided by how many labels there are in all batches of the
optimiser's step, on all processes. So accumulating gradients over small batches gives the gradient of the large one,
for every head (the means that most heads of transformers compute themselves do not: transformers#47688).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

IGNORED = -100
"""The label of what has none, as in `torch.nn.functional.cross_entropy`."""

Features = Mapping[str, Sequence[Any]]
"""Columns of equal length, one value for each feature: what one example, or one window of it, is to a model."""
Rows = Mapping[str, Sequence[Any]]
"""Columns of equal length, one value for each row of a task or mixture."""
Tally = Counter[str]
"""Counts of what became of rows, such as `cut` or `too long`."""
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Encoder:
    """How rows become features.

    Attributes:
        tokenizer: a fast tokenizer of transformers.
        max_length: the most tokens of a feature.
        labels: the words of the labels; empty where there are none.
        multi_label: whether a row may have several labels.
        stride: tokens that windows over a long context share.
        too_long: what becomes of an instruction example with more than `max_length` tokens: it is dropped, or the
            beginning of its prompt is cut.
    """

    tokenizer: Any
    max_length: int
    labels: tuple[str, ...] = ()
    multi_label: bool = False
    stride: int = 128
    too_long: Literal["drop", "cut"] = "drop"


@dataclass(frozen=True)
class Recipe:
    """What training takes where the user says nothing.

    `batch_size` are examples an optimiser's step, `batch_tokens` tokens; one of them is given.
    """

    learning_rate: float
    epochs: float
    max_length: int
    batch_size: int | None = None
    batch_tokens: int | None = None
    warmup: float = 0.1
    schedule: str = "linear"
    weight_decay: float = 0.01


@dataclass(frozen=True)
class Head:
    """A head: how rows become features, features batches, and outputs a loss.

    Attributes:
        name: as the field calls it.
        model_class: the class of transformers that makes a model with it.
        encode: features of a batch of rows, with a tally.
        collate: a padded batch of features, given the id of the padding token.
        loss: the sum of the loss over what has a label (scalar), from a model's outputs and the batch.
        count: how many labels each feature has, by its `counted` column.
        recipe: the defaults of training.
        packs: whether features can lie side by side in one row.
        metric: what the better of two models has more of; None for the loss, of which it has less.
    """

    name: str
    model_class: str
    encode: Callable[[Rows, Encoder], tuple[Features, Tally]]
    collate: Callable[[Sequence[Mapping[str, Any]], "Padding"], Batch]
    loss: Callable[[Any, Batch], Tensor]
    count: Callable[[Sequence[Any]], Sequence[int]]
    counted: str
    recipe: Recipe
    packs: bool = False
    metric: str | None = None
    labels: tuple[str, ...] = field(default=("labels",))
    """The entries of a batch that the loss takes and the model does not see."""


@dataclass(frozen=True)
class Padding:
    """How a batch is filled up: the padding token's id, and a number that lengths are rounded up to."""

    token: int
    multiple: int = 1
    labels: int = 0
    """How many labels the model tells apart, for rows with several."""

    def length(self, lengths: Sequence[int]) -> int:
        """Return the length of a batch of features of these lengths."""
        longest = max(lengths, default=1)
        return -(-longest // self.multiple) * self.multiple


def pad(rows: Sequence[Sequence[int]], filler: int, length: int) -> Tensor:
    """Return rows of integers as one tensor, (rows, length), filled up on the right. int64."""
    padded = np.full((len(rows), length), filler, dtype=np.int64)
    for at, row in enumerate(rows):
        padded[at, : len(row)] = row
    return torch.from_numpy(padded)


def pad_inputs(features: Sequence[Mapping[str, Any]], padding: Padding) -> Batch:
    """Return `input_ids`, `attention_mask` and, where features have them, `token_type_ids`: (features, length)."""
    ids = [feature["input_ids"] for feature in features]
    length = padding.length([len(each) for each in ids])
    batch = {
        "input_ids": pad(ids, padding.token, length),
        "attention_mask": pad([[1] * len(each) for each in ids], 0, length),
    }
    if "token_type_ids" in features[0]:
        batch["token_type_ids"] = pad([feature["token_type_ids"] for feature in features], 0, length)
    return batch


def were_cut(encoded: Any) -> int:
    """Return how many texts of a fast tokenizer's result lost tokens to the limit."""
    return sum(1 for each in encoded.encodings or () if each.overflowing)

"""What a model with a classic head makes of tokens: the loss, and predictions for each feature."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taskmix_trainer.batches.plan import Ints
from taskmix_trainer.heads import choosing
from taskmix_trainer.heads.base import Batch, Head, Padding
from taskmix_trainer.models.losses import ITEMS
from taskmix_trainer.tokens.folder import Tokens


@dataclass(frozen=True)
class Predictions:
    """Predictions of some features, in the order of the tokens.

    Attributes:
        loss: the sum of the loss.
        items: the labels that it is the sum over.
        each: by feature: the logits (labels,) of a sequence or of options, the best label of each token (tokens,), or
            both logits of a window (2, tokens). Empty for language models.
    """

    loss: float
    items: int
    each: Sequence[np.ndarray[Any, Any]]

    @property
    def mean_loss(self) -> float:
        """Return the loss a label."""
        return self.loss / max(self.items, 1)


def labels_of(head: Head, tokens: Tokens) -> Sequence[int]:
    """Return how many labels each feature has."""
    return head.count(tokens.column(head.counted)) if len(tokens) else []


def batches_of(lengths: Ints, budget: int) -> list[Ints]:
    """Return features of like lengths together, with at most `budget` tokens each, what fills them up among them."""
    order = np.argsort(lengths, kind="stable")
    found: list[Ints] = []
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end - start + 1) * int(lengths[order[end]]) > budget:
            found.append(order[start:end])
            start = end
    return found


@torch.no_grad()
def predict(
    model: Any,
    head: Head,
    tokens: Tokens,
    padding: Padding,
    *,
    budget: int = 8192,
    share: tuple[int, int] = (0, 1),
    most: int | None = None,
    report: Callable[[int], None] = lambda features: None,
) -> tuple[Ints, Predictions]:
    """Return which features were predicted, and what was.

    Args:
        model: the model, which is left in the mode it was in.
        head: its head.
        tokens: the features.
        padding: how batches are filled up.
        budget: the most tokens of a batch.
        share: the number of this process, and how many share the batches.
        most: only the first so many features.
        report: called with the features that are done.
    """
    device = next(model.parameters()).device
    count = labels_of(head, tokens)
    was_training = model.training
    model.eval()
    loss, items = 0.0, 0
    seen: list[Ints] = []
    made: list[np.ndarray[Any, Any]] = []
    rank, world = share
    batches = batches_of(tokens.lengths()[:most], budget)
    own = batches[rank::world]
    if len(own) < -(-len(batches) // world):
        # a model whose parts are spread over processes runs in all of them or not at all: once more, for nothing
        own.append(batches[0][:0])
    for members in own:
        batch = head.collate(tokens.features(members if len(members) else batches[0][:1]), padding)
        batch = {name: value.to(device) for name, value in batch.items()}
        if head.packs or head.name == "sequence-to-sequence":
            # divided by one: the sum
            summed = model(**batch, **{ITEMS: torch.ones((), device=device)})["loss"]
            outputs = None
        else:
            outputs = model(**{name: value for name, value in batch.items() if name not in head.labels})
            summed = head.loss(outputs, batch)
        if not len(members):
            continue
        loss += float(summed)
        if outputs is not None:
            made += _each(head.name, outputs, batch)
        items += sum(count[int(at)] for at in members)
        seen.append(members)
        report(len(members))
    model.train(was_training)
    order = np.concatenate(seen) if seen else np.zeros(0, dtype=np.int64)
    return order, Predictions(loss, items, made)


def _each(head: str, outputs: Any, batch: Batch) -> list[np.ndarray[Any, Any]]:
    if head == "sequence-classification":
        return list(_numpy(outputs.logits))
    if head == "multiple-choice":
        rows = choosing.scores(outputs, batch)
        return [_numpy(row[:options]) for row, options in zip(rows, batch["options"].tolist(), strict=True)]
    lengths = batch["attention_mask"].sum(1).tolist()
    if head == "token-classification":
        best = outputs.logits.argmax(-1)
        return [_numpy(row[:length]) for row, length in zip(best, lengths, strict=True)]
    both = torch.stack([outputs.start_logits, outputs.end_logits], dim=1)
    return [_numpy(row[:, :length]) for row, length in zip(both, lengths, strict=True)]


def _numpy(values: Tensor) -> np.ndarray[Any, Any]:
    found = values.detach().cpu()
    return (found.float() if found.is_floating_point() else found).numpy()


def in_order(order: Ints, each: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Return predictions in the order of the tokens."""
    placed: list[Any] = [None] * len(order)
    for at, value in zip(order.tolist(), each, strict=True):
        placed[at] = value
    return placed

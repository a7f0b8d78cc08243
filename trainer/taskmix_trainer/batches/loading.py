"""The micro-batches of a plan, as PyTorch's loader asks for them: by number, in order."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from taskmix_trainer.batches.plan import Ints, Plan
from taskmix_trainer.heads.base import IGNORED, Batch, Head, Padding
from taskmix_trainer.heads.language import Shape, pack_causal
from taskmix_trainer.models.losses import ITEMS
from taskmix_trainer.tokens.folder import Tokens


class Batches(Dataset[Batch]):
    """The micro-batches of a plan.

    Each has under `items` the number of labels of its whole step, on all processes, by which its loss is divided. One
    without examples, at the end of the last step, has an example without a label.
    """

    def __init__(self, plan: Plan, tokens: Tokens, head: Head, padding: Padding, counts: Sequence[int]) -> None:
        self.plan, self.tokens, self.head, self.padding = plan, tokens, head, padding
        self._counts = np.asarray(counts, dtype=np.int64)
        self._lengths = tokens.lengths()
        self._collate = partial(pack_causal, shape=_shape(plan, self._lengths)) if plan.size else head.collate

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, at: int) -> Batch:
        members = self.plan.batch(at)
        batch = self._collate(self.tokens.features(members if len(members) else [0]), self.padding)
        items = int(self._counts[self.plan.step_members(at // self.plan.micro)].sum())
        if not len(members):
            _take_labels_out(batch, self.head)
        return {**batch, ITEMS: torch.tensor(float(max(items, 1)))}

    def tokens_between(self, start: int, end: int) -> tuple[int, int]:
        """Return the tokens of examples in steps from `start` to before `end`, and those with what fills them up."""
        real, cells = 0, 0
        for at in range(start * self.plan.micro, end * self.plan.micro):
            lengths = self._lengths[self.plan.batch(at)]
            real += int(lengths.sum())
            cells += self.plan.size or len(lengths) * int(lengths.max(initial=0))
        return real, max(cells, 1)

    def rows(self, step: int) -> list[str]:
        """Return the rows of a step's examples."""
        return list(dict.fromkeys(self.tokens[int(at)]["row"] for at in self.plan.step_members(step)))


def _shape(plan: Plan, lengths: Ints) -> Shape:
    """Return the shape that all micro-batches of a plan fit into."""
    longest = int(lengths.max())
    ends = np.concatenate([[0], lengths[plan.members].cumsum()])
    filled, members = np.diff(ends[plan.edges]), np.diff(plan.edges)
    # one without examples has the first one, see above
    filled, members = np.where(members == 0, lengths[0], filled), np.maximum(members, 1)
    examples = members + -((filled - plan.size) // longest)
    return Shape(plan.size, int(examples.max()), longest)


def _take_labels_out(batch: Batch, head: Head) -> None:
    for name in head.labels:
        if name != "options":
            batch[name] = torch.full_like(batch[name], IGNORED)


def only(batches: Sequence[Any]) -> Any:
    """Return the one micro-batch that a loader with batches of one puts together."""
    (batch,) = batches
    return batch

"""The plan of a training run: all its optimiser's steps, and the micro-batches of each.

It is a pure function of the examples' lengths, the seed and the budget, laid out before the first step with all epochs
as one pass, so that a run can be taken up again at any step. It does not depend on how many processes carry it out:
they share the micro-batches of each step.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from taskmix import hashing
from taskmix_trainer.batches.packing import best_fit_decreasing

WINDOW = 4096
"""So many examples, in random order, are grouped by length or packed at a time."""

STEPS_TOGETHER = 32
"""So many steps of a given number of examples are filled from one window."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Budget:
    """How much a step takes, and how it is cut.

    Attributes:
        examples: examples a step; or
        tokens: tokens a step, in micro-batches of `micro_tokens`.
        micro_tokens: the most tokens of a micro-batch, what fills it up among them.
        micro: micro-batches a step, where `examples` are given.
        pack: whether examples lie side by side in a micro-batch; else each is filled up to the longest.
        epochs: passes over the examples; the last one may be part of one.
        steps: at most so many steps.
    """

    epochs: float
    examples: int | None = None
    tokens: int | None = None
    micro_tokens: int = 0
    micro: int = 1
    pack: bool = False
    steps: int | None = None


@dataclass(frozen=True)
class Plan:
    """Micro-batches in the order of training, `micro` of them a step.

    Attributes:
        members: the examples of all micro-batches, one after the other. (all,)
        edges: where each micro-batch begins, and the end. (micro-batches + 1,)
        micro: micro-batches a step; some of the last step may be empty.
        size: tokens that a packed micro-batch is filled up to; 0 where they are as long as their longest example.
        passes: examples after which each pass ends. (epochs,)
    """

    members: Ints
    edges: Ints
    micro: int
    size: int
    passes: Ints

    def __len__(self) -> int:
        return len(self.edges) - 1

    @property
    def steps(self) -> int:
        """Return how many times the optimiser steps."""
        return len(self) // self.micro

    def batch(self, at: int) -> Ints:
        """Return the examples of a micro-batch."""
        return self.members[self.edges[at] : self.edges[at + 1]]

    def step_members(self, step: int) -> Ints:
        """Return the examples of a step, from 0."""
        return self.members[self.edges[step * self.micro] : self.edges[(step + 1) * self.micro]]

    @cached_property
    def sha256(self) -> str:
        """Return a hash of all of it."""
        found = hashlib.sha256(f"{self.micro}/{self.size}/".encode())
        found.update(self.members.astype("<i8").tobytes())
        found.update(self.edges.astype("<i8").tobytes())
        return found.hexdigest()

    def epoch(self, step: int) -> float:
        """Return how many passes are done after so many steps."""
        seen = int(self.edges[step * self.micro])
        at = int(np.searchsorted(self.passes, seen, side="right"))
        if at == len(self.passes):
            return float(at)
        start = int(self.passes[at - 1]) if at else 0
        return at + (seen - start) / (int(self.passes[at]) - start)


def make_plan(lengths: Ints, budget: Budget, seed: int) -> Plan:
    """Return the plan of a run.

    Args:
        lengths: the tokens of each example. (examples,)
        budget: how much a step takes.
        seed: another seed, another order.

    Raises:
        ValueError: there is no example, or one does not fit into a micro-batch.
    """
    if not len(lengths):
        raise ValueError("there is nothing to train on")
    orders = _orders(len(lengths), budget.epochs, seed)
    passes = np.cumsum([len(order) for order in orders])
    if budget.examples is not None:
        batches = [
            batch
            for at, order in enumerate(orders)
            for batch in _by_examples(order, lengths, budget, budget.examples, seed, at)
        ]
        micro = budget.micro
    else:
        assert budget.tokens is not None, budget
        batches = [batch for at, order in enumerate(orders) for batch in _by_tokens(order, lengths, budget, seed, at)]
        micro = max(1, round(budget.tokens / budget.micro_tokens))
    steps = -(-len(batches) // micro)
    if budget.steps is not None:
        steps = min(steps, budget.steps)
    batches = batches[: steps * micro]
    # a step is always the same number of micro-batches; those that are left over have no example
    batches += [[]] * (steps * micro - len(batches))
    edges = np.cumsum([0, *map(len, batches)])
    members = np.array([index for batch in batches for index in batch], dtype=np.int64)
    size = budget.micro_tokens if budget.pack else 0
    return Plan(members, edges.astype(np.int64), micro, size, passes.astype(np.int64))


def _orders(count: int, epochs: float, seed: int) -> list[Ints]:
    """Return the examples in the random order of each pass, of the last one as many as are wanted."""
    whole, part = int(epochs), epochs - int(epochs)
    sizes = [count] * whole + ([max(1, round(count * part))] if part > 1e-9 else [])
    return [_shuffled(np.arange(count), seed, "epoch", at)[:size] for at, size in enumerate(sizes)]


def _shuffled(values: Ints, seed: int, *purpose: object) -> Ints:
    """Return values in the order of their draws."""
    keys = hashing.draw(np.uint64(hashing.key(seed, "train", *purpose)), np.arange(len(values), dtype=np.uint64))
    return values[np.argsort(keys, kind="stable")]


def _by_examples(order: Ints, lengths: Ints, budget: Budget, size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return steps of `size` examples of one pass, the last with what is left, each cut into micro-batches.

    Within windows of random examples, those of like lengths come together, and the steps are in random order. Windows
    end with the pass: the copies of an example, alike as they are, would come together else.
    """
    window = size * STEPS_TOGETHER
    steps: list[Ints] = []
    for number, start in enumerate(range(0, len(order), window)):
        some = order[start : start + window]
        some = some[np.argsort(lengths[some], kind="stable")]
        parts = [some[at : at + size] for at in range(0, len(some), size)]
        shuffled = _shuffled(np.arange(len(parts)), seed, "steps", epoch, number)
        steps += [parts[at] for at in shuffled.tolist()]
    return [part.tolist() for step in steps for part in np.array_split(step, budget.micro)]


def _by_tokens(order: Ints, lengths: Ints, budget: Budget, seed: int, epoch: int) -> list[list[int]]:
    """Return micro-batches of one pass, in random order: window by window packed, or grouped by length."""
    batches: list[list[int]] = []
    for start in range(0, len(order), WINDOW):
        window = order[start : start + WINDOW]
        if budget.pack:
            bins = best_fit_decreasing(lengths[window], budget.micro_tokens)
            batches += [window[each].tolist() for each in bins]
        else:
            batches += _grouped(window, lengths, budget.micro_tokens)
    shuffled = _shuffled(np.arange(len(batches)), seed, "batches", epoch)
    return [batches[at] for at in shuffled.tolist()]


def _grouped(window: Ints, lengths: Ints, most: int) -> list[list[int]]:
    """Return examples of like lengths together, so many that, filled up to the longest, they have at most `most`."""
    batches: list[list[int]] = []
    open_batch: list[int] = []
    for index in window[np.argsort(lengths[window], kind="stable")].tolist():
        length = int(lengths[index])
        if length > most:
            raise ValueError(f"an example of {length} tokens does not fit into a micro-batch of {most}")
        if open_batch and (len(open_batch) + 1) * length > most:
            batches.append(open_batch)
            open_batch = []
        open_batch.append(index)
    return [*batches, open_batch] if open_batch else batches

"""Which examples are read when: the plan follows from seed, lengths and budget alone, and wastes little."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskmix_trainer.batches.packing import best_fit_decreasing
from taskmix_trainer.batches.plan import Budget, Ints, Plan, make_plan
from taskmix_trainer.heads import HEADS
from taskmix_trainer.models.opening import ModelName
from taskmix_trainer.training.settings import FROM_SCRATCH, LEAST_STEPS, Settings, learning_rate, make_budget

LENGTHS = st.lists(st.integers(1, 64), min_size=1, max_size=200).map(lambda each: np.array(each, dtype=np.int64))


@st.composite
def budgets(draw: st.DrawFn) -> Budget:
    epochs = draw(st.sampled_from([0.5, 1.0, 2.0, 2.25]))
    steps = draw(st.none() | st.integers(1, 5))
    if draw(st.booleans()):
        return Budget(epochs, examples=draw(st.integers(1, 20)), micro=draw(st.integers(1, 5)), steps=steps)
    micro_tokens = draw(st.integers(64, 200))
    parts = draw(st.integers(1, 5))
    return Budget(epochs, tokens=parts * micro_tokens, micro_tokens=micro_tokens, pack=draw(st.booleans()), steps=steps)


def batches(plan: Plan) -> list[list[int]]:
    return [plan.batch(at).tolist() for at in range(len(plan))]


@given(lengths=LENGTHS, budget=budgets(), seed=st.integers(0, 2**40))
@settings(max_examples=150)
def test_a_plan_follows_from_lengths_budget_and_seed(lengths: Ints, budget: Budget, seed: int) -> None:
    plan = make_plan(lengths, budget, seed)
    again = make_plan(lengths.copy(), budget, seed)
    assert again.sha256 == plan.sha256
    assert batches(again) == batches(plan)


@given(lengths=LENGTHS, budget=budgets(), seed=st.integers(0, 2**40))
@settings(max_examples=150)
def test_every_example_is_read_once_a_pass_and_fits(lengths: Ints, budget: Budget, seed: int) -> None:
    plan = make_plan(lengths, budget, seed)
    assert len(plan) == plan.steps * plan.micro
    ends = plan.passes.tolist()
    assert len(ends) == math.ceil(budget.epochs)
    found = plan.members.tolist()
    if budget.steps is not None:
        assert plan.steps <= budget.steps
    whole = budget.steps is None or len(found) == ends[-1]
    if whole:
        assert len(found) == ends[-1], "nothing is left out"
    for start, end in pairwise([0, *ends]):
        part = found[start:end]
        assert len(set(part)) == len(part), "none twice"
        if end - start == len(lengths) <= len(found) - start:
            assert sorted(part) == list(range(len(lengths)))
    for step in range(plan.steps):
        # parts of two passes meet in one step only where steps are of tokens
        members = plan.step_members(step).tolist()
        assert budget.examples is None or len(set(members)) == len(members)
    for members in batches(plan):
        if not members:
            continue
        if budget.examples is not None:
            assert len(members) <= math.ceil(budget.examples / budget.micro)
        elif budget.pack:
            assert lengths[members].sum() <= budget.micro_tokens == plan.size
        else:
            assert len(members) * lengths[members].max() <= budget.micro_tokens
    assert plan.epoch(0) == 0
    assert plan.epoch(plan.steps) <= len(ends)


@given(
    lengths=LENGTHS,
    seed=st.integers(0, 1000),
    head=st.sampled_from(["sequence-classification", "causal-language-model"]),
)
@settings(max_examples=60)
def test_a_plan_is_the_same_for_any_number_of_processes(lengths: Ints, seed: int, head: str) -> None:
    """The same batch, cut into the same parts: processes share the parts."""
    given: dict[str, Any] = (
        {"accumulate": 12, "batch_size": 24} if HEADS[head].metric else {"batch_tokens": 768, "micro_tokens": 64}
    )
    asked = replace(Settings(ModelName("scratch:tiny"), Path("out")), **given)
    found = set()
    for world in (1, 2, 3, 4, 6, 12):
        budget = make_budget(asked, HEADS[head], lengths, world, packs=HEADS[head].packs)
        plan = make_plan(lengths, budget, seed)
        assert plan.micro % world == 0
        found.add(plan.sha256)
    assert len(found) == 1


ASKED = Settings(ModelName("scratch:tiny"), Path("out"))


@given(
    lengths=st.lists(st.integers(1, 2048), min_size=1, max_size=300).map(lambda each: np.array(each, dtype=np.int64)),
    head=st.sampled_from(["causal-language-model", "sequence-to-sequence"]),
    world=st.integers(1, 8),
    epochs=st.integers(1, 3),
)
@settings(max_examples=100)
def test_few_tokens_make_several_steps_a_pass(lengths: Ints, head: str, world: int, epochs: int) -> None:
    longest, every = int(lengths.max()), int(lengths.sum())
    budget = make_budget(replace(ASKED, epochs=epochs), HEADS[head], lengths, world, packs=HEADS[head].packs)
    assert budget.tokens is not None
    if every >= LEAST_STEPS * longest * world:
        assert make_plan(lengths, budget, 0).steps >= LEAST_STEPS * epochs
    else:
        assert budget.tokens <= longest * world


def test_the_size_of_a_step_is_as_it_is_given_or_as_the_head_has_it() -> None:
    head, many = HEADS["causal-language-model"], np.full(10_000, 200, dtype=np.int64)
    found = make_budget(ASKED, head, many, 1, packs=True)
    assert (found.tokens, found.micro_tokens) == (32_768, 8_192)
    asked = replace(ASKED, batch_tokens=4_096, micro_tokens=1_000)
    few, enough = (make_budget(asked, head, lengths, 1, packs=True) for lengths in (many[:10], many))
    assert few == enough
    assert (few.tokens, few.micro_tokens) == (4_000, 1_000)
    assert make_budget(ASKED, head, many[:100], 1, packs=True).tokens == 1_000


@given(lengths=LENGTHS, seeds=st.lists(st.integers(0, 2**40), min_size=2, max_size=2, unique=True))
@settings(max_examples=20)
def test_another_seed_is_another_order(lengths: Ints, seeds: list[int]) -> None:
    budget = Budget(1, examples=1)
    one, other = (make_plan(lengths, budget, seed).members.tolist() for seed in seeds)
    assert sorted(one) == sorted(other)
    assert one != other or len(one) < 8


@given(lengths=st.lists(st.integers(1, 100), max_size=300), capacity=st.integers(100, 160))
@settings(max_examples=150)
def test_bins_are_never_over_full(lengths: list[int], capacity: int) -> None:
    bins = best_fit_decreasing(np.array(lengths, dtype=np.int64), capacity)
    assert sorted(index for each in bins for index in each) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in each) <= capacity for each in bins)
    # two bins that are less than half full would have been one
    assert sum(sum(lengths[index] for index in each) * 2 <= capacity for each in bins) <= 1


def fewest_bins(lengths: list[int], capacity: int) -> int:
    """Return the fewest bins that lengths fit into, by looking at every subset."""
    sums = [0] * (1 << len(lengths))
    fewest = [0] * len(sums)
    for chosen in range(1, len(sums)):
        lowest = chosen & -chosen
        sums[chosen] = sums[chosen ^ lowest] + lengths[lowest.bit_length() - 1]
        part, best = chosen, len(lengths)
        while part:
            if part & lowest and sums[part] <= capacity:
                best = min(best, 1 + fewest[chosen ^ part])
            part = (part - 1) & chosen
        fewest[chosen] = best
    return fewest[-1]


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=9), capacity=st.integers(60, 100))
@settings(max_examples=40)
def test_bins_are_few(lengths: list[int], capacity: int) -> None:
    """At most 11/9 of the fewest and 6/9 more (Dósa 2007, for decreasing fits)."""
    found = len(best_fit_decreasing(np.array(lengths, dtype=np.int64), capacity))
    assert found <= 11 / 9 * fewest_bins(lengths, capacity) + 6 / 9


def test_an_example_that_fits_nowhere_is_said_so() -> None:
    lengths = np.array([5, 70], dtype=np.int64)
    for pack in (True, False):
        with pytest.raises(ValueError, match="70"):
            make_plan(lengths, Budget(1, tokens=64, micro_tokens=64, pack=pack), 0)
    with pytest.raises(ValueError, match="nothing to train on"):
        make_plan(lengths[:0], Budget(1, examples=2), 0)


@pytest.mark.parametrize(("median", "least"), [(60, 0.98), (110, 0.985), (250, 0.98)])
def test_little_is_filled_up(median: int, least: float) -> None:
    """Log-normal lengths, as instruction mixtures have them: see benchmarks/packing.py."""
    numbers = np.random.default_rng(0)
    lengths = np.clip(np.exp(numbers.normal(np.log(median), 0.8, 8192)).astype(np.int64), 4, 2048)
    bins = len(best_fit_decreasing(lengths, 8192))
    assert bins <= 11 / 9 * math.ceil(lengths.sum() / 8192) + 1
    plan = make_plan(lengths, Budget(1, tokens=8192, micro_tokens=8192, pack=True), 0)
    # the bins that are left over at the end of each window of examples are not full
    assert lengths.sum() / (len(plan) * plan.size) > least


def test_the_learning_rate_follows_from_what_is_trained() -> None:
    recipe = HEADS["causal-language-model"].recipe
    known, new = Settings(ModelName("some/model"), Path("out")), Settings(ModelName("scratch:tiny"), Path("out"))
    assert learning_rate(known, recipe) == recipe.learning_rate
    assert learning_rate(replace(known, lora=8), recipe) == pytest.approx(10 * recipe.learning_rate)
    assert learning_rate(new, recipe) == FROM_SCRATCH
    assert learning_rate(replace(known, lora=8, learning_rate=1e-6), recipe) == 1e-6

"""How many examples each task gives: the formulas in closed form, and a second, naive implementation."""

from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmix.catalog.loading import load_catalog
from taskmix.mixing.parts import Part
from taskmix.mixing.plan import Plan, make_plan
from taskmix.mixing.rates import Ration, Supply, rations
from tests.workers import WORKERS

Project = Callable[..., Path]

NUMBERS = st.lists(st.integers(1, 10**9), min_size=1, max_size=12)
WEIGHTS = st.sampled_from([0.03, 0.1, 0.2, 0.32, 0.4, 1.0, 2.0, 7.5])
TEMPERATURES = st.sampled_from([0.5, 1.0, 2.0, 3.0, 8.0])
LIMITS = st.one_of(st.none(), st.integers(1, 10**6))


@st.composite
def supplies(draw: st.DrawFn) -> list[Supply]:
    return [Supply(f"t{index}", n, draw(WEIGHTS)) for index, n in enumerate(draw(NUMBERS))]


def numbers(found: Sequence[Ration]) -> list[int]:
    return [each.examples for each in found]


def naively(given: Sequence[Supply], strategy: str, limit: int | None, temperature: float, size: int) -> list[int]:
    """Hand out whole parts, then one more to whoever is owed most, one at a time."""
    rates = []
    for supply in given:
        n = supply.examples if limit is None or supply.examples < limit else limit
        with localcontext(prec=40):
            root = Fraction(Decimal(n) ** (1 / Decimal(str(temperature)))) if temperature != 1 else Fraction(n)
        rates.append(Fraction(str(supply.weight)) * (1 if strategy == "equal" else root))
    owed = [size * rate / sum(rates) for rate in rates]
    got = [part.numerator // part.denominator for part in owed]
    while sum(got) < size:
        most = max(owed[index] - got[index] for index in range(len(got)))
        got[next(index for index in range(len(got)) if owed[index] - got[index] == most)] += 1
    return got


@given(given=supplies(), limit=LIMITS, temperature=TEMPERATURES)
def test_rates_are_those_of_the_formula(given: list[Supply], limit: int | None, temperature: float) -> None:
    found = rations(given, "proportional", limit, temperature, 1000)
    rates = [each.weight * min(each.examples, limit or each.examples) ** (1 / temperature) for each in given]
    assert [each.rate for each in found] == pytest.approx(rates, rel=1e-9)
    assert [each.share for each in found] == pytest.approx([rate / sum(rates) for rate in rates], rel=1e-9)


@given(given=supplies(), size=st.integers(1, 10**9))
def test_equal_rates_are_the_weights(given: list[Supply], size: int) -> None:
    found = rations(given, "equal", None, 1.0, size)
    total = sum(each.weight for each in given)
    assert [each.share for each in found] == pytest.approx([each.weight / total for each in given])


@given(
    given=supplies(),
    strategy=st.sampled_from(["proportional", "equal"]),
    limit=LIMITS,
    temperature=TEMPERATURES,
    size=st.integers(1, 10**7),
)
def test_examples_are_those_that_a_naive_division_hands_out(
    given: list[Supply], strategy: str, limit: int | None, temperature: float, size: int
) -> None:
    found = rations(given, strategy, limit, temperature, size)  # type: ignore[arg-type]
    assert numbers(found) == naively(given, strategy, limit, temperature, size)
    assert sum(numbers(found)) == size
    assert all(abs(each.examples - each.share * size) < 1 + 1e-6 for each in found)


@given(given=supplies(), more=st.integers(1, 10**6), size=st.integers(1, 10**6), temperature=TEMPERATURES)
def test_a_task_that_grows_gives_no_less(given: list[Supply], more: int, size: int, temperature: float) -> None:
    first = given[0]
    grown = [Supply(first.task, first.examples + more, first.weight), *given[1:]]
    before, after = (rations(each, "proportional", None, temperature, size) for each in (given, grown))
    assert after[0].examples >= before[0].examples


@given(given=supplies(), size=st.integers(1, 10**6), temperature=TEMPERATURES)
def test_a_task_of_a_higher_rate_gives_no_less(given: list[Supply], size: int, temperature: float) -> None:
    found = sorted(rations(given, "proportional", None, temperature, size), key=lambda each: each.rate)
    for low, high in pairwise(found):
        assert high.examples >= low.examples or high.rate == pytest.approx(low.rate, rel=1e-12)


@given(sizes=NUMBERS, factor=st.integers(2, 1000), size=st.integers(1, 10**6), temperature=TEMPERATURES)
def test_only_the_proportions_of_weights_matter(sizes: list[int], factor: int, size: int, temperature: float) -> None:
    given = [Supply("t", n, float(index + 1)) for index, n in enumerate(sizes)]
    scaled = [Supply("t", each.examples, each.weight * factor) for each in given]
    one, other = (rations(each, "proportional", None, temperature, size) for each in (given, scaled))
    assert numbers(one) == numbers(other)


@given(given=supplies())
def test_without_a_size_every_task_gives_what_it_has(given: list[Supply]) -> None:
    found = rations(given)
    assert numbers(found) == [each.examples for each in given]
    assert sum(each.share for each in found) == pytest.approx(1)


def test_equal_remainders_go_to_the_first_tasks() -> None:
    # 4/3 and 1/3 have one remainder, though no number of decimals shows it
    assert numbers(rations([Supply("a", 4), Supply("b", 1), Supply("c", 4)], size=3)) == [2, 0, 1]
    assert numbers(rations([Supply(name, 3) for name in "abcdefg"], size=16)) == [3, 3, 2, 2, 2, 2, 2]


@given(given=supplies(), means=st.lists(st.floats(1, 1000), min_size=12, max_size=12), budget=st.integers(1, 10**8))
def test_a_budget_in_tokens_is_divided_by_the_mean_length(given: list[Supply], means: list[float], budget: int) -> None:
    counted = [Supply(each.task, each.examples, each.weight, mean) for each, mean in zip(given, means, strict=False)]
    found = rations(counted, size=budget)
    for each, ration in zip(counted, found, strict=True):
        assert ration.examples == pytest.approx(ration.share * budget / (each.tokens or 1), abs=1 + 1e-6)
        assert ration.examples <= ration.share * budget / (each.tokens or 1) * (1 + 1e-9)
    assert sum(e.examples * (s.tokens or 0) for e, s in zip(found, counted, strict=True)) <= budget * (1 + 1e-9)


@pytest.mark.parametrize(
    ("sizes", "limit", "temperature", "expected"),
    [
        pytest.param((30_000, 3_000, 300), 3_000, 1.0, (476, 476, 48), id="FLAN 2021: a maximum rate of 3,000"),
        pytest.param((2**19, 2**15, 2**11), 2**17, 2.0, (615, 308, 77), id="T5: a limit, and the square root"),
        pytest.param((400, 100, 25), None, 2.0, (571, 286, 143), id="T5: temperature 2"),
        pytest.param((900_000, 100_000), 500_000, 1.0, (833, 167), id="T0: at most 500,000"),
    ],
)
def test_known_mixtures(sizes: Sequence[int], limit: int | None, temperature: float, expected: Sequence[int]) -> None:
    given = [Supply(f"t{index}", n) for index, n in enumerate(sizes)]
    assert numbers(rations(given, "proportional", limit, temperature, 1000)) == [*expected]


# From a catalog to parts

SIZES = {"a": 60, "b": 20, "c": 5}


def plan(project: Project, mixture: str) -> Plan:
    listed = "".join(
        f"  {name}:\n    kind: text-classification\n    cluster: c{name}\n"
        f"    source: {{path: data/{name}.jsonl}}\n    labels: [x, y]\n"
        for name in SIZES
    )
    text = f"version: 1\ntasks:\n{listed}mixtures:\n  m: {{{mixture}}}\ndefault_mixture: m\n"
    rows = {
        f"data/{name}.jsonl": "".join(f'{{"text": "{i}", "label": 1}}\n' for i in range(n)) for name, n in SIZES.items()
    }
    return make_plan(load_catalog(project(text, rows)), workers=WORKERS)


def times(part: Part) -> dict[int, int]:
    """Return how often each row of a part comes."""
    found: dict[int, int] = {}
    for turn in part.turns:
        for rows in turn.rows.chunks():
            for row in rows.tolist():
                found[row] = found.get(row, 0) + 1
    return found


@pytest.mark.parametrize(
    ("mixture", "expected"),
    [
        ('tasks: ["*"]', {"a": 60, "b": 20, "c": 5}),
        ('tasks: ["*"], sampling: {cap: 10}', {"a": 10, "b": 10, "c": 5}),
        ('tasks: ["*"], sampling: {passes: 3}', {"a": 180, "b": 60, "c": 15}),
        ('tasks: ["*"], sampling: {templates: 2}', {"a": 120, "b": 40, "c": 10}),
        ('tasks: ["*"], sampling: {templates: all}', {"a": 300, "b": 100, "c": 25}),
        ('tasks: ["*"], sampling: {templates: 99, cap: 10}', {"a": 50, "b": 50, "c": 25}),
        ('tasks: ["*"], sampling: {size: 170}', {"a": 120, "b": 40, "c": 10}),
        ('tasks: ["*"], sampling: {size: 300, strategy: equal}', {"a": 100, "b": 100, "c": 100}),
        ('tasks: ["*"], sampling: {size: 90, max_rate: 20}', {"a": 40, "b": 40, "c": 10}),
        ('tasks: ["*"], sampling: {size: 90, max_rate: 20, cap: 10}', {"a": 36, "b": 36, "c": 18}),
        ('tasks: ["*"], sampling: {size: 120, temperature: 2}', {"a": 64, "b": 37, "c": 19}),
        ('tasks: [{"*": 1.0}, {"cluster:cc": 12.0}], sampling: {size: 140}', {"a": 60, "b": 20, "c": 60}),
        ('tasks: [{"c*": 3.0}, "a", {b: 0.5}, c], sampling: {size: 85}', {"a": 60, "b": 10, "c": 15}),
        # a later entry says the weight anew, whichever is the closer one
        ('tasks: [{c: 12.0}, {"*": 1.0}], sampling: {size: 85}', {"a": 60, "b": 20, "c": 5}),
        ('tasks: ["*"], sampling: {size: 2}', {"a": 1, "b": 1}),
    ],
)
def test_a_mixture_gives_what_its_rates_say(mixture: str, expected: dict[str, int], project: Project) -> None:
    assert {part.task.name: len(part) for part in plan(project, mixture).parts_of("train")} == expected


@pytest.mark.parametrize("templates", ["1", "2", "3", "all"])
@pytest.mark.parametrize("size", [7, 59, 85, 211, 850])
def test_rows_come_in_whole_epochs_and_a_remainder(size: int, templates: str, project: Project) -> None:
    made = plan(project, f'tasks: ["*"], sampling: {{size: {size}, templates: {templates}, strategy: equal}}')
    for part in made.parts_of("train"):
        whole, rest = divmod(len(part), SIZES[part.task.name])
        often = sorted(times(part).values(), reverse=True)
        assert often == [whole + 1] * rest + [whole] * ((SIZES[part.task.name] - rest) if whole else 0)


@pytest.mark.parametrize("small", [1, 40, 61, 130])
def test_a_larger_size_keeps_the_examples_of_a_smaller_one(small: int, project: Project) -> None:
    few, many = (
        {(turn.slot, row) for turn in part.turns for rows in turn.rows.chunks() for row in rows.tolist()}
        for size in (small, 131)
        for part in plan(project, f"tasks: [a], sampling: {{size: {size}, templates: 2}}").parts_of("train")
    )
    assert len(few) == small
    assert few <= many

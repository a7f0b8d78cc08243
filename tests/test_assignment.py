"""Which template and style an example has: by its row and slot alone, in turn, and in the shares that are asked for."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmix.catalog.models import FewShotSpec, StylesSpec
from taskmix.mixing.assignment import PLAIN, Drawn, EveryTemplate, drawn, style_name, variant
from taskmix.templates.files import Template, read_templates

STYLES = (PLAIN, "chain-of-thought", "inverted")
SHARES = st.sampled_from([0.0, 0.1, 1 / 3, 0.5])


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Template]]:
    """Five templates of each style."""
    lines = [
        f"- {{name: {style}-{index}, instruction: x, output: y{'' if style == PLAIN else f', style: {style}'}}}\n"
        for style in STYLES
        for index in range(5)
    ]
    path = tmp_path_factory.mktemp("templates") / "t.yaml"
    path.write_text("".join(lines))
    templates = read_templates(path)
    return {style: [each for each in templates if each.style == style] for style in STYLES}


def some(pool: dict[str, list[Template]], numbers: tuple[int, int, int]) -> list[Template]:
    return [each for style, number in zip(STYLES, numbers, strict=True) for each in pool[style][:number]]


def assigned(assignment: Drawn, rows: int, slots: int) -> pl.DataFrame:
    numbers = np.arange(rows, dtype=np.uint64)
    return pl.concat(assignment(numbers, slot) for slot in range(slots))


def assign(
    templates: list[Template], styles: StylesSpec, shown: int = 60, optional: bool = True, seed: int = 0
) -> Drawn:
    size = len(templates)
    return drawn((seed, "t", "train"), templates, styles, [optional] * size, [shown] * size, 9)


NUMBERS = st.tuples(st.integers(1, 5), st.integers(0, 5), st.integers(0, 5))


@given(numbers=NUMBERS, thought=SHARES, inverted=SHARES, seed=st.integers(0, 99))
def test_no_template_comes_again_before_all_of_its_style_have_come(
    pool: dict[str, list[Template]], numbers: tuple[int, int, int], thought: float, inverted: float, seed: int
) -> None:
    templates = some(pool, numbers)
    found = assigned(assign(templates, StylesSpec(chain_of_thought=thought, inverted=inverted), seed=seed), 20, 17)
    for _, row in found.sort("slot").group_by("source_row"):
        chosen = [templates[index] for index in row["template"]]
        for style, size in zip(STYLES, numbers, strict=True):
            names = [each.name for each in chosen if each.style == style]
            assert all(len({*names[at : at + size]}) == len(names[at : at + size]) for at in range(len(names)))


@given(numbers=NUMBERS, thought=SHARES, inverted=SHARES, slots=st.integers(1, 40))
def test_each_row_comes_in_a_style_as_often_as_its_share_says(
    pool: dict[str, list[Template]], numbers: tuple[int, int, int], thought: float, inverted: float, slots: int
) -> None:
    templates = some(pool, numbers)
    found = assigned(assign(templates, StylesSpec(chain_of_thought=thought, inverted=inverted)), 20, slots)
    style = found["template"].replace_strict(range(len(templates)), [each.style for each in templates])
    for _, row in found.with_columns(style=style).group_by("source_row"):
        for name, share, size in (("chain-of-thought", thought, numbers[1]), ("inverted", inverted, numbers[2])):
            assert abs(row["style"].to_list().count(name) - (share if size else 0) * slots) < 2


@pytest.mark.parametrize(("thought", "inverted"), [(0.5, 0.1), (0.7, 0.3), (1.0, 0.0), (0.0, 0.25)])
@pytest.mark.parametrize("slot", [0, 1, 6])
def test_the_share_of_a_style_holds_in_every_slot(
    pool: dict[str, list[Template]], thought: float, inverted: float, slot: int
) -> None:
    templates = some(pool, (3, 2, 2))
    assignment = assign(templates, StylesSpec(chain_of_thought=thought, inverted=inverted))
    found = assignment(np.arange(40_000, dtype=np.uint64), slot)["template"].value_counts().rows()
    shares = dict.fromkeys(STYLES, 0.0)
    for index, number in found:
        shares[templates[index].style] += number / 40_000
    wanted = {PLAIN: 1 - thought - inverted, "chain-of-thought": thought, "inverted": inverted}
    assert shares == pytest.approx(wanted, abs=0.01)


@given(
    rows=st.lists(st.integers(0, 2**40), min_size=1, max_size=30, unique=True),
    cut=st.integers(0, 30),
    slot=st.integers(0, 50),
)
def test_what_an_example_is_depends_on_nothing_but_its_row_and_slot(
    pool: dict[str, list[Template]], rows: list[int], cut: int, slot: int
) -> None:
    styles = StylesSpec(chain_of_thought=0.3, inverted=0.2, few_shot=FewShotSpec(share=0.5), options=0.5)
    assignment, numbers = assign(some(pool, (4, 2, 1)), styles), np.array(rows, np.uint64)
    whole = assignment(numbers, slot)
    assert pl.concat([assignment(numbers[:cut], slot), assignment(numbers[cut:], slot)]).equals(whole)
    assert assignment(numbers[::-1].copy(), slot).equals(whole.reverse())


@given(k=st.tuples(st.integers(1, 32), st.integers(1, 32)), shown=st.lists(st.integers(0, 60), min_size=3, max_size=3))
def test_worked_examples_are_as_many_as_are_asked_for_and_as_there_are(
    pool: dict[str, list[Template]], k: tuple[int, int], shown: list[int]
) -> None:
    least, most = sorted(k)
    styles = StylesSpec(few_shot=FewShotSpec(share=1.0, k=[least, most]))
    found = assigned(drawn((0,), some(pool, (3, 0, 0)), styles, [True] * 3, shown, 2), 400, 2)
    for template, there_are in enumerate(shown):
        counts = set(found.filter(pl.col("template") == template)["shots"])
        assert counts <= (set(range(least, min(most, there_are) + 1)) if there_are >= least else {0})
        assert there_are < least or min(most, there_are) - least > 8 or len(counts) == min(most, there_are) - least + 1


def test_wrappers_fall_on_their_shares_of_any_template_independently(pool: dict[str, list[Template]]) -> None:
    styles = StylesSpec(few_shot=FewShotSpec(share=0.5), options=0.3)
    found = assigned(assign(some(pool, (3, 0, 0)), styles), 20_000, 2)
    for _, part in found.group_by("template", "slot"):
        counted = part.select(variant()).to_series().value_counts(normalize=True).rows()
        assert dict(counted) == pytest.approx({0: 0.35, 1: 0.35, 2: 0.15, 3: 0.15}, abs=0.025)


def test_options_follow_only_templates_that_take_them(pool: dict[str, list[Template]]) -> None:
    styles = StylesSpec(options=1.0)
    found = assigned(drawn((0,), some(pool, (3, 0, 0)), styles, [True, False, True], [0] * 3, 1), 300, 1)
    assert found.filter(pl.col("options"))["template"].unique().sort().to_list() == [0, 2]
    assert found.filter(~pl.col("options"))["template"].unique().to_list() == [1]


def test_an_evaluation_has_every_template_after_its_number_of_worked_examples() -> None:
    found = pl.concat(EveryTemplate((2, 0))(np.arange(3, dtype=np.uint64), slot) for slot in range(2))
    assert found["template"].to_list() == [0, 0, 0, 1, 1, 1]
    assert found["shots"].to_list() == [2, 2, 2, 0, 0, 0]
    assert found["slot"].to_list() == [0] * 6


@pytest.mark.parametrize(
    ("style", "wrapped", "name"),
    [
        (PLAIN, 0, "zero-shot"),
        (PLAIN, 1, "few-shot"),
        (PLAIN, 2, "options"),
        (PLAIN, 3, "few-shot+options"),
        ("chain-of-thought", 1, "chain-of-thought+few-shot"),
        ("inverted", 0, "inverted"),
        ("inverted", 3, "few-shot+inverted+options"),
    ],
)
def test_the_name_of_a_style_is_its_words_in_order(style: str, wrapped: int, name: str) -> None:
    assert style_name(style, wrapped) == name

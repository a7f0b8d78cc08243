"""The number that a text ends on."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmix_trainer.evaluation.numbers import equal, final_number, number_scores


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("She pays 18 dollars.", 18),
        ("18.", 18),
        ("It costs $1,234.50 in all.", Fraction("1234.5")),
        ("-$5", -5),
        ("$-5", -5),
        ("−7", -7),
        ("(-3)", -3),
        ("x=-3", -3),
        ("5-3", 3),
        ("a range of 3-4", 4),
        ("2 - 6", 6),
        ("2 -6", -6),
        ("covid-19", 19),
        ("50%", 50),
        ("10\\%", 10),
        ("\\$18", 18),
        ("€ 20", 20),
        (".5", Fraction(1, 2)),
        ("-.5", Fraction(-1, 2)),
        ("3/4", Fraction(3, 4)),
        ("3 / 4 of it", Fraction(3, 4)),
        ("-3/4", Fraction(-3, 4)),
        ("1 1/2 cups", Fraction(3, 2)),
        ("-1 1/2", Fraction(-3, 2)),
        ("\\frac{3}{4}", Fraction(3, 4)),
        ("-\\dfrac{3}{4}", Fraction(-3, 4)),
        ("1e3", 1000),
        ("2.5E-1", Fraction(1, 4)),
        ("#### 18", 18),
        ("9 - 8 = 1\n#### 1,000 (of 7 days)", 7),
        ("12 #### no idea", 12),
        ("so \\boxed{\\frac{1}{2}}, which took 3 steps", Fraction(1, 2)),
        ("\\boxed{x}, that is 3", 3),
        ("1, 2, 3", 3),
        ("1,2,3", 3),
        ("**42**", 42),
        ("1/0", None),
        ("eighteen", None),
        ("½", None),
        ("", None),
        (None, None),
        ("1e99999999999", None),
        ("9" * 5000, None),
    ],
)
def test_a_text_ends_on(text: str | None, expected: int | Fraction | None) -> None:
    assert final_number(text) == expected


@given(
    number=st.decimals(-(10**9), 10**9, places=3),
    before=st.text(st.characters(exclude_categories=["Nd"]), max_size=20),
    after=st.sampled_from(["", ".", " dollars", "%", "!", ")", " apples.\n"]),
    grouped=st.booleans(),
)
def test_any_number_is_found_wherever_it_stands(number: object, before: str, after: str, grouped: bool) -> None:
    digits = f"{number:,}" if grouped else f"{number}"
    assert final_number(f"{before} {digits}{after}") == Fraction(str(number))


@given(text=st.text("0123456789.,-/ $%e#\\{}frac", max_size=60))
def test_no_text_is_too_odd(text: str) -> None:
    final_number(text)


@pytest.mark.parametrize("text", ["1" * 50_000, "1 " * 50_000, "1" + " " * 50_000, "1," * 50_000, "\\boxed{" * 9_000])
def test_no_text_takes_long(text: str) -> None:
    final_number(text)


def test_numbers_are_equal_by_value() -> None:
    assert equal("The answer is 0.50.", "#### 1/2") == 1
    assert equal("3.3333333", "10/3") == 1
    assert equal("3.33", "10/3") == 0
    assert equal("0", "0.0") == 1
    assert equal("none", "0") == 0


def test_a_reference_without_a_number_is_compared_as_text() -> None:
    assert equal("B.", "b") == 1
    assert equal("C", "b") == 0
    assert equal(None, "b") == 0


def test_any_reference_will_do() -> None:
    assert number_scores(["5", None, "7"], [["4", "5"], ["1"], ["8"]]).value == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="example 0 has no reference"):
        number_scores(["5"], [[]])

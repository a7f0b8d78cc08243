"""How many examples each task gives.

The rate of a task is (Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 3.5.2; Wei et al. 2021,
"Finetuned Language Models Are Zero-Shot Learners", section 2)

    rate = weight * min(n, K) ** (1 / T)        proportional to the n examples that there are
    rate = weight                               equal

with a largest number K (`max_rate`) and a temperature T, and of a given number of examples each task gets the part
that its rate is of all rates. Roots are taken in decimal arithmetic, which is the same on every machine; all else is
in fractions, so that equal remainders are equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Literal

_DIGITS = 40


@dataclass(frozen=True)
class Supply:
    """What a task has: examples in one pass over its rows (after its cap), and what the mixture says of it.

    `tokens` is the mean number of tokens of an example, where the budget is in tokens.
    """

    task: str
    examples: int
    weight: float = 1.0
    tokens: float | None = None


@dataclass(frozen=True)
class Ration:
    """What a task gives: its rate, its share of all (of tokens, where the budget is in tokens), and the examples."""

    rate: float
    share: float
    examples: int


def rations(
    supplies: Sequence[Supply],
    strategy: Literal["proportional", "equal"] = "proportional",
    max_rate: int | None = None,
    temperature: float = 1.0,
    size: int | None = None,
) -> list[Ration]:
    """Return what each task gives of `size` examples or tokens; without a size, all that it has, once.

    Examples are whole: what rounding down leaves goes to the tasks with the largest remainders, then the first in
    order, so that they add up to `size`. A budget in tokens is rounded for each task instead.
    """
    rates = [_rate(supply, strategy, max_rate, temperature) for supply in supplies]
    total = sum(rates, Fraction())
    if size is None:
        given = [supply.examples for supply in supplies]
        return [Ration(float(rate), n / max(1, sum(given)), n) for rate, n in zip(rates, given, strict=True)]
    parts = [size * rate / total for rate in rates]
    if any(supply.tokens for supply in supplies):
        examples = [int(part / Fraction(supply.tokens or 1)) for part, supply in zip(parts, supplies, strict=True)]
    else:
        examples = _whole(parts, size)
    return [Ration(float(rate), float(rate / total), number) for rate, number in zip(rates, examples, strict=True)]


def _rate(supply: Supply, strategy: str, max_rate: int | None, temperature: float) -> Fraction:
    # the shortest decimal that is the number: 0.1 is a tenth
    weight = Fraction(str(supply.weight))
    if strategy == "equal":
        return weight
    bounded = min(supply.examples, max_rate) if max_rate is not None else supply.examples
    if temperature == 1:
        return weight * bounded
    with localcontext(prec=_DIGITS):
        return weight * Fraction(Decimal(bounded) ** (1 / Decimal(str(temperature))))


def _whole(parts: Sequence[Fraction], size: int) -> list[int]:
    """Return whole numbers near the parts that add up to `size`: the largest remainders are rounded up."""
    whole = [int(part) for part in parts]
    by_rest = sorted(range(len(parts)), key=lambda index: (whole[index] - parts[index], index))
    for index in by_rest[: size - sum(whole)]:
        whole[index] += 1
    return whole

"""The number that a text ends on: how answers to maths problems are compared.

The rule, in this order: what follows the last `####` (GSM8K's mark) or stands in the last `\\boxed{…}` (MATH's), if
there is a number in it; else the last number of the text. Numbers may have signs (`-` or `−`), thousands commas
(1,234.5), exponents, currency signs and `%`: the last two are units and change nothing, so that 50% is 50. Fractions
are values: 3/4, `\\frac{3}{4}`, and 1 1/2. A `-` between two numbers is no sign: 5-3 ends on 3. Words are no numbers.
"""

import re
from collections import deque
from collections.abc import Sequence
from fractions import Fraction

from taskmix_trainer.evaluation.measures import Measure, mean_of
from taskmix_trainer.evaluation.texts import best, same

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_NUMBER = rf"(?:{_DIGITS}(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![0-9])"
_SIGN = r"(?P<sign>(?<![\w)\]}.])[-−+])?"
_CURRENCY = r"(?:\\?[$€£¥₹]\s?(?P<late>[-−](?=[0-9.]))?)?"
_VALUE = re.compile(
    rf"{_SIGN}{_CURRENCY}(?:"
    rf"\\[dt]?frac\s?\{{\s?(?P<top>{_NUMBER})\s?\}}\s?\{{\s?(?P<bottom>{_NUMBER})\s?\}}"
    rf"|(?P<whole>{_DIGITS})\s+(?P<part>[0-9]+)\s?/\s?(?P<parts>[0-9]+)"
    rf"|(?P<above>{_NUMBER})\s?/\s?(?P<below>{_NUMBER})"
    rf"|(?P<number>{_NUMBER}))"
)
_BOXED = re.compile(r"\\boxed\s?\{((?:[^{}]|\{[^{}]*\})*)\}")
_LONGEST = 300
_TOLERANCE = Fraction(1, 10**6)


def final_number(text: str | None) -> Fraction | None:
    """Return the number that a text ends on, exactly; None if it has none.

    >>> final_number("So she pays $1,234.50 in all.")
    Fraction(2469, 2)
    >>> final_number("5 - 8 = -3, hence #### -3")
    Fraction(-3, 1)
    """
    if not text:
        return None
    if "####" in text and (found := _last(text.rpartition("####")[2])) is not None:
        return found
    if (boxes := _BOXED.findall(text)) and (found := _last(boxes[-1])) is not None:
        return found
    return _last(text)


def equal(prediction: str | None, reference: str) -> float:
    """Return 1 if both end on the same number, to one part in a million, else 0.

    A reference without a number, such as an option's letter, is compared as text (`texts.same`).
    """
    guess, right = final_number(prediction), final_number(reference)
    if right is None:
        return same(prediction or "", reference)
    if guess is None:
        return 0.0
    return float(guess == right or abs(guess - right) <= _TOLERANCE * abs(right))


def number_scores(predictions: Sequence[str | None], references: Sequence[Sequence[str]]) -> Measure:
    """Return the share of examples that end on the number of a reference.

    Raises:
        ValueError: lengths differ, or an example has no reference.
    """
    return mean_of("final_number", best(equal, predictions, references))


def _last(text: str) -> Fraction | None:
    matches = deque(_VALUE.finditer(text), maxlen=1)
    if not matches:
        return None
    part = matches[0].groupdict()
    if part["top"] is not None:
        value = _divided(part["top"], part["bottom"])
    elif part["whole"] is not None:
        rest = _divided(part["part"], part["parts"])
        whole = _parsed(part["whole"])
        value = None if rest is None or whole is None else whole + rest
    elif part["above"] is not None:
        value = _divided(part["above"], part["below"])
    else:
        value = _parsed(part["number"])
    negative = part["sign"] in ("-", "−") or part["late"] is not None
    return -value if value is not None and negative else value


def _divided(above: str, below: str) -> Fraction | None:
    top, bottom = _parsed(above), _parsed(below)
    return top / bottom if top is not None and bottom else None


def _parsed(digits: str) -> Fraction | None:
    """Return the value of a number as it is written, or None if it is absurdly long or large."""
    mantissa, _, exponent = digits.replace(",", "").lower().partition("e")
    if len(mantissa) > _LONGEST or len(exponent) > 4 or abs(int(exponent or 0)) > _LONGEST:
        return None
    return Fraction(f"{mantissa}e{exponent or 0}")

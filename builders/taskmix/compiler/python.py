"""The only Python that runs inside an expression: printing floats, and case where it is not ASCII.

Each takes a whole column and works on the values that Polars would treat differently; the rest it leaves to Polars.
"""

from collections.abc import Callable

import polars as pl
from jinja2.filters import do_title


def _by_rows(
    name: str, native: Callable[[pl.Expr], pl.Expr], python: Callable[[str], str]
) -> Callable[[pl.Series], pl.Series]:
    """Return a function on text columns: Polars' where all is ASCII, Python's on what is not."""

    def apply(texts: pl.Series) -> pl.Series:
        frame = texts.to_frame("text")
        found = frame.select(native(pl.col("text"))).to_series()
        rest = (texts.str.len_bytes() != texts.str.len_chars()).fill_null(False)
        if rest.any():
            at = rest.arg_true()
            found = found.scatter(at, pl.Series([python(each) for each in texts.gather(at)], dtype=pl.String))
        return found

    apply.__name__ = name
    return apply


def _capitalize(text: pl.Expr) -> pl.Expr:
    return pl.concat_str(text.str.head(1).str.to_uppercase(), text.str.slice(1).str.to_lowercase())


lower = _by_rows("lower", lambda text: text.str.to_lowercase(), str.lower)
upper = _by_rows("upper", lambda text: text.str.to_uppercase(), str.upper)
capitalize = _by_rows("capitalize", _capitalize, str.capitalize)


def title(texts: pl.Series) -> pl.Series:
    """Return what `str.title` gives, by Python alone: what a word is has no rule in Polars."""
    return pl.Series(texts.name, [None if each is None else each.title() for each in texts], dtype=pl.String)


def headline(texts: pl.Series) -> pl.Series:
    """Return what the filter `title` gives, by Jinja's own rule of words."""
    return pl.Series(texts.name, [None if each is None else do_title(each) for each in texts], dtype=pl.String)


def float_text(numbers: pl.Series) -> pl.Series:
    """Return the shortest text that reads back as the number, as Python prints it."""
    size = numbers.abs()
    same = ((size >= 1e-4) & (size < 1e16)) | (size == 0)
    found = numbers.cast(pl.String)
    rest = (~same).fill_null(False) | numbers.is_nan().fill_null(False)
    if rest.any():
        at = rest.arg_true()
        found = found.scatter(at, pl.Series([repr(each) for each in numbers.gather(at)], dtype=pl.String))
    return found


FUNCTIONS = (lower, upper, capitalize, title, headline, float_text)


def call(function: Callable[[pl.Series], pl.Series], argument: pl.Expr) -> pl.Expr:
    """Return the expression that applies one of `FUNCTIONS`, each of which gives text."""
    assert function in FUNCTIONS, function
    return argument.map_batches(function, return_dtype=pl.String, is_elementwise=True)

"""The columns that frames of rows carry from one room to the next."""

import polars as pl

SOURCE_ROW = "source_row"
"""The row's number in its source split, from 0, before any cut or filter (UInt64)."""

DRAW = "draw"
"""A hash of the row and the template, from which a template's `choice` follows (UInt64)."""


def span(numbers: pl.Series, first: int, end: int) -> slice:
    """Return where ascending row numbers are at least `first` and below `end`."""
    low, high = numbers.search_sorted(pl.Series([first, end], dtype=numbers.dtype), "left")
    return slice(low, high)

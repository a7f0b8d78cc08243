"""Rows as they are: nothing is canonical, and templates name the source's own columns."""

from collections.abc import Collection

import polars as pl

from taskmix.kinds.base import Kind, View


def canonical(frame: pl.DataFrame, view: View, names: Collection[str]) -> pl.DataFrame:
    """Return the columns as they are."""
    return frame


KIND = Kind(
    name="table",
    columns={},
    inputs=(),
    variables={},
    metric="exact match",
    head="none",
    canonical=canonical,
    fallback=lambda view: None,
    by_word=True,
)

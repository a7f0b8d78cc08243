"""The importer of promptsource: its whole pool, and every template against promptsource's own way of rendering."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pytest

from taskmix import hashing
from taskmix.errors import TemplateError
from taskmix.frames import DRAW, SOURCE_ROW
from taskmix.importers.pieces import PieceError
from taskmix.templates.files import Template
from taskmix.templates.render import render
from tests.pool import POOL, PoolTemplate, pool_templates, random_rows, real_rows, seed_of
from tests.promptsource_oracle import Oracle
from tests.workers import WORKERS

EVERY = int(os.environ.get("TASKMIX_TEST_POOL_EVERY", "9"))
"""Of the pool's templates every so many are tested; 1 for all."""
ROWS = int(os.environ.get("TASKMIX_TEST_POOL_ROWS", "6"))

needs_pool = pytest.mark.skipif(not POOL.is_dir(), reason=f"no promptsource templates in {POOL}")


def sampled() -> list[PoolTemplate]:
    return list(pool_templates()[:: max(1, EVERY)]) if POOL.is_dir() else []


def outcomes(template: Template, frame: pl.DataFrame) -> list[tuple[str, str] | str | None]:
    """What taskmix makes of each row: its parts, None where it is dropped, or the error."""
    found: list[tuple[str, str] | str | None] = []
    for index in range(len(frame)):
        try:
            row = render(frame[index], template, "t", None, WORKERS).row(0, named=True)
            found.append(None if row["output"] is None else (row["instruction"], row["output"]))
        except TemplateError as error:
            found.append(f"error: {error.message}")
    return found


def expected(
    oracle: Oracle, rows: Sequence[Mapping[str, Any]], draws: Sequence[int]
) -> list[tuple[str, str] | str | None]:
    found: list[tuple[str, str] | str | None] = []
    for row, draw in zip(rows, draws, strict=True):
        try:
            found.append(oracle.render(row, draw))
        except Exception as error:
            found.append(f"error: {error}")
    return found


def differences(each: PoolTemplate, columns: pl.DataFrame) -> list[str]:
    """Where taskmix's text of some rows differs from promptsource's. Errors are equal, whatever they say."""
    template, entry = each.template(), each.entry()
    numbers = pl.Series(SOURCE_ROW, range(len(columns)), dtype=pl.UInt64)
    draws = pl.Series(DRAW, [hashing.draw(7, row) for row in numbers], dtype=pl.UInt64)
    frame = columns.with_columns(numbers, draws)
    if each.clash and "choices" in frame.columns:
        frame = frame.with_columns(raw_choices=pl.col("choices"))
    got = outcomes(template, frame)
    rows = columns.rows(named=True)
    want = expected(Oracle(each.original, entry), rows, draws.to_list())
    return [
        f"{each.id}: row {row}\n  taskmix      {ours}\n  promptsource {theirs}"
        for row, ours, theirs in zip(rows, got, want, strict=True)
        if ours != theirs and not (str(ours).startswith("error: ") and str(theirs).startswith("error: "))
    ]


@needs_pool
@pytest.mark.parametrize("each", sampled(), ids=lambda each: each.id)
def test_an_imported_template_renders_what_promptsource_renders(each: PoolTemplate) -> None:
    try:
        each.template()
    except (PieceError, TemplateError) as error:
        pytest.skip(f"refused: {error}")
    if each.schema is not None:
        assert differences(each, random_rows(each.schema, ROWS, seed_of(each.id))) == []
    real = real_rows(each.dataset, each.subset, ROWS)
    if real is not None:
        assert differences(each, real) == []

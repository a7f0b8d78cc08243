"""The importer of promptsource: its whole pool, and every template against promptsource's own way of rendering."""

import os
from collections.abc import Sequence

import polars as pl
import pytest

from taskmix.errors import TemplateError
from taskmix.frames import DRAW
from taskmix.importers.pieces import PieceError
from taskmix.rendering import render
from taskmix.templates.files import Template
from tests.pool import POOL, PoolTemplate, pool_templates
from tests.promptsource_oracle import Oracle, Outcome, same
from tests.workers import WORKERS

EVERY = int(os.environ.get("TASKMIX_TEST_POOL_EVERY", "9"))
"""Of the pool's templates every so many are tested; 1 for all."""
ROWS = int(os.environ.get("TASKMIX_TEST_POOL_ROWS", "6"))

needs_pool = pytest.mark.skipif(not POOL.is_dir(), reason=f"no promptsource templates in {POOL}")


def sampled() -> list[PoolTemplate]:
    return list(pool_templates()[:: max(1, EVERY)]) if POOL.is_dir() else []


def row_by_row(template: Template, frame: pl.DataFrame) -> list[Outcome]:
    """What Jinja makes of each row in taskmix's sandbox."""
    found: list[Outcome] = []
    for index in range(len(frame)):
        try:
            found += _parts(WORKERS.render(frame[index], template, "t"))
        except TemplateError as error:
            found.append(f"error: {error.message}")
    return found


def together(template: Template, frame: pl.DataFrame, failing: Sequence[int]) -> list[Outcome]:
    """What a build makes of all rows at once, but for those that fail."""
    kept = frame.with_row_index("row").filter(~pl.col("row").is_in(failing)).drop("row")
    made = iter(_parts(render(kept, template, "t", None, WORKERS).rows))
    return ["error: " if row in failing else next(made) for row in range(len(frame))]


def _parts(rendered: pl.DataFrame) -> list[Outcome]:
    return [None if row["output"] is None else (row["instruction"], row["output"]) for row in rendered.rows(named=True)]


def differences(each: PoolTemplate, columns: pl.DataFrame) -> list[str]:
    """Where taskmix's text of some rows differs from promptsource's. Errors are equal, whatever they say."""
    template, frame = each.template(), each.frame(columns)
    got = row_by_row(template, frame)
    failing = [row for row, outcome in enumerate(got) if isinstance(outcome, str)]
    built = together(template, frame, failing)
    oracle = Oracle(each.original, each.entry())
    rows = columns.rows(named=True)
    want = [oracle.outcome(row, draw) for row, draw in zip(rows, frame[DRAW], strict=True)]
    return [
        f"{each.id}: row {row}\n  row by row   {ours}\n  in a build   {compiled}\n  promptsource {theirs}"
        for row, ours, compiled, theirs in zip(rows, got, built, want, strict=True)
        if not (same(ours, theirs) and same(compiled, theirs))
    ]


@needs_pool
@pytest.mark.parametrize("each", sampled(), ids=lambda each: each.id)
def test_an_imported_template_renders_what_promptsource_renders(each: PoolTemplate) -> None:
    try:
        each.template()
    except (PieceError, TemplateError) as error:
        pytest.skip(f"refused: {error}")
    for columns in (each.random_rows(ROWS), each.real_rows(ROWS)):
        assert columns is None or differences(each, columns) == []

"""The rendering engine: rows and a template in, a frame of rendered text out.

A template that compiles runs as Polars expressions. Jinja, row by row, renders the others, and those rows of a compiled
one that only Jinja can settle: where it would raise, and where a null has a meaning that was not foreseen.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from taskmix.compiler.templates import RowWise, Vectorised, compile_template
from taskmix.frames import DRAW
from taskmix.templates.files import Template
from taskmix.templates.render import Alternatives
from taskmix.templates.render import render as render_rows


@dataclass(frozen=True)
class Rendered:
    """What was rendered; and how many of the rows were handed back to Jinja by a compiled template."""

    rows: pl.DataFrame
    handed_back: int


def render(rows: pl.DataFrame, template: Template, task: str, alternatives: Alternatives | None = None) -> Rendered:
    """Render a template on every row, in order."""
    compiled = compiled_for(template, rows.schema, alternatives)
    if isinstance(compiled, RowWise):
        return Rendered(render_rows(rows, template, task, alternatives), 0)
    done = compiled.run(rows)
    settled = done["known"] & _full(done, template)
    if settled.all():
        return Rendered(_dropping(done.drop("known"), template), 0)
    rest = render_rows(rows.filter(~settled), template, task, alternatives)
    order = pl.concat([settled.arg_true(), (~settled).arg_true()]).arg_sort()
    whole = pl.concat(
        [_dropping(done.filter(settled).drop("known"), template), rest.select(done.drop("known").columns)]
    )
    return Rendered(whole[order], len(rest))


def _full(done: pl.DataFrame, template: Template) -> pl.Series:
    """Return which rows have text where they need it; for the others Jinja's renderer finds the error."""
    if template.drops_empty:
        return pl.Series([True]).new_from_index(0, len(done))
    blank = (pl.col(name).str.strip_chars() == "" for name in ("instruction", "input"))
    return done.select((pl.col("output").str.strip_chars() != "") & ~pl.all_horizontal(*blank)).to_series()


def _dropping(done: pl.DataFrame, template: Template) -> pl.DataFrame:
    """Return the rows, those null that the template drops for being empty."""
    if not template.drops_empty:
        return done
    empty = (pl.col("output") == "") | ((pl.col("instruction") == "") & (pl.col("input") == ""))
    return done.with_columns(pl.when(~empty).then(pl.all()).name.keep())


def compiled_for(
    template: Template, schema: Mapping[str, pl.DataType], alternatives: Alternatives | None
) -> Vectorised | RowWise:
    """Return the compiled form of a template for rows with these columns, compiled once."""
    key = (str(template.file), template.line, template.spec.model_dump_json())
    return _compiled(_Keyed(key, template), tuple(sorted(schema.items())), alternatives)


@dataclass(frozen=True, eq=False)
class _Keyed:
    """A template that is known by what its file says of it."""

    key: tuple[object, ...]
    template: Template

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and self.key == other.key


@functools.lru_cache(maxsize=4096)
def _compiled(
    keyed: _Keyed, schema: tuple[tuple[str, pl.DataType], ...], alternatives: Alternatives | None
) -> Vectorised | RowWise:
    return compile_template(keyed.template, dict(schema), alternatives)


__all__ = ["DRAW", "Rendered", "compiled_for", "render"]

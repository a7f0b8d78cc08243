"""The rendering engine: rows and a template in, a frame of rendered text out.

A template that compiles runs as Polars expressions. Jinja, row by row, renders the others, and those rows of a compiled
one that only Jinja can settle: where it would raise, and where a null has a meaning that was not foreseen.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from taskmix.compiler.rules import WHITESPACE
from taskmix.compiler.templates import NO_FACTS, RowWise, Vectorised, compile_template
from taskmix.compiler.translator import Facts
from taskmix.templates.files import Template
from taskmix.templates.rows import Alternatives
from taskmix.templates.rowwise import RENDERED, Workers


@dataclass(frozen=True)
class Rendered:
    """What was rendered of every row, in order.

    `handed_back`: how many of the rows a compiled template left to Jinja. `row_wise`: why Jinja rendered all.
    """

    rows: pl.DataFrame
    handed_back: int = 0
    row_wise: RowWise | None = None


def render(
    rows: pl.DataFrame,
    template: Template,
    task: str,
    alternatives: Alternatives | None,
    workers: Workers,
    facts: Facts = NO_FACTS,
) -> Rendered:
    """Render a template on every row, in order.

    Args:
        rows: the template's variables, with `source_row` and `draw` (UInt64, from which `choice` follows).
        template: what to render.
        task: the task's name, for messages.
        alternatives: also render the output for each label or accepted answer.
        workers: the processes that run what Jinja has to.
        facts: what is known of the columns of all rows.

    Returns:
        `instruction`, `input` and `output` (String), all null in a row that is dropped; with alternatives also
        `choices` (the output for each label, or null), `answer` (the label, or null) and `references` (the output
        for each accepted answer).

    Raises:
        TemplateError: the template fails on a row, takes more than the limits allow, or makes an empty output that
            it does not drop; with file, line, task and row.
    """
    compiled = compiled_for(template, rows.schema, alternatives, facts)
    if isinstance(compiled, RowWise):
        return Rendered(_by_jinja(rows, template, task, alternatives, workers), row_wise=compiled)
    done = compiled.run(rows)
    settled = done["known"] & _full(done, template) & _short(done, workers.limits.characters)
    kept = _dropping(done.drop("known"), template)
    if settled.all():
        return Rendered(kept)
    rest = workers.render(rows.filter(~settled), template, task, alternatives).select(kept.columns)
    # each row's place: among the settled ones, or after them
    last = settled.sum()
    place = pl.select(pl.when(settled).then(settled.cum_sum() - 1).otherwise(last + (~settled).cum_sum() - 1))
    return Rendered(pl.concat([kept.filter(settled), rest])[place.to_series()], len(rest))


def _by_jinja(
    rows: pl.DataFrame, template: Template, task: str, alternatives: Alternatives | None, workers: Workers
) -> pl.DataFrame:
    """Render all rows by Jinja, but for those whose texts the cache has."""
    if workers.renders is None or not len(rows):
        return workers.render(rows, template, task, alternatives)
    return workers.renders.render(rows, template, task, alternatives, workers)


def _full(done: pl.DataFrame, template: Template) -> pl.Series:
    """Return which rows have text where they need it; for the others Jinja's renderer finds the error."""
    if template.drops_empty:
        return pl.Series([True]).new_from_index(0, len(done))
    asked = _filled(done["instruction"])
    return _filled(done["output"]) & (asked if asked.all() else asked | _filled(done["input"]))


def _filled(texts: pl.Series) -> pl.Series:
    """Return which texts are more than whitespace."""
    # a comparison takes a tenth of the time of a look for whitespace: most texts begin with a letter of ASCII
    sure = (texts >= "!") & (texts < "\x7f")
    return sure if sure.all() else sure | (texts.str.strip_chars(WHITESPACE) != "")


def _short(done: pl.DataFrame, characters: int) -> pl.Series:
    """Return which rows surely have no more characters than a row may; Jinja's renderer refuses the others."""
    length = pl.sum_horizontal(pl.col(name).str.len_bytes().cast(pl.Int64) for name in RENDERED)
    return done.select(length <= characters).to_series()


def _dropping(done: pl.DataFrame, template: Template) -> pl.DataFrame:
    """Return the rows, those null that the template drops for being empty."""
    if not template.drops_empty:
        return done
    empty = (pl.col("output") == "") | ((pl.col("instruction") == "") & (pl.col("input") == ""))
    return done.with_columns(pl.when(~empty).then(pl.all()).name.keep())


def compiled_for(
    template: Template, schema: Mapping[str, pl.DataType], alternatives: Alternatives | None, facts: Facts = NO_FACTS
) -> Vectorised | RowWise:
    """Return the compiled form of a template for rows with these columns, compiled once."""
    key = (str(template.file), template.line, template.spec.model_dump_json())
    return _compiled(_Keyed(key, template), tuple(sorted(schema.items())), alternatives, facts)


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
    keyed: _Keyed, schema: tuple[tuple[str, pl.DataType], ...], alternatives: Alternatives | None, facts: Facts
) -> Vectorised | RowWise:
    return compile_template(keyed.template, dict(schema), facts, alternatives)

"""Compares what the compiler makes of a template with what Jinja makes of it, row by row."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from taskmix.compiler.templates import NO_FACTS, RowWise, Vectorised, compile_template
from taskmix.compiler.translator import Facts
from taskmix.errors import TemplateError
from taskmix.frames import DRAW
from taskmix.templates.files import Template, TemplateSpec
from taskmix.templates.parts import Part


def template_of(source: str, strict: bool = True, setup: str = "") -> Template:
    """Return a template whose output is a text of Jinja. Raises TemplateError if the sandbox refuses it."""
    undefined: Literal["error", "empty"] = "error" if strict else "empty"
    spec = TemplateSpec(name="t", setup=setup, instruction="i", output=source or " ", undefined=undefined)
    before = Part(setup, "t.yaml", 1, "t/setup", None, strict) if setup else None
    still = Part("i", "t.yaml", 1, "t/instruction", before, strict)
    output = Part(source, "t.yaml", 1, "t/output", before, strict)
    return Template(
        name="t",
        style="zero-shot",
        instruction=still,
        input=Part("", "t.yaml", 1, "t/input", None, strict),
        output=output,
        choices=None,
        strip=False,
        drops_empty=False,
        separator="",
        ending="",
        spec=spec,
        file=Path("t.yaml"),
        line=1,
    )


def by_jinja(part: Part, rows: pl.DataFrame) -> list[str | None]:
    """Return the text of each row, None where Jinja raises."""
    return [_text(part, row, row.pop(DRAW)) for row in rows.to_dicts()]


def _text(part: Part, row: dict[str, object], draw: object) -> str | None:
    assert isinstance(draw, int)
    try:
        return part.render(row, draw)
    except TemplateError:
        return None


@dataclass(frozen=True)
class Difference:
    """A row whose text the compiler got wrong: it has to be Jinja's, or unknown (None); where Jinja fails, unknown."""

    row: dict[str, object]
    jinja: str | None
    compiled: str | None


@dataclass(frozen=True)
class Comparison:
    """What came of a template on rows. `refused` is why it does not compile, `needless` what Jinja had to settle."""

    refused: str | None = None
    texts: Sequence[str | None] = ()
    failing: int = 0
    needless: int = 0
    differences: Sequence[Difference] = ()
    vectorised: Vectorised | None = None


def compare(
    source: str, rows: pl.DataFrame, strict: bool, setup: str = "", facts: Facts = NO_FACTS
) -> Comparison | None:
    """Compare Jinja and the compiler on every row; None for a template that the sandbox refuses."""
    try:
        template = template_of(source, strict, setup)
    except TemplateError:
        return None
    compiled = compile_template(template, {name: rows.schema[name] for name in rows.columns if name != DRAW}, facts)
    if isinstance(compiled, RowWise):
        return Comparison(refused=compiled.reason)
    wanted = by_jinja(template.output, rows)
    texts = output_of(compiled, rows)
    pairs = list(zip(rows.to_dicts(), wanted, texts, strict=True))
    return Comparison(
        None,
        texts,
        wanted.count(None),
        sum(found is None and text is not None for _, text, found in pairs),
        [Difference(*each) for each in pairs if each[2] is not None and each[2] != each[1]],
        compiled,
    )


def output_of(compiled: Vectorised, rows: pl.DataFrame) -> list[str | None]:
    """Return the text of each row as a compiled template makes it, None where that is unknown."""
    done = compiled.run(rows)
    assert len(done) == len(rows)
    return done.select(pl.when("known").then("output")).to_series().to_list()

"""The public pool of promptsource: how many templates import, how many compile, and what becomes of their rows.

    python benchmarks/pool.py [--rows 50] [--real 1000] [--every 1] [--write]

Every template of `../shared/promptsource` is imported as `mix import promptsource` does, and compiled for the schema of
its dataset where that is known. It renders typed random rows (nulls, empty and uneven lists, labels out of range, text
of many scripts), and rows of the dataset itself where it is in `../shared/data`. What comes out, compiled or row by
row, is compared with what plain Jinja makes of each row under promptsource's rules. `--write` puts the tables into
docs/compiler.md.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/compiler.md"
START, END = "<!-- pool: start -->", "<!-- pool: end -->"

if TYPE_CHECKING:
    import polars as pl
    from tests.pool import PoolTemplate
    from tests.promptsource_oracle import Outcome

    from taskmix.compiler import RowWise, Vectorised
    from taskmix.templates.files import Template
    from taskmix.templates.rows import RowRenderer


@dataclass
class Rows:
    """What became of the rows of one sort.

    `by_compiled` counts those that compiled templates were given, `raised` those on which Jinja raises an error,
    `needless` those that a compiled template handed back though Jinja renders them, `differ` those whose text is not
    plain Jinja's.
    """

    templates: int = 0
    rows: int = 0
    by_compiled: int = 0
    raised: int = 0
    needless: int = 0
    differ: int = 0


@dataclass
class Figures:
    """What became of the pool."""

    templates: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    with_schema: int = 0
    compiled: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    random: Rows = field(default_factory=Rows)
    real: Rows = field(default_factory=Rows)


def measure(rows: int, real: int, every: int) -> Figures:
    """Import, compile and render every so many templates of the pool."""
    from tests.pool import pool_templates

    from taskmix.errors import TaskmixError
    from taskmix.importers.pieces import PieceError

    found = Figures()
    for each in pool_templates()[::every]:
        found.templates += 1
        found.with_schema += each.schema is not None
        try:
            template = each.template()
        except (PieceError, TaskmixError) as error:
            found.refused[str(error).splitlines()[0]] += 1
            continue
        add(found, each, template, rows, real)
    return found


def add(found: Figures, each: "PoolTemplate", template: "Template", rows: int, real: int) -> None:
    """Compile a template, and compare what it makes of random and of real rows."""
    from taskmix.compiler import RowWise, compile_template

    if (columns := each.random_rows(rows)) is not None:
        frame = each.frame(columns)
        compiled = compile_template(template, frame.schema)
        found.compiled += not isinstance(compiled, RowWise)
        found.reasons.update([compiled.reason] if isinstance(compiled, RowWise) else [])
        count(found.random, each, template, compiled, columns)
    if (columns := each.real_rows(real)) is not None:
        count(found.real, each, template, compile_template(template, each.frame(columns).schema), columns)


def count(
    found: Rows, each: "PoolTemplate", template: "Template", compiled: "Vectorised | RowWise", columns: "pl.DataFrame"
) -> None:
    """Compare what a template makes of rows with what plain Jinja makes of each under promptsource's rules."""
    from tests.promptsource_oracle import Oracle, same

    from taskmix.compiler import RowWise
    from taskmix.frames import DRAW

    frame = each.frame(columns)
    found.templates += 1
    found.by_compiled += 0 if isinstance(compiled, RowWise) else len(frame)
    oracle = Oracle(each.original, each.entry())
    wanted = (oracle.outcome(*row) for row in zip(columns.rows(named=True), frame[DRAW], strict=True))
    for theirs, (ours, handed_back) in zip(wanted, outcomes(template, compiled, frame), strict=True):
        found.rows += 1
        found.raised += isinstance(theirs, str)
        found.needless += handed_back and not isinstance(ours, str)
        found.differ += not same(ours, theirs)


def outcomes(
    template: "Template", compiled: "Vectorised | RowWise", frame: "pl.DataFrame"
) -> "Iterator[tuple[Outcome, bool]]":
    """Yield what becomes of each row, and whether a compiled template handed it back to Jinja."""
    from taskmix.compiler import RowWise
    from taskmix.frames import DRAW
    from taskmix.templates.rows import RowRenderer, RowTemplate

    parts = (template.instruction, template.input, template.output, template.choices)
    renderer = RowRenderer(RowTemplate(*parts, template.strip, template.drops_empty, template.where))
    if isinstance(compiled, RowWise):
        for row in frame.iter_rows(named=True):
            yield by_jinja(renderer, row, row[DRAW]), False
        return
    done = compiled.run(frame).select("known", "instruction", "output")
    for row, (known, prompt, completion) in zip(frame.iter_rows(named=True), done.iter_rows(), strict=True):
        if not known:
            yield by_jinja(renderer, row, row[DRAW]), True
        else:
            yield ((prompt, completion) if prompt and completion else None), False


def by_jinja(renderer: "RowRenderer", row: "dict[str, object]", draw: int) -> "Outcome":
    """Return what becomes of a row in the sandbox."""
    from taskmix.errors import TemplateError

    try:
        prompt, _, completion = renderer(row, draw)
    except TemplateError as error:
        return f"error: {error.message}"
    return None if completion is None else (str(prompt), str(completion))


def tables(found: Figures) -> str:
    """Return the figures as Markdown."""
    share = 100 * found.compiled / max(found.with_schema, 1)
    both = (found.random, found.real)
    lines = [
        "| templates | |",
        "| --- | ---: |",
        f"| in the pool | {found.templates:,} |",
        f"| imported | {found.templates - found.refused.total():,} |",
        f"| of datasets with a known schema | {found.with_schema:,} |",
        f"| of those compiled | {found.compiled:,} ({share:.1f}%) |",
        "",
        "| rows | random | of the datasets |",
        "| --- | ---: | ---: |",
        _line("templates that rendered rows", [f"{each.templates:,}" for each in both]),
        _line("rows", [f"{each.rows:,}" for each in both]),
        _line("on which plain Jinja raises an error", [f"{each.raised:,}" for each in both]),
        _line("whose text differs from plain Jinja's", [f"{each.differ:,}" for each in both]),
        _line("given to compiled templates", [f"{each.by_compiled:,}" for each in both]),
        _line("of those handed back to Jinja needlessly", [_needless(each) for each in both]),
        "",
        *_reasons("why a template is rendered row by row", found.reasons),
        "",
        *_reasons("why a template is not imported", found.refused),
    ]
    return "\n".join(lines)


def _line(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _needless(rows: Rows) -> str:
    return f"{rows.needless:,} ({100 * rows.needless / max(rows.by_compiled, 1):.2f}%)"


def _reasons(title: str, reasons: Counter[str]) -> list[str]:
    lines = [_line(reason.replace("|", "\\|"), [str(number)]) for reason, number in reasons.most_common()]
    return [f"| {title} | templates |", "| --- | ---: |", *lines]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the figures or put them into the page."""
    parser = argparse.ArgumentParser(description="Import and compile promptsource's templates.")
    parser.add_argument("--rows", type=int, default=50, help="random rows a template  [default: 50]")
    parser.add_argument("--real", type=int, default=1000, help="rows of its dataset a template  [default: 1000]")
    parser.add_argument("--every", type=int, default=1, help="take every so manieth template  [default: 1]")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/compiler.md")
    args = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT))
    text = tables(measure(args.rows, args.real, args.every))
    print(text)
    if args.write:
        page = PAGE.read_text("utf-8")
        before, rest = page.split(START)
        PAGE.write_text(f"{before}{START}\n{text}\n{END}{rest.split(END)[1]}", "utf-8")


if __name__ == "__main__":
    main()

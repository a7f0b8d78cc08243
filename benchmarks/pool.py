"""The public pool of promptsource: how many templates import, how many compile, and what becomes of random rows.

    python benchmarks/pool.py [--rows 20] [--every 1] [--write]

Every template of `../shared/promptsource` is imported as `mix import promptsource` does. Those whose dataset has a
known schema are compiled for it and rendered on typed random rows (nulls, empty and uneven lists, labels out of range,
text of many scripts), and their texts compared with what Jinja renders row by row. `--write` puts the tables into
docs/compiler.md.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/compiler.md"
START, END = "<!-- pool: start -->", "<!-- pool: end -->"

if TYPE_CHECKING:
    import polars as pl

    from taskmix.templates.files import Template


@dataclass
class Figures:
    """What became of the pool. `differ` counts rows whose text is not Jinja's, `needless` those handed back though
    Jinja renders them.
    """

    templates: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    with_schema: int = 0
    vectorised: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    raised: int = 0
    needless: int = 0
    differ: int = 0


def measure(rows: int, every: int) -> Figures:
    """Import, compile and render every so many templates of the pool."""
    from tests.pool import pool_templates, random_rows, seed_of

    from taskmix.compiler import RowWise, compile_template
    from taskmix.errors import TaskmixError
    from taskmix.importers.pieces import PieceError

    found = Figures()
    for each in pool_templates()[::every]:
        found.templates += 1
        try:
            template = each.template()
        except (PieceError, TaskmixError) as error:
            found.refused[str(error).splitlines()[0]] += 1
            continue
        if each.schema is None:
            continue
        found.with_schema += 1
        frame = with_draws(random_rows(each.schema, rows, seed_of(each.id)))
        compiled = compile_template(template, frame.schema)
        if isinstance(compiled, RowWise):
            found.reasons[compiled.reason] += 1
            continue
        found.vectorised += 1
        count(found, template, frame, compiled.run(frame))
    return found


def with_draws(rows: "pl.DataFrame") -> "pl.DataFrame":
    """Return rows with their numbers and draws."""
    import polars as pl

    from taskmix import hashing
    from taskmix.frames import DRAW, SOURCE_ROW

    numbered = rows if SOURCE_ROW in rows.columns else rows.with_row_index(SOURCE_ROW).cast({SOURCE_ROW: pl.UInt64})
    return numbered.with_columns(hashing.draws(0, pl.col(SOURCE_ROW)).alias(DRAW))


def count(found: Figures, template: "Template", rows: "pl.DataFrame", compiled: "pl.DataFrame") -> None:
    """Compare what a compiled template made of rows with what Jinja makes of each."""
    from taskmix.errors import TemplateError
    from taskmix.frames import DRAW
    from taskmix.templates.rows import RowRenderer, RowTemplate

    parts = (template.instruction, template.input, template.output, template.choices)
    renderer = RowRenderer(RowTemplate(*parts, template.strip, template.drops_empty, template.where))
    texts = compiled.select("instruction", "input", "output").rows()
    for row, known, ours in zip(rows.to_dicts(), compiled["known"], texts, strict=True):
        found.rows += 1
        try:
            theirs = renderer(row, row[DRAW])
        except TemplateError:
            found.raised += 1
            found.differ += bool(known)
            continue
        if not known:
            found.needless += 1
        elif theirs[2] is None:
            # a row that the template drops: its output, or all of its prompt, is empty
            found.differ += not (ours[2] == "" or ours[0] + ours[1] == "")
        else:
            found.differ += tuple(theirs) != ours


def tables(found: Figures) -> str:
    """Return the figures as Markdown."""
    share = 100 * found.vectorised / found.with_schema
    lines = [
        "| | |",
        "| --- | ---: |",
        f"| templates | {found.templates:,} |",
        f"| imported | {found.templates - found.refused.total():,} |",
        f"| imported, with a known schema | {found.with_schema:,} |",
        f"| of those compiled | {found.vectorised:,} ({share:.1f}%) |",
        f"| random rows rendered by compiled templates | {found.rows:,} |",
        f"| whose text differs from Jinja's | {found.differ:,} |",
        f"| on which Jinja raises an error | {found.raised:,} |",
        f"| handed back to Jinja needlessly | {found.needless:,} ({100 * found.needless / max(found.rows, 1):.2f}%) |",
        "",
        "| why a template is rendered row by row | templates |",
        "| --- | ---: |",
        *(f"| {cell(reason)} | {number} |" for reason, number in found.reasons.most_common()),
        "",
        "| why a template is not imported | templates |",
        "| --- | ---: |",
        *(f"| {cell(reason)} | {number} |" for reason, number in found.refused.most_common()),
    ]
    return "\n".join(lines)


def cell(text: str) -> str:
    """Return text for a cell of a table."""
    return text.replace("|", "\\|")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the figures or put them into the page."""
    parser = argparse.ArgumentParser(description="Import and compile promptsource's templates.")
    parser.add_argument("--rows", type=int, default=20, help="random rows a template  [default: 20]")
    parser.add_argument("--every", type=int, default=1, help="take every so manieth template  [default: 1]")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/compiler.md")
    args = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT))
    text = tables(measure(args.rows, args.every))
    print(text)
    if args.write:
        page = PAGE.read_text("utf-8")
        before, rest = page.split(START)
        PAGE.write_text(f"{before}{START}\n{text}\n{END}{rest.split(END)[1]}", "utf-8")


if __name__ == "__main__":
    main()

"""Rows per second of a build of real data, beside the time that Polars takes to copy what was built.

    python benchmarks/build.py [--shared ../shared] [--cap 100000] [--repeat 3] [--json FILE]

Builds the mixture `everything` of tests/catalogs/everything.yaml with its own cap and with a higher one. The copy is
the floor: a build must at least read and write as much. What is measured, and figures: docs/benchmarks.md.

Every measurement has a process of its own, so that none finds another's memory or warm caches. This one imports
neither Polars nor taskmix: on Linux the peak memory of a process starts at that of its parent.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from measuring import ROOT, Build, Copy, apart, copy_once, machine, measure_build, timed

if TYPE_CHECKING:
    from taskmix.catalog.loading import Catalog

CATALOG = ROOT / "tests/catalogs/everything.yaml"
MIXTURE = "everything"
TASK = "dbpedia_14-test"
TEMPLATES = """\
- name: what-is-it
  instruction: |-
    {{ title }}
    {{ content }}

    Which of these is it: {{ choices | join(", ") }}?
  output: "{{ choices[label] }}"
"""
ROUNDS = 5


@dataclass(frozen=True)
class Rendering:
    """Rows per second of one template on the same rows: by Jinja alone, by taskmix, and written out for Polars."""

    rows: int
    jinja: float
    taskmix: float
    polars: float


@dataclass(frozen=True)
class Size:
    """All builds at one cap, each with the copy that was made right after it. Without a cap, the catalog's own."""

    cap: int | None = None
    builds: list[Build] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)

    def ratio(self, figure: Callable[[Build | Copy], float]) -> str:
        """Return how many times a figure of the copies that of the builds is: of the medians, and of the leasts."""
        builds, copies = [figure(each) for each in self.builds], [figure(each) for each in self.copies]
        return f"{statistics.median(builds) / statistics.median(copies):.1f} ({min(builds) / min(copies):.1f})"


def capped(catalog: "Catalog", cap: int | None) -> "Catalog":
    """Return a catalog whose mixture has another cap; with none given, its own."""
    _, spec = catalog.mixture(MIXTURE)
    sampling = spec.sampling.model_copy(update={"cap": cap or spec.sampling.cap})
    return replace(catalog, mixtures={MIXTURE: spec.model_copy(update={"sampling": sampling})})


def build_once(data: Path, cap: int | None, out: Path) -> Build:
    """Build the mixture into a folder, with the catalog's cap if none is given."""
    began = perf_counter()
    import taskmix

    # what comes of comparing rows is measured, not found again
    os.environ["TASKMIX_CACHE"] = str(out.with_name(f"{out.name}-cache"))
    catalog = capped(taskmix.load_catalog(CATALOG), cap)
    return measure_build(
        lambda reporters: taskmix.build(MIXTURE, catalog=catalog, out=out, mirror=data, reporters=reporters), began
    )


def render_once(data: Path, folder: Path) -> Rendering:
    """Render one template, like promptsource's for AG News, on the training rows of one task in three ways."""
    import jinja2
    import polars as pl

    import taskmix
    from taskmix import hashing
    from taskmix.frames import DRAW, SOURCE_ROW
    from taskmix.mixing.examples import prompt
    from taskmix.rendering import render
    from taskmix.tasks.opening import open_task
    from taskmix.templates.files import read_templates
    from taskmix.templates.rowwise import Workers

    file = folder / "templates.yaml"
    file.write_text(TEMPLATES, "utf-8")
    (template,) = read_templates(file)
    workers = Workers(1)
    task = open_task(taskmix.load_catalog(CATALOG).task(TASK), data, workers)
    rows = pl.concat([*task.batches(task.splits["train"], template.names)] * ROUNDS)
    rows = rows.with_columns(hashing.draws(0, pl.col(SOURCE_ROW)).alias(DRAW))
    environment = jinja2.Environment(keep_trailing_newline=True)
    asking = environment.from_string(template.instruction.source + template.ending)
    answering = environment.from_string(template.output.source)

    def by_jinja() -> pl.DataFrame:
        found = [(asking.render(row), answering.render(row)) for row in rows.rows(named=True)]
        return pl.DataFrame(found, schema=["prompt", "output"], orient="row")

    def by_taskmix() -> pl.DataFrame:
        found = render(rows, template, TASK, None, workers).rows
        return found.select(prompt(found, template), "output")

    def by_polars() -> pl.DataFrame:
        asked = "{}\n{}\n\nWhich of these is it: {}?\n\n"
        return rows.select(
            pl.format(asked, "title", "content", pl.col("choices").list.join(", ")).alias("prompt"),
            pl.col("choices").list.get("label").alias("output"),
        )

    expected, jinja = timed(by_jinja)
    ours, engine = timed(by_taskmix)
    written_out, expression = timed(by_polars)
    workers.close()
    assert expected.equals(ours), "taskmix renders other texts than Jinja"
    assert expected.equals(written_out), "the expression gives other texts than Jinja"
    return Rendering(len(rows), len(rows) / jinja, len(rows) / engine, len(rows) / expression)


def middle_and_least(values: Sequence[float], form: str) -> str:
    """Return the median and the least of some figures, as text."""
    return f"{statistics.median(values):{form}} ({min(values):{form}})"


def table(sizes: Sequence[Size]) -> str:
    """Return the figures as a Markdown table with one column a cap: medians, and the least in brackets."""
    columns = [column(size) for size in sizes]
    heads = ["", *(f"cap {size.cap:,}" if size.cap else "the catalog's cap" for size in sizes)]
    body = [[name, *(each[name] for each in columns)] for name in columns[0]]
    rows = [heads, ["---", *("---:" for _ in sizes)], *body]
    widths = [max(len(row[index]) for row in rows) for index in range(len(heads))]
    padded = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)


def column(size: Size) -> dict[str, str]:
    """Return the figures of one cap by name."""
    builds, copies, first = size.builds, size.copies, size.builds[0]
    seconds = [each.seconds for each in builds]
    phases = {f"- {name}": [each.phases[name] for each in builds] for name in first.phases}
    return {
        "source rows read": f"{first.rows_read:,}",
        "rows rendered": f"{first.rows:,}",
        "build, seconds": middle_and_least(seconds, ".2f"),
        **{name: middle_and_least(values, ".2f") for name, values in phases.items()},
        "build, CPU seconds": middle_and_least([each.cpu_seconds for each in builds], ".2f"),
        "rows/s": f"{first.rows / statistics.median(seconds):,.0f} ({first.rows / min(seconds):,.0f})",
        "copy by Polars, seconds": middle_and_least([each.seconds for each in copies], ".2f"),
        "copy, CPU seconds": middle_and_least([each.cpu_seconds for each in copies], ".2f"),
        "build / copy": size.ratio(lambda each: each.seconds),
        "build / copy, CPU": size.ratio(lambda each: each.cpu_seconds),
        "written, MB": f"{first.written_bytes / 1e6:.1f}",
        "peak memory of the build, MiB": middle_and_least([each.peak_bytes / 2**20 for each in builds], ".0f"),
        "peak memory of the copy, MiB": middle_and_least([each.peak_bytes / 2**20 for each in copies], ".0f"),
        "imports and catalog, seconds": middle_and_least([each.starting for each in builds], ".2f"),
    }


def summary(sizes: Sequence[Size], renderings: Sequence[Rendering]) -> str:
    """Return the tables and what follows from them."""
    jinja, engine, expression = (
        max(getattr(each, name) for each in renderings) for name in ("jinja", "taskmix", "polars")
    )
    lines = [
        table(sizes),
        "",
        f"one template, {renderings[0].rows:,} rows of {TASK}, rows/s, best of {len(renderings)}: "
        f"Jinja compiled once {jinja:,.0f}, taskmix {engine:,.0f}, a Polars expression {expression:,.0f}",
    ]
    for size in sizes:
        first, least = size.builds[0], min(each.seconds for each in size.builds)
        lines.append(
            f"{first.rows:,} rows: Jinja alone would take {first.rows / jinja:.1f} s for so many rows, "
            f"{first.rows / jinja / least:.0%} of the fastest build"
        )
    return "\n".join(lines)


def measure(data: Path, cap: int, repeat: int) -> tuple[list[Size], list[Rendering]]:
    """Take every measurement `repeat` times, in turns, so that a busy spell of the machine meets all of them."""
    sizes, renderings = [Size(), Size(cap)], []
    for turn in range(repeat):
        for size in sizes:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                size.builds.append(apart(build_once, data, size.cap, folder / "mixture"))
                size.copies.append(apart(copy_once, folder / "mixture", folder))
        with tempfile.TemporaryDirectory() as name:
            renderings.append(apart(render_once, data, Path(name)))
        print(f"{turn + 1} of {repeat} done", file=sys.stderr)
    return sizes, renderings


def main() -> None:
    parser = argparse.ArgumentParser(description="Time builds of real data against copies of their output.")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="the folder that holds data/")
    parser.add_argument("--cap", type=int, default=100_000, help="the higher cap [default: 100000]")
    parser.add_argument("--repeat", type=int, default=3, help="how often to measure everything [default: 3]")
    parser.add_argument("--json", type=Path, help="write every single figure to this file")
    args = parser.parse_args()
    data: Path = args.shared / "data"
    if not data.is_dir():
        parser.error(f"no datasets in {data}: name the folder that holds data/ with --shared")
    if args.cap < 1 or args.repeat < 1:
        parser.error("--cap and --repeat are at least 1")
    before = machine()
    print(", ".join(f"{key} {value}" for key, value in before.items()), file=sys.stderr)
    sizes, renderings = measure(data, args.cap, args.repeat)
    print(summary(sizes, renderings))
    if args.json:
        figures = {"machine": before, "sizes": [*map(asdict, sizes)], "renderings": [*map(asdict, renderings)]}
        args.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

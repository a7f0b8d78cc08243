"""Rendering alone: compiled templates beside Jinja, on the same rows, template by template.

    python benchmarks/rendering.py [--shared ../shared] [--rows 40000] [--json FILE]

For each template of a few tasks (short and long texts, lists, loops): rows per second of the compiled template, of
Jinja compiled once, and of Jinja that parses the template again for every row, as promptsource's `apply` does. The
texts of all three are compared before their times are. Figures: docs/benchmarks.md.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from measuring import ROOT, apart, machine, peak_bytes

if TYPE_CHECKING:
    import jinja2
    import polars as pl

    from taskmix.templates.files import Template
    from taskmix.templates.rowwise import Workers

CATALOG = ROOT / "tests/catalogs/everything.yaml"
TASKS = (
    "commonsense_qa",
    "dbpedia_14-test",
    "gsm8k",
    "mbpp",
    "rte",
    "squad",
    "sst2",
    "trec",
    "wnut_17",
    "xquad-zh",
)
BY_JINJA, PARSED = 2_000, 100
ROUNDS = 5
MEMORY_ROWS = 300_000
"""Some batches: the first finds an allocator that has kept no pages yet."""


@dataclass(frozen=True)
class Speed:
    """Rows per second of one template. `chars` are those of its text for a row, on average."""

    task: str
    template: str
    loop: bool
    chars: float
    compiled: float
    jinja: float
    parsing: float

    @property
    def times_jinja(self) -> float:
        """Return how many times as fast as Jinja compiled once."""
        return self.compiled / self.jinja

    @property
    def times_parsing(self) -> float:
        """Return how many times as fast as parsing the template for every row."""
        return self.compiled / self.parsing


def seconds(actions: Sequence[Callable[[], object]]) -> list[float]:
    """Return the least seconds that each action takes in a few rounds, in which they take turns.

    So other work on the machine weighs on all of them.
    """
    return [min(found) for found in zip(*(map(seconds_once, actions) for _ in range(ROUNDS)), strict=True)]


def seconds_once(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    started = perf_counter()
    action()
    return perf_counter() - started


def measure_task(task: str, shared: Path, count: int) -> list[Speed]:
    """Measure the templates of a task that compile, on so many rows: its own, again and again."""
    import polars as pl

    import taskmix
    from taskmix import hashing
    from taskmix.frames import DRAW, SOURCE_ROW
    from taskmix.tasks.opening import open_task
    from taskmix.templates.rowwise import Workers

    with Workers(1) as workers:
        opened = open_task(taskmix.load_catalog(CATALOG).task(task), shared / "data", workers)
        names = frozenset().union(*(template.names for template in opened.templates))
        own = pl.concat(opened.batches(opened.splits["train"], names))
        rows = pl.concat([own] * -(-count // len(own))).head(count).rechunk()
        rows = rows.with_columns(hashing.draws(0, pl.col(SOURCE_ROW)).alias(DRAW))
        found = [measure(template, opened.name, rows, opened.facts, workers) for template in opened.templates]
    return [speed for speed in found if speed is not None]


def measure(template: "Template", task: str, rows: "pl.DataFrame", facts: object, workers: "Workers") -> Speed | None:
    """Measure a template; None if it is rendered row by row."""
    from jinja2 import nodes

    from taskmix.compiler import RowWise
    from taskmix.compiler.translator import Facts
    from taskmix.rendering import compiled_for

    assert isinstance(facts, Facts)
    compiled = compiled_for(template, rows.schema, None, facts)
    if isinstance(compiled, RowWise):
        print(f"{task}/{template.name} is rendered row by row: {compiled.reason}")
        return None
    few, fewest = rows.head(BY_JINJA), rows.head(PARSED)
    expected = list(by_jinja(template, few))
    texts = compiled.run(few).select("instruction", "input", "output").rows()
    assert texts == expected, (task, template.name)
    assert list(by_parsing(template, fewest)) == expected[:PARSED], (task, template.name)
    whole, once, parsing = seconds(
        [
            lambda: compiled.run(rows),
            lambda: list(by_jinja(template, few)),
            lambda: list(by_parsing(template, fewest)),
        ]
    )
    loops = [part.tree.find(nodes.For) for part in (template.instruction, template.input, template.output)]
    return Speed(
        task,
        template.name,
        any(loop is not None for loop in loops),
        sum(len(text) for row in expected for text in row) / len(expected),
        len(rows) / whole,
        len(few) / once,
        len(fewest) / parsing,
    )


def parts_of(template: "Template") -> tuple[str, ...]:
    """Return the sources of a template's parts."""
    return template.instruction.source, template.input.source, template.output.source


def contexts(template: "Template", rows: "pl.DataFrame") -> Iterator[Mapping[str, object]]:
    """Yield each row as Jinja's variables, with the template's own choices."""
    own = {"choices": list(template.choices)} if isinstance(template.choices, tuple) else {}
    for row in rows.iter_rows(named=True):
        yield {**row, **own}


def by_jinja(template: "Template", rows: "pl.DataFrame") -> Iterator[tuple[str, ...]]:
    """Render rows by plain Jinja, compiled once."""
    environment = plain_environment()
    compiled = [environment.from_string(source) for source in parts_of(template)]
    for row in contexts(template, rows):
        yield tuple(part.render(row) for part in compiled)


def by_parsing(template: "Template", rows: "pl.DataFrame") -> Iterator[tuple[str, ...]]:
    """Render rows by plain Jinja that parses the template for each."""
    environment = plain_environment()
    for row in contexts(template, rows):
        yield tuple(environment.from_string(source).render(row) for source in parts_of(template))


def plain_environment() -> "jinja2.Environment":
    """Return Jinja's environment with the few filters that templates here have beside Jinja's own."""
    import jinja2

    from taskmix.templates import filters, parts

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    for name in ("most_frequent", "tojson", "without"):
        environment.filters[name] = parts.environment().filters[name]
    environment.filters["choice"] = filters.choice
    return environment


def table(speeds: Sequence[Speed]) -> str:
    """Return the figures by sort of template as a Markdown table."""
    lines = [
        "| templates | number | compiled, rows/s | times Jinja compiled once | times parsing each row |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, chosen in (
        ("without a loop", [each for each in speeds if not each.loop]),
        ("with a loop", [each for each in speeds if each.loop]),
    ):
        rates = f"{statistics.median(each.compiled for each in chosen):,.0f}"
        ratios = (
            f"{statistics.median(values):,.0f} ({min(values):,.1f} to {max(values):,.0f})"
            for values in ([each.times_jinja for each in chosen], [each.times_parsing for each in chosen])
        )
        lines.append(f"| {' | '.join((name, str(len(chosen)), rates, *ratios))} |")
    return "\n".join(lines)


def slowest(speeds: Sequence[Speed], count: int = 8) -> str:
    """Return the templates that gain least."""
    chosen = sorted(speeds, key=lambda each: each.times_jinja)[:count]
    return "\n".join(
        f"- {each.task}/{each.template}: {each.compiled:,.0f} rows/s, {each.times_jinja:.1f} times Jinja"
        for each in chosen
    )


def peaks(shared: Path, count: int) -> Iterator[str]:
    """Yield, for so many rows and for ten times as many, the peak memory of rendering in batches, and its course."""
    for size in (count, 10 * count):
        course = apart(render_in_batches, shared, size)
        on_the_way = [course[round(part * (len(course) - 1))] for part in (0, 0.1, 0.2, 0.5)]
        said = ", ".join(f"{peak / 2**20:,.0f} at {rows:,}" for rows, peak in on_the_way)
        rows, peak = course[-1]
        yield f"{rows:,} rows: {peak / 2**20:,.0f} MiB ({said})"


def render_in_batches(shared: Path, count: int) -> list[tuple[int, int]]:
    """Render so many rows of a task under all its templates, a batch at a time.

    Returns:
        After each batch the rows so far, and the peak memory in bytes.
    """
    import polars as pl

    import taskmix
    from taskmix import hashing
    from taskmix.frames import DRAW, SOURCE_ROW
    from taskmix.rendering import render
    from taskmix.tasks.opening import open_task
    from taskmix.templates.rowwise import Workers

    course, done = [], 0
    with Workers(1) as workers:
        opened = open_task(taskmix.load_catalog(CATALOG).task("sst2"), shared / "data", workers)
        names = frozenset().union(*(template.names for template in opened.templates))
        while done < count:
            for batch in opened.batches(opened.splits["train"], names):
                drawn = batch.with_columns(hashing.draws(0, pl.col(SOURCE_ROW)).alias(DRAW))
                for template in opened.templates:
                    render(drawn, template, "sst2", None, workers, opened.facts)
                done += len(batch)
                course.append((done, peak_bytes()))
    return course


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description="Time compiled templates beside Jinja.")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="the folder that holds data/")
    parser.add_argument("--rows", type=int, default=40_000, help="rows a template  [default: 40000]")
    parser.add_argument("--json", type=Path, help="write every single figure to this file")
    args = parser.parse_args()
    speeds = [speed for task in TASKS for speed in apart(measure_task, task, args.shared, args.rows)]
    memory = list(peaks(args.shared, MEMORY_ROWS))
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(table(speeds))
    print("\nLeast gained:\n" + slowest(speeds))
    print("\nPeak memory:\n" + "\n".join(memory))
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(each) for each in speeds], indent=1), "utf-8")


if __name__ == "__main__":
    main()

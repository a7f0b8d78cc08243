"""A whole build of two million short rows: in memory, through disk, by `datasets`, and as a copy by Polars.

    python benchmarks/scale.py [--shared ../shared] [--rows 2000000] [--repeat 3] [--json FILE]

The rows are real short texts, each used several times with a number of its own. What is measured, and figures:
docs/benchmarks.md.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from measuring import ROOT, Build, Copy, apart, copy_once, machine, measure_build

if TYPE_CHECKING:
    from by_datasets import Peer

TASKS = {
    "sentences": ("negative", "positive"),
    "questions": ("abbreviation", "entity", "description", "human", "location", "number"),
}
SOURCES = {
    "sentences": (
        ("stanfordnlp/sst2/train.parquet", "sentence", "label"),
        ("cornell-movie-review-data/rotten_tomatoes/train.parquet", "text", "label"),
    ),
    "questions": (("CogComp/trec/train.parquet", "text", "coarse_label"),),
}
SHARES = {"sentences": 0.75, "questions": 0.25}
TASK = """\
  {name}:
    kind: text-classification
    cluster: {name}
    source: {{path: data/{name}}}
    labels: [{labels}]
"""
TEMPLATES = """\
- name: what-label-best-describes
  instruction: What label best describes this text?
  input: "{{ text }}"
  output: "{{ choices[label] }}"
- name: which-of-these
  instruction: |-
    {{ text }}

    Which of these is it: {{ choices | join(", ") }}?
  output: "{{ choices[label] }}"
"""
MIXTURES = """\
mixtures:
  scale: {{tasks: [{tasks}], duplicates: keep}}
  growth: {{tasks: [{tasks}]}}
  styled:
    tasks: [{tasks}]
    duplicates: keep
    styles: {{few_shot: {{share: 0.5, k: [1, 3]}}, options: 0.5, system: Answer as briefly as you can.}}
  decontaminated: {{tasks: [{tasks}, others], holdout: {{tasks: [others]}}, evaluation: {{rows: 20000}}}}
"""
OTHERS = "fancyzhx/dbpedia_14/test.parquet"
"""What `decontaminated` holds out, 20,000 rows of it: training texts are compared with these."""
SPILLING = 64 << 20
SOURCE_ROW_GROUP = 100_000
ROWS_A_FILE = 2_000_000


@dataclass(frozen=True)
class Round:
    """Everything measured once: builds with room for all rows and with little, `datasets`, and copies."""

    held: Build
    spilled: Build
    copies: tuple[Copy, Copy]
    peer: "Peer | None"


def make_project(project: Path, data: Path, rows: int) -> None:
    """Write a catalog of the tasks, their templates, and their sources of so many rows together, a file at a time."""
    import polars as pl

    (project / "templates").mkdir(parents=True)
    listed = ""
    for name, words in TASKS.items():
        listed += TASK.format(name=name, labels=", ".join(words))
        (project / "templates" / f"{name}.yaml").write_text(TEMPLATES, "utf-8")
        texts = pl.concat(
            pl.read_parquet(data / file).select(pl.col(text).alias("text"), pl.col(label).cast(pl.Int64).alias("label"))
            for file, text, label in SOURCES[name]
        )
        (project / "data" / name).mkdir(parents=True)
        total = int(rows * SHARES[name])
        files = -(-total // ROWS_A_FILE)
        for index in range(files):
            numbers = pl.int_range(index * ROWS_A_FILE, min((index + 1) * ROWS_A_FILE, total), eager=True)
            repeated = texts[numbers % len(texts)].with_columns(text=pl.format("{} ({})", "text", numbers))
            path = project / "data" / name / f"train-{index:05}-of-{files:05}.parquet"
            repeated.write_parquet(path, row_group_size=SOURCE_ROW_GROUP)
    (project / "data" / "others").mkdir()
    others = pl.scan_parquet(data / OTHERS).head(20_000).select(pl.col("content").alias("text"), "label").collect()
    others.write_parquet(project / "data" / "others" / "train.parquet")
    listed += TASK.format(name="others", labels=", ".join(f"class {number}" for number in range(14)))
    text = f"version: 1\ntasks:\n{listed}{MIXTURES.format(tasks=', '.join(TASKS))}"
    (project / "catalog.yaml").write_text(text, "utf-8")


def build_once(project: Path, out: Path, memory: int | None, mixture: str = "scale") -> Build:
    """Build a mixture, shuffling in so much memory, by default as much as a build may use anyway."""
    began = perf_counter()
    from taskmix import build, load_catalog
    from taskmix.output.shuffle import MEMORY

    # what comes of comparing rows is measured, not found again
    os.environ["TASKMIX_CACHE"] = str(out.with_name(f"{out.name}-cache"))
    catalog, held = load_catalog(project / "catalog.yaml"), memory or MEMORY
    return measure_build(
        lambda reporters: build(mixture, catalog=catalog, out=out, reporters=reporters, memory=held), began
    )


def peer_once(project: Path, out: Path) -> "Peer":
    """Make the mixture with `datasets`."""
    import by_datasets

    return by_datasets.make(project, TASKS, out)


def measure(project: Path, mixture: str, with_peer: bool) -> Round:
    """Measure everything of a mixture once, each in its own process and the copies among the builds."""
    with tempfile.TemporaryDirectory(dir=project) as name:
        folder = Path(name)
        held = apart(build_once, project, folder / "held", None, mixture)
        first = apart(copy_once, folder / "held", folder)
        spilled = apart(build_once, project, folder / "spilled", SPILLING, mixture)
        second = apart(copy_once, folder / "spilled", folder)
        same = all(
            file.read_bytes() == (folder / "spilled" / file.relative_to(folder / "held")).read_bytes()
            for file in (folder / "held").rglob("*")
            if file.is_file()
        )
        assert same, "other bytes through disk than in memory"
        peer = None
        if with_peer:
            (folder / "peer").mkdir()
            peer = apart(peer_once, project, folder / "peer")
        return Round(held, spilled, (first, second), peer)


def middle_and_least(values: Sequence[float], form: str = ".2f") -> str:
    """Return the median and the least of some figures, as text; nothing if there is none."""
    return f"{statistics.median(values):{form}} ({min(values):{form}})" if values else ""


def summary(rounds: Sequence[Round]) -> str:
    """Return the table of all rounds, with a column for each way to make the mixture, and the ratios."""
    builds = [[each.held for each in rounds], [each.spilled for each in rounds]]
    copies = [copy for each in rounds for copy in each.copies]
    peers = [each.peer for each in rounds if each.peer]
    ways: list[Sequence[Build | Copy | Peer]] = [*builds, copies, peers]
    seconds = [[each.seconds for each in way] for way in ways]
    table = [["", "in memory", "through disk", "copy by Polars", "`datasets.map`"], ["---", *["---:"] * 4]]
    table.append(["seconds", *map(middle_and_least, seconds)])
    for phase in rounds[0].held.phases:
        cells = [middle_and_least([each.phases[phase] for each in group]) for group in builds]
        table.append([f"- {phase}", *cells, "", ""])
    cpu = [*([each.cpu_seconds for each in group] for group in builds), [each.cpu_seconds for each in copies]]
    table.append(["CPU seconds", *map(middle_and_least, cpu), ""])
    peaks = [[each.peak_bytes / 2**20 for each in way] for way in ways]
    table.append(["peak memory, MiB", *(middle_and_least(group, ".0f") for group in peaks)])
    medians = [statistics.median(group) for group in seconds if group]
    table.append(["times the copy", *(f"{median / medians[2]:.2f}" for median in medians)])
    if peers:
        table.append(["times as fast as `datasets.map`", *(f"{medians[3] / median:.1f}" for median in medians)])
    first = rounds[0].held
    lines = [f"| {' | '.join(row)} |" for row in table]
    return "\n".join([*lines, "", f"{first.rows:,} rows, {first.written_bytes / 1e6:.1f} MB"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Time whole builds of many short rows.")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="the folder that holds data/")
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the sources [default: 2000000]")
    parser.add_argument("--repeat", type=int, default=3, help="how often to measure everything [default: 3]")
    parser.add_argument(
        "--mixture",
        nargs="+",
        choices=["scale", "styled", "decontaminated"],
        default=["scale", "styled", "decontaminated"],
        help="what to build: plain, with every style, or compared with what is held out  [default: each]",
    )
    parser.add_argument(
        "--without-datasets", action="store_true", help="leave out the slowest measurement, of the first mixture"
    )
    parser.add_argument("--json", type=Path, help="write every single figure to this file")
    args = parser.parse_args()
    data: Path = args.shared / "data"
    if not data.is_dir():
        parser.error(f"no datasets in {data}: name the folder that holds data/ with --shared")
    if args.rows < 1000 or args.repeat < 1:
        parser.error("--rows is at least 1000 and --repeat at least 1")
    before = machine()
    print(", ".join(f"{key} {value}" for key, value in before.items()), file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        project = Path(name) / "project"
        apart(make_project, project, data, args.rows)
        rounds = {
            mixture: [measure(project, mixture, not args.without_datasets and not number) for _ in range(args.repeat)]
            for number, mixture in enumerate(args.mixture)
        }
    for mixture, found in rounds.items():
        print(f"{mixture}\n\n{summary(found)}\n")
    if args.json:
        figures = {"machine": before, **{mixture: [*map(asdict, found)] for mixture, found in rounds.items()}}
        args.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""What decontamination finds of planted copies, what it drops of real rows by mistake, and what it costs.

    python benchmarks/contamination.py [--shared ../shared] [--rows 2000000] [--copies 100] [--examples N] [--write]

The rows are those of `tests/catalogs/everything.yaml`: of every task its training rows, and up to 500 rows to evaluate
on. `--examples N` prints so many of the rows dropped from each task. `--write` puts the tables into
docs/contamination.md, which says what they mean.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import polars as pl

from measuring import ROOT, machine, timed
from taskmix import hashing
from taskmix.catalog.loading import load_catalog
from taskmix.catalog.selection import select
from taskmix.mixing.contamination import Index, Limits, Origin, index, joined
from taskmix.mixing.duplicates import Duplicates
from taskmix.mixing.holdout import assign_roles
from taskmix.mixing.judging import splits_read
from taskmix.tasks.held import Held
from taskmix.tasks.opening import open_task
from taskmix.tasks.task import Split, Task
from taskmix.templates.rowwise import Workers

sys.path.insert(0, str(ROOT))
from tests.planted_leaks import DISGUISES, Disguise, kept

PAGE = ROOT / "docs/contamination.md"
START, END = "<!-- figures: start -->", "<!-- figures: end -->"
EVALUATION_ROWS = 500
KEPT = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
THRESHOLDS = (0.5, 0.6, 0.65, 0.7, 0.8, 0.9)
NGRAMS = (5, 8, 13)
LENGTHS = ((1, 8), (8, 15), (15, 50), (50, None))
SAME_ORIGIN = (
    {"sst2", "rotten_tomatoes"},
    {"commonsense_qa", "cos_e", "flan_cot-ecqa"},
    {"gsm8k", "flan_cot-gsm8k"},
    {"strategy_qa-local", "flan_cot-strategyqa"},
    {"squad", "xquad-en"},
)
"""Tasks whose texts are from one source."""
Row = tuple[str, ...]


@dataclass(frozen=True)
class Real:
    """The rows of all tasks: to train on by task, and to evaluate on by origin."""

    train: Mapping[str, pl.DataFrame]
    evaluation: Mapping[Origin, pl.DataFrame]

    def index(self, limits: Limits) -> Index:
        """Return the index of all evaluation rows."""
        """Return an index of the rows to evaluate on."""
        return index(self.evaluation.items(), limits)


def read(shared: Path) -> Real:
    """Read every task of the catalog of everything."""
    catalog = load_catalog(ROOT / "tests/catalogs/everything.yaml")
    roles = assign_roles(catalog, "everything", select(catalog, "everything").tasks)
    train, evaluation, workers = {}, {}, Workers(2)
    for name in (*roles.train, *roles.heldout):
        task = open_task(catalog.tasks[name], shared / "data", workers, Held(0))
        for split in splits_read(task, heldout=name in roles.heldout):
            rows = inputs(task, split)
            if name in roles.train and split == task.splits["train"]:
                train[name] = rows
            else:
                order = hashing.draws(hashing.key(0, name, split.source_split, "evaluate"), pl.col("source_row"))
                chosen = rows.sort(order).head(EVALUATION_ROWS).sort("source_row")
                evaluation[Origin(name, "heldout" if name in roles.heldout else "validation")] = chosen
    return Real(train, evaluation)


def inputs(task: Task, split: Split) -> pl.DataFrame:
    names = [name for name in task.kind.inputs if name in task.view.columns]
    return pl.concat(batch.select("source_row", *names) for batch in task.batches(split, names))


def found_in(found: Index, rows: Sequence[Row]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return the overlap with which each row is found, 0 for none."""
    columns = {f"c{at}": [row[at] for row in rows] for at in range(len(rows[0]))}
    numbers = pl.Series("source_row", range(len(rows)), pl.UInt64)
    return found.find(pl.DataFrame([numbers, *pl.DataFrame(columns)]))["overlap"].to_numpy()


@dataclass(frozen=True)
class Planted:
    """Copies of evaluation rows under one disguise: the overlaps found, and the words and columns of each."""

    overlaps: "np.ndarray[tuple[int], np.dtype[np.float64]]"
    words: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    columns: "np.ndarray[tuple[int], np.dtype[np.int64]]"

    def recall(self, low: int = 1, high: int | None = None, least: float = 0.0, columns: int | None = None) -> str:
        """Return the share found of copies of so many words, of one column (1) or several (2), in percent."""
        inside = (self.words >= low) & (self.words < (high or sys.maxsize))
        if columns:
            inside &= np.minimum(self.columns, 2) == columns
        overlaps = self.overlaps[inside]
        return f"{100 * ((overlaps >= least) & (overlaps > 0)).mean():.1f}"


def plant(real: Real, found: Index, disguise: Disguise, copies: int) -> Planted:
    """Plant a copy of so many evaluation rows of every task, and look for them."""
    parts: list[tuple[np.ndarray, list[int], list[int]]] = []
    for origin, frame in real.evaluation.items():
        columns = [joined(frame.select(name)).to_list() for name in frame.columns if name != "source_row"]
        rows = list(zip(*columns, strict=True))[:copies]
        others, random = [text for row in rows for text in row if text], Random(origin.task)
        disguised = [tuple(disguise(row, random, others)) for row in rows]
        lengths = [sum(len(text.split()) for text in row) for row in rows]
        parts.append((found_in(found, disguised), lengths, [len(columns)] * len(rows)))
    return Planted(*(np.concatenate([part[at] for part in parts]) for at in range(3)))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def disguises(real: Real, found: Index, copies: int) -> str:
    head = [
        "copies found, %",
        "all",
        *(f"{low}–{high - 1} words" if high else f"{low} or more" for low, high in LENGTHS),
    ]
    lines = []
    for name, disguise in DISGUISES.items():
        planted = plant(real, found, disguise, copies)
        lines.append([name, planted.recall(), *(planted.recall(*length) for length in LENGTHS)])
    return table(head, lines)


def shares(real: Real, found: Index, copies: int) -> str:
    head = ["words kept", "copies found, %", "15 or more words, one column", "several columns"]
    planted = [(share, plant(real, found, kept(share), copies)) for share in KEPT]
    return table(
        head,
        [[f"{s:.2f}", p.recall(), p.recall(15, columns=1), p.recall(15, columns=2)] for s, p in planted],
    )


def is_same_origin(task: pl.Expr, other: pl.Expr) -> pl.Expr:
    return pl.any_horizontal(
        task.is_in(list(group)) & other.is_in(list(group)) & (task != other) for group in SAME_ORIGIN
    )


def matches(real: Real, found: Index) -> pl.DataFrame:
    """Return what is found of all training rows, with the task `train` of each, and whether both are of one origin."""
    rows = (found.find(frame).with_columns(train=pl.lit(name)) for name, frame in real.train.items())
    return pl.concat(rows).with_columns(same_origin=is_same_origin(pl.col("train"), pl.col("task")).fill_null(False))


def thresholds(real: Real, copies: int) -> str:
    """Return what n and the threshold change: copies with one word in ten changed, and training rows that are near."""
    lines = []
    for ngram in NGRAMS:
        found = real.index(Limits(ngram, min(THRESHOLDS)))
        planted, near = plant(real, found, kept(0.9), copies), matches(real, found)
        for least in THRESHOLDS if ngram == Limits().ngram else (Limits().overlap,):
            other = near.filter((pl.col("reason") == "near") & (pl.col("overlap") >= least) & ~pl.col("same_origin"))
            hits = int((planted.overlaps >= least).sum())
            lines.append(
                [
                    ngram,
                    least,
                    planted.recall(least=least),
                    planted.recall(15, least=least),
                    len(other),
                    f"{100 * len(other) / len(near):.2f}",
                    f"{100 * hits / (hits + len(other)):.1f}",
                ]
            )
    head = ["n", "overlap", "copies found, %", "15 or more words", "other rows dropped", "% of rows", "precision, %"]
    return table(head, lines)


def clean(real: Real, near: pl.DataFrame) -> str:
    """Return what is dropped of every task."""
    is_near = pl.col("reason") == "near"
    own = pl.col("train") == pl.col("task")
    counted = near.group_by("train").agg(
        pl.len(),
        (pl.col("reason") == "exact").sum().alias("exact"),
        (is_near & pl.col("same_origin")).sum().alias("copies"),
        (is_near & own).sum().alias("own"),
        (is_near & ~own & ~pl.col("same_origin")).sum().alias("others"),
    )
    lines = [
        [name, f"{rows:,}", *counts, f"{100 * (counts[2] + counts[3]) / rows:.2f}"]
        for name, rows, *counts in counted.sort("train").iter_rows()
    ]
    total = counted.select(pl.exclude("train").sum()).row(0)
    lines.append(["all", f"{total[0]:,}", *total[1:], f"{100 * (total[3] + total[4]) / total[0]:.2f}"])
    return table(
        ["task", "rows", "exact", "near, one origin", "near, own task", "near, others", "of these two, %"], lines
    )


def print_examples(real: Real, near: pl.DataFrame, count: int) -> None:
    """Print some of the rows that are near, of each task, with what they are near to."""
    evaluation = {origin.task: frame for origin, frame in real.evaluation.items()}
    for (name,), rows in near.filter(pl.col("reason") == "near").group_by("train", maintain_order=True):
        for row in rows.sample(min(count, len(rows)), seed=0).iter_rows(named=True):
            training = real.train[str(name)].row(by_predicate=pl.col("source_row") == row["source_row"])
            match = evaluation[row["task"]].row(by_predicate=pl.col("source_row") == row["evaluation_row"])
            print(f"{name} is near {row['task']}, {row['overlap']:.2f}\n  {training[1:]!s:.400}\n  {match[1:]!s:.400}")


def cost(real: Real, shared: Path, rows: int) -> str:
    """Return the seconds of an index, of looking for rows in it, and of finding duplicates."""
    short = pl.read_parquet(shared / "data/stanfordnlp/sst2/train.parquet")["sentence"]
    numbers = pl.int_range(rows, eager=True, dtype=pl.UInt64)
    texts = pl.DataFrame(
        [
            numbers.alias("source_row"),
            pl.select(pl.format("{} ({})", short[numbers % len(short)], numbers)).to_series().alias("text"),
        ]
    )
    found, seconds = timed(lambda: real.index(Limits()))
    held = len(found.rows)
    lines = [[f"index of {held:,} evaluation rows", f"{seconds:.1f}", f"{held / seconds:,.0f}"]]

    def add(name: str, act: Callable[[], object]) -> None:
        _, seconds = timed(act)
        lines.append([name, f"{seconds:.1f}", f"{rows / seconds:,.0f}"])

    add(f"{rows:,} short training rows", lambda: [found.find(each) for each in texts.iter_slices(100_000)])
    for name, memory in (("in memory", 1 << 40), ("through files", 16 << 20)):
        add(f"duplicates among them, {name}", lambda memory=memory: duplicates(texts, memory))  # type: ignore[misc]
    return table(["", "seconds", "rows a second"], lines)


def duplicates(texts: pl.DataFrame, memory: int) -> int:
    found = Duplicates(memory)
    for each in texts.iter_slices(100_000):
        found.add(each)
    return len(found.finish())


def sections(args: argparse.Namespace) -> Iterator[str]:
    """Yield the parts of the page, each as soon as it is measured."""
    real = read(args.shared)
    found = real.index(Limits())
    yield "### By disguise\n\n" + disguises(real, found, args.copies)
    yield "### By the share of words kept\n\n" + shares(real, found, args.copies)
    near = matches(real, found)
    yield "### Training rows of the test data\n\n" + clean(real, near)
    print_examples(real, near, args.examples)
    yield "### What n and the threshold change\n\n" + thresholds(real, args.copies)
    yield "### Cost\n\n" + cost(real, args.shared, args.rows)
    cores, versions = machine()["cores"], f"Polars {machine()['polars']}, Python {machine()['python']}"
    yield f"{len(found.rows):,} evaluation rows, {len(near):,} training rows; {cores} cores, {versions}."


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure decontamination.")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="the folder that holds data/")
    parser.add_argument("--rows", type=int, default=2_000_000, help="training rows to time [default: 2000000]")
    parser.add_argument("--copies", type=int, default=100, help="copies planted a task [default: 100]")
    parser.add_argument("--examples", type=int, default=0, help="print so many rows that are near, a task")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/contamination.md")
    args = parser.parse_args()
    if not (args.shared / "data").is_dir():
        parser.error(f"no datasets in {args.shared / 'data'}: name the folder that holds data/ with --shared")
    written = []
    for section in sections(args):
        print(section, end="\n\n", flush=True)
        written.append(section)
    if args.write:
        before, _, rest = PAGE.read_text("utf-8").partition(START)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{START}\n\n" + "\n\n".join(written) + f"\n\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()

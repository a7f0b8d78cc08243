"""What decontamination finds of copies that it was not tuned on: other data, other edits, another module.

    python benchmarks/edited_leaks.py [--shared ../shared] [--rows 300] [--copies 40] [--write]

The rows are those of Natural Instructions, which `contamination.py` does not read: of each task so many to train on,
and so many others to evaluate on. Copies of these, edited by `tests/edited_leaks.py`, are looked for beside the
training rows. `--write` puts the tables into docs/contamination.md.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import polars as pl

from contamination import PAGE, table
from measuring import ROOT
from taskmix import hashing
from taskmix.mixing.contamination import Index, Limits, Origin, index

sys.path.insert(0, str(ROOT))
from tests.edited_leaks import EDITS, Corpus, corpus, edited, overlap

START, END = "<!-- edited: start -->", "<!-- edited: end -->"
RATES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
SEED = 20_260_728
BOUNDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
LEAST_WORDS = 15
THRESHOLDS = (0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)


@dataclass(frozen=True)
class Copies:
    """Planted copies: how they were edited, the words of the original, the share that was kept, and what was found."""

    edit: str
    words: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    kept: "np.ndarray[tuple[int], np.dtype[np.float64]]"
    found: "np.ndarray[tuple[int], np.dtype[np.float64]]"


def read(shared: Path) -> pl.DataFrame:
    """Return the rows, in an order that follows from a hash, with the datasets that each task was made from."""
    folder = shared / "natural-instructions"
    rows = pl.read_parquet(folder / "instances.parquet", columns=["task_name", "inputs"]).with_row_index("source_row")
    rows = rows.with_columns(pl.col("source_row").cast(pl.UInt64)).unique("inputs", keep="first", maintain_order=True)
    tasks = json.loads((folder / "definitions.json").read_text("utf-8"))
    made_from = {task["task_name"]: sorted(task.get("Source") or [task["task_name"]]) for task in tasks}
    order = hashing.draws(hashing.key(SEED, "edited"), pl.col("source_row"))
    return rows.sort(order).with_columns(origin=pl.col("task_name").replace_strict(made_from))


def found_in(known: Index, texts: Sequence[str]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return the overlap with which each text is found, 0 for none."""
    numbers = pl.Series("source_row", range(len(texts)), pl.UInt64)
    return known.find(pl.DataFrame([numbers, pl.Series("text", texts)]))["overlap"].to_numpy()


def plant(known: Index, originals: Sequence[str], words: Corpus, edit: str) -> Copies:
    """Edit each text once at each rate, and look for the copies."""
    random = Random(f"{SEED} {edit}")
    pairs = [(text, edited(text, EDITS[edit], rate, random, words)) for rate in RATES for text in originals]
    kept = np.array([overlap(*pair) for pair in pairs])
    lengths = np.array([len(text.split()) for text, _ in pairs])
    return Copies(edit, lengths, kept, found_in(known, [copy for _, copy in pairs]))


def recall(planted: Sequence[Copies]) -> str:
    """Return the share found of copies by the share of words kept, of texts of fifteen words or more, and of all."""
    spans = [*pairwise(BOUNDS), (1.0, 2.0)][::-1]
    heads = ["1.00", *(f"{low:.2f}–{high:.2f}" for low, high in spans[1:])]
    lines = []
    for (low, high), head in zip(spans, heads, strict=True):
        cells = []
        for each in planted:
            inside = (each.kept >= low) & (each.kept < high)
            long = inside & (each.words >= LEAST_WORDS)
            cells.append(f"{_percent(each.found[long] > 0)} ({_percent(each.found[inside] > 0)})")
        lines.append(
            [head, *cells, f"{sum(int(((each.kept >= low) & (each.kept < high)).sum()) for each in planted):,}"]
        )
    return table(["words kept in order", *(each.edit for each in planted), "copies"], lines)


def _percent(flags: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> str:
    return f"{100 * flags.mean():.1f}" if len(flags) else "–"


def precision(planted: Copies, real: pl.DataFrame) -> str:
    """Return what a threshold on the overlap finds: of copies, and of rows that are none.

    `real` has of each training row the `overlap` found, and whether what it was found near to is of its datasets.
    """
    lines = []
    for least in THRESHOLDS:
        hits = int((planted.found >= least).sum())
        near = real.filter(pl.col("overlap") >= least)
        own = near["own"].sum()
        others = len(near) - own
        cells = f"{100 * hits / len(planted.found):.1f}", f"{100 * hits / max(1, hits + len(near)):.1f}"
        lines.append([f"{least:.2f}", *cells, f"{100 * hits / max(1, hits + others):.1f}", f"{own:,}", f"{others:,}"])
    head = ["overlap", "copies found, %", "precision, %", "without those of one dataset, %"]
    return table([*head, "other rows, of one dataset", "of others"], lines)


def compared(known: Index, train: pl.DataFrame, datasets: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    """Return training rows with the `overlap` found, 0 for none, the evaluation row, and if both are of one dataset."""
    found = known.find(train.select("source_row", "inputs"))
    pairs = zip(train["task_name"], found["task"], strict=True)
    own = [near is not None and not set(datasets[near]).isdisjoint(datasets[task]) for task, near in pairs]
    return train.with_columns(found["overlap"], found["evaluation_row"].alias("match"), pl.Series("own", own))


def examples(real: pl.DataFrame, evaluation: pl.DataFrame, count: int) -> None:
    """Print some training rows that were found and are no planted copies."""
    texts = dict(evaluation.select("source_row", "inputs").iter_rows())
    for row in (
        real.filter(pl.col("overlap") > 0).sample(fraction=1, shuffle=True, seed=1).head(count).iter_rows(named=True)
    ):
        print(f"{row['task_name']}: {row['overlap']:.2f}\n  {row['inputs']!r:.400}\n  {texts[row['match']]!r:.400}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure decontamination on data and edits that it was not tuned on.")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="the folder with the test data")
    parser.add_argument("--rows", type=int, default=300, help="training rows a task [default: 300]")
    parser.add_argument("--copies", type=int, default=40, help="evaluation rows a task [default: 40]")
    parser.add_argument("--examples", type=int, default=0, help="print so many rows found that are no planted copies")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/contamination.md")
    args = parser.parse_args()
    if not (args.shared / "natural-instructions").is_dir():
        parser.error(f"no natural-instructions in {args.shared}: name the folder that holds it with --shared")
    rows = read(args.shared).with_columns(at=pl.int_range(pl.len()).over("task_name"))
    evaluation = rows.filter(pl.col("at") < args.copies)
    train = rows.filter(pl.col("at").is_between(args.copies, args.copies + args.rows - 1))
    groups = evaluation.select("task_name", "source_row", "inputs").group_by("task_name", maintain_order=True)
    known = index([(Origin(str(task), "validation"), each.drop("task_name")) for (task,), each in groups], Limits())
    words = corpus(train["inputs"])
    planted = [plant(known, evaluation["inputs"].to_list(), words, edit) for edit in EDITS]
    real = compared(known, train, dict(rows.select("task_name", "origin").unique("task_name").iter_rows()))
    examples(real, evaluation, args.examples)
    about = (
        f"{len(evaluation):,} evaluation rows and {len(train):,} training rows of {rows['task_name'].n_unique()} tasks."
        " Each evaluation row was copied once at each rate of editing, from 2% to 50% of its words."
    )
    text = "\n\n".join([about, recall(planted), precision(planted[-1], real)])
    print(text)
    if args.write:
        page = PAGE.read_text("utf-8")
        before, after = page.partition(START)[0], page.partition(END)[2]
        PAGE.write_text(f"{before}{START}\n{text}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()

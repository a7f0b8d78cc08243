"""Fine-tune one encoder on tasks of the catalog with `mix train`, and set the figures beside published ones.

    python benchmarks/finetune.py --model FOLDER [--data ../shared/data] [--rows squad=8000 ...] [--write]

For each task of `TASKS`: `mix train TASK --model FOLDER` with the defaults of its head, on all rows or on so many drawn
at random, measured on the validation split. The runs are kept below `--out`: one that was cut off goes on when the
command is given again, one that is finished is not repeated. `--write` puts table and curves into
docs/training-results.md and docs/training-results.svg.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE, PLOT = ROOT / "docs/training-results.md", ROOT / "docs/training-results.svg"
START, END = "<!-- figures: benchmarks/finetune.py --write -->", "<!-- end -->"
BUILTIN = ROOT / "catalog.yaml"


@dataclass(frozen=True)
class Task:
    """A task: where its rows are below the data, what is quoted of it, and what others report."""

    folder: str
    metrics: tuple[str, ...]
    published: str


TASKS: Mapping[str, Task] = {
    "sst2": Task(
        "stanfordnlp/sst2",
        ("accuracy",),
        "MiniLM-L6-H384 91.3 (Mukherjee et al. 2021), BERT-base 93.2 (Wang et al. 2020); 67,349 rows",
    ),
    "trec": Task("CogComp/trec", ("accuracy", "macro_f1"), "BERT-base 97.2 (Sun et al. 2019); 5,452 rows"),
    "wnut_17": Task(
        "leondz/wnut_17",
        ("entity_f1",),
        "on the test split: best of the shared task 41.9 (Derczynski et al. 2017), BERTweet 56.5 (Nguyen et al. 2020)",
    ),
    "squad": Task(
        "rajpurkar/squad", ("squad_f1", "squad_exact"), "BERT-base F1 88.5, EM 80.8 (Devlin et al. 2019); 87,599 rows"
    ),
}


def sampled(data: Path, task: Task, rows: int | None, validation: int | None, to: Path) -> Path:
    """Return a copy of a task's data with so many rows of each split, drawn at random; `data` if all are used."""
    import numpy as np
    import pyarrow.parquet as pq

    if rows is None and validation is None:
        return data
    folder = to / f"{rows or 'all'}-{validation or 'all'}" / task.folder
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted((data / task.folder).glob("*.parquet")):
        table = pq.read_table(file)
        most = {"train": rows}.get(file.stem.split("-")[0], validation)
        if most is not None and most < len(table):
            table = table.take(np.sort(np.random.default_rng(0).permutation(len(table))[:most]))
        pq.write_table(table, folder / file.name, compression="zstd")
    return folder.parents[1]


def train(name: str, model: Path, mirror: Path, out: Path, more: Sequence[str]) -> None:
    """Train on a task, unless that is done."""
    if run(out).get("done"):
        return
    command = [sys.executable, "-c", "from taskmix.cli import main; main()", "train", name]
    command += ["--catalog", str(BUILTIN), "--mirror", str(mirror), "--model", str(model), "--out", str(out), *more]
    subprocess.run(command, check=True)


def run(out: Path) -> dict[str, Any]:
    """Return what a run's folder says of it; nothing if there is none."""
    path = out / "train.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the folder of an encoder")
    parser.add_argument("--name", default="MiniLM-L6 (all-MiniLM-L6-v2)", help="what to call it in the table")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data", help="copies of hub datasets")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/finetune", help="where the runs are kept")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--rows", nargs="*", default=[], metavar="TASK=N", help="so many rows to train on")
    parser.add_argument("--validation", nargs="*", default=[], metavar="TASK=N", help="so many rows to measure on")
    parser.add_argument("--threads", type=int, help="threads of PyTorch")
    parser.add_argument("--write", action="store_true", help="put table and curves into docs/")
    wanted, more = parser.parse_known_args()
    if wanted.threads:
        os.environ["OMP_NUM_THREADS"] = str(wanted.threads)
    rows, validation = counts(wanted.rows), counts(wanted.validation)
    for name in wanted.tasks:
        mirror = sampled(wanted.data, TASKS[name], rows.get(name), validation.get(name), wanted.out / "data")
        train(name, wanted.model, mirror, wanted.out / name, more)
    done = [name for name in TASKS if run(wanted.out / name).get("done")]
    text = table(wanted.name, wanted.out, done)
    print(text)
    if wanted.write:
        write(text, wanted.out, done)


def counts(given: Sequence[str]) -> dict[str, int]:
    """Return the numbers of TASK=N."""
    return {name: int(count) for name, _, count in (each.partition("=") for each in given)}


def table(model: str, out: Path, names: Sequence[str]) -> str:
    """Return the table of all finished runs."""
    lines = [
        "| task | rows | epochs | steps | learning rate | precision | " + f"{model}, validation | published |",
        "| --- | ---: | ---: | ---: | ---: | --- | --- | --- |",
    ]
    for name in names:
        found = run(out / name)
        metrics, used = found["metrics"], found["used"]
        reached = ", ".join(f"{metric} {100 * metrics[metric]:.1f}" for metric in TASKS[name].metrics)
        size, measured = (f"{found['splits'][split]['rows']:,}" for split in ("train", "validation"))
        lines.append(
            f"| {name} | {size} | {used['epochs']:g} | {found['steps']:,} | {used['learning_rate']:g} "
            f"| {'bf16' if used['bf16'] else 'fp32'} "
            f"| {reached} (of {measured} rows) | {TASKS[name].published} |"
        )
    return "\n".join(lines)


def write(text: str, out: Path, names: Sequence[str]) -> None:
    """Put table and curves into the page."""
    from taskmix_trainer.training.report import chart
    from taskmix_trainer.training.watching import read_history

    lines = []
    for name in names:
        metric = TASKS[name].metrics[0]
        steps = run(out / name)["steps"]
        history = read_history(out / name / "history.jsonl")
        points = [(100 * each["step"] / steps, each[f"eval_{metric}"]) for each in history if f"eval_{metric}" in each]
        lines.append((f"{name}: {metric}", points))
    svg = chart(lines, x_label="% of the steps").replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    PLOT.write_text(svg + "\n", "utf-8")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers"))
    about = f"Python {platform.python_version()}, {versions}."
    before, _, rest = PAGE.read_text("utf-8").partition(START)
    after = rest.partition(END)[2]
    body = f"{START}\n\n{text}\n\n{about}\n\n![validation by step](training-results.svg)\n\n{END}"
    PAGE.write_text(before + body + after, "utf-8")


if __name__ == "__main__":
    main()

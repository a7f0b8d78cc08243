"""Seconds of a plan, and of `mix explain`, with what the cache knows of comparisons and without.

    python benchmarks/replanning.py [--shared ../shared] [--rows 2000000] [--repeat 3] [--write]

The mixture is `decontaminated` of `scale.py`: short rows, all compared with each other and with 20,000 evaluation rows.
Each command has a process of its own. `--write` puts the table into docs/contamination.md.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from measuring import MIX, ROOT, SETTLED_SECONDS, apart, machine, process_seconds
from scale import make_project

DOCS = ROOT / "docs" / "contamination.md"
START, END = "<!-- replanning: start -->", "<!-- replanning: end -->"


def mix_seconds(cache: Path, *arguments: str) -> float:
    """Return how long a command takes."""
    return process_seconds(MIX, *arguments, cache=cache)[0]


def first_id(mixture: Path) -> str:
    """Return the id of a row that trains."""
    import polars as pl

    return str(pl.scan_parquet(mixture / "data" / "train-*.parquet").select("id").head(1).collect().item())


def measure(project: Path, repeat: int) -> dict[str, list[float]]:
    """Return the seconds of each thing that is measured, in turns."""
    catalog, cache = ["--catalog", str(project / "catalog.yaml")], project / "cache"
    out, templates = project / "mixture", project / "templates" / "sentences.yaml"
    plan = ["build", "decontaminated", *catalog, "--plan"]
    mix_seconds(cache, "build", "decontaminated", *catalog, "--out", str(out))
    explain = ["explain", str(out), apart(first_id, out), *catalog]
    found: dict[str, list[float]] = {}
    for number in range(repeat):
        shutil.rmtree(cache)
        found.setdefault("plan, nothing known", []).append(mix_seconds(cache, *plan))
        found.setdefault("plan, again", []).append(mix_seconds(cache, *plan))
        found.setdefault("`mix explain`", []).append(mix_seconds(cache, *explain))
        shutil.rmtree(cache)
        found.setdefault("`mix explain`, nothing known", []).append(mix_seconds(cache, *explain))
        text = templates.read_text("utf-8")
        templates.write_text(text.replace("What label", f"What ({number}) label"), "utf-8")
        found.setdefault("plan, a template edited", []).append(mix_seconds(cache, *plan))
        templates.write_text(text, "utf-8")
    found["plan, `decontamination: off` and `duplicates: keep`"] = [
        mix_seconds(cache, "build", "scale", *catalog, "--plan") for _ in range(repeat)
    ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Time plans that were made before.")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="the folder that holds data/")
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the sources [default: 2000000]")
    parser.add_argument("--repeat", type=int, default=3, help="how often to measure [default: 3]")
    parser.add_argument("--write", action="store_true", help="write the table into docs/contamination.md")
    args = parser.parse_args()
    data: Path = args.shared / "data"
    if not data.is_dir():
        parser.error(f"no datasets in {data}: name the folder that holds data/ with --shared")
    about = ", ".join(f"{key} {value}" for key, value in machine().items())
    print(about, file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        project = Path(name) / "project"
        apart(make_project, project, data, args.rows)
        # what was written moments ago is hashed each time
        time.sleep(SETTLED_SECONDS)
        found = measure(project, args.repeat)
    lines = [f"| {args.rows:,} rows | seconds, median (least) |", "| --- | ---: |"]
    lines += [f"| {what} | {statistics.median(each):.1f} ({min(each):.1f}) |" for what, each in found.items()]
    table = "\n".join(lines)
    print(table)
    if args.write:
        text = DOCS.read_text("utf-8")
        before, after = text.partition(START)[0], text.partition(END)[2]
        DOCS.write_text(f"{before}{START}\n{about}\n\n{table}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()

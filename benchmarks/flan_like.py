"""A mixture like FLAN's, of all test data and Natural Instructions, in all styles, with rows of each to read.

    python benchmarks/flan_like.py [--shared ../shared] [--out flan-like] [--rows 10] [--size 60000] [--shots 5]

Imports Natural Instructions, joins its tasks with those of tests/catalogs/everything.yaml, and builds: at most 30,000
examples a task, rates as if none had more than 3,000, natural language inference held out and with it paraphrases. The
plan and the first tables of the card are printed; into the folder go the project, the mixture, and `rows.md`: rows of
each style of train and of the evaluation splits, drawn by the hashes of their ids.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from measuring import MIX, ROOT

EVERYTHING = ROOT / "tests/catalogs/everything.yaml"
SHOWN = "rows.md"
PAIRS = [["nli", "paraphrase"], ["nli", "paraphrasing"], ["nli", "textual-entailment"]]
"""Natural Instructions has names of its own for these skills."""
MIXTURE: dict[str, Any] = {
    "description": "In the manner of FLAN: every task of the test data and of Natural Instructions.",
    "holdout": {"clusters": ["nli"]},
    "sampling": {"cap": 30_000, "max_rate": 3_000},
    "styles": {
        "few_shot": {"share": 0.5, "k": [1, 5]},
        "options": {"share": 0.5, "lettered": 0.5, "shuffled": 0.5},
        "chain_of_thought": 0.5,
        "inverted": 0.1,
        "system": "Do what you are asked, in the form in which you are asked for it.",
    },
    "evaluation": {"rows": 200},
}


def mix(*arguments: str) -> str:
    """Run a command; what it says on stderr is passed on."""
    done = subprocess.run([sys.executable, "-c", MIX, *arguments], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def make_project(project: Path, shared: Path, size: int, shots: int) -> None:
    """Import Natural Instructions, and put the other tasks into its catalog."""
    import yaml

    instructions = shared / "natural-instructions"
    print(mix("import", "natural-instructions", str(instructions), "--out", str(project), "--force"))
    imported = yaml.safe_load((project / "catalog.yaml").read_text("utf-8"))
    others = yaml.safe_load(EVERYTHING.read_text("utf-8"))
    names = [*others["mixtures"]["everything"]["tasks"], *imported["tasks"]]
    mixture = {"tasks": names, **MIXTURE, "sampling": {**MIXTURE["sampling"], "size": size}}
    if shots:
        mixture["evaluation"] = {**MIXTURE["evaluation"], "few_shot": {"k": shots, "splits": ["validation"]}}
    catalog = {
        "version": 1,
        "extends": "builtin",
        "tasks": {**others["tasks"], **imported["tasks"]},
        "paired_clusters": PAIRS,
        "mixtures": {"flan-like": mixture},
        "default_mixture": "flan-like",
    }
    (project / "catalog.yaml").write_text(yaml.safe_dump(catalog, sort_keys=False, allow_unicode=True), "utf-8")
    for file in (EVERYTHING.parent / "templates").glob("*.yaml"):
        shutil.copy(file, project / "templates" / file.name)


def drawn(mixture: Path, count: int) -> str:
    """Return so many rows of each style of train and of each evaluation split, as Markdown."""
    import polars as pl

    lines = ["# Rows of each style\n"]
    for name in sorted({file.name.rsplit("-", 3)[0] for file in (mixture / "data").iterdir()}, key="heldout".__eq__):
        rows = pl.read_parquet(mixture / "data" / f"{name}-*.parquet")
        for (style,), group in sorted(rows.group_by("style"), key=lambda each: str(each[0][0])):
            lines.append(f"## {name}: {style} ({len(group):,} rows)\n")
            order = sorted(group["id"], key=lambda row: hashlib.sha256(row.encode()).digest())[:count]
            for row in group.filter(pl.col("id").is_in(order)).iter_rows(named=True):
                lines.append(f"### {row['id']}: {row['task']}, {row['template']}, row {row['source_row']}\n")
                lines.append(f"~~~text\n{row['prompt']}\u2192 {row['completion']}\n~~~\n")
                if row.get("choices") or row.get("references"):
                    known = {key: row[key] for key in ("choices", "answer", "references")}
                    lines.append(f"{json.dumps(known, ensure_ascii=False)}\n")
    return "\n".join(lines)


def card_tables(card: str) -> str:
    """Return what a card says before its table of tasks, without the settings of the hub."""
    return card.split("---\n", 2)[-1].partition("## Tasks")[0].strip()


def main() -> None:
    parser = argparse.ArgumentParser(description="Build a mixture like FLAN's, and draw rows of it to read.")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="the folder with the test data")
    parser.add_argument("--out", type=Path, default=Path("flan-like"), help="the folder to write  [default: flan-like]")
    parser.add_argument("--rows", type=int, default=10, help="rows of each style  [default: 10]")
    parser.add_argument("--size", type=int, default=60_000, help="examples in train  [default: 60000]")
    parser.add_argument("--shots", type=int, default=5, help="worked examples before a row of validation  [default: 5]")
    args = parser.parse_args()
    if not (args.shared / "natural-instructions").is_dir():
        parser.error(f"no natural-instructions in {args.shared}: name the folder that holds it with --shared")
    project, out = args.out / "project", args.out / "mixture"
    args.out.mkdir(parents=True, exist_ok=True)
    make_project(project, args.shared, args.size, args.shots)
    given = ["--catalog", str(project / "catalog.yaml"), "--mirror", str(args.shared / "data")]
    print(mix("build", *given, "--plan"))
    print(mix("build", *given, "--out", str(out)))
    print(card_tables((out / "README.md").read_text("utf-8")))
    (args.out / SHOWN).write_text(drawn(out, args.rows), "utf-8")
    print(f"\n{args.out / SHOWN}: rows of each style")


if __name__ == "__main__":
    main()

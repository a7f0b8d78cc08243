"""A machine that trains on prepared tokens needs neither Polars nor datasets."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.forks import ROOT, Forks

TRAIN = """
import importlib.abc, os, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("polars", "datasets"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
sys.path[:0] = PATHS
from taskmix.cli import main
for arguments in RUNS:
    main(["train", *arguments], prog_name="mix", standalone_mode=False)
print({"polars", "datasets"} & set(sys.modules), file=sys.stderr)
"""


def test_training_on_tokens_imports_neither_polars_nor_datasets(forks: Forks) -> None:
    """In a process of its own: the one that forks has imported Polars."""
    runs = []
    for target, more in (("review-sentiment", []), ("starter", ["--limit", "40"])):
        tokens, out = forks.root / f"bare-{target}", forks.root / f"bare-{target}-run"
        ended = forks.mix("train", target, "--model", "scratch:tiny", *more, "--prepare", str(tokens))
        assert ended.code == 0, ended.output
        runs.append([str(tokens), "--steps", "2", "--eval-every", "1", "--out", str(out)])
    paths = [str(ROOT / "builders"), str(ROOT / "trainer")]
    script = f"PATHS = {paths!r}\nRUNS = {runs!r}\n{TRAIN}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "set()"
    for run in runs:
        assert json.loads((Path(run[-1]) / "train.json").read_text("utf-8"))["done"]

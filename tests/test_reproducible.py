"""The same catalog, data and seed give the same bytes, wherever and however a mixture is built."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import taskmix
from taskmix.catalog.builtin import catalog_path
from taskmix.output import shards
from taskmix.output.content import BLOCK_ROWS, block_hash, content_hash
from taskmix.output.shuffle import arrow
from taskmix.sources import opening

TESTS = Path(__file__).parent
RUN = "from taskmix.cli import main; main()"
FEW = 50
SMALL_SHARDS = (
    f"import taskmix.output.content as content; content.BLOCK_ROWS = {FEW}; "
    "import taskmix.output.shards as shards; shards.ROWS_PER_SHARD = 100; "
)
EVERYTHING = TESTS / "catalogs" / "everything.yaml"
REAL_TASKS = ("ncbi_disease", "xquad-de", "xquad-zh", "arc-challenge", "cos_e", "nl2bash-unsplit")
BUILTIN_TASKS = ("trec", "rte", "wnut_17", "gsm8k", "mbpp")

Digests = dict[str, str]


@dataclass(frozen=True)
class Circumstances:
    """What must not matter: threads, variables of the environment, the working folder, the name of the output."""

    workers: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str = "work"
    out: str = "mixture"


FIRST = Circumstances()
OTHERS = {
    "two-workers": Circumstances(2, {"POLARS_MAX_THREADS": "2", "PYTHONHASHSEED": "1"}, "another place", "out/of/it"),
    "one-thread": Circumstances(1, {"POLARS_MAX_THREADS": "1", "PYTHONHASHSEED": "2"}, "ⅡI", "été"),
    "two-workers-one-thread": Circumstances(
        2, {"POLARS_MAX_THREADS": "1", "TZ": "Asia/Kathmandu", "LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8"}
    ),
    "no-utf-8": Circumstances(
        1,
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "America/St_Johns", "PYTHONHASHSEED": "3"},
    ),
    "small-pieces": Circumstances(
        3, {"POLARS_MAX_THREADS": "4", "POLARS_IDEAL_MORSEL_SIZE": "7", "POLARS_ENGINE_AFFINITY": "streaming"}
    ),
}


def mix(folder: Path, *arguments: str, code: str = RUN, environment: Mapping[str, str] | None = None) -> str:
    """Run `mix` in a folder in a process of its own, with a cache of its own, and return its stdout."""
    folder.mkdir(parents=True, exist_ok=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("TASKMIX_", "POLARS_"))}
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**env, "TASKMIX_CACHE": str(folder / "a cache"), **(environment or {})},
        capture_output=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr.decode(errors="replace")
    return ended.stdout.decode(errors="replace")


def build(root: Path, circumstances: Circumstances, *arguments: str, code: str = RUN) -> Path:
    """Build a mixture below a folder and return where it lies."""
    folder = root / circumstances.folder
    options = ("--workers", str(circumstances.workers), "--out", circumstances.out)
    mix(folder, "build", *arguments, *options, code=code, environment=circumstances.environment)
    return folder / circumstances.out


def digests(folder: Path) -> Digests:
    """Return the SHA-256 of every file below a folder by its path."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert files, folder
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_lock(folder: Path) -> dict[str, Any]:
    lock: dict[str, Any] = json.loads((folder / "mix.lock.json").read_bytes())
    return lock


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("starter"), FIRST, "starter")


@pytest.fixture(scope="module")
def real_arguments(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """What builds a mixture of real datasets of six kinds of work, among them some that hold each other out."""
    every = yaml.safe_load(EVERYTHING.read_bytes())["tasks"]
    mixture = {
        "tasks": [*BUILTIN_TASKS, *REAL_TASKS, {"nl2bash-unsplit": 2.5}],
        "holdout": {"clusters": ["nli"], "templates": 1},
        "sampling": {"cap": 200, "size": 3000, "temperature": 3, "templates": 2},
        "styles": {
            "chain_of_thought": 0.5,
            "inverted": 0.2,
            "few_shot": {"share": 0.3, "k": [1, 3]},
            "options": {"share": 0.5, "heading": "Wähle:"},
            "system": "Answer briefly.",
        },
        "evaluation": {"rows": 10, "few_shot": {"k": 2, "splits": ["validation", "heldout"]}},
        "format": "messages",
    }
    tasks = {name: every[name] for name in REAL_TASKS if name in every}
    catalog = tmp_path_factory.mktemp("real") / "catalog.yaml"
    catalog.write_text(
        yaml.safe_dump({"version": 1, "extends": "builtin", "tasks": tasks, "mixtures": {"real": mixture}})
    )
    return ("real", "--catalog", str(catalog), "--mirror", str(shared_data))


@pytest.fixture(scope="module")
def real(real_arguments: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("first"), FIRST, *real_arguments)


@pytest.mark.parametrize("circumstances", OTHERS.values(), ids=OTHERS)
def test_the_starter_mixture_is_the_same_to_the_byte(
    starter: Path, tmp_path: Path, circumstances: Circumstances
) -> None:
    assert digests(build(tmp_path, circumstances, "starter")) == digests(starter)


@pytest.mark.parametrize("circumstances", OTHERS.values(), ids=OTHERS)
def test_a_mixture_of_real_data_is_the_same_to_the_byte(
    real: Path, real_arguments: tuple[str, ...], tmp_path: Path, circumstances: Circumstances
) -> None:
    assert digests(build(tmp_path, circumstances, *real_arguments)) == digests(real)


def test_a_copy_of_a_project_gives_the_same_bytes(tmp_path: Path) -> None:
    # its catalog, templates and rows lie elsewhere, are written at another time, and are named relatively
    for name in ("here", "there/and deeper"):
        mix(tmp_path, "init", name)
        mix(tmp_path / name, "build")
    assert digests(tmp_path / "here" / "mixtures") == digests(tmp_path / "there/and deeper" / "mixtures")


def test_a_build_over_an_older_mixture_gives_the_same_bytes(starter: Path, tmp_path: Path) -> None:
    build(tmp_path, FIRST, "starter", "--seed", "5")
    assert digests(build(tmp_path, FIRST, "starter")) == digests(starter)


def test_the_seed_of_the_catalog_may_be_spelled_out(starter: Path, tmp_path: Path) -> None:
    assert digests(build(tmp_path, FIRST, "starter", "--seed", "0")) == digests(starter)


def test_another_seed_gives_other_bytes(starter: Path, tmp_path: Path) -> None:
    seed = 2**63 - 1
    other = build(tmp_path, FIRST, "starter", "--seed", str(seed))
    first, second = digests(starter), digests(other)
    assert first.keys() == second.keys()
    assert {name for name in first if first[name] == second[name]} == set()
    assert read_lock(other)["seed"] == seed


def test_many_small_shards_hold_the_same_rows_in_the_same_order(starter: Path, tmp_path: Path) -> None:
    few = OTHERS["small-pieces"]
    first = build(tmp_path / "a", FIRST, "starter", code=SMALL_SHARDS + RUN)
    second = build(tmp_path / "b", few, "starter", code=SMALL_SHARDS + RUN)
    assert digests(first) == digests(second)

    splits = read_lock(starter)["splits"]
    assert contents(first) == {split: content(starter, split, FEW) for split in splits}
    for split in splits:
        shards = sorted((first / "data").glob(f"{split}-*"))
        assert len(shards) == -(-splits[split]["rows"] // 100)
        whole = pl.read_parquet(starter / "data" / f"{split}-*.parquet")
        assert pl.concat([pl.read_parquet(shard) for shard in shards]).equals(whole)
    assert max(-(-split["rows"] // 100) for split in splits.values()) > 3


def test_many_small_shards_of_real_data_are_the_same(
    real: Path, real_arguments: tuple[str, ...], tmp_path: Path
) -> None:
    first = build(tmp_path / "a", FIRST, *real_arguments, code=SMALL_SHARDS + RUN)
    second = build(tmp_path / "b", OTHERS["two-workers"], *real_arguments, code=SMALL_SHARDS + RUN)
    assert digests(first) == digests(second)
    assert contents(first) == {split: content(real, split, FEW) for split in contents(real)}
    assert len(digests(first)) > 20


@pytest.mark.parametrize("memory", [1, 30_000], ids=["every-piece-to-disk", "a-few-runs"])
def test_a_mixture_is_the_same_to_the_byte_through_disk(
    starter: Path, tmp_path: Path, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "BATCH_ROWS", 50)
    monkeypatch.setattr(opening, "_PIECE_ROWS", 7)
    taskmix.build("starter", catalog=taskmix.load_catalog(catalog_path()), out=tmp_path / "out", memory=memory)
    assert digests(tmp_path / "out") == digests(starter)


def test_small_shards_are_the_same_through_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", 100)
    for name, memory in (("held", 1 << 30), ("spilled", 20_000)):
        taskmix.build("starter", catalog=taskmix.load_catalog(catalog_path()), out=tmp_path / name, memory=memory)
    assert digests(tmp_path / "held") == digests(tmp_path / "spilled")


def contents(mixture: Path) -> dict[str, str]:
    """Return the hashes of the splits' content that the lock of a mixture has."""
    return {split: recorded["content_sha256"] for split, recorded in read_lock(mixture)["splits"].items()}


def content(mixture: Path, split: str, rows: int) -> str:
    """Return the hash of the content of a split's files, in blocks of so many rows."""
    whole = pl.concat(pl.read_parquet(shard) for shard in sorted((mixture / "data").glob(f"{split}-*")))
    return content_hash(block_hash(arrow(block)) for block in whole.iter_slices(rows))


def test_the_lock_has_the_hash_of_the_rows_that_the_files_hold(starter: Path) -> None:
    assert contents(starter) == {split: content(starter, split, BLOCK_ROWS) for split in contents(starter)}

"""Two Ray nodes on this machine, one killed while it works: the same bytes as without Ray, and without a kill.

    python tests/ray_nodes.py [--rows 400000] [--when 3]

Each node is a raylet with processes of its own. The second one is started with the build, and ended, all its processes
at once, with SIGKILL when it has left that many runs (`--when`), in the middle of its work; then the build is made once
more with it ended while shards are written. Every file is compared by its SHA-256. Nothing listens beyond this machine,
and nothing is sent anywhere. It needs `pip install 'taskmix[ray]'` and takes a minute or two.
"""

import argparse
import hashlib
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    # nothing is left in the home folder
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    # all addresses are loopback's, as where Ray knows no other nodes
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # a node that ended is given up soon
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "500",
    "RAY_health_check_failure_threshold": "3",
}

import polars as pl

import taskmix
from taskmix.building import Built

CATALOG = """\
version: 1
tasks:
  notes:
    kind: text-classification
    cluster: notes
    source: {path: data}
    labels: [even, odd]
    splits: {train: train, validation: {from: train, fraction: 0.01}}
    language: en
    license: CC0-1.0
mixtures:
  notes:
    tasks: [notes]
    styles: {few_shot: {share: 0.2, k: [1, 3]}, options: 0.3}
"""
TEMPLATES = """\
- name: which
  instruction: "Is the number in this note even or odd?"
  input: "{{ text }}"
  output: "{{ choices[label] }}"
- name: wrapped
  instruction: "{{ text | wordwrap(20) }}\\n\\nEven or odd?"
  output: "{{ choices[label] }}"
"""


def make_project(folder: Path, rows: int) -> Path:
    """Write a catalog, templates of which Jinja renders one, and so many rows; return the catalog."""
    (folder / "templates").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "catalog.yaml").write_text(CATALOG)
    (folder / "templates" / "notes.yaml").write_text(TEMPLATES)
    numbers = pl.int_range(rows, eager=True).alias("number")
    texts = pl.format("This is note {} of a few, and it says nothing else.", pl.col("number"))
    frame = numbers.to_frame().select(text=texts, label=pl.col("number") % 2)
    frame.write_parquet(folder / "data" / "train.parquet", row_group_size=50_000)
    return folder / "catalog.yaml"


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@contextmanager
def two_nodes() -> Iterator[tuple[str, Callable[[], int]]]:
    """Yield the address of a cluster of two nodes, and what ends its second one and says how many processes it had."""
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        (raylet,) = cluster.add_node(num_cpus=1).all_processes["raylet"]
        cluster.wait_for_nodes()
        yield cluster.address, partial(_kill, raylet.process.pid)
    finally:
        cluster.shutdown()


def _kill(first: int) -> int:
    """End a process and all that it started with SIGKILL; return how many there were."""
    found = _descendants(first)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(found)


def _descendants(pid: int) -> list[int]:
    """Return a process and all that it started, itself first."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def build(catalog: Path, out: Path, **options: Any) -> Built:
    """Build the mixture into a folder."""
    return taskmix.build("notes", catalog=taskmix.load_catalog(catalog), out=out, **options)


def on_two_nodes(catalog: Path, out: Path, due: Callable[[Path], bool] | None) -> int:
    """Build on two nodes; return how many processes of the second were killed when it was due."""
    killed = 0
    building = threading.Event()
    building.set()

    def watch(kill: Callable[[], int]) -> None:
        nonlocal killed
        while building.is_set() and not killed:
            if due is not None and due(out):
                killed = kill()
            time.sleep(0.002)

    with two_nodes() as (address, kill):
        watcher = threading.Thread(target=watch, args=(kill,))
        watcher.start()
        try:
            build(catalog, out, engine="ray", ray_address=address, memory=8 << 20)
        finally:
            building.clear()
            watcher.join()
    return killed


def main() -> int:
    """Run the builds and compare them; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--when", type=int, default=3, help="runs that are there when the node is ended")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        catalog = make_project(folder / "project", arguments.rows)
        began = time.perf_counter()
        build(catalog, folder / "local")
        wanted = digests(folder / "local")
        print(f"local: {len(wanted)} files in {time.perf_counter() - began:.1f} s", flush=True)
        ways: dict[str, Callable[[Path], bool] | None] = {
            "two nodes": None,
            "killed while rendering": lambda out: _runs(out) >= arguments.when,
            "killed while writing shards": lambda out: bool(_half_shards(out)),
        }
        same = True
        for number, (way, due) in enumerate(ways.items()):
            began, out = time.perf_counter(), folder / f"ray-{number}"
            killed = on_two_nodes(catalog, out, due)
            equal = digests(out) == wanted and (due is None) == (not killed)
            same &= equal
            took = time.perf_counter() - began
            print(f"{way}: {'same' if equal else 'OTHER'}, {killed} processes killed, {took:.1f} s", flush=True)
        return 0 if same else 1


def _runs(out: Path) -> int:
    return len([*out.parent.glob(f".{out.name}.building-*/.shuffle/*/*.arrow")])


def _half_shards(out: Path) -> list[Path]:
    """Return the shards that are being written."""
    return [*out.parent.glob(f".{out.name}.building-*/.shuffle/*.parquet")]


if __name__ == "__main__":
    sys.exit(main())

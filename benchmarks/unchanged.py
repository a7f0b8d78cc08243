"""Seconds of a build with nothing to do, with what is known of files and without.

    python benchmarks/unchanged.py [--shared ../shared] [--repeat 5]

Builds the mixture `everything` of tests/catalogs/everything.yaml once, then asks for it again and again, each time in a
process of its own: with an empty cache, so that every source file and shard is read and hashed, and with the hashes
that the first build and those runs have kept. Files of the system's own cache are warm either way.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from measuring import MIX, ROOT, SETTLED_SECONDS, machine, process_seconds

CATALOG = ROOT / "tests/catalogs/everything.yaml"
STARTING = "from taskmix.cli import main; import taskmix.preparing"
LOADING = f"{STARTING}; from pathlib import Path; taskmix.preparing.load_catalog(Path({str(CATALOG)!r}))"


def seconds(code: str, *arguments: str, cache: Path) -> float:
    """Return how long a process of its own takes."""
    found, said = process_seconds(code, *arguments, cache=cache)
    if arguments and code == MIX and "unchanged" not in said and "--force" not in arguments:
        raise RuntimeError(f"something was built: {said}")
    return found


def measure(arguments: Sequence[str], cache: Path, repeat: int) -> dict[str, list[float]]:
    """Return the seconds of each thing that is measured, in turns."""
    found: dict[str, list[float]] = {}
    for _ in range(repeat):
        found.setdefault("Python, imports", []).append(seconds(STARTING, cache=cache))
        found.setdefault("Python, imports, the catalog", []).append(seconds(LOADING, cache=cache))
        shutil.rmtree(cache, ignore_errors=True)
        found.setdefault("unchanged, every file hashed", []).append(seconds(MIX, *arguments, cache=cache))
        found.setdefault("unchanged, hashes known", []).append(seconds(MIX, *arguments, cache=cache))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Time builds with nothing to do.")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="the folder that holds data/")
    parser.add_argument("--repeat", type=int, default=5, help="how often to measure [default: 5]")
    args = parser.parse_args()
    data: Path = args.shared / "data"
    if not data.is_dir():
        parser.error(f"no datasets in {data}: name the folder that holds data/ with --shared")
    print(", ".join(f"{key} {value}" for key, value in machine().items()), file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name), Path(name) / "mixture"
        arguments = ["build", "everything", "--catalog", str(CATALOG), "--mirror", str(data), "--out", str(out)]
        whole = seconds(MIX, *arguments, "--force", cache=folder / "cache")
        # what was written moments ago is hashed each time
        time.sleep(SETTLED_SECONDS)
        found = measure(arguments, folder / "cache", args.repeat)
        size = sum(file.stat().st_size for file in (*data.rglob("*.parquet"), *out.rglob("*")) if file.is_file())
    print(f"{size / 1e6:,.0f} MB of sources and shards; the whole build took {whole:.1f} s")
    for what, each in found.items():
        print(f"{what:<32} {statistics.median(each):.2f} s ({min(each):.2f})")


if __name__ == "__main__":
    main()

"""What the benchmarks share: processes of their own, the phases and memory of a build, the copy that is its floor.

Every measurement has a process of its own, so that none finds another's memory or warm caches. A script that uses
this module imports neither Polars nor taskmix itself: on Linux the peak memory of a process starts at that of its
parent.
"""

import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from taskmix.building import Built, Reporters

ROOT = Path(__file__).parent.parent
COPIES = 3
MIX = "from taskmix.cli import main; main()"
SETTLED_SECONDS = 2.5
"""So long ago a file must have changed for its hash to be kept."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Build:
    """One build. `phases` are its seconds by phase; `starting` are those of imports and catalog, before it."""

    rows_read: int
    rows: int
    starting: float
    phases: Mapping[str, float]
    cpu_seconds: float
    peak_bytes: int
    written_bytes: int

    @property
    def seconds(self) -> float:
        """Return the seconds of all phases."""
        return sum(self.phases.values())


@dataclass(frozen=True)
class Copy:
    """The least of a few copies of a mixture by Polars."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def process_seconds(code: str, *arguments: str, cache: Path) -> tuple[float, str]:
    """Run Python code in a new process, with a cache of its own; return its seconds and what it printed."""
    environment, started = {**os.environ, "TASKMIX_CACHE": str(cache)}, perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return perf_counter() - started, done.stdout


def peak_bytes() -> int:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def timed(action: Callable[[], T]) -> tuple[T, float]:
    """Return what a function gives, and its seconds."""
    started = perf_counter()
    return action(), perf_counter() - started


def measure_build(build: "Callable[[Reporters], Built]", began: float) -> Build:
    """Run a build and note its phases. `began` is when imports did.

    The time between two reports belongs to the phase of the later one.
    """
    from taskmix.building import Reporters

    started, cpu = perf_counter(), process_time()
    phases, read, at = dict.fromkeys(("plan", "render", "write", "finish"), 0.0), 0, started

    def note(phase: str, rows: int = 0) -> None:
        nonlocal at, read
        at, before = perf_counter(), at
        phases[phase] += at - before
        read += rows if phase == "plan" else 0

    with tempfile.TemporaryDirectory() as cache:
        os.environ["TASKMIX_CACHE"] = cache
        built = build(
            Reporters(
                read=lambda _, rows: note("plan", rows),
                start=lambda _: note("plan"),
                rendered=lambda *_: note("render"),
                written=lambda *_: note("write"),
            )
        )
        note("finish")
    size = sum(file.stat().st_size for file in built.out.rglob("*") if file.is_file())
    return Build(read, built.rows, started - began, phases, process_time() - cpu, peak_bytes(), size)


def copy_once(mixture: Path, to: Path) -> Copy:
    """Let Polars copy every split of a mixture from Parquet to Parquet, a few times, and keep the fastest."""
    import polars as pl

    from taskmix.output.content import BLOCK_ROWS

    splits = sorted({file.name.split("-")[0] for file in (mixture / "data").iterdir()})
    found = []
    for _ in range(COPIES):
        started, cpu = perf_counter(), process_time()
        for split in splits:
            pl.scan_parquet(mixture / "data" / f"{split}-*.parquet").sink_parquet(
                to / f"{split}.parquet", compression="zstd", row_group_size=BLOCK_ROWS
            )
        found.append((perf_counter() - started, process_time() - cpu))
    return Copy(*min(found), peak_bytes())


def machine() -> dict[str, object]:
    """Return what the figures depend on besides the code."""
    versions = {name: metadata.version(name) for name in ("taskmix", "polars", "pyarrow", "jinja2", "datasets")}
    return {"cores": os.cpu_count(), "load": os.getloadavg(), "python": platform.python_version(), **versions}

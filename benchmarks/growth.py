"""How a build grows: time a row, peak memory and disk for one, ten and a hundred million rows.

    python benchmarks/growth.py [--shared ../shared] [--largest 100000000] [--memory MIB] [--write]

The rows are those of `scale.py`: real short texts, each used again and again with a number of its own, in files of two
million rows. `--largest 1000000` scales everything down. `--write` puts table and plot into docs/scale.md.
"""

import argparse
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from measuring import ROOT, apart, machine, peak_bytes
from scale import make_project

DOCS = ROOT / "docs" / "scale.md"
PLOT = ROOT / "docs" / "growth.svg"
START, END = "<!-- growth: start -->", "<!-- growth: end -->"

T = TypeVar("T")


@dataclass(frozen=True)
class Size:
    """What a build of so many rows took. `disk` is the most that its folder held, shuffled runs and shards together."""

    rows: int
    seconds: float
    peak: int
    disk: int
    written: int


def build_once(project: Path, out: Path, memory: int | None) -> tuple[float, int]:
    """Build the mixture; return its seconds and the peak memory of the process."""
    from taskmix import build, load_catalog
    from taskmix.output.shuffle import MEMORY

    os.environ["TASKMIX_CACHE"] = str(project / "cache")
    catalog, started = load_catalog(project / "catalog.yaml"), perf_counter()
    build("growth", catalog=catalog, out=out, memory=memory or MEMORY)
    return perf_counter() - started, peak_bytes()


def held(folder: Path) -> int:
    """Return the bytes of all files below a folder, some of which may go while they are counted."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def watching(folder: Path, action: Callable[[], T]) -> tuple[T, int]:
    """Return what a function gives, and the most bytes that a folder held meanwhile."""
    most, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            most[0] = max(most[0], held(folder))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return action(), max(most[0], held(folder))
    finally:
        done.set()
        watcher.join()


def measure(data: Path, rows: int, memory: int | None, folder: Path) -> Size:
    """Build a mixture of so many rows in a process of its own."""
    project = folder / f"project-{rows}"
    apart(make_project, project, data, rows)
    outs = folder / f"out-{rows}"
    outs.mkdir()
    (seconds, peak), disk = watching(outs, lambda: apart(build_once, project, outs / "scale", memory))
    return Size(rows, seconds, peak, disk, held(outs))


def table(sizes: Sequence[Size]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| rows | seconds | µs a row | peak memory, MiB | disk while building, GB | mixture, GB |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in sizes:
        micro = each.seconds / each.rows * 1e6
        cells = f"{each.rows:,}", f"{each.seconds:,.1f}", f"{micro:.2f}", f"{each.peak / 2**20:,.0f}"
        lines.append(f"| {' | '.join(cells)} | {each.disk / 1e9:.2f} | {each.written / 1e9:.2f} |")
    return "\n".join(lines)


def plot(sizes: Sequence[Size]) -> str:
    """Return a plot of time a row and peak memory against rows, as SVG: each relative to the largest build."""
    width, height, left, bottom = 560, 260, 50, 40
    series = {
        "µs a row": ("#4063d8", [each.seconds / each.rows * 1e6 for each in sizes]),
        "peak memory, MiB": ("#cb3c33", [each.peak / 2**20 for each in sizes]),
    }
    step = (width - left - 130) / max(1, len(sizes) - 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        'font-size="12"><rect width="100%" height="100%" fill="white"/>',
        f'<line x1="{left}" y1="{height - bottom}" x2="{width - 20}" y2="{height - bottom}" stroke="#888"/>',
    ]
    for index, each in enumerate(sizes):
        x = left + 30 + index * step
        parts.append(f'<text x="{x:.0f}" y="{height - 20}" text-anchor="middle">{each.rows / 1e6:g} M rows</text>')
    for number, (name, (colour, values)) in enumerate(series.items()):
        scale = (height - bottom - 60) / max(values)
        points = [(left + 30 + index * step, height - bottom - value * scale) for index, value in enumerate(values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (x, y), value in zip(points, values, strict=True):
            shift, shown = -8 if number else 16, f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
            parts.append(f'<text x="{x:.1f}" y="{y + shift:.1f}" text-anchor="middle" fill="{colour}">{shown}</text>')
        parts.append(f'<text x="{left}" y="{18 + 16 * number}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>\n"])


def write(sizes: Sequence[Size], about: str) -> None:
    """Put table and plot into the docs."""
    text = DOCS.read_text("utf-8")
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    body = f"{START}\n{about}\n\n{table(sizes)}\n\n![Time a row and peak memory by rows](growth.svg)\n{END}"
    DOCS.write_text(before + body + after, "utf-8")
    PLOT.write_text(plot(sizes), "utf-8")


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description="Measure how builds grow with rows.")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="the folder that holds data/")
    parser.add_argument("--largest", type=int, default=100_000_000, help="rows of the largest  [default: 100000000]")
    parser.add_argument("--memory", type=int, help="MiB of rows to shuffle in memory")
    parser.add_argument("--folder", type=Path, help="where to build; by default the system's temporary folder")
    parser.add_argument("--write", action="store_true", help="write table and plot into docs/scale.md")
    args = parser.parse_args()
    if not (args.shared / "data").is_dir():
        parser.error(f"no datasets in {args.shared / 'data'}: name the folder that holds data/ with --shared")
    about = ", ".join(f"{key} {value}" for key, value in machine().items())
    print(about, file=sys.stderr)
    sizes = []
    for rows in (args.largest // 100, args.largest // 10, args.largest):
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            sizes.append(measure(args.shared / "data", rows, args.memory << 20 if args.memory else None, Path(name)))
        print(table(sizes[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(sizes))
    if args.write:
        write(sizes, about)


if __name__ == "__main__":
    main()

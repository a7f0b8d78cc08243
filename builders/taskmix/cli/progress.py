"""Progress on stderr: a bar with rows/s and time left on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from taskmix.building import Reporters
from taskmix.sharing.pushed import Reporter

_SECONDS_BETWEEN_LINES = 5.0


class _Speed(ProgressColumn):
    """Rows a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} rows/s" if speed else "", style="progress.data.speed")


@contextmanager
def progress() -> Iterator[Reporters]:
    """Yield what a build is to call; shows a bar if stderr is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        lines = _Lines()
        yield Reporters(read=lines.read, start=lines.start, rendered=lines.rendered)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        reading = bar.add_task("reading", total=None)
        rendering = bar.add_task("rendering", total=None, visible=False)

        def read(task: str, rows: int) -> None:
            bar.update(reading, advance=rows, description=f"reading {task}")

        def start(rows: int) -> None:
            bar.update(reading, visible=False)
            bar.update(rendering, total=rows, visible=True)

        def rendered(task: str, rows: int) -> None:
            bar.update(rendering, advance=rows, description=f"rendering {task}")

        yield Reporters(read, start, rendered)


@dataclass
class _Lines:
    """Plain lines: one when planning is done, then one every few seconds."""

    total: int = 0
    done: int = 0
    rows_read: int = 0
    started: float = 0.0
    last: float = field(default_factory=time.monotonic)

    def read(self, task: str, rows: int) -> None:
        self.rows_read += rows

    def start(self, rows: int) -> None:
        self.total, self.started = rows, time.monotonic()
        print(f"read {self.rows_read:,} source rows; {rows:,} examples to render", file=sys.stderr)

    def rendered(self, task: str, rows: int) -> None:
        self.done += rows
        now = time.monotonic()
        if now - self.last < _SECONDS_BETWEEN_LINES and self.done < self.total:
            return
        self.last = now
        speed = self.done / max(now - self.started, 1e-9)
        left = (self.total - self.done) / speed if speed else 0
        print(
            f"{self.done:,} of {self.total:,} rendered, {speed:,.0f} rows/s, {left:.0f} s left",
            file=sys.stderr,
        )


@contextmanager
def transfer(done: str) -> Iterator[Reporter]:
    """Yield what is to be called while bytes are sent or received (`done` is the word for it)."""
    console = Console(stderr=True)
    if not console.is_terminal:
        lines = _ByteLines(done)
        yield Reporter(lines.start, lines.sent, lines.finish)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        shown = bar.add_task(done, total=None, visible=False)
        yield Reporter(
            start=lambda size: bar.update(shown, total=size, visible=True),
            sent=lambda size: bar.update(shown, advance=size),
            finish=lambda: bar.update(shown, visible=False),
        )


@dataclass
class _ByteLines:
    """Plain lines: how much there is, then every few seconds how much is done and how long the rest takes."""

    word: str
    total: int = 0
    done: int = 0
    started: float = 0.0
    last: float = 0.0
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def start(self, size: int) -> None:
        self.total, self.started = size, time.monotonic()
        self.last = self.started
        print(f"{size:,} bytes to be {self.word}", file=sys.stderr)

    def sent(self, size: int) -> None:
        with self._counting:
            self.done += size
            now = time.monotonic()
            if now - self.last < _SECONDS_BETWEEN_LINES:
                return
            self.last = now
            self._show(now)

    def finish(self) -> None:
        self._show(time.monotonic())

    def _show(self, now: float) -> None:
        speed = self.done / max(now - self.started, 1e-9)
        left = (self.total - self.done) / speed if speed > 0 else 0
        shown = f"{self.done:,} of {self.total:,} bytes {self.word}, {speed / 1e6:,.1f} MB/s, {left:.0f} s left"
        print(shown, file=sys.stderr)

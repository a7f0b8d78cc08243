"""Templates and expressions run by Jinja, row by row, in processes whose time, memory and output are bounded.

Rows are cut into pieces of a fixed size, whatever the number of processes; results come back in order, and of several
rows that fail the first is named. So neither texts nor errors depend on how many processes there are.
"""

import fcntl
import marshal
import os
import pickle
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import IO, TYPE_CHECKING

import polars as pl

from taskmix.errors import RowError, TaskmixError, TemplateError
from taskmix.frames import DRAW, SOURCE_ROW
from taskmix.templates.files import Template
from taskmix.templates.packing import dump, pack
from taskmix.templates.parts import Expression, Part, SplitText
from taskmix.templates.rows import Alternatives, row_template, sent
from taskmix.templates.worker import LENGTH, TOO_MUCH_TEXT, Failure, Program, Reply
from taskmix.text import visible

if TYPE_CHECKING:
    from taskmix.templates.remembered import Renders

RENDERED: Mapping[str, pl.DataType] = {"instruction": pl.String(), "input": pl.String(), "output": pl.String()}
ALTERNATIVES: Mapping[str, pl.DataType] = {
    "choices": pl.List(pl.String),
    "answer": pl.Int64(),
    "references": pl.List(pl.String),
}

# what a piece may hold: small enough for several processes to share a batch, large enough that sending it costs little
_PIECE_ROWS = 1_024
_PIECE_BYTES = 4 * 2**20
_MAX_PROGRAMS = 256
_POLL_SECONDS = 0.5
_PIPE_BYTES = 1 << 16
_BOOT = """
import sys
seconds, beats, memory, characters, *sys.path[:] = sys.argv[1:]
from taskmix.templates import worker
worker.main(int(beats), worker.Bounds(float(seconds), int(memory), int(characters)))
"""


@dataclass(frozen=True)
class Limits:
    """What rows may take that Jinja renders.

    Attributes:
        seconds: CPU time of one row, and of compiling one template.
        patience: so many times `seconds` may pass on the clock on the wall, where a process does not even get CPU.
        memory_mib: memory that a process may take beside what it starts with. Linux alone can bound it.
        characters: characters of text that one row may make in all its parts, or one value.
        batch_characters: characters that all rows of one call may make, beside ten times what they hold.
    """

    seconds: float = 10.0
    patience: float = 6.0
    memory_mib: int = 512
    characters: int = 10_000_000
    batch_characters: int = 250_000_000


LIMITS = Limits()
"""What holds where nothing else is said. Neither a catalog nor a template can change it."""


def processors() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class _Call:
    """A program to run on rows, and where its failures are said to be."""

    program: Program
    pickled: bytes
    place: str
    inside: str
    """What follows `place` in messages, before the row."""
    rows: pl.DataFrame
    names: tuple[str, ...]
    characters: int

    def body(self, first: int, count: int) -> bytes:
        """Return what a request says of the rows of a piece."""
        piece = self.rows.slice(first, count)
        draws = piece[DRAW].to_list() if DRAW in piece.columns else [0] * len(piece)
        return dump((self.names, [pack(piece[name]) for name in self.names], draws))

    def head(self, programs: dict[bytes, int]) -> bytes:
        """Return what a request says of the program, given those that the process has compiled."""
        if self.pickled not in programs and len(programs) == _MAX_PROGRAMS:
            programs.clear()
        known = self.pickled in programs
        number = programs.setdefault(self.pickled, len(programs))
        return dump((number, None if known else self.pickled, self.characters))

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Yield the first row and the number of rows of each piece."""
        size = int(self.rows.select(self.names).estimated_size()) if self.names else 0
        step = max(1, min(_PIECE_ROWS, len(self.rows) * _PIECE_BYTES // max(size, 1)))
        for first in range(0, len(self.rows), step):
            yield first, min(step, len(self.rows) - first)

    def error(self, failure: Failure, first: int) -> TaskmixError:
        """Return the error of a failure in the piece that starts with a row."""
        position, unfit, message, place, hint = failure
        row = self.rows[SOURCE_ROW][first + min(position, len(self.rows) - first - 1)]
        where = f"{place or self.place}: {self.inside}, row {row}"
        return (RowError if unfit else TemplateError)(message, where=where, hint=hint)

    def line(self, part: str, line: int) -> str:
        """Return ``file:line`` of a line of the Python that Jinja made of a part."""
        if isinstance(self.program, Expression):
            return self.program.compiled_at(line)
        program = self.program
        parts = {"instruction": program.instruction, "input": program.input, "output": program.output}
        running = parts.get(part, program.choices)
        assert isinstance(running, Part | Expression | SplitText), part
        return running.compiled_at(line)


class Workers:
    """Processes that run templates and expressions on rows. Each starts when it is first needed.

    Opened once for a build, and used by all its threads. Closing ends the processes, and with them what threads wait
    for: so it comes before waiting for threads that render.
    """

    def __init__(
        self, count: int | None = None, limits: Limits | None = None, renders: "Renders | None" = None
    ) -> None:
        """Allow so many processes, by default one for each CPU; `renders` knows what they rendered before."""
        self.count = count or processors()
        self.limits = limits or LIMITS
        self.renders = renders
        self._room = threading.BoundedSemaphore(self.count)
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()
        # one more than there are processes prepares the next piece meanwhile
        self._threads = ThreadPoolExecutor(self.count + 1, "rows")
        self._closed = False
        weakref.finalize(self, _close, self._all)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        with self._lock:
            self._closed = True
            for process in self._all:
                process.kill()
        # who waits for a process sees it end, and cleans up after it
        self._threads.shutdown(cancel_futures=True)
        with self._lock:
            _close(self._idle)
            self._all.difference_update(self._idle)

    def render(
        self,
        rows: pl.DataFrame,
        template: Template,
        task: str,
        alternatives: Alternatives | None = None,
        *,
        marked: bool = False,
    ) -> pl.DataFrame:
        """Render a template on every row, in order: what `templates.render.render` describes, by Jinja alone.

        `marked`: with `sandbox.START` and `END` around the text of each variable.

        Raises:
            TemplateError: the template fails on a row, or takes more than the limits allow.
        """
        program, names = row_template(template, alternatives, marked=marked), sent(template, alternatives)
        schema = {**RENDERED, **(ALTERNATIVES if alternatives else {})}
        call = self._call(program, template.where, f"task {task}, template {template.name}", rows, names)
        frames = [pl.DataFrame(schema=schema)]
        for columns, failure in self._run(call):
            if failure is not None:
                raise failure
            if columns:
                frames.append(pl.DataFrame(list(map(pl.Series, schema, columns, schema.values()))))
        return pl.concat(frames)

    def evaluate(
        self, rows: pl.DataFrame, expression: Expression, task: str
    ) -> tuple[Sequence[object], TaskmixError | None]:
        """Return the values of an expression for every row, or for those before the first that fails, and its error."""
        part = expression.part
        call = self._call(expression, f"{part.file}:{part.line}", f"task {task}", rows, expression.names)
        values: list[object] = []
        for columns, failure in self._run(call):
            for column in columns:
                values.extend(column)
            if failure is not None:
                return values, failure
        return values, None

    def _call(self, program: Program, place: str, inside: str, rows: pl.DataFrame, wanted: frozenset[str]) -> _Call:
        names = tuple(name for name in rows.columns if name in wanted)
        return _Call(program, pickle.dumps(program), place, inside, rows, names, self.allowed(rows))

    def allowed(self, rows: pl.DataFrame) -> int:
        """Return how many characters these rows may make in one call."""
        return int(self.limits.batch_characters + 10 * rows.estimated_size())

    def _run(self, call: _Call) -> Iterator[tuple[Sequence[Sequence[object]], TaskmixError | None]]:
        """Yield columns in the order of the rows; the first failure is the last."""
        characters = 0
        for first, replies in self._in_order(call):
            seen = 0
            for _, failure, columns, size in replies:
                characters += size
                if failure is None and characters > call.characters:
                    failure = (seen, False, TOO_MUCH_TEXT, "", "")
                seen += len(columns[0]) if columns else 0
                yield columns, None if failure is None else call.error(failure, first)
                if failure is not None:
                    return

    def _in_order(self, call: _Call) -> Iterator[tuple[int, Sequence[Reply]]]:
        """Yield the replies to all pieces, a few of which are worked on ahead."""
        pieces = list(call.pieces())
        if len(pieces) == 1:
            yield 0, self._ask(call, *pieces[0])
            return
        running: deque[tuple[int, Future[Sequence[Reply]]]] = deque()
        try:
            for first, count in pieces:
                running.append((first, self._threads.submit(self._ask, call, first, count)))
                if len(running) > self.count + 2:
                    done, future = running.popleft()
                    yield done, future.result()
            while running:
                done, future = running.popleft()
                yield done, future.result()
        finally:
            for _, future in running:
                future.cancel()

    def _ask(self, call: _Call, first: int, count: int) -> Sequence[Reply]:
        """Return what a process makes of a piece. One that was ended by something else gets a second try."""
        body = call.body(first, count)
        for last in (False, True):
            try:
                with self._process() as process:
                    return process.ask(call.head(process.programs), body)
            except _EndedError as end:
                if self._closed:
                    raise TaskmixError("the rendering was broken off") from None
                failure = end.failure(call, self.limits)
                if last or end.is_final:
                    return [(False, failure, (), 0)]
        raise AssertionError("a piece has an answer, or a failure")

    @contextmanager
    def _process(self) -> Iterator["_Process"]:
        """Yield a process that waits for a request. If anything goes wrong with it, it is ended."""
        with self._room:
            process = self._take()
            try:
                yield process
            except BaseException:
                with self._lock:
                    self._all.discard(process)
                process.close()
                raise
            with self._lock:
                self._idle.append(process)

    def _take(self) -> "_Process":
        with self._lock:
            if self._closed:
                raise TaskmixError("the rendering was broken off")
            while self._idle:
                process = self._idle.pop()
                if process.lives:
                    return process
                self._all.discard(process)
                process.close()
            process = _Process(self.limits)
            self._all.add(process)
            return process


def _close(processes: "Iterable[_Process]") -> None:
    for process in processes:
        process.close()


class _EndedError(Exception):
    """A process ended, or was ended, while it had a request: after how many rows, and what it last said."""

    def __init__(self, code: int, stuck: bool, rows: int, said: str) -> None:
        super().__init__(code)
        self.code, self.stuck, self.rows, self.said = code, stuck, rows, said

    @property
    def is_final(self) -> bool:
        """Whether a second try would end like this one."""
        return self.stuck or self.code == -signal.SIGPROF

    def failure(self, call: _Call, limits: Limits) -> Failure:
        """Return what to say of the row that the process was at."""
        compiling = not self.rows
        found = re.search(r'File "<template ([a-z]*)>", line ([0-9]+) in', self.said)
        place = call.line(found[1], int(found[2])) if found and not compiling else ""
        message, hint = self._words(compiling, limits)
        return max(0, self.rows - 1), False, message, place, hint

    def _words(self, compiling: bool, limits: Limits) -> tuple[str, str]:
        """Return message and hint."""
        if self.is_final:
            return f"takes more than {limits.seconds:g} s{' to compile' if compiling else ''}", ""
        last = visible(self.said.strip().rpartition("\n")[2])
        if last.startswith("MemoryError"):
            return f"needs more than {limits.memory_mib:,} MiB of memory", ""
        how = f"signal {-self.code}" if self.code < 0 else f"exit code {self.code}"
        return f"the process that renders it ended ({last or how})", "it may have run out of memory"


class _Process:
    """One process that runs programs. `programs` are those that it has compiled, by number."""

    def __init__(self, limits: Limits) -> None:
        self.programs: dict[bytes, int] = {}
        self._patience = limits.seconds * limits.patience
        self._beats, beats = os.pipe()
        bounds = (limits.seconds, beats, limits.memory_mib << 20, limits.characters)
        try:
            # not -m, nor the working folder in its path: that may hold a hostile jinja2.py
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, *map(str, bounds), *filter(None, sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[beats],
                # Ctrl-C is for the parent, which ends its processes
                process_group=0,
                bufsize=0,
            )
        except OSError as error:
            os.close(self._beats)
            message = f"a process that renders templates cannot be started: {error.strerror}"
            raise TaskmixError(message, hint="free some memory, or use fewer with --workers") from None
        finally:
            os.close(beats)
        self._input, self._output, self._said = map(
            _descriptor, (self._child.stdin, self._child.stdout, self._child.stderr)
        )
        for pipe in (self._input, self._said, self._beats):
            os.set_blocking(pipe, False)
        for pipe in (self._input, self._output):
            _widen(pipe)

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self._child.poll() is None

    def kill(self) -> None:
        """End it, whatever it is doing."""
        self._child.kill()

    def close(self) -> None:
        """End it, and forget it."""
        self._child.kill()
        self._child.wait()
        for file in (self._child.stdin, self._child.stdout, self._child.stderr):
            if file is not None:
                file.close()
        if self._beats >= 0:
            os.close(self._beats)
            self._beats = -1

    def ask(self, head: bytes, body: bytes) -> Sequence[Reply]:
        """Send a request and return the replies. Raises _EndedError if the process ends before, or is stuck."""
        self._send(head)
        self._send(body)
        replies: list[Reply] = []
        more = True
        while more:
            replies.append(marshal.loads(self._receive()))
            more = replies[-1][0]
        _emptied(self._beats)
        return replies

    def _send(self, content: bytes) -> None:
        rest = memoryview(len(content).to_bytes(LENGTH, "little") + content)
        while rest:
            self._wait(self._input, select.POLLOUT)
            try:
                rest = rest[os.write(self._input, rest) :]
            except BrokenPipeError:
                raise self._ended() from None

    def _receive(self) -> bytes:
        return self._read(int.from_bytes(self._read(LENGTH), "little"))

    def _read(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            self._wait(self._output, select.POLLIN)
            block = os.read(self._output, size - len(found))
            if not block:
                raise self._ended()
            found += block
        return bytes(found)

    def _wait(self, pipe: int, event: int) -> None:
        """Wait until a pipe is ready, as long as the process gets on from row to row."""
        poll = select.poll()
        poll.register(pipe, event)
        rows, waited = self._rows(), 0.0
        while True:
            started = time.monotonic()
            if poll.poll(_POLL_SECONDS * 1000):
                return
            # not all of the time that has passed: both processes may have been asleep with their machine
            waited += min(time.monotonic() - started, 2 * _POLL_SECONDS)
            if self._rows() != rows:
                rows, waited = self._rows(), 0.0
            if waited > self._patience:
                raise self._ended(stuck=True)

    def _rows(self) -> int:
        """Return the number of rows of the request that the process has begun with."""
        (waiting,) = struct.unpack("i", fcntl.ioctl(self._beats, termios.FIONREAD, bytes(4)))
        return int(waiting)

    def _ended(self, stuck: bool = False) -> _EndedError:
        if stuck:
            self._child.kill()
        try:
            # it has closed its pipe: it is about to end
            code = self._child.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            code = self._child.wait()
        return _EndedError(code, stuck, self._rows(), _emptied(self._said).decode("utf-8", "replace"))


def _descriptor(file: IO[bytes] | None) -> int:
    assert file is not None
    return file.fileno()


def _widen(pipe: int) -> None:
    """Let a pipe hold a whole piece, where the system can, so that neither side waits for the other as often."""
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 20)
    except (AttributeError, OSError):
        # not Linux, or too many pipes of this user are wide already
        return


def _emptied(pipe: int) -> bytes:
    """Return what stands in a pipe."""
    try:
        return os.read(pipe, _PIPE_BYTES)
    except BlockingIOError:
        return b""

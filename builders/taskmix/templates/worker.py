"""The process that runs templates on rows, within limits: started by `rowwise`, spoken to over its pipes.

It imports no more than Jinja, so that it starts soon and is small. Requests are pickled in part, as only the parent
writes them; a reply is marshalled plain data. For each row it writes a byte to a pipe that nobody empties meanwhile:
from their number the parent knows where it was if it hangs or dies.
"""

import faulthandler
import marshal
import mmap
import os
import pickle
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import BinaryIO

from taskmix.errors import RowError, TaskmixError, TemplateError
from taskmix.templates.packing import Packed, load, unpack
from taskmix.templates.parts import OUT_OF_MEMORY, Expression
from taskmix.templates.rows import RowRenderer, RowTemplate

Program = RowTemplate | Expression
Failure = tuple[int, bool, str, str, str]
"""The position of the row that failed, whether its value is at fault, and the error's message, place and hint."""
Reply = tuple[bool, Failure | None, Sequence[Sequence[object]], int]
"""Whether more follows, what failed, the columns of the rows since the last reply, and about their characters."""

Head = tuple[int, bytes | None, int]
"""A program's number, its pickle if this process has not seen it yet, and the characters that all rows may make."""
Body = tuple[Sequence[str], Sequence[Packed], Sequence[int]]
"""The rows' names and columns, and their draws for `choice`. Head and body are two messages that make a request."""

LENGTH = 8
TOO_MUCH_TEXT = "makes, with the rows before it, more text than a batch may have"
_MAX_DEPTH = 64
# a reply is sent when it has so many characters, so that neither side holds the text of many rows twice
_REPLY_CHARACTERS = 8_000_000
# the last version of marshal that writes a list in two places twice: a small reply cannot unfold in the parent
_MARSHAL = 2


@dataclass(frozen=True)
class Bounds:
    """What a row may take: CPU seconds, and characters of text. `memory` is what the process may, in bytes."""

    seconds: float
    memory: int
    characters: int


def main(beats: int, bounds: Bounds) -> None:
    """Answer requests until the parent closes the pipe. `beats` is the descriptor of the pipe that counts rows."""
    # a row that takes too long ends the process from outside Python, whatever it is doing: where it was is written
    # to stderr, then the signal does what it does by default
    faulthandler.register(signal.SIGPROF, file=2, chain=True)
    worker = _Worker(bounds, beats)
    _limit_memory(bounds.memory)
    while not worker.exhausted and (head := _receive(sys.stdin.buffer)):
        body = _receive(sys.stdin.buffer)
        for reply in worker.answer(load(head), load(body)):
            _send(sys.stdout.buffer, _dumped(reply))


def _send(pipe: BinaryIO, content: bytes) -> None:
    """Write one message."""
    pipe.write(len(content).to_bytes(LENGTH, "little") + content)
    pipe.flush()


def _receive(pipe: BinaryIO) -> bytes:
    """Read one message; empty at the end of the pipe."""
    return pipe.read(int.from_bytes(pipe.read(LENGTH), "little"))


def _limit_memory(size: int) -> None:
    """Allow so many bytes more than the process has now, where the system can."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        bound = pages * mmap.PAGESIZE + size
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    except (OSError, ValueError):
        # not Linux, or bounded more tightly already
        return


@dataclass
class _Worker:
    """Runs programs on rows. `exhausted`: it has hit its bound of memory, and another should take its place."""

    bounds: Bounds
    beats: int
    programs: dict[int, Program] = field(default_factory=dict)
    position: int = 0
    exhausted: bool = False

    def answer(self, head: Head, body: Body) -> Iterator[Reply]:
        """Yield the columns of all rows, or of those before the first that fails, in pieces of bounded size."""
        (number, program, characters), (names, columns, draws) = head, body
        rows = zip(*map(unpack, columns), strict=True) if columns else repeat((), len(draws))
        found: list[Sequence[object]] = []
        piece = total = 0
        failure: Failure | None = None
        try:
            running = self._program(number, program)
            run = _function(running)
            for position, (values, draw) in enumerate(zip(rows, draws, strict=True)):
                self._start(position)
                os.write(self.beats, b".")
                made = run(dict(zip(names, values, strict=True)), draw)
                size = sum(map(_characters, made))
                if size > self.bounds.characters:
                    raise TemplateError(
                        f"makes more than {self.bounds.characters:,} characters", where=_at(running, made)
                    )
                piece, total = piece + size, total + size
                if total > characters:
                    raise TemplateError(TOO_MUCH_TEXT)
                found.append(made)
                if piece > _REPLY_CHARACTERS:
                    self._stop()
                    yield True, None, _columns(found), piece
                    found, piece = [], 0
        except TaskmixError as error:
            failure = self._failure(error)
        self._stop()
        yield False, failure, _columns(found), piece

    def _program(self, number: int, program: bytes | None) -> Program:
        """Return a program, compiled now if it is new."""
        self._start(0)
        if program is not None:
            self.programs[number] = pickle.loads(program)
        return self.programs[number]

    def _start(self, position: int) -> None:
        """Start the clock of a row."""
        self.position = position
        signal.setitimer(signal.ITIMER_PROF, self.bounds.seconds)

    def _stop(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _failure(self, error: TaskmixError) -> Failure:
        message = error.message
        if message == OUT_OF_MEMORY:
            self.exhausted = True
            message = f"needs more than {self.bounds.memory >> 20:,} MiB of memory"
        return self.position, isinstance(error, RowError), message, error.where, error.hint


def _function(program: Program) -> Callable[[dict[str, object], int], Sequence[object]]:
    """Return what makes a row's values."""
    if isinstance(program, RowTemplate):
        return RowRenderer(program)
    return lambda row, draw: (_plain(program.value(row)),)


def _at(program: Program, made: Sequence[object]) -> str:
    """Return ``file:line`` of what made the longest of a row's values."""
    parts = (program.part,) if isinstance(program, Expression) else (program.instruction, program.input, program.output)
    longest = max(zip(map(_characters, made), parts, strict=False), key=lambda each: each[0])[1]
    return f"{longest.file}:{longest.line}"


def _dumped(value: object) -> bytes:
    return marshal.dumps(value, _MARSHAL)  # type: ignore[arg-type]


def _columns(rows: Sequence[Sequence[object]]) -> Sequence[Sequence[object]]:
    return list(zip(*rows, strict=True))


def _characters(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, int):
        return value.bit_length() // 3 + 1
    return 1 if value is None else len(_dumped(value))


def _plain(value: object) -> object:
    """Return a value of an expression as plain data, which can be sent. Raises RowError if it holds anything else."""
    if value is None or type(value) in (str, bool, int, float):
        return value
    try:
        _dumped(value)
    except ValueError:
        return _rebuilt(value, _MAX_DEPTH)
    return value


def _rebuilt(value: object, depth: int) -> object:
    if not depth:
        raise RowError(f"a value is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, dict):
        return {_rebuilt(key, 1): _rebuilt(each, depth - 1) for key, each in value.items()}
    if isinstance(value, list | tuple | range):
        return [_rebuilt(each, depth - 1) for each in value]
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise RowError(f"a value is a {type(value).__name__}, which no column holds")

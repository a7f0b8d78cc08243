"""Running generated Python against tests, in a child process that can do little.

Nothing here runs by itself: the caller has asked the user, who gave an explicit flag.

What bounds the code (Linux and macOS; elsewhere it is refused):

- a process of its own in a session of its own, killed as a whole, with all that it started, at a limit of wall time;
- limits of the kernel on CPU time, memory, the size of a file, open files, processes and core dumps;
- an empty temporary folder as its working folder, removed afterwards; standard input is empty, output is cut;
- a clean environment: no variable of the user's, no home; `python -I -S -E -B`: no site packages, no user folder;
- on Linux, where the system lets users have namespaces: no network, and no process but its own can be seen or
  signalled. Where it does not, `Isolation` says so, and the caller says it to the user.

What does not bound it: it reads whatever files the user may read, and may write where the user may write, up to the
file size; without a namespace, a process that leaves the session outlives it. It is a guard against accidents and
common mischief of a model, no jail against an attacker. For that use a container or virtual machine with nothing in it.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from taskmix.errors import UsageError

Outcome = Literal["passed", "failed", "timeout", "killed"]

_MEBIBYTE = 1 << 20
_KEPT = 4_000
_LOOK = 0.05
_RUNNER = """
import os, resource, sys
done = int(sys.argv[1])
for each in sys.argv[2:]:
    name, _, bound = each.partition("=")
    try:
        which = getattr(resource, name)
        hard = resource.getrlimit(which)[1]
        bound = int(bound) if hard == resource.RLIM_INFINITY else min(int(bound), hard)
        resource.setrlimit(which, (bound, bound))
    except (AttributeError, ValueError, OSError):
        pass  # macOS has not all of them
word = os.read(0, 64)
with open("program.py", encoding="utf-8") as file:
    source = file.read()
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
exec(compile(source, "program.py", "exec"), {"__name__": "__main__"})
os.write(done, word)
"""
# The limits are set in there and not by `preexec_fn`, which is unsafe, and warned of, where there are threads.


@dataclass(frozen=True)
class Limits:
    """What a program may use: seconds, MiB, and counts.

    `processes` bounds what the program may start. The kernel sees to that, but not for root: then they are counted
    every 50 ms, and a program with more is killed.
    """

    seconds: float = 10.0
    memory: int = 1_024
    file: int = 16
    files: int = 64
    processes: int = 64


@dataclass(frozen=True)
class Verdict:
    """How a program fared.

    Attributes:
        outcome: `passed` if it ran to its end without an error; `failed` if it did not; `timeout`; `killed` by a limit
            or a signal.
        reason: the last line of its error, the signal, or the limit; empty if it passed.
        output: the end of what it printed, standard output and error together.
    """

    outcome: Outcome
    reason: str
    output: str

    @property
    def passed(self) -> bool:
        """Whether all tests passed."""
        return self.outcome == "passed"


@dataclass(frozen=True)
class Isolation:
    """What keeps programs from network and other processes: the command before Python's, and words for the user."""

    command: tuple[str, ...]
    words: str


@lru_cache(maxsize=1)
def isolation() -> Isolation:
    """Return what this machine allows, found by trying."""
    unshare = shutil.which("unshare")
    if sys.platform != "linux" or unshare is None:
        return Isolation((), "not isolated: the network and other processes can be reached (no unshare on this system)")
    whole = (unshare, "--user", "--map-root-user", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")
    part = (unshare, "--user", "--map-root-user", "--net")
    for command, words in (
        (whole, "isolated: no network, no other processes"),
        (part, "partly isolated: no network, but other processes can be seen"),
    ):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            tried = subprocess.run([*command, "true"], capture_output=True, timeout=10, stdin=subprocess.DEVNULL)
            if tried.returncode == 0:
                return Isolation(command, words)
    return Isolation((), "not isolated: the network can be reached (this system gives users no namespaces)")


def run_tests(program: str, tests: str, limits: Limits | None = None) -> Verdict:
    """Return whether a program and then its tests run to the end without an error.

    Args:
        program: Python source, such as a function definition.
        tests: Python source that follows it and raises where something is wrong, such as assertions.
        limits: by default those of `Limits`.

    Raises:
        UsageError: this is Windows, which has no such limits.
        OSError: no process can be started here.
    """
    if os.name != "posix":
        raise UsageError("generated code is run on Linux and macOS alone", hint="leave out the tests of code")
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="taskmix-sandbox-", ignore_cleanup_errors=True) as folder:
        source = Path(folder) / "program.py"
        source.write_text(f"{program}\n\n{tests}\n", encoding="utf-8", errors="backslashreplace")
        with tempfile.TemporaryFile() as output:
            ending = _run(Path(folder), limits, output.fileno())
            size = output.seek(0, os.SEEK_END)
            output.seek(max(0, size - _KEPT))
            text = output.read().decode(errors="replace")
    return _verdict(ending, text, limits)


def run_all(
    programs: Sequence[tuple[str, str]], limits: Limits | None = None, workers: int | None = None
) -> list[Verdict]:
    """Return the verdict on each (program, tests), some of them run at a time; by default one a core."""
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        return list(pool.map(lambda each: run_tests(each[0], each[1], limits), programs))


@dataclass(frozen=True)
class _Ending:
    """How a process ended: its exit code (None: by us), whether its tests came to their end, whether it was crowded."""

    code: int | None
    done: bool
    crowded: bool


def _run(folder: Path, limits: Limits, output: int) -> _Ending:
    """Run the program in a folder, and see to its end.

    An exit code of 0 proves nothing: `sys.exit(0)` gives it before any test ran. So the runner writes a word of this
    call's, which the program would have to look for, to a pipe when all is done.
    """
    word = os.urandom(16).hex().encode()
    reading, writing = os.pipe()
    python = [sys.executable, "-I", "-S", "-E", "-B", "-X", "utf8", "-c", _RUNNER, str(writing), *_bounds(limits)]
    try:
        process = subprocess.Popen(
            [*isolation().command, *python],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(folder), "TMPDIR": str(folder)},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=(writing,),
            start_new_session=True,
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    try:
        with contextlib.suppress(BrokenPipeError):
            assert process.stdin is not None
            process.stdin.write(word)
            process.stdin.close()
        crowded = _wait(process, limits)
        code = process.poll()
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.set_blocking(reading, False)
        try:
            said = os.read(reading, 64)
        except BlockingIOError:
            said = b""
        os.close(reading)
    return _Ending(code, said == word, crowded)


def _wait(process: "subprocess.Popen[bytes]", limits: Limits) -> bool:
    """Wait until the process ends, the time is over, or it has too many children; return whether that was it."""
    end = time.monotonic() + limits.seconds
    counted = sys.platform == "linux" and os.geteuid() == 0
    while (left := end - time.monotonic()) > 0:
        try:
            process.wait(min(left, _LOOK) if counted else left)
        except subprocess.TimeoutExpired:
            if counted and _crowd(process.pid) > limits.processes:
                return True
        else:
            return False
    return False


def _crowd(pid: int) -> int:
    """Return how many processes are in the namespace of a process' children, or else in its session."""
    try:
        space = Path(f"/proc/{pid}/ns/pid_for_children").readlink()
        shared = space == Path("/proc/self/ns/pid").readlink()
    except OSError:
        return 0
    count = 0
    for entry in os.listdir("/proc"):  # noqa: PTH208 a list of names is all that is needed, and often
        if entry.isdigit():
            with contextlib.suppress(OSError):
                count += os.getsid(int(entry)) == pid if shared else Path(f"/proc/{entry}/ns/pid").readlink() == space
    return count


def _bounds(limits: Limits) -> list[str]:
    """Return the kernel's limits as the runner takes them."""
    bounds = {
        "RLIMIT_CPU": int(limits.seconds) + 1,
        "RLIMIT_AS": limits.memory * _MEBIBYTE,
        "RLIMIT_FSIZE": limits.file * _MEBIBYTE,
        "RLIMIT_NOFILE": limits.files,
        "RLIMIT_NPROC": limits.processes,
        "RLIMIT_CORE": 0,
    }
    return [f"{name}={bound}" for name, bound in bounds.items()]


def _verdict(ending: _Ending, output: str, limits: Limits) -> Verdict:
    code = ending.code
    if ending.crowded:
        return Verdict("killed", f"more than {limits.processes} processes", output)
    if code is None:
        return Verdict("timeout", f"no end after {limits.seconds:g} s", output)
    number = -code if code < 0 else code - 128 if code > 128 else 0
    lines = output.strip().splitlines()
    if number:
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        if name == "SIGXCPU":
            return Verdict("timeout", f"more than {limits.seconds:g} s of CPU time", output)
        return Verdict("killed", f"ended by {name}", output)
    if ending.done and code == 0:
        return Verdict("passed", "", output)
    if code == 0:
        return Verdict("failed", "it ended before its tests did", output)
    return Verdict("failed", lines[-1][:200] if lines else f"exit code {code}", output)

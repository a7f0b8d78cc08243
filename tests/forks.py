"""Runs of `mix` and of scripts, each a fork of one process that has imported what they need.

Importing the hub's clients takes longer than most runs, and which hub they ask is settled when they are imported.
"""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
FORKING = """
import json, os, signal, sys
for name in sys.argv[1].split(","):
    __import__(name)
from taskmix.cli import main
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    if os.fork():
        continue
    # this process waits for the next, which is the run
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    run = os.fork()
    if run:
        code = os.waitstatus_to_exitcode(os.waitpid(run, 0)[1])
        with open(job["place"] + "/code.part", "w") as file:
            file.write(str(code))
        os.rename(job["place"] + "/code.part", job["place"] + "/code")
        os._exit(0)
    os.chdir(job["folder"])
    os.environ.update(job["environment"])
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(job["place"] + "/" + name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), stream)
    if pid := os.environ.get("TASKMIX_TEST_PID"):
        with open(pid, "w") as file:
            file.write(str(os.getpid()))
    if "script" in job:
        exec(compile(job["script"], "script", "exec"), {"__name__": "__main__"})
        sys.exit(0)
    main(job["arguments"], prog_name="mix")
"""


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Return all that it printed."""
        return self.stdout + self.stderr


@dataclass(frozen=True)
class Run:
    """A run that was begun, and the folder where its output comes to lie."""

    place: Path

    def end(self, timeout: float = 300) -> Ended:
        """Wait for its end."""
        end = time.monotonic() + timeout
        while not (self.place / "code").exists():
            assert time.monotonic() < end, (self.place / "stderr").read_text("utf-8")
            time.sleep(0.01)
        stdout, stderr = ((self.place / name).read_text("utf-8") for name in ("stdout", "stderr"))
        return Ended(int((self.place / "code").read_text()), stdout, stderr)


@dataclass(frozen=True)
class Forks:
    """A process that has imported, and what its runs share."""

    process: "subprocess.Popen[str]"
    root: Path
    environment: Mapping[str, str]
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def mix(self, *arguments: str, **environment: str) -> Ended:
        """Run a command of `mix` to its end."""
        return self.begin(*arguments, **environment).end()

    def begin(self, *arguments: str, **environment: str) -> Run:
        """Begin a command of `mix`."""
        return self._begin({"arguments": arguments}, environment)

    def script(self, text: str, **environment: str) -> Ended:
        """Run a script to its end."""
        return self.begin_script(text, **environment).end()

    def begin_script(self, text: str, **environment: str) -> Run:
        """Begin a script."""
        return self._begin({"script": text}, environment)

    def _begin(self, what: Mapping[str, object], environment: Mapping[str, str]) -> Run:
        place = self.root / "runs" / str(next(self._numbers))
        place.mkdir(parents=True)
        job = {"folder": str(self.root), "place": str(place), "environment": {**self.environment, **environment}}
        assert self.process.stdin is not None
        # in one piece: several threads may begin runs
        self.process.stdin.write(json.dumps({**job, **what}) + "\n")
        self.process.stdin.flush()
        return Run(place)


@contextmanager
def forking(root: Path, settled: Mapping[str, str], modules: str, **environment: str) -> Iterator[Forks]:
    """Start a process in an environment that is settled, with modules imported; its runs may have others besides."""
    root.mkdir(parents=True, exist_ok=True)
    command, pipe = [sys.executable, "-c", FORKING, modules], subprocess.PIPE
    with subprocess.Popen(command, env=dict(settled), cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Forks(process, root, environment)
        assert process.stdin is not None
        process.stdin.close()

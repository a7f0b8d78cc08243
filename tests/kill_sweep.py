"""Break a build off at each of its system calls below the output's parent folder, and look at what is left.

    python tests/kill_sweep.py                          every scenario, every call: takes a while
    python tests/kill_sweep.py --every 20 exchange      each rename and fsync, and every 20th other call
    python tests/kill_sweep.py --fail                   the call fails (disk full, no permission, broken disk)

Mixture B is built over mixture A once, whole, under strace, which lists the calls. Then it is built once more for
each call, and killed by SIGKILL on entering it, so that the call does not happen. What must hold then: the output
is A or B to the byte, and a plain build of B brings B and leaves nothing beside it. Needs strace, on Linux.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

import taskmix
from taskmix.caching.fingerprints import SETTLED_NS
from taskmix.output.lock import verify
from tests.forks import Ended, Forks, forking

WRITES = ("write", "writev", "pwrite64", "pwritev", "pwritev2", "copy_file_range", "sendfile", "ftruncate", "fallocate")
SYNCS = ("fsync", "fdatasync")
RENAMES = ("rename", "renameat", "renameat2")
OTHERS = ("openat", "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "link", "linkat", "symlink", "symlinkat")
CALLS = (*WRITES, *SYNCS, *RENAMES, *OTHERS)
ERRORS = {**dict.fromkeys((*WRITES, "mkdir", "mkdirat"), "ENOSPC"), **dict.fromkeys((*SYNCS, *RENAMES), "EIO")}
LOCK_FILE = ".out.lock"

_CATALOG = """\
version: 1
tasks:
  toy:
    kind: text-classification
    cluster: sentiment
    source: {path: toy.jsonl}
    splits: {train: train, validation: {from: train, fraction: 0.25}}
    labels: [negative, positive]
    license: cc0-1.0
mixtures:
  tiny: {tasks: [toy]}
"""
# with one template there is one batch of rows a split
_TEMPLATES = """\
- name: verdict
  instruction: Good or bad?
  input: "{{ text }}"
  output: "{{ choices[label] }}"
"""
# a build that waits for strace: some systems let a process be traced by its parent alone, unless it allows it itself
_STOPPED = """
import ctypes, os, signal
from taskmix.cli import main
PR_SET_PTRACER, ANY = 0x59616D61, -1
ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANY)
os.kill(os.getpid(), signal.SIGSTOP)
main({arguments}, prog_name="mix")
"""
_IMPORTED = "taskmix.cli,taskmix.cli.display,taskmix.cli.progress,taskmix.building,polars,numpy.ma"
# a line of `strace -f -y`: "THREAD CALL(ARGUMENTS"; a path is quoted or stands behind its descriptor
_LINE = re.compile(r"(\d+) +(\w+)\((.*)")
_PATH = re.compile(r'(?<!AT_FDCWD)<(/[^<>]*)>|"(/[^"]*)"')

Digests = dict[str, str]


@dataclass(frozen=True)
class Workshop:
    """Where the sweep works: a catalog, and whole mixtures of three seeds to compare with; the builds are forks."""

    root: Path
    forks: Forks

    @property
    def catalog(self) -> Path:
        return self.root / "catalog.yaml"

    def mixture(self, name: str) -> Path:
        return self.root / name


@dataclass(frozen=True)
class Scenario:
    """What lies in the folder before the build, and whether the system can exchange two folders."""

    prepare: Callable[[Workshop, Path], None]
    exchange: bool = True
    first: bool = False


@dataclass(frozen=True)
class Call:
    """The nth call of a name by one thread on a path, relative to the output's parent; PID is that of the build."""

    name: str
    path: str
    nth: int
    beyond: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.nth} of {self.path}"


@dataclass(frozen=True)
class Outcome:
    """What a broken build left: which mixture, by name, and what is wrong with it."""

    call: Call
    reached: bool
    left: str
    faults: tuple[str, ...]


def _over_a(workshop: Workshop, folder: Path) -> None:
    shutil.copytree(workshop.mixture("A"), folder / "out")


def _cut_between_renames(workshop: Workshop, folder: Path) -> None:
    shutil.copytree(workshop.mixture("A"), folder / ".out.previous")
    shutil.copytree(workshop.mixture("B"), folder / ".out.building-0")


def _cut_after_renames(workshop: Workshop, folder: Path) -> None:
    _over_a(workshop, folder)
    shutil.copytree(workshop.mixture("C"), folder / ".out.previous")
    shutil.copytree(workshop.mixture("C") / "data", folder / ".out.building-0" / "data")


SCENARIOS = {
    "exchange": Scenario(_over_a),
    "first": Scenario(lambda workshop, folder: None, first=True),
    "two-renames": Scenario(_over_a, exchange=False),
    "cut-between-renames": Scenario(_cut_between_renames, exchange=False),
    "cut-after-renames": Scenario(_cut_after_renames, exchange=False),
}


@contextmanager
def open_workshop() -> Iterator[Workshop]:
    """Make a workshop in a folder of its own: a tiny catalog, and mixtures A, B and C of it."""
    settled = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "POLARS_MAX_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        with forking(root, settled, _IMPORTED) as forks:
            workshop = Workshop(root, forks)
            _fill(workshop)
            yield workshop


def _fill(workshop: Workshop) -> None:
    root = workshop.root
    workshop.catalog.write_text(_CATALOG)
    (root / "templates").mkdir()
    (root / "templates" / "toy.yaml").write_text(_TEMPLATES)
    rows = [{"text": f"row {number}", "label": number % 2} for number in range(40)]
    (root / "toy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # a hash is kept once its file has not changed for so long: by then, lest some build do so, which is a rename more
    time.sleep(2 * SETTLED_NS / 1e9)
    for seed, name in enumerate("ABC"):
        _build(workshop, workshop.mixture(name), seed)


def digests(folder: Path) -> Digests | None:
    """Return the SHA-256 of every file below a folder by its path; None if there is no folder."""
    if not folder.exists():
        return None
    files = (path for path in sorted(folder.rglob("*")) if not path.is_dir())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def calls(workshop: Workshop, scenario: Scenario) -> list[Call]:
    """Build once, whole, and return the calls that can change what lies in the output's parent, in order."""
    with _folder(workshop, scenario) as folder:
        log, build = _strace(workshop, folder, scenario)
    if build.code:
        raise RuntimeError(f"the build fails under strace:\n{build.stderr}")
    found, seen = [], list[tuple[str, str, set[str]]]()
    for thread, name, arguments in _LINE.findall(log):
        absolute = [a or b for a, b in _PATH.findall(arguments)]
        inside = [os.path.relpath(path, folder) for path in absolute if Path(path).is_relative_to(folder)]
        paths = [re.sub(r"building-[1-9]\d*", "building-PID", path) for path in inside]
        seen.append((thread, name, set(paths)))
        if paths and (name != "openat" or re.search("O_CREAT|O_WRONLY|O_RDWR", arguments)):
            only = _only(name, paths[0])
            same = [other for other in seen if other[:2] == (thread, name) and (not only or only & other[2])]
            found.append(Call(name, paths[0], len(same)))
    return found


def sample(found: Sequence[Call], every: int) -> list[Call]:
    """Return each rename and fsync, and of the other calls every so many."""
    others = [call for call in found if not _always(call)]
    chosen = set(others[every // 2 :: every])
    return [call for call in found if _always(call) or call in chosen]


def beyond(found: Sequence[Call]) -> list[Call]:
    """Return the call after the last of each kind: a build to be killed there finishes."""
    last: dict[tuple[str, str], Call] = {}
    for call in found:
        if call.name != "openat":
            last[call.name, call.path if call.name in WRITES else ""] = call
    return [Call(call.name, call.path, call.nth + 1, beyond=True) for call in last.values()]


def break_off(workshop: Workshop, scenario: Scenario, call: Call, fail: bool) -> Outcome:
    """Build B, killed at a call or with the call failing, and check what is left; then build B plainly."""
    with _folder(workshop, scenario) as folder:
        before = _beside_out(folder)
        error = ERRORS.get(call.name, "EACCES")
        log, build = _strace(workshop, folder, scenario, call, f"error={error}" if fail else "signal=SIGKILL")
        reached = _was_broken(log, folder, call) and (fail or build.code == -9)
        whole = {name: digests(workshop.mixture(name)) for name in "AB"}
        found = digests(folder / "out")
        left = next((name for name in whole if whole[name] == found), "nothing" if found is None else "a blend")
        faults = list(_faults(folder, scenario, left, whole["A"]))
        if reached == call.beyond:
            faults.append(f"the call {'happened' if reached else 'did not happen'}")
        if fail:
            faults += _faults_of_failure(call, left, build)
            if remains := sorted(set(_beside_out(folder)) - set(before)):
                faults += [f"the failed build leaves {remains}"] * build.code
        try:
            _build(workshop, folder / "out", seed=1)
        except taskmix.TaskmixError as failure:
            faults.append(f"the next build fails: {failure}")
        if digests(folder / "out") != whole["B"]:
            faults.append("the next build does not give B")
        if remains := _beside_out(folder):
            faults.append(f"the next build leaves {remains}")
    return Outcome(call, reached, left, tuple(faults))


def _faults(folder: Path, scenario: Scenario, left: str, a: Digests | None) -> Iterator[str]:
    """Yield what is wrong with what a broken build left."""
    if left == "nothing":
        aside = not scenario.exchange and digests(folder / ".out.previous") == a
        if not scenario.first and not aside:
            yield "no mixture is left"
    elif left == "a blend":
        yield f"a blend is left: {sorted(digests(folder / 'out') or {})}"
    else:
        try:
            verify(folder / "out")
        except taskmix.TaskmixError as error:
            yield f"what is left does not verify: {error}"


def _faults_of_failure(call: Call, left: str, build: Ended) -> Iterator[str]:
    """Yield what is wrong with how a build failed when the system refused a call."""
    if build.code == 0:
        # nothing but the removal of what is no longer needed may fail unseen
        if left != "B":
            yield "exit 0 without B"
        return
    if build.code != 1 or "Traceback" in build.stderr or "error: " not in build.stderr:
        yield f"exit {build.code}: {build.stderr}"
    if "building-" in build.stderr:
        yield f"the message names a folder that is gone: {build.stderr}"
    # the last call of all waits until the exchange is on the disk
    if left == "B" and call.path != ".":
        yield "the build failed, yet B is in the output's place"


def _beside_out(folder: Path) -> list[str]:
    return sorted({path.name for path in folder.iterdir()} - {"out", LOCK_FILE})


def _always(call: Call) -> bool:
    return call.name in (*RENAMES, *SYNCS)


def _build(workshop: Workshop, out: Path, seed: int) -> None:
    taskmix.build("tiny", catalog=taskmix.load_catalog(workshop.catalog), out=out, seed=seed)


class _folder:  # noqa: N801 - used as a function
    """A fresh folder with a scenario's beginning, removed at the end."""

    def __init__(self, workshop: Workshop, scenario: Scenario) -> None:
        self.path = Path(tempfile.mkdtemp(dir=workshop.root))
        scenario.prepare(workshop, self.path)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.path)


def _only(name: str, path: str) -> set[str]:
    """Return the paths whose calls count, all if empty.

    strace counts each thread's calls apart, and Polars writes and opens in threads of its own: a path tells them from
    the calls of the others. Other calls come from one thread. Where only a path's calls are seen, `renameat2` is not
    refused either; but files are opened and written before it comes to that.
    """
    return {path} if name in (*WRITES, "openat") else set()


def _was_broken(log: str, folder: Path, call: Call) -> bool:
    """Return whether strace's log has the call, on its path, as the one that did not happen."""
    path = re.escape(os.path.normpath(folder / call.path)).replace("PID", "[0-9]+")
    line = rf"^\d+ +{call.name}\(.*{path}[\">].*(= \?|unfinished \.\.\.>|\(INJECTED\))$"
    return re.search(line, log, re.MULTILINE) is not None


def _strace(
    workshop: Workshop, folder: Path, scenario: Scenario, call: Call | None = None, what: str = ""
) -> tuple[str, Ended]:
    """Run the build of B, meddled with at a call, and return strace's log and how it ended."""
    log, pid = (workshop.root / f"{folder.name}.{name}" for name in ("log", "pid"))
    build = ("build", "tiny", "--catalog", str(workshop.catalog), "--out", str(folder / "out"), "--seed", "1")
    run = workshop.forks.begin_script(_STOPPED.format(arguments=build), TASKMIX_TEST_PID=str(pid))
    process = _stopped(pid)
    # calls that this machine's architecture lacks are skipped thanks to the question mark
    options = ["-f", "-qq", "-y", "-s", "1", "-o", str(log), "-e", "trace=" + ",".join(f"?{c}" for c in CALLS)]
    if not scenario.exchange:
        options += ["-e", "inject=renameat2:error=ENOSYS"]
    if call:
        for path in _only(call.name, call.path):
            path = path.replace("building-PID", f"building-{process}")
            options += ["-P", os.path.normpath(folder / path)]
        options += ["-e", f"inject={call.name}:{what}:when={call.nth}"]
    try:
        with subprocess.Popen(["strace", *options, "-p", str(process)]) as strace:
            _wait(
                lambda: (
                    f"TracerPid:\t{strace.pid}\n" in Path(f"/proc/{process}/status").read_text()
                    or strace.poll() is not None
                )
            )
            os.kill(process, signal.SIGCONT)
            ended = run.end()
        # strace has ended, so that its log is complete
        return log.read_text(errors="replace"), ended
    finally:
        for file in (log, pid):
            file.unlink(missing_ok=True)


def _stopped(pid: Path) -> int:
    """Wait until a build has stopped itself, and return its process id."""
    _wait(lambda: pid.exists() and pid.read_text() != "")
    process = int(pid.read_text())
    _wait(lambda: "State:\tT" in Path(f"/proc/{process}/status").read_text())
    return process


def _wait(true: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


def sweep(
    workshop: Workshop,
    name: str,
    *,
    every: int = 1,
    only: str = "",
    fail: bool = False,
    jobs: int = os.cpu_count() or 1,
) -> list[Outcome]:
    """Break builds off at the calls of one scenario and return what they left."""
    scenario = SCENARIOS[name]
    found = calls(workshop, scenario)
    chosen = sample(found, every) if every > 1 else [*found, *([] if fail else beyond(found))]
    if fail and not scenario.exchange:
        # that it fails is the scenario
        chosen = [call for call in chosen if call.name != "renameat2"]
    chosen = [call for call in chosen if call.name.startswith(only)]
    if not chosen:
        raise RuntimeError(f"strace saw no such call, but {Counter(call.name for call in found)}")
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda call: break_off(workshop, scenario, call, fail), chosen))


def main() -> int:
    """Sweep as asked for on the command line, print a line a scenario and every fault; return 1 if there is one."""
    parser = argparse.ArgumentParser(description="Break a build off at each of its system calls.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"{', '.join(SCENARIOS)}; all by default")
    parser.add_argument("--every", type=int, default=1, help="of calls that matter less, only every so many")
    parser.add_argument("--only", default="", metavar="NAME", help="only calls whose name begins so")
    parser.add_argument("--fail", action="store_true", help="let the call fail instead of killing the build")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="builds at once")
    options = parser.parse_args()
    faulty = False
    with open_workshop() as workshop:
        for name in options.scenarios or SCENARIOS:
            outcomes = sweep(
                workshop, name, every=options.every, only=options.only, fail=options.fail, jobs=options.jobs
            )
            left = ", ".join(
                f"{count} left {what}" for what, count in sorted(Counter(o.left for o in outcomes).items())
            )
            broken = sum(outcome.reached for outcome in outcomes)
            print(f"{name}: {len(outcomes)} builds, {broken} broken off; {left}", flush=True)
            for outcome in outcomes:
                for fault in outcome.faults:
                    faulty = True
                    print(f"  {outcome.call}: {fault}", flush=True)
    return int(faulty)


if __name__ == "__main__":
    sys.exit(main())

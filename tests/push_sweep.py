"""Let each request of a push go wrong in every way, and look at what is left.

    python -m tests.push_sweep                        every scenario, request and fault: takes a while
    python -m tests.push_sweep --every 5 change       one scenario, and every fifth case of it
    python -m tests.push_sweep --docs                 also write the table in docs/push.md anew

A push is done once, whole, against the hub on loopback, which counts its requests. Then it is done once more for each
request and fault. What must hold then: main holds the old mixture or the new one, to the byte; the push ends with exit
0 and the new one, or with one clear message; main got at most one commit. Then nothing goes wrong any more, and the
same push once more must end with exit 0, the new mixture, one commit more than before in all, and the tag.
"""

import argparse
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from tests.forks import Ended
from tests.hub.faults import KINDS
from tests.pushes import CLIENTS, World, make_mixtures, world

HASTY = f"tests.haste,{CLIENTS}"
DOCS = Path(__file__).parent.parent / "docs" / "push.md"
STATUSES = ("429", "500", "503")
OUTAGES = ("down", "refused")
FAULTS = (*STATUSES, *KINDS, *OUTAGES)
"""`down`: from this request on each is answered with 503; `refused`: with 403, as if the token had lost its rights."""


_LANDED = r"mixture is (pushed|on the hub), as commit|none to whether it landed"


@dataclass(frozen=True)
class Scenario:
    """What a repository holds before a push, the mixture that is pushed to it, and how."""

    before: str | None
    pushed: str
    options: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """Return where the mixture is to be found at the end."""
        return "refs/pr/1" if "--create-pr" in self.options else f"refs/heads/{self.branch}"

    @property
    def branch(self) -> str:
        """Return the branch that is pushed to."""
        return self.options[self.options.index("--revision") + 1] if "--revision" in self.options else "main"


SCENARIOS = {
    "first": Scenario(None, "a", ("--private", "--tag", "v1")),
    "change": Scenario("a", "c", ("--tag", "v1")),
    "branch": Scenario("a", "b", ("--revision", "draft")),
    "pull-request": Scenario("a", "c", ("--create-pr",)),
}


@dataclass(frozen=True)
class Case:
    """A fault at a request of a push, counted from 1."""

    scenario: str
    number: int
    request: str
    fault: str

    def __str__(self) -> str:
        return f"{self.scenario}: {self.fault} at {self.number}, {self.request}"


@dataclass(frozen=True)
class Outcome:
    """How the push ended, what main held then by name, and what is wrong with that."""

    case: Case
    code: int
    left: str
    faults: tuple[str, ...] = field(default=())


class Sweep:
    """Pushes to repositories of one hub, one after another; each case has a repository of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cases = 0

    def cases_of(self, name: str) -> list[Case]:
        """Push once, whole, and return every case of a scenario."""
        scenario, id = SCENARIOS[name], self.new_repository(name)
        self._count_from_here()
        ended = self._push(scenario, id)
        if ended.code:
            raise RuntimeError(f"the push fails without a fault:\n{ended.output}")
        asked = [f"{each.method} {_kind_of(each.path)}" for each in self.world.hub.asked()]
        return [Case(name, number, request, fault) for fault in FAULTS for number, request in enumerate(asked, 1)]

    def run(self, case: Case) -> Outcome:
        """Push with a fault, check what is left, push again without, and check what is there."""
        scenario, id = SCENARIOS[case.scenario], self.new_repository(case.scenario)
        before = self._commits(id)
        self._count_from_here(_fault(case))
        ended = self._push(scenario, id)
        self.world.hub.fail()
        left = self.left(scenario, id)
        faults = [*_faults_of_end(case, scenario, ended, left), *self._faults_of_left(scenario, id, left, before)]
        again = self._push(scenario, id)
        if again.code:
            faults.append(f"the next push fails: {again.output}")
        faults += [f"after the next push: {each}" for each in self._faults_of_done(scenario, id, before)]
        return Outcome(case, ended.code, left, tuple(faults))

    def new_repository(self, name: str) -> str:
        """Return the name of a new repository in the scenario's beginning."""
        self.cases += 1
        scenario, id = SCENARIOS[name], f"org/{name}-{self.cases}"
        if scenario.before:
            files = {".gitattributes": b"", **self.world.mixtures.files(scenario.before)}
            self.world.hub.repository(id).commit(files)
        return id

    def _count_from_here(self, *faults: dict[str, object]) -> None:
        self.world.hub.forget()
        self.world.hub.fail(*faults)

    def _push(self, scenario: Scenario, id: str) -> Ended:
        pid = str(self.world.hub.folder / "client.pid")
        return self.world.push(scenario.pushed, id, *scenario.options, TASKMIX_TEST_PID=pid)

    def _exists(self, id: str) -> bool:
        return self.world.hub.find(id).path.is_file()

    def _commits(self, id: str) -> Counter[str]:
        """Return how many commits each ref of a repository has; that of its making does not count."""
        if not self._exists(id):
            return Counter()
        repository = self.world.hub.find(id)
        return Counter({ref: len([m for m in repository.log(ref) if m != "initial commit"]) for ref in _refs(self, id)})

    def left(self, scenario: Scenario, id: str) -> str:
        """Return what the place of the mixture holds: the old mixture, the new one, nothing, or a blend."""
        if not self._exists(id) or scenario.ref not in _refs(self, id):
            return scenario.before or "nothing"
        return self.world.name_of(id, scenario.ref)

    def _faults_of_left(self, scenario: Scenario, id: str, left: str, before: Counter[str]) -> Iterator[str]:
        """Yield what is wrong with what a push left."""
        if left not in (scenario.before or "nothing", scenario.pushed):
            yield f"{left} is left"
        if self._exists(id):
            yield from self._faults_of_refs(scenario, id, before)

    def _faults_of_done(self, scenario: Scenario, id: str, before: Counter[str]) -> Iterator[str]:
        """Yield what is wrong with a repository at the end of all."""
        if not self._exists(id):
            yield "there is no repository"
            return
        if (left := self.left(scenario, id)) != scenario.pushed:
            yield f"{left} is there"
        state = self.world.hub.find(id).read()
        if state["private"] != ("--private" in scenario.options) and scenario.before is None:
            yield "the repository is not as private as asked"
        if "--tag" in scenario.options and state["refs"].get("refs/tags/v1") != state["refs"].get(scenario.ref):
            yield "the tag is not on the commit"
        if self._commits(id)[scenario.ref] != before["refs/heads/main"] + 1:
            yield f"there are {self._commits(id)[scenario.ref]} commits"
        yield from self._faults_of_refs(scenario, id, before)

    def _faults_of_refs(self, scenario: Scenario, id: str, before: Counter[str]) -> Iterator[str]:
        """Yield what is wrong with the branches, whatever became of the push."""
        if scenario.ref != "refs/heads/main" and before and self.world.name_of(id) != scenario.before:
            yield "main was changed"
        commits = self._commits(id)
        if commits[scenario.ref] > before["refs/heads/main"] + 1:
            yield f"{commits[scenario.ref]} commits, twice as many as asked for"
        if len(pulls := [ref for ref in commits if ref.startswith("refs/pr/")]) > 1:
            yield f"{len(pulls)} pull requests"


def _refs(sweep: Sweep, id: str) -> list[str]:
    return list(sweep.world.hub.find(id).read()["refs"])


def _kind_of(path: str) -> str:
    """Return what a path asks for, without what differs from one repository to the next."""
    short = re.sub(r"\?.*|/?org/[\w-]+|[0-9a-f]{40,64}", "", path)
    return re.sub(r"/+", "/", short.replace("/api/datasets", "").replace("/datasets.git/info", "")).strip("/") or "info"


def _fault(case: Case) -> dict[str, object]:
    """Return a fault as the hub takes it."""
    if case.fault in STATUSES:
        wait = {"retry_after": 1} if case.fault == "429" else {}
        return {"number": case.number, "status": int(case.fault), **wait}
    if case.fault in OUTAGES:
        return {"from": case.number, "status": {"down": 503, "refused": 403}[case.fault]}
    return {"number": case.number, "kind": case.fault}


def _faults_of_end(case: Case, scenario: Scenario, ended: Ended, left: str) -> Iterator[str]:
    """Yield what is wrong with how a push ended."""
    if case.fault.startswith("kill"):
        if ended.code != -9:
            yield f"it was not killed, but ended with {ended.code}"
        return
    if ended.code not in (0, 1) or "Traceback" in ended.output:
        yield f"exit {ended.code}: {ended.output}"
    if ended.code == 0 and left != scenario.pushed:
        yield f"exit 0, and {left} is there"
    if ended.code == 1 and "error: " not in ended.stderr:
        yield f"no message: {ended.output}"
    if (
        ended.code == 1
        and left == scenario.pushed
        and not re.search("is (pushed|on the hub)|nobody|none to wheth", ended.stderr)
    ):
        yield f"it landed, and the message does not say so: {ended.stderr}"
    if ended.code == 1 and case.fault not in OUTAGES:
        yield f"it gave up on a fault that passed: {ended.stderr}"


def sweep(
    root: Path, names: Sequence[str], *, every: int, only: str, jobs: int, told: Callable[[Outcome], None]
) -> list[Outcome]:
    """Run the cases of scenarios, some at a time, each on a hub of its own, and return what they left."""
    mixtures = make_mixtures(root / "mixtures")
    with ExitStack() as stack, ThreadPoolExecutor(jobs) as pool:
        sweeps = SimpleQueue[Sweep]()
        for number in range(jobs):
            sweeps.put(Sweep(stack.enter_context(world(root / str(number), mixtures, HASTY))))

        def run(case: Case) -> Outcome:
            mine = sweeps.get()
            try:
                outcome = mine.run(case)
            finally:
                sweeps.put(mine)
            told(outcome)
            return outcome

        first = sweeps.get()
        cases = [case for name in names for case in first.cases_of(name)]
        sweeps.put(first)
        chosen = [case for case in cases if case.fault.startswith(only)][every // 2 :: every]
        return list(pool.map(run, chosen))


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the table of results: a line a scenario and fault."""
    lines = [
        "| push | fault | requests | done at once | refused clearly | killed | after a rerun |",
        "| --- " * 7 + "|",
    ]
    for name in dict.fromkeys(each.case.scenario for each in outcomes):
        for fault in dict.fromkeys(each.case.fault for each in outcomes if each.case.scenario == name):
            found = [each for each in outcomes if (each.case.scenario, each.case.fault) == (name, fault)]
            codes, wrong = Counter(each.code for each in found), sum(1 for each in found if each.faults)
            end = "all whole" if not wrong else f"{wrong} wrong"
            lines.append(f"| {name} | `{fault}` | {len(found)} | {codes[0]} | {codes[1]} | {codes[-9]} | {end} |")
    return "\n".join(lines)


def write_table(text: str) -> None:
    """Put the table into the docs, between its marks."""
    page = DOCS.read_text("utf-8")
    marked = re.compile(r"(<!-- sweep -->\n).*?(<!-- end of sweep -->)", re.DOTALL)
    assert marked.search(page), DOCS
    DOCS.write_text(marked.sub(lambda found: f"{found[1]}{text}\n{found[2]}", page), "utf-8")


def main() -> int:
    """Sweep as asked for on the command line, print the table and every fault; return 1 if there is one."""
    parser = argparse.ArgumentParser(description="Let each request of a push go wrong in every way.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"{', '.join(SCENARIOS)}; all by default")
    parser.add_argument("--every", type=int, default=1, help="only every so many cases")
    parser.add_argument("--only", default="", metavar="FAULT", help="only faults whose name begins so")
    parser.add_argument("--jobs", type=int, default=2, help="pushes at once, each to a hub of its own")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/push.md")
    arguments = parser.parse_args()

    def told(outcome: Outcome) -> None:
        for each in outcome.faults:
            print(f"{outcome.case}: {each}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        names, found = arguments.scenarios or list(SCENARIOS), arguments
        outcomes = sweep(Path(folder), names, every=found.every, only=found.only, jobs=found.jobs, told=told)
    print(table(outcomes))
    if arguments.docs:
        write_table(table(outcomes))
    return int(any(outcome.faults for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())

"""Pushes that go wrong: every fault at the commit, some at other requests; two at once; and where the token goes."""

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forks import Ended
from tests.push_sweep import FAULTS, HASTY, OUTAGES, SCENARIOS, Case, Sweep
from tests.pushes import TOKEN, TRAIN, World, make_mixtures, world


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A hub, runs that know it, and mixtures."""
    mixtures = make_mixtures(tmp_path_factory.mktemp("mixtures"))
    with world(tmp_path_factory.mktemp("world"), mixtures, HASTY) as made:
        yield made


@pytest.fixture(scope="module")
def sweep(hub: World) -> Sweep:
    return Sweep(hub)


@pytest.fixture(scope="module")
def cases(sweep: Sweep) -> list[Case]:
    """Every case of a push that changes a mixture; all of all are run by `python -m tests.push_sweep`."""
    return sweep.cases_of("change")


@pytest.fixture(autouse=True)
def healed(hub: World) -> Iterator[None]:
    yield
    hub.hub.fail()


def one(cases: list[Case], fault: str, request: str) -> Case:
    """Return the case of a fault at the first request of a kind."""
    return next(case for case in cases if case.fault == fault and re.search(request, case.request))


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_befalls_a_commit_it_lands_once_or_not_at_all(sweep: Sweep, cases: list[Case], fault: str) -> None:
    outcome = sweep.run(one(cases, fault, r"POST commit"))
    assert outcome.faults == ()
    if fault in ("lost", "reset-after"):
        assert (outcome.code, outcome.left) == (0, "c")
    if fault in OUTAGES:
        assert (outcome.code, outcome.left) == (1, "a")


@pytest.mark.parametrize(
    ("fault", "request_"),
    [
        ("reset-during", r"PUT "),
        ("hang", r"PUT "),
        ("kill-after", r"PUT "),
        ("429", r"POST preupload"),
        ("lost", r"POST lfs/objects/verify"),
        ("503", r"GET tree"),
        ("kill-after", r"POST tag"),
        ("down", r"POST tag"),
    ],
)
def test_a_push_survives_a_fault_elsewhere(sweep: Sweep, cases: list[Case], fault: str, request_: str) -> None:
    assert sweep.run(one(cases, fault, request_)).faults == ()


@pytest.mark.parametrize(
    ("scenario", "fault", "request_"),
    [
        ("first", "lost", r"POST api/repos/create"),
        ("branch", "lost", r"POST branch"),
        ("pull-request", "lost", r"POST commit"),
        ("pull-request", "kill-after", r"POST commit"),
    ],
)
def test_a_first_push_a_branch_and_a_pull_request_come_once_too(
    sweep: Sweep, scenario: str, fault: str, request_: str
) -> None:
    assert sweep.run(one(sweep.cases_of(scenario), fault, request_)).faults == ()


def test_the_sweep_calls_a_blend_what_is_one(sweep: Sweep, hub: World) -> None:
    id = sweep.new_repository("change")
    hub.hub.find(id).commit({TRAIN: hub.mixtures.files("c")[TRAIN]})
    assert sweep.left(SCENARIOS["change"], id) == "a blend"


# Two at once.


def start(hub: World, id: str) -> None:
    hub.hub.repository(id).commit({".gitattributes": b"", **hub.mixtures.files("a")})


def test_of_two_pushes_one_wins_whole_and_the_other_says_so(hub: World) -> None:
    start(hub, "org/raced")
    # the first has all but committed when the second begins, and commits when the second is done
    hub.hub.fail({"match": "POST .*/commit/", "kind": "wait", "times": 1})
    slow = hub.begin_push("b", "org/raced", TASKMIX_HUB_TIMEOUT="60")
    waiting = hub.hub.folder / "waiting"
    end = time.monotonic() + 60
    while not waiting.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    quick = hub.push("c", "org/raced")
    waiting.unlink()
    late = slow.end()
    assert (quick.code, late.code) == (0, 1), (quick, late)
    assert hub.name_of("org/raced") == "c"
    assert len(hub.hub.find("org/raced").log()) == 2
    assert re.search(r"main has moved from [0-9a-f]{10} to [0-9a-f]{10} since this push began", late.stderr)
    assert "nothing of this push is on it" in late.stderr
    assert hub.push("b", "org/raced").code == 0
    assert hub.name_of("org/raced") == "b"


def test_pushes_that_race_leave_one_mixture_whole_and_each_knows_its_fate(hub: World) -> None:
    start(hub, "org/racing")
    runs = {name: hub.begin_push(name, "org/racing", TASKMIX_HUB_TIMEOUT="60") for name in "bcbc"[:2]}
    ended = {name: run.end() for name, run in runs.items()}
    done = [name for name, each in ended.items() if each.code == 0]
    assert done
    assert hub.name_of("org/racing") in done
    assert len(hub.hub.find("org/racing").log()) == 1 + len(done)
    for each in ended.values():
        assert each.code == 0 or "has moved from" in each.stderr, each


def test_a_commit_that_landed_before_another_is_known_to_have_landed(hub: World) -> None:
    start(hub, "org/followed")
    # its answer is lost, and somebody else pushes on top of it before it can look
    hub.hub.fail({"match": "POST .*/commit/", "kind": "lost-wait", "times": 1})
    slow = hub.begin_push("b", "org/followed", TASKMIX_HUB_TIMEOUT="60")
    waiting = hub.hub.folder / "waiting"
    end = time.monotonic() + 60
    while not waiting.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    hub.hub.find("org/followed").commit({"README.md": "A remark."})
    waiting.unlink()
    ended = slow.end()
    assert ended.code == 0, ended
    assert "somebody else pushed after it: the branch is now at" in ended.stdout
    assert len(hub.hub.find("org/followed").log()) == 3


def test_without_a_hub_the_message_says_so(hub: World) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
    script = f"""
import huggingface_hub
from taskmix.cli import main
real = huggingface_hub.HfApi
huggingface_hub.HfApi = lambda **kwargs: real(endpoint={nowhere!r}, **kwargs)
main(["push", {str(hub.mixtures["a"])!r}, "org/x"])
"""
    ended = hub.forks.script(script)
    assert ended.code == 1, ended
    assert "error: org/x@main: reading the repository failed: [Errno 111] Connection refused" in ended.stderr


# The token.


def test_the_token_goes_to_the_hub_alone_and_into_no_file_or_output(hub: World, tmp_path: Path) -> None:
    hub.hub.forget()
    runs: list[Ended] = [
        hub.push("a", "org/canary", "--private", "--tag", "v1", HF_DEBUG="1"),
        hub.push("c", "org/canary"),
        hub.push("a", "strangers/canary"),
        hub.forks.mix("verify", "hf://datasets/org/canary", TASKMIX_CACHE=str(tmp_path / "cache")),
    ]
    # an upload fails for good, at an address with a signature; the hub repeats the token in an error
    hub.hub.fail({"match": "PUT ", "status": 501})
    runs.append(hub.push("b", "org/canary"))
    hub.hub.fail({"match": "POST .*/commit/", "status": 400, "message": f"bad token {TOKEN}"})
    runs.append(hub.push("b", "org/canary"))
    hub.hub.fail()
    assert [each.code for each in runs] == [0, 0, 1, 0, 1, 1], runs
    assert "(token)" in runs[5].stderr
    asked = hub.hub.asked()
    assert {each.authorization for each in asked if each.origin == "storage"} == {None}
    assert {each.authorization for each in asked if each.origin == "hub"} == {f"Bearer {TOKEN}"}
    assert not [each for each in runs if TOKEN in each.output]
    assert not [each for each in runs if "signature" in each.output]
    root = hub.hub.folder.parent
    kept = [path for top in (root, tmp_path) for path in top.rglob("*") if path.is_file()]
    known = {root / "hub" / "requests.jsonl", root / "hub" / "tokens.json", root / "hub" / "faults.json"}
    assert [path for path in kept if path not in known and TOKEN.encode() in path.read_bytes()] == []


def test_the_token_does_not_follow_a_redirect_to_another_origin(hub: World) -> None:
    hub.hub.forget()
    hub.hub.fail({"match": "GET /api/datasets/org/moved/revision", "redirect": f"{hub.hub.storage_url}/stolen"})
    assert hub.push("a", "org/moved").code == 1
    hub.hub.fail({"match": "POST .*/verify", "redirect": f"{hub.hub.storage_url}/stolen", "times": 1})
    hub.push("a", "org/moved-too")
    stolen = [each for each in hub.hub.asked("storage") if "stolen" in each.path]
    assert len(stolen) >= 2
    assert {each.authorization for each in stolen} == {None}

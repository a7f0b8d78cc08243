"""Generated code is run within bounds, and what it does shows in the verdict."""

import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from taskmix_trainer.evaluation import sandbox
from taskmix_trainer.evaluation.sandbox import Isolation, Limits, isolation, run_all, run_tests

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits on Windows")

LIMITS = Limits(seconds=8, memory=256, file=1, processes=16)
SHORT = Limits(seconds=1, memory=256, file=1, processes=16)


def test_right_code_passes_and_wrong_code_says_why() -> None:
    right = run_tests("def double(x):\n    return 2 * x", "assert double(2) == 4")
    assert (right.outcome, right.reason, right.output) == ("passed", "", "")
    assert right.passed
    wrong = run_tests("def double(x):\n    return x", "assert double(2) == 4, 'not double'")
    assert (wrong.outcome, wrong.reason) == ("failed", "AssertionError: not double")
    assert "program.py" in wrong.output
    assert not wrong.passed


@pytest.mark.parametrize(
    ("program", "outcome", "reason"),
    [
        ("def f(:", "failed", "SyntaxError: invalid syntax"),
        ("\0", "failed", "SyntaxError: source code string cannot contain null bytes"),
        ("import sys; sys.exit(0)", "failed", "it ended before its tests did"),
        ("import os; os._exit(0)", "failed", "it ended before its tests did"),
        ("raise SystemExit", "failed", "it ended before its tests did"),
        ("import sys; sys.exit(3)", "failed", "exit code 3"),
        ("input()", "failed", "EOFError: EOF when reading a line"),
        ("x = bytearray(10**9)", "failed", "MemoryError"),
        ("import numpy", "failed", "ModuleNotFoundError: No module named 'numpy'"),
        ("import torch", "failed", "ModuleNotFoundError: No module named 'torch'"),
        ("open('large', 'wb').write(bytes(2 << 20))", "failed", "OSError: [Errno 27] File too large"),
        ("[open('/dev/null') for _ in range(100)]", "failed", "OSError: [Errno 24] Too many open files: '/dev/null'"),
        ("import ctypes; ctypes.string_at(0)", "killed", "ended by SIGSEGV"),
        ("import os; os.abort()", "killed", "ended by SIG"),  # what the first process of a namespace gets differs
    ],
)
def test_what_goes_wrong_is_told(program: str, outcome: str, reason: str) -> None:
    found = run_tests(program, "assert False", LIMITS)
    assert found.outcome == outcome
    assert found.reason.startswith(reason)


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "import signal, time\nfor each in (2, 15): signal.signal(each, signal.SIG_IGN)\ntime.sleep(60)",
        "try:\n    while True: pass\nexcept BaseException: pass\nwhile True: pass",
    ],
)
def test_code_without_an_end_is_ended(program: str) -> None:
    start = time.monotonic()
    found = run_tests(program, "", SHORT)
    assert found.outcome == "timeout"
    assert time.monotonic() - start < 6


def test_much_output_is_cut() -> None:
    found = run_tests("print('x' * 500_000)", "print('end')", LIMITS)
    assert found.passed
    assert len(found.output) == 4_000
    assert found.output.endswith("x\nend\n")
    endless = run_tests("while True: print('x' * 1000)", "", LIMITS)
    assert endless.outcome in ("failed", "killed")  # the file is full


def test_a_program_sees_nothing_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "secret")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    found = run_tests("import os, sys", "print(sorted(os.environ), os.listdir(), sys.path, os.environ['HOME'])")
    assert found.passed
    assert "SECRET" not in found.output
    assert "PYTHONPATH" not in found.output
    assert "site-packages" not in found.output
    assert "['program.py']" in found.output
    assert os.environ["HOME"] not in found.output.split()


def test_its_folder_is_gone_afterwards() -> None:
    found = run_tests("import os\nopen('mine', 'w').write('x')\nprint(os.getcwd())", "", LIMITS)
    assert found.passed
    folder = Path(found.output.strip())
    assert folder.name.startswith("taskmix-sandbox-")
    assert not folder.exists()


BOMB = """
import os, time
made = 0
for _ in range(500):
    try:
        if os.fork() == 0:
            time.sleep(50)
            os._exit(0)
        made += 1
    except OSError:
        pass
print(made, flush=True)
time.sleep(50)
"""


def sleepers() -> int:
    """How many processes of a sandbox there are on this machine."""
    count = 0
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            count += b"program.py" in entry.read_bytes()
        except OSError:
            continue
    return count


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("isolated", [True, False])
def test_a_fork_bomb_ends_with_all_that_it_started(isolated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not isolated:
        monkeypatch.setattr(sandbox, "isolation", lambda: Isolation((), "not isolated"))
    found = run_tests(BOMB, "", Limits(seconds=3, processes=16))
    if os.geteuid() == 0:
        assert (found.outcome, found.reason) == ("killed", "more than 16 processes")
    else:
        assert not found.passed
    end = time.monotonic() + 5
    while sleepers() and time.monotonic() < end:
        time.sleep(0.05)
    assert sleepers() == 0


@pytest.mark.skipif(not isolation().words.startswith("isolated"), reason="this system gives users no namespaces")
def test_where_the_system_allows_there_is_no_network_and_no_other_process() -> None:
    found = run_tests("import socket", "socket.create_connection(('192.0.2.1', 80), timeout=1)", LIMITS)
    assert found.reason == "OSError: [Errno 101] Network is unreachable"
    found = run_tests("import os", "print([each for each in os.listdir('/proc') if each.isdigit()])", LIMITS)
    assert found.output.strip() == "['1']"
    escaping = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)"
    assert run_tests(escaping, "", LIMITS).passed
    assert sleepers() == 0


def test_a_program_that_kills_its_group_kills_itself_alone() -> None:
    found = run_tests("import os, signal", "os.killpg(0, signal.SIGKILL)", LIMITS)
    assert (found.outcome, found.reason) == ("killed", "ended by SIGKILL")


def test_a_system_without_namespaces_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false")
    isolation.cache_clear()
    try:
        assert isolation() == Isolation(
            (), "not isolated: the network can be reached (this system gives users no namespaces)"
        )
        assert run_tests("x = 1", "assert x == 1").passed
        monkeypatch.setattr(shutil, "which", lambda name: None)
        isolation.cache_clear()
        assert "no unshare" in isolation().words
    finally:
        monkeypatch.undo()
        isolation.cache_clear()


def test_several_run_at_a_time_and_keep_their_order() -> None:
    programs = [(f"x = {at}", f"assert x % 2 == 0, {at}") for at in range(6)]
    found = run_all(programs, LIMITS, workers=3)
    assert [each.passed for each in found] == [True, False] * 3
    assert [each.reason for each in found if not each.passed] == [f"AssertionError: {at}" for at in (1, 3, 5)]


def test_text_that_is_no_unicode_is_run_all_the_same() -> None:
    assert run_tests("x = '\ud800'", "assert x == '\\ud800'", LIMITS).passed

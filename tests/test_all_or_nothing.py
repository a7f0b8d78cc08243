"""A mixture's folder holds the old mixture or the new one, whole, whatever breaks a build off."""

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import taskmix
from taskmix.building import Reporters
from taskmix.cli import main
from taskmix.errors import OutputError
from taskmix.output.lock import read_lock
from tests.kill_sweep import Workshop, open_workshop, sweep

MIX = (sys.executable, "-c", "from taskmix.cli import main; main()")
LOCK = "mix.lock.json"
TRAIN = "data/train-00000-of-00001.parquet"
VALIDATION = "data/validation-00000-of-00001.parquet"
FILES = ("README.md", LOCK, TRAIN, VALIDATION)
CATALOG = """\
version: 1
tasks:
  toy:
    kind: text-classification
    cluster: sentiment
    source: {path: toy.jsonl}
    splits: {train: train, validation: {from: train, fraction: 0.1}}
    labels: [negative, positive]
    license: cc0-1.0
mixtures:
  tiny: {tasks: [toy]}
"""

Digests = dict[str, str]


@dataclass(frozen=True)
class Toy:
    """A catalog of one small task, and its mixture built with seeds 0 and 1."""

    catalog: Path
    a: Path
    b: Path

    def build(self, out: Path, seed: int = 1, reporters: Reporters | None = None) -> None:
        taskmix.build("tiny", catalog=taskmix.load_catalog(self.catalog), out=out, seed=seed, reporters=reporters)

    def command(self, out: Path | str) -> list[str]:
        return [*MIX, "build", "tiny", "--catalog", str(self.catalog), "--out", str(out), "--seed", "1"]


def write_catalog(folder: Path, rows: int) -> Path:
    lines = [json.dumps({"text": f"row {row} of many", "label": row % 2}) for row in range(rows)]
    (folder / "toy.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "catalog.yaml").write_text(CATALOG)
    return folder / "catalog.yaml"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    folder = tmp_path_factory.mktemp("toy")
    toy = Toy(write_catalog(folder, rows=400), folder / "a", folder / "b")
    toy.build(toy.a, seed=0)
    toy.build(toy.b, seed=1)
    return toy


@pytest.fixture
def disk(toy: Toy, tmp_path: Path) -> Path:
    """A folder that holds mixture A as `out` and nothing else."""
    shutil.copytree(toy.a, tmp_path / "disk" / "out")
    return tmp_path / "disk"


def digests(folder: Path) -> Digests:
    """Return the SHA-256 of every file below a folder by its path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def run(command: Sequence[str], cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def verify(folder: Path) -> Result:
    return CliRunner().invoke(main, ["verify", str(folder)])


def need(program: str) -> None:
    """Skip where a program is not installed; CI must have it."""
    if not shutil.which(program):
        if os.environ.get("CI"):
            pytest.fail(f"{program} is not installed, and CI is set")
        pytest.skip(f"{program} is not installed")


def assert_understood(failed: "subprocess.CompletedProcess[str]", *words: str) -> None:
    """Check that a command failed with one message and no traceback."""
    assert failed.returncode == 1, failed.stderr
    assert "Traceback" not in failed.stderr
    message = failed.stderr.partition("error: ")[2]
    assert message, failed.stderr
    for word in words:
        assert word in message


# Broken off at its system calls


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    need("strace")
    with open_workshop() as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "every", "only"),
    [
        pytest.param("exchange", 40, "", id="replacing"),
        pytest.param("first", 120, "", id="first"),
        pytest.param("two-renames", 120, "", id="replacing-without-exchange"),
        pytest.param("cut-between-renames", 1, "rename", id="after-a-kill-between-two-renames"),
        pytest.param("cut-after-renames", 1, "rename", id="after-a-kill-before-the-old-one-is-removed"),
    ],
)
def test_a_build_killed_at_a_system_call_leaves_one_mixture_whole(
    workshop: Workshop, scenario: str, every: int, only: str
) -> None:
    outcomes = sweep(workshop, scenario, every=every, only=only)
    assert [(outcome.call, fault) for outcome in outcomes for fault in outcome.faults] == []


@pytest.mark.slow
@pytest.mark.parametrize(("scenario", "every", "only"), [("exchange", 40, ""), ("two-renames", 1, "rename")])
def test_a_build_whose_system_call_fails_says_so_and_leaves_the_old_mixture(
    workshop: Workshop, scenario: str, every: int, only: str
) -> None:
    outcomes = sweep(workshop, scenario, every=every, only=only, fail=True)
    assert [(outcome.call, fault) for outcome in outcomes for fault in outcome.faults] == []


# A disk that is full, or may not be written


@pytest.mark.parametrize("limit", [0, 1_000, 8_000])
def test_a_file_that_may_not_grow_fails_the_build(toy: Toy, disk: Path, limit: int) -> None:
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); {MIX[2]}"
    failed = run([MIX[0], "-c", limited, *toy.command(disk / "out")[len(MIX) :]])
    assert_understood(failed, str(disk / "out"), "cannot be written", "File too large")
    assert digests(disk / "out") == digests(toy.a)
    assert names(disk) == {"out", ".out.lock"}


@pytest.mark.parametrize("room", [0, 16, 24])
def test_a_full_disk_fails_the_build(toy: Toy, tmp_path: Path, room: int) -> None:
    size = sum(-(-path.stat().st_size // 4096) * 4 for path in toy.a.rglob("*") if path.is_file())
    script = f"""
        mount -t tmpfs -o size={size + room}k tmpfs disk && cp -r {shlex.quote(str(toy.a))} disk/out || exit 99
        {shlex.join(toy.command("disk/out"))}
        ended=$?
        cp -r disk/. after
        exit $ended
    """
    failed, after = run_in_namespace(script, tmp_path)
    assert_understood(failed, "disk/out", "No space left on device", "free some space")
    assert digests(after / "out") == digests(toy.a)
    assert names(after) == {"out", ".out.lock"}


def test_a_disk_with_room_enough_takes_the_build(toy: Toy, tmp_path: Path) -> None:
    script = f"""
        mount -t tmpfs -o size=10m tmpfs disk && cp -r {shlex.quote(str(toy.a))} disk/out || exit 99
        {shlex.join(toy.command("disk/out"))} && cp -r disk/. after
    """
    built, after = run_in_namespace(script, tmp_path)
    assert built.returncode == 0, built.stderr
    assert digests(after / "out") == digests(toy.b)


def test_a_read_only_disk_fails_the_build(toy: Toy, tmp_path: Path) -> None:
    script = f"""
        mount -t tmpfs tmpfs disk && cp -r {shlex.quote(str(toy.a))} disk/out || exit 99
        mount -o remount,ro disk || exit 99
        {shlex.join(toy.command("disk/out"))}
        ended=$?
        cp -r disk/. after
        exit $ended
    """
    failed, after = run_in_namespace(script, tmp_path)
    assert_understood(failed, "disk/out", "Read-only file system", "--out")
    assert digests(after / "out") == digests(toy.a)
    assert names(after) == {"out"}


def run_in_namespace(script: str, tmp_path: Path) -> "tuple[subprocess.CompletedProcess[str], Path]":
    """Run a shell script that may mount on ./disk and keeps what it leaves there in ./after, which is returned."""
    need("unshare")
    if run(["unshare", "-rm", "true"]).returncode:
        pytest.skip("this system lets no user mount in a namespace of their own")
    for name in ("disk", "after"):
        (tmp_path / name).mkdir()
    ended = run(["unshare", "-rm", "sh", "-c", script], cwd=tmp_path)
    assert ended.returncode != 99, ended.stderr
    return ended, tmp_path / "after"


@pytest.mark.parametrize("begun", [True, False])
def test_a_parent_folder_without_permission_fails_the_build(toy: Toy, disk: Path, begun: bool) -> None:
    if begun:
        (disk / ".out.lock").touch()
    disk.chmod(0o555)
    failed = run([*obeying_permissions(), *toy.command(disk / "out")])
    disk.chmod(0o755)
    assert_understood(failed, str(disk / "out"), "Permission denied")
    assert digests(disk / "out") == digests(toy.a)
    assert not names(disk) - {"out", ".out.lock"}


def test_an_output_folder_that_may_not_be_read_is_left_alone(toy: Toy, disk: Path) -> None:
    # the command line looks at it first and calls it wrong usage
    build = f"""if True:
        import taskmix
        from pathlib import Path
        taskmix.build("tiny", catalog=taskmix.load_catalog(Path({str(toy.catalog)!r})), out=Path({str(disk / "out")!r}))
    """
    (disk / "out").chmod(0)
    failed = run([*obeying_permissions(), sys.executable, "-c", build])
    (disk / "out").chmod(0o755)
    assert f"OutputError: {disk / 'out'}: cannot be written: Permission denied" in failed.stderr
    assert digests(disk / "out") == digests(toy.a)


@pytest.mark.parametrize(("closed", "named"), [(TRAIN, TRAIN), ("data", TRAIN), (LOCK, LOCK)])
def test_verify_names_what_may_not_be_read(disk: Path, closed: str, named: str) -> None:
    path = disk / "out" / closed
    mode = path.stat().st_mode
    path.chmod(0)
    verified = run([*obeying_permissions(), *MIX, "verify", str(disk / "out")])
    path.chmod(mode)
    assert_understood(verified, named, "cannot be read: Permission denied")


def obeying_permissions() -> list[str]:
    """Return a command's beginning that takes root's right to write everywhere away; empty for other users."""
    if os.geteuid():
        return []
    need("setpriv")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]


# What is not a mixture


def not_a_folder(out: Path) -> None:
    out.write_text("thesis")


def folder_of_files(out: Path) -> None:
    out.mkdir()
    (out / "thesis.txt").write_text("thesis")


def link_to_a_file(out: Path) -> None:
    out.with_name("elsewhere").write_text("thesis")
    out.symlink_to("elsewhere")


def link_to_itself(out: Path) -> None:
    out.symlink_to(out.name)


def link_to_a_folder_of_files(out: Path) -> None:
    folder_of_files(out.with_name("elsewhere"))
    out.symlink_to("elsewhere")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (not_a_folder, "not a folder"),
        (folder_of_files, "not a mixture"),
        (link_to_a_file, "not a folder"),
        (link_to_itself, "not a folder"),
        (link_to_a_folder_of_files, "not a mixture"),
    ],
)
def test_an_output_that_is_not_a_mixture_is_left_alone(
    toy: Toy, tmp_path: Path, prepare: Callable[[Path], None], message: str
) -> None:
    prepare(tmp_path / "out")
    before = names(tmp_path), digests(tmp_path)
    with pytest.raises(OutputError, match=message) as error:
        toy.build(tmp_path / "out")
    assert error.value.where == str(tmp_path / "out")
    assert (names(tmp_path) - {".out.lock", ".elsewhere.lock"}, digests(tmp_path)) == before


@pytest.mark.parametrize("empty", [True, False])
def test_files_put_into_the_output_while_the_build_works_are_left_alone(toy: Toy, tmp_path: Path, empty: bool) -> None:
    out = tmp_path / "out"
    if empty:
        out.mkdir()

    def put(task: str, rows: int) -> None:
        out.mkdir(exist_ok=True)
        (out / "thesis.txt").write_text("thesis")

    with pytest.raises(OutputError, match="not a mixture"):
        toy.build(out, reporters=Reporters(rendered=put))
    assert names(out) == {"thesis.txt"}
    assert names(tmp_path) == {"out", ".out.lock"}


def test_an_empty_folder_is_filled(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    toy.build(tmp_path / "out")
    assert digests(tmp_path / "out") == digests(toy.b)


@pytest.mark.parametrize("dangling", [True, False])
def test_a_link_keeps_pointing_to_the_mixture_that_is_replaced(toy: Toy, disk: Path, dangling: bool) -> None:
    store, link = disk.with_name("store"), disk / "latest"
    store.mkdir()
    if not dangling:
        shutil.move(disk / "out", store / "mixture")
    link.symlink_to("../store/mixture")
    toy.build(link)
    assert link.is_symlink()
    assert digests(store / "mixture") == digests(link) == digests(toy.b)
    assert names(store) == {"mixture", ".mixture.lock"}


def test_remains_are_told_apart_by_the_name_of_the_output(toy: Toy, tmp_path: Path) -> None:
    # as a pattern, the first name matches the second and not itself
    for name in ("v[1]", "v1"):
        (tmp_path / f".{name}.building-0" / "data").mkdir(parents=True)
    toy.build(tmp_path / "v[1]")
    assert names(tmp_path) == {"v[1]", ".v[1].lock", ".v1.building-0"}


# Two builds at once, and signals


@pytest.mark.parametrize("second", ["out", "link", "other/../out"])
def test_a_second_build_into_the_same_folder_fails_at_once(toy: Toy, disk: Path, second: str) -> None:
    (disk / "link").symlink_to("out")
    (disk / "other").mkdir()
    failures: list[subprocess.CompletedProcess[str]] = []

    def build_too(task: str, rows: int) -> None:
        if not failures:
            failures.append(run(toy.command(disk / second)))

    toy.build(disk / "out", reporters=Reporters(rendered=build_too))
    assert_understood(failures[0], second, "another build is writing this mixture")
    assert digests(disk / "out") == digests(toy.b)
    assert names(disk) == {"out", ".out.lock", "link", "other"}


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_leaves_the_old_mixture(
    toy: Toy, disk: Path, tmp_path: Path, sent: signal.Signals, code: int, workers: str
) -> None:
    # with so many rows that there is time to interrupt the build
    many = replace(toy, catalog=write_catalog(tmp_path, rows=100_000))
    command = [*many.command(disk / "out"), "--workers", workers]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as build:
        for _ in until(lambda: any(disk.glob(".out.building-*/.shuffle*"))):
            assert build.poll() is None, "the build ended before it could be interrupted"
        build.send_signal(sent)
        _, said = build.communicate(timeout=60)
    assert build.returncode == code, said
    assert "Traceback" not in said
    assert digests(disk / "out") == digests(toy.a)
    if sent == signal.SIGINT:
        assert "interrupted" in said
        assert names(disk) == {"out", ".out.lock"}


def until(true: Callable[[], bool]) -> Iterator[None]:
    """Yield every few milliseconds until something is true, for a minute at most."""
    begin = time.monotonic()
    while not true():
        assert time.monotonic() < begin + 60
        yield
        time.sleep(0.005)


# mix verify


def flip_a_bit(file: Path, other: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file: Path, other: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty(file: Path, other: Path) -> None:
    file.write_bytes(b"")


def append(file: Path, other: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\n")


def remove(file: Path, other: Path) -> None:
    file.unlink()


def replace_by_a_folder(file: Path, other: Path) -> None:
    file.unlink()
    file.mkdir()


def take_from_another_build(file: Path, other: Path) -> None:
    shutil.copy(other, file)


@pytest.mark.parametrize(
    "damage", [flip_a_bit, truncate, empty, append, remove, replace_by_a_folder, take_from_another_build]
)
@pytest.mark.parametrize("name", FILES)
def test_verify_names_the_file_that_is_not_what_it_was(
    toy: Toy, disk: Path, name: str, damage: Callable[[Path, Path], None]
) -> None:
    damage(disk / "out" / name, toy.b / name)
    verified = verify(disk / "out")
    assert verified.exit_code == 1
    # with the lock of another build, it is the files that are not what it says
    named = "README.md" if (name, damage) == (LOCK, take_from_another_build) else name
    assert named in verified.output


@pytest.mark.parametrize(
    "name", ["notes.txt", ".hidden", "data/train-00001-of-00002.parquet", "data/more/part.parquet"]
)
def test_verify_names_an_extra_file(disk: Path, name: str) -> None:
    (disk / "out" / name).parent.mkdir(exist_ok=True)
    (disk / "out" / name).write_bytes(b"")
    verified = verify(disk / "out")
    assert verified.exit_code == 1
    assert name in verified.output


@pytest.mark.parametrize("target", ["../../../disk", "train-00000-of-00001.parquet", "nowhere"])
def test_verify_names_an_extra_link(disk: Path, target: str) -> None:
    (disk / "out/data/more").symlink_to(target)
    verified = verify(disk / "out")
    assert verified.exit_code == 1
    assert "data/more" in verified.output


def test_verify_names_swapped_shards(disk: Path) -> None:
    train, validation, aside = disk / "out" / TRAIN, disk / "out" / VALIDATION, disk / "aside"
    train.rename(aside)
    validation.rename(train)
    aside.rename(validation)
    verified = verify(disk / "out")
    assert verified.exit_code == 1
    assert TRAIN in verified.output
    assert VALIDATION in verified.output


def test_verify_finds_a_flipped_bit_in_any_byte_of_the_lock(disk: Path) -> None:
    path = disk / "out" / LOCK
    content = path.read_bytes()
    accepted = []
    for place in range(len(content)):
        # 32 makes a small letter a capital: 1e-05 is 1E-05, but not the same bytes
        for bit in (32, 1 << place % 8):
            path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
            try:
                read_lock(disk / "out")
                accepted.append((place, bit))
            except OutputError:
                continue
    assert not accepted


@pytest.mark.parametrize(
    "written",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: json.dumps(json.loads(text)) + "\n",
        lambda text: text.replace('"mixture"', '"mi\\u0078ture"'),
        lambda text: text.replace('"tiny"', '"\\ud800"', 1),
        lambda text: "[]",
        lambda text: "null",
    ],
)
def test_verify_finds_a_lock_written_otherwise(disk: Path, written: Callable[[str], str]) -> None:
    path = disk / "out" / LOCK
    path.write_bytes(written(path.read_text()).encode())
    verified = verify(disk / "out")
    assert verified.exit_code == 1
    assert LOCK in verified.output


@pytest.mark.parametrize("name", ["nowhere", "out/data", "out/README.md"])
def test_verify_says_when_there_is_no_mixture(disk: Path, name: str) -> None:
    verified = verify(disk / name)
    assert verified.exit_code == 1
    assert name in verified.output


def test_verify_says_when_all_is_well(toy: Toy) -> None:
    verified = run([*MIX, "verify", str(toy.a)])
    assert verified.returncode == 0, verified.stderr
    assert "3 files" in verified.stdout

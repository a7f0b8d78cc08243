"""What the cache keeps is what would be made anew, whoever damages, fills, shares or locks it."""

import json
import logging
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import taskmix
from taskmix import hashing
from taskmix.caching import fingerprints
from taskmix.caching.entries import PART, Cache
from taskmix.caching.fingerprints import Fingerprints
from taskmix.caching.place import COMPARISONS, FILES, RENDERS
from taskmix.caching.stock import KINDS, prune, take_stock
from taskmix.cli import main
from taskmix.mixing import cleaning, contamination
from taskmix.planning import plan
from taskmix.templates import remembered
from tests.test_all_or_nothing import MIX, digests, need, obeying_permissions, run, run_in_namespace

CATALOG = """\
version: 1
tasks:
  toy:
    kind: text-classification
    cluster: sentiment
    source: {path: toy.jsonl}
    splits: {train: train, validation: {from: train, fraction: 0.1}}
    labels: [negative, positive]
mixtures:
  tiny: {tasks: [toy]}
"""
# `groupby` is for Jinja alone
TEMPLATES = """\
- name: counted
  instruction: "{% for n, words in text.split() | groupby('length') %}{{ n }}: {{ words | join(' ') }}\\n{% endfor %}"
  output: "{{ choices[label] }}"
- name: counted-too
  instruction: "{% for n, words in text.split() | groupby('length') %}{{ n }} {{ words | length }}\\n{% endfor %}"
  output: "{{ choices[label] }}"
- name: plain
  instruction: "{{ text }}"
  output: "{{ choices[label] }}"
"""
KEY = "ab" * 32
CHANCE = random.Random(0)
Damage = Callable[[Path, bytes], None]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A cache of this test alone, in which builds keep what they make."""
    monkeypatch.setenv("TASKMIX_CACHE", str(tmp_path / "cache"))
    return Cache(tmp_path / "cache")


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """The catalog of a small task, two of whose templates Jinja renders row by row."""
    rows = [{"text": f"row {row} of {'very ' * (row % 7)}many", "label": row % 2} for row in range(200)]
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "toy.yaml").write_text(TEMPLATES.replace("groupby('length')", "groupby(0)"))
    (tmp_path / "toy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    return tmp_path / "catalog.yaml"


def build(catalog: Path, out: str, *options: str) -> tuple[dict[str, str], str]:
    """Build; return the files' hashes and what was said on stderr."""
    arguments = ["build", "tiny", "--catalog", str(catalog), "--out", str(catalog.parent / out), "--force", *options]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return digests(catalog.parent / out), done.stderr


def entries(cache: Cache, kind: str) -> list[Path]:
    return sorted(path for path in (cache.folder / kind).rglob("*") if path.is_file())


# Entries


def test_an_entry_is_what_was_put(cache: Cache) -> None:
    assert cache.get(RENDERS, KEY) is None
    cache.put(RENDERS, KEY, b"text")
    assert cache.get(RENDERS, KEY) == b"text"
    assert cache.get(FILES, KEY) is None


def flip(path: Path, other: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[CHANCE.randrange(len(content))] ^= 1
    path.write_bytes(content)


def cut(path: Path, other: bytes) -> None:
    path.write_bytes(path.read_bytes()[: CHANCE.randrange(60)])


def lengthen(path: Path, other: bytes) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def exchange(path: Path, other: bytes) -> None:
    path.write_bytes(other)


def damage_all(cache: Cache, kind: str, damage: Damage) -> None:
    found = entries(cache, kind)
    assert len(found) > 1
    contents = [path.read_bytes() for path in found]
    for path, other in zip(found, [*contents[1:], contents[0]], strict=True):
        damage(path, other)


@pytest.mark.parametrize("damage", [flip, cut, lengthen, exchange])
def test_a_damaged_entry_is_removed_and_said_once(
    cache: Cache,
    damage: Damage,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # a command that ran before has sent the log to stderr
    monkeypatch.setattr(logging.getLogger("taskmix"), "propagate", True)
    keys = [f"{number:064x}" for number in range(20)]
    for key in keys:
        cache.put(RENDERS, key, b"text of " + key.encode())
    damage_all(cache, RENDERS, damage)
    assert [cache.get(RENDERS, key) for key in keys] == [None] * 20
    assert entries(cache, RENDERS) == []
    # where several handlers are at work, each message comes several times
    (said,) = set(caplog.messages)
    assert said.endswith(" is damaged and made anew, as is any other such one")


def test_an_entry_that_is_a_folder_or_may_not_be_read_is_none(cache: Cache) -> None:
    (cache.folder / RENDERS / KEY[:2] / KEY[2:]).mkdir(parents=True)
    assert cache.get(RENDERS, KEY) is None


def test_a_write_that_is_killed_leaves_whole_entries_or_none(cache: Cache) -> None:
    script = f"""if True:
        from pathlib import Path
        from taskmix.caching.entries import Cache
        cache = Cache(Path({str(cache.folder)!r}))
        print(flush=True)
        for number in range(10**9):
            cache.put("renders", f"{{number % 50:064x}}", b"%d " % number * 50_000)
    """
    for _ in range(6):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(CHANCE.uniform(0, 0.1))
            writer.kill()
        for path in entries(cache, RENDERS):
            if not path.name.startswith(PART):
                assert cache.get(RENDERS, path.parent.name + path.name) is not None, path
    for part in cache.folder.rglob(f"{PART}*"):
        os.utime(part, (0, 0))
    prune(cache.folder, 365, downloads=False)
    assert list(cache.folder.rglob(f"{PART}*")) == []


def test_threads_and_processes_may_write_the_same_entries(cache: Cache) -> None:
    def write(number: int) -> bytes | None:
        own = Cache(cache.folder)
        own.put(RENDERS, f"{number % 10:064x}", b"the same" * 1000)
        return own.get(RENDERS, f"{number % 10:064x}")

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write, range(400))) == {b"the same" * 1000}


# Fingerprints


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files that were written just now count as settled."""
    monkeypatch.setattr(fingerprints, "SETTLED_NS", -(10**9))


@pytest.mark.usefixtures("settled")
def test_a_file_is_read_once_for_each_state(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, read, real = tmp_path / "file", list[Path](), hashing.file_sha256

    def reading(path: Path) -> str:
        read.append(path)
        return real(path)

    monkeypatch.setattr(hashing, "file_sha256", reading)
    hashes = set()
    for content in (b"one", b"two"):
        file.write_bytes(content)
        hashes |= {Fingerprints(cache).sha256(file) for _ in range(3)}
    # the same size and time of writing, by whoever wants to hide a change
    before = file.stat()
    file.write_bytes(b"owt")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    hashes |= set(Fingerprints(cache).of([file, file]).values())
    # another file in its place
    (tmp_path / "other").write_bytes(b"wot")
    (tmp_path / "other").replace(file)
    hashes.add(Fingerprints(cache).sha256(file))
    assert len(hashes) == len(read) == 4


def test_the_hash_of_a_file_is_kept_once_it_has_settled(cache: Cache, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    first = Fingerprints(cache).sha256(file)
    assert entries(cache, FILES) == []
    time.sleep(2.1)
    assert Fingerprints(cache).sha256(file) == first
    assert len(entries(cache, FILES)) == 1


@pytest.mark.parametrize("ahead", [5, 10**6], ids=["seconds", "days"])
def test_a_clock_that_was_set_back_keeps_no_hash(
    cache: Cache, tmp_path: Path, ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"one")
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now - ahead * 10**9)
    Fingerprints(cache).sha256(tmp_path / "file")
    assert entries(cache, FILES) == []


def test_a_file_that_changes_while_it_is_hashed_is_not_kept(
    cache: Cache, tmp_path: Path, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    real = hashing.file_sha256
    monkeypatch.setattr(hashing, "file_sha256", lambda path: (file.write_bytes(b"longer"), real(path))[1])
    Fingerprints(cache).sha256(file)
    assert entries(cache, FILES) == []


# Renders


def test_row_wise_texts_come_from_the_cache_and_are_the_same(cache: Cache, toy: Path) -> None:
    first, said = build(toy, "a")
    assert "0 of 4 batches came from the cache; rendered anew: toy × counted (2), toy × counted-too (2)" in said
    second, said = build(toy, "b", "--workers", "1", "--memory", "1")
    assert said.endswith("row by row: 4 of 4 batches came from the cache\n")
    assert first == second


def test_an_edit_to_one_template_renders_that_one_alone_anew(cache: Cache, toy: Path) -> None:
    build(toy, "a")
    file = toy.parent / "templates" / "toy.yaml"
    # above the others, which move to other lines
    file.write_text(file.read_text().replace("{{ n }}: ", "{{ n }} -> ", 1).replace("- name", "\n\n- name", 1))
    _, said = build(toy, "a")
    assert said.endswith("2 of 4 batches came from the cache; rendered anew: toy × counted (2)\n")


def test_what_decides_a_text_decides_its_key(cache: Cache, toy: Path) -> None:
    build(toy, "a")
    data = toy.parent / "toy.jsonl"
    data.write_text(data.read_text().replace("many", "lots"))
    changed, said = build(toy, "a")
    assert "0 of 4 batches" in said
    for path in entries(cache, RENDERS):
        path.unlink()
    assert build(toy, "a")[0] == changed


@pytest.mark.parametrize("damage", [flip, cut, exchange])
def test_a_build_with_a_damaged_cache_gives_the_same(cache: Cache, toy: Path, settled: None, damage: Damage) -> None:
    whole, _ = build(toy, "a")
    for kind in (FILES, RENDERS):
        damage_all(cache, kind, damage)
    again, said = build(toy, "a")
    assert again == whole
    assert said.count("is damaged and made anew") == 1
    assert "0 of 4 batches" in said
    assert build(toy, "a")[1].endswith("4 of 4 batches came from the cache\n")


def test_few_rows_an_entry_give_the_same(cache: Cache, toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = build(toy, "a")
    monkeypatch.setattr(remembered, "BATCH_ROWS", 7)
    assert build(toy, "a")[0] == whole
    for path in entries(cache, RENDERS)[::2]:
        path.unlink()
    again, said = build(toy, "a")
    assert again == whole
    assert "rendered anew" in said


def test_a_row_that_fails_is_named_though_others_are_known(cache: Cache, toy: Path) -> None:
    build(toy, "a")
    file = toy.parent / "toy.jsonl"
    file.write_text(file.read_text().replace("row 150 of", "row 150 fails of"))
    templates = toy.parent / "templates" / "toy.yaml"
    output = '{{ choices[label] if "fails" not in text else text.nothing }}'
    templates.write_text(templates.read_text().replace("{{ choices[label] }}", output.replace('"', "'")))
    arguments = ["build", "tiny", "--catalog", str(toy), "--out", str(toy.parent / "a")]
    failed = CliRunner().invoke(main, arguments)
    assert failed.exit_code == 1
    assert "row 150" in failed.stderr


# Comparisons

COMPARED = """\
version: 1
tasks:
  one: {kind: text-classification, cluster: sentiment, source: {path: one}, labels: ["no", "yes"]}
  two: {kind: text-classification, cluster: topics, source: {path: two}, labels: ["no", "yes"]}
mixtures:
  m: {tasks: ["*"], evaluation: {rows: 30}}
"""
PAIR, FROM_CACHE = ("one", "two"), "compared: 2 of 2 training splits came from the cache"


@pytest.fixture
def pair(tmp_path: Path, cache: Cache, settled: None) -> Path:
    """The catalog of two tasks, each with rows of its own evaluation split, of the other's, and some rows twice."""
    (tmp_path / "templates").mkdir()
    for name, other in (PAIR, PAIR[::-1]):
        own = [f"{name} says that row {row} is {'very ' * (row % 5)}good" for row in range(40)]
        leaked = [f"{each} validates row {row}" for each in (name, other) for row in range(5)]
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / "train.jsonl", [*own, *own[:8], *leaked])
        write_rows(tmp_path / name / "validation.jsonl", [f"{name} validates row {row}" for row in range(20)])
        (tmp_path / "templates" / f"{name}.yaml").write_text(TEMPLATES.replace("groupby('length')", "groupby(0)"))
    (tmp_path / "catalog.yaml").write_text(COMPARED)
    return tmp_path / "catalog.yaml"


def write_rows(file: Path, texts: list[str]) -> None:
    file.write_text("".join(json.dumps({"text": text, "label": row % 2}) + "\n" for row, text in enumerate(texts)))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def planned(catalog: Path, caplog: pytest.LogCaptureFixture) -> tuple[tuple[Any, ...], str]:
    """Plan; return what leaves train and what is left, and what was said of the cache."""
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="taskmix"):
        made = plan("m", catalog=taskmix.load_catalog(catalog))
    figures = [(part.split, part.task.name, len(part), part.counts) for part in made.parts]
    (said,) = [record.message for record in caplog.records if record.message.startswith("compared")]
    return (figures, made.dropped.rows()), said


def test_a_second_plan_compares_nothing_and_is_the_same(pair: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, said = planned(pair, caplog)
    assert said.endswith("0 of 2 training splits came from the cache; compared anew: one, two")
    assert [counts.duplicates for split, *_, counts in first[0] if split == "train"] == [8, 8]
    assert len(first[1]) == 20
    with pytest.MonkeyPatch.context() as patch:
        # neither is the index of evaluation rows made, nor a row looked at
        patch.setattr(cleaning, "index", None)
        patch.setattr(cleaning, "Duplicates", None)
        assert planned(pair, caplog) == (first, FROM_CACHE)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("templates/one.yaml", "- name: plain", "- name: plainer"),
        ("catalog.yaml", "evaluation:", "styles: {options: 0.5}, seed: 3, evaluation:"),
        ("catalog.yaml", "cluster: topics", "license: mit, note: Made up., cluster: topics"),
        ("catalog.yaml", "rows: 30", "rows: 25"),
    ],
    ids=["template", "styles and seed", "licence", "as many evaluation rows as there are"],
)
def test_what_decides_no_row_compares_nothing_anew(
    pair: Path, caplog: pytest.LogCaptureFixture, file: str, old: str, new: str
) -> None:
    planned(pair, caplog)
    edit(pair.parent / file, old, new)
    assert planned(pair, caplog)[1] == FROM_CACHE


@pytest.mark.parametrize(
    ("file", "old", "new", "anew"),
    [
        ("one/train.jsonl", "validates", "validated", ["one", "two"]),
        ("two/validation.jsonl", "validates row 0", "validates row zero", ["one", "two"]),
        ("catalog.yaml", "path: two}, labels", 'path: two}, where: "{{ label == 0 }}", labels', ["one", "two"]),
        ("catalog.yaml", "rows: 30", "rows: 10", ["one", "two"]),
        ("catalog.yaml", "evaluation:", "decontamination: {overlap: 0.9}, evaluation:", ["one", "two"]),
        ("catalog.yaml", '"yes"]}\nmixtures', "maybe]}\nmixtures", ["one", "two"]),
    ],
    ids=["a task's rows", "evaluation rows", "where", "fewer evaluation rows", "limits", "labels"],
)
def test_what_decides_rows_compares_them_anew_and_gives_what_no_cache_gives(
    pair: Path, caplog: pytest.LogCaptureFixture, cache: Cache, file: str, old: str, new: str, anew: list[str]
) -> None:
    planned(pair, caplog)
    edit(pair.parent / file, old, new)
    found, said = planned(pair, caplog)
    assert said.endswith(f"compared anew: {', '.join(anew)}")
    shutil.rmtree(cache.folder)
    assert planned(pair, caplog)[0] == found


def test_a_task_that_is_not_evaluated_is_compared_alone(pair: Path, caplog: pytest.LogCaptureFixture) -> None:
    (pair.parent / "one" / "validation.jsonl").unlink()
    planned(pair, caplog)
    edit(pair.parent / "one" / "train.jsonl", "is good", "is better")
    assert planned(pair, caplog)[1].endswith("1 of 2 training splits came from the cache; compared anew: one")


def test_duplicates_and_evaluation_rows_are_remembered_apart(pair: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, _ = planned(pair, caplog)
    edit(pair, "evaluation:", "decontamination: off, evaluation:")
    found, said = planned(pair, caplog)
    assert (found[1], said) == ([], FROM_CACHE)
    edit(pair, "decontamination: off,", "duplicates: keep,")
    found, said = planned(pair, caplog)
    assert (found[1], said) == (first[1], FROM_CACHE)


@pytest.mark.parametrize("damage", [flip, cut, exchange])
def test_a_plan_with_a_damaged_cache_is_the_same(
    pair: Path, caplog: pytest.LogCaptureFixture, cache: Cache, damage: Damage
) -> None:
    whole, _ = planned(pair, caplog)
    damage_all(cache, COMPARISONS, damage)
    again, said = planned(pair, caplog)
    assert again == whole
    assert said.endswith("0 of 2 training splits came from the cache; compared anew: one, two")
    assert planned(pair, caplog) == (whole, FROM_CACHE)


def test_a_plan_whose_cache_cannot_be_written_is_the_same(
    pair: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = planned(pair, caplog)
    (pair.parent / "file").touch()
    monkeypatch.setenv("TASKMIX_CACHE", str(pair.parent / "file"))
    for _ in range(2):
        again, said = planned(pair, caplog)
        assert again == whole
        assert "0 of 2" in said


def test_a_file_that_changes_while_it_is_compared_is_not_remembered(
    pair: Path, caplog: pytest.LogCaptureFixture, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = contamination.index

    def changing(*given: Any) -> Any:
        edit(pair.parent / "two" / "validation.jsonl", "row 0", "row zero")
        return real(*given)

    monkeypatch.setattr(cleaning, "index", changing)
    planned(pair, caplog)
    assert entries(cache, COMPARISONS) == []


# A cache that is full, may not be written, or breaks


@pytest.fixture
def command(toy: Path) -> list[str]:
    """What builds over something, so that the folders are exchanged: that is no plain rename."""
    (toy.parent / "out").mkdir()
    return [*MIX, "build", "tiny", "--catalog", str(toy), "--out", str(toy.parent / "out"), "--force"]


def expected(toy: Path) -> dict[str, str]:
    taskmix.build("tiny", catalog=taskmix.load_catalog(toy), out=toy.parent / "expected")
    return digests(toy.parent / "expected")


def assert_built_with_one_remark(ended: "subprocess.CompletedProcess[str]", toy: Path, reason: str) -> None:
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("cannot be written") == 1
    assert f"cannot be written ({reason}): nothing is kept in it" in ended.stderr
    assert digests(toy.parent / "out") == expected(toy)


@pytest.mark.parametrize("options", ["-o size=4k", "-o ro"])
def test_a_full_or_read_only_cache_is_no_error(toy: Path, command: list[str], options: str, tmp_path: Path) -> None:
    script = f"mount -t tmpfs {options} tmpfs disk || exit 99; TASKMIX_CACHE=disk/cache {shlex.join(command)}"
    ended, _ = run_in_namespace(script, tmp_path)
    assert_built_with_one_remark(ended, toy, "Read-only file system" if "ro" in options else "No space left on device")


def test_a_cache_without_permission_is_no_error(toy: Path, command: list[str], cache: Cache) -> None:
    cache.folder.mkdir()
    cache.folder.chmod(0o555)
    ended = run([*obeying_permissions(), *command])
    cache.folder.chmod(0o755)
    assert_built_with_one_remark(ended, toy, "Permission denied")


def test_a_cache_that_is_a_file_is_no_error(toy: Path, cache: Cache) -> None:
    cache.folder.write_text("not a folder")
    built, said = build(toy, "out")
    assert said.count("cannot be written (Not a directory): nothing is kept in it") == 1
    assert built == expected(toy)


def test_a_cache_on_a_broken_disk_is_no_error(toy: Path, command: list[str], cache: Cache) -> None:
    need("strace")
    # nothing but entries is renamed
    strace = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=rename", "-e", "inject=rename:error=EIO"]
    assert_built_with_one_remark(run([*strace, *command]), toy, "Input/output error")


def test_a_build_that_is_killed_while_it_writes_to_the_cache_leaves_nothing_wrong(
    toy: Path, command: list[str], cache: Cache
) -> None:
    need("strace")
    # each thread's first
    inject = "inject=rename:signal=SIGKILL:when=1"
    killed = run(["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=rename", "-e", inject, *command])
    assert killed.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), killed.stderr
    assert run(command).returncode == 0
    assert digests(toy.parent / "out") == expected(toy)


def test_two_builds_may_share_a_cache(toy: Path, command: list[str], cache: Cache) -> None:
    commands = [[*command, "--out", str(toy.parent / name)] for name in ("one", "two")]
    running = [subprocess.Popen(each, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for each in commands]
    said = [each.communicate(timeout=60)[1] for each in running]
    assert [each.returncode for each in running] == [0, 0], said
    assert digests(toy.parent / "one") == digests(toy.parent / "two") == expected(toy)


# mix cache


def cached(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["cache", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def aged(cache: Cache) -> Cache:
    """A cache with two entries of each kind, of which one is forty days old."""
    for number in range(2):
        for kind in (FILES, RENDERS, COMPARISONS):
            cache.put(kind, f"{number:064x}", b"x" * 1000)
        tokens = cache.folder / "tokens/00" / f"{number:030x}"
        tokens.mkdir(parents=True)
        (tokens / "train.arrow").write_bytes(b"x" * 1000)
        for place in ("hub/org--name/default", "stores/address/objects"):
            download = cache.folder / place / f"{number:040x}"
            download.mkdir(parents=True)
            (download / "train-00000-of-00001.parquet").write_bytes(b"x" * 5000)
    (cache.folder / "hub/org--name/refs").mkdir()
    (cache.folder / "hub/org--name/refs/main").write_text(f"{0:040x}")
    old = time.time() - 40 * 24 * 3600
    for path in [*cache.folder.glob("*/00/*"), *cache.folder.glob(f"*/*/*/{0:040x}")]:
        if path.name.endswith("0"):
            os.utime(path, (old, old))
    return cache


def counts(cache: Cache) -> dict[str, int]:
    return {kept.kind: kept.entries for kept in take_stock(cache.folder).kinds}


def test_the_cache_is_shown(aged: Cache) -> None:
    shown = json.loads(cached("--json"))
    assert shown["folder"] == str(aged.folder)
    assert {kind: found["entries"] for kind, found in shown["kinds"].items()} == dict.fromkeys(KINDS, 2)
    assert shown["kinds"]["hub"]["bytes"] == 10_000
    assert [round(found["oldest_days"]) for found in shown["kinds"].values()] == [40] * len(KINDS)
    assert "40 days" in cached()


def test_a_cache_that_is_not_there_is_empty(cache: Cache) -> None:
    assert set(counts(cache).values()) == {0}
    assert "entries removed: 0" in cached("prune", "--all", "--hub")


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--older-than", "50"], {"files": 2, "renders": 2, "comparisons": 2, "tokens": 2, "hub": 2, "stores": 2}),
        ([], {"files": 1, "renders": 1, "comparisons": 1, "tokens": 1, "hub": 2, "stores": 2}),
        (["--hub"], {"files": 1, "renders": 1, "comparisons": 1, "tokens": 1, "hub": 1, "stores": 1}),
        (["--all"], {"files": 0, "renders": 0, "comparisons": 0, "tokens": 0, "hub": 2, "stores": 2}),
        (["--all", "--hub"], {"files": 0, "renders": 0, "comparisons": 0, "tokens": 0, "hub": 0, "stores": 0}),
    ],
    ids=["nothing", "old", "old-hub", "all", "everything"],
)
def test_pruning_takes_what_was_asked(aged: Cache, options: list[str], left: dict[str, int]) -> None:
    removed = json.loads(cached("prune", "--json", *options))
    assert counts(aged) == left
    assert {kind: 2 - found["entries"] for kind, found in removed["kinds"].items()} == {
        kind: count for kind, count in left.items() if kind in removed["kinds"]
    }


def test_what_is_used_grows_no_older(aged: Cache) -> None:
    assert aged.get(FILES, f"{0:064x}") == b"x" * 1000
    cached("prune")
    assert counts(aged)[FILES] == 2


def test_what_may_not_be_removed_is_said(aged: Cache) -> None:
    folder = aged.folder / FILES / "00"
    folder.chmod(0o555)
    failed = run([*obeying_permissions(), *MIX, "cache", "prune", "--all"])
    folder.chmod(0o755)
    assert failed.returncode == 1
    assert "cannot be removed: Permission denied" in failed.stderr
    assert "Traceback" not in failed.stderr

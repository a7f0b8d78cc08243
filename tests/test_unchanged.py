"""A build with nothing to do does nothing, one with anything to do does it, and a lock allows what it describes."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from filelock import FileLock

import taskmix
from taskmix.building import Built, Reporters
from taskmix.cli import main
from taskmix.errors import OutputError, SourceError
from taskmix.output import inputs, lock
from taskmix.versions import versions
from tests.test_all_or_nothing import TRAIN, digests

CATALOG = """\
version: 1
tasks:
  moods:
    kind: text-classification
    cluster: sentiment
    source: {path: moods}
    columns: {label: mood}
    labels: {bad: gloomy, good: cheerful}
    where: "{{ mood != 'odd' }}"
  sums:
    kind: text-generation
    cluster: maths
    source: {path: sums.jsonl}
    columns: {input: ask, target: answer}
  notes:
    kind: text-generation
    cluster: writing
    source: {path: sums.jsonl}
    columns: {input: ask, target: answer}
    derived_from: [diary]
mixtures:
  two:
    tasks: [moods, sums]
    decontamination: off
    holdout: {tasks: [sums]}
    sampling: {cap: 20}
  one: {tasks: [sums]}
default_mixture: two
"""
TEMPLATES = """\
- name: ask
  instruction: "How does this sound? {{ text }}"
  output: "{{ choices[label] }}"
- name: tell
  instruction: "{{ text }} Is that {{ choices | join(' or ') }}?"
  output: "{{ choices[label] }}"
"""
MOODS = [
    {"text": f"A {'fine' if row % 2 else 'grim'} day, the {row}th.", "mood": "good" if row % 2 else "bad"}
    for row in range(40)
]
SUMS = [{"ask": f"{row} + {row}", "answer": str(row + row)} for row in range(20)]


def jsonl(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project as the working folder, whose mixture is built."""
    monkeypatch.chdir(tmp_path)
    for path, text in {
        "catalog.yaml": CATALOG,
        "templates/moods.yaml": TEMPLATES,
        "moods/train.jsonl": jsonl(MOODS),
        "moods/validation.jsonl": jsonl(MOODS[:6]),
        "sums.jsonl": jsonl(SUMS),
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    assert not build().unchanged
    return tmp_path


def build(out: str = "mixtures/two", **options: Any) -> Built:
    return taskmix.build("two", catalog=taskmix.load_catalog(Path("catalog.yaml")), out=Path(out), **options)


def mix(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["build", *arguments], catch_exceptions=False)


def edit(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text, (path, old)
    Path(path).write_text(text.replace(old, new))


# Nothing to do


def test_nothing_changed_nothing_done(built: Path) -> None:
    def told(*what: object) -> None:
        raise AssertionError(what)

    before = {path: path.stat() for path in built.rglob("*")}
    again = build(reporters=Reporters(told, told, told, told))
    assert again.unchanged
    assert again.lock == lock.read_lock(built / "mixtures/two")
    assert again.rows == sum(split["rows"] for split in again.lock["splits"].values()) > 0
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*")} == {
        path: stat.st_mtime_ns for path, stat in before.items()
    }


def test_the_command_says_so(built: Path) -> None:
    done = mix()
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.fullmatch(r"mixtures/two: unchanged, \d+ rows\n", done.stdout)
    assert json.loads(mix("--json").stdout) == lock.read_lock(Path("mixtures/two"))


def test_what_does_not_decide_the_bytes_is_no_change(built: Path, tmp_path: Path) -> None:
    assert build(workers=1, memory=1).unchanged
    for path in ("moods/train.jsonl", "templates/moods.yaml", "mixtures/two/README.md"):
        shutil.copy2(path, "copy")
        Path("copy").replace(path)
    edit("catalog.yaml", "version: 1\n", "# a remark\nversion: 1\n")
    # a task and a mixture that this one has nothing to do with
    edit("catalog.yaml", "cap: 20}\n", "cap: 20}\n  three: {tasks: [moods]}\n")
    assert build().unchanged


def test_nothing_heavy_is_imported_for_it(built: Path) -> None:
    script = """if True:
        import sys
        from taskmix.cli import main
        try:
            main(["build"])
        finally:
            heavy = {"polars", "pyarrow", "numpy", "jinja2", "rich", "datasets", "huggingface_hub"}
            print(sorted(heavy & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[0].startswith("mixtures/two: unchanged")
    assert done.stdout.splitlines()[1] == "[]"


def new_code(monkeypatch: pytest.MonkeyPatch) -> None:
    newer = {**versions(), "code": "0" * 64}
    monkeypatch.setattr(inputs, "versions", lambda: newer)


def same_size_and_time(path: str, old: str, new: str) -> None:
    before = Path(path).stat()
    edit(path, old, new)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


Change = Callable[[pytest.MonkeyPatch], object]
CHANGES: dict[str, Change] = {
    "an option": lambda _: edit("catalog.yaml", "cap: 20", "cap: 19"),
    "an option's default written out": lambda _: edit("catalog.yaml", "cap: 20}", "cap: 20}\n    seed: 1"),
    "the order of labels": lambda _: edit(
        "catalog.yaml", "{bad: gloomy, good: cheerful}", "{good: cheerful, bad: gloomy}"
    ),
    "where": lambda _: edit("catalog.yaml", "!= 'odd'", "!= 'bad' or true"),
    "a template": lambda _: edit("templates/moods.yaml", "How does", "How do you think does"),
    "a template of the kind's": lambda _: Path("templates/text-generation.yaml").write_text(
        '- {name: short, instruction: "{{ input }}", output: "{{ target }}"}\n'
    ),
    "a template file of its own": lambda _: Path("templates/sums.yaml").write_text(
        '- {name: short, instruction: "{{ input }}", output: "{{ target }}"}\n'
    ),
    "a source": lambda _: edit("moods/train.jsonl", "fine day", "mild day"),
    "a source, in disguise": lambda _: same_size_and_time("moods/train.jsonl", "fine day", "mild day"),
    "a file more": lambda _: Path("moods/train-00000-of-00001.jsonl").write_text(jsonl(MOODS[:2])),
    "a held-out source": lambda _: edit("sums.jsonl", "3 + 3", "3 plus 3"),
    "a library": new_code,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_is_noticed(built: Path, change: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch)
    again = build()
    assert not again.unchanged
    assert build().unchanged
    build("fresh")
    assert digests(Path("mixtures/two")) == digests(Path("fresh"))


def test_a_task_that_becomes_a_relative_is_noticed(built: Path) -> None:
    # through a task that the mixture does not have
    edit("catalog.yaml", "where:", "derived_from: [diary]\n    where:")
    with pytest.raises(taskmix.TaskmixError, match="the holdout leaves no task to train on"):
        build()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


OUTPUTS: dict[str, Callable[[], object]] = {
    "a flipped bit": lambda: flip(Path("mixtures/two", TRAIN)),
    "a missing shard": lambda: Path("mixtures/two", TRAIN).unlink(),
    "a shard more": lambda: shutil.copy(Path("mixtures/two", TRAIN), "mixtures/two/data/more.parquet"),
    "another card": lambda: Path("mixtures/two/README.md").write_text("# Mine\n"),
    "a damaged lock": lambda: flip(Path("mixtures/two/mix.lock.json")),
    "a lock of another mixture": lambda: Path("mixtures/two/mix.lock.json").write_text(
        Path("other/mix.lock.json").read_text()
    ),
    "no data": lambda: shutil.rmtree("mixtures/two/data"),
}


REASONS = {
    "a flipped bit": f"{TRAIN}: its content was changed",
    "a missing shard": f"{TRAIN}: missing",
    "a shard more": "data/more.parquet: not of this mixture",
    "another card": "README.md: 7 bytes, not ",
    "a damaged lock": "the lock ",
    "a lock of another mixture": "seed: 7 → 0",
    "no data": f"{TRAIN}: missing (and 2 more)",
}


@pytest.mark.parametrize("damage", OUTPUTS)
def test_a_damaged_mixture_is_built_anew_and_the_damage_is_named(built: Path, damage: str) -> None:
    before = digests(Path("mixtures/two"))
    build("other", seed=7)
    OUTPUTS[damage]()
    assert f"mixtures/two: built anew: {REASONS[damage]}" in mix().stderr
    assert digests(Path("mixtures/two")) == before


def test_what_the_command_line_says_is_noticed(built: Path) -> None:
    for options in ({"seed": 4}, {"limit": 3}, {}, {"force": True}):
        assert not build(**options).unchanged
        assert "force" in options or build(**options).unchanged


def test_a_template_that_changes_while_it_is_built_fails_the_build(built: Path) -> None:
    before = digests(Path("mixtures/two"))
    with pytest.raises(SourceError, match=r"changed while the mixture was built: moods\.templates\.sha256"):
        build(force=True, reporters=Reporters(start=lambda _: edit("templates/moods.yaml", "How", "Just how")))
    assert digests(Path("mixtures/two")) == before


@pytest.mark.parametrize("held", [True, False], ids=["at-work", "killed"])
def test_what_killed_builds_left_is_removed_unless_one_is_at_work(built: Path, held: bool) -> None:
    remains = Path("mixtures/.two.building-0/data")
    remains.mkdir(parents=True)
    with FileLock("mixtures/.two.lock") if held else FileLock("elsewhere"):
        assert build().unchanged
    assert remains.exists() == held


# --locked


def refused(*arguments: str) -> list[str]:
    """Return the lines of a refusal, with everything as it was."""
    before = digests(Path("mixtures/two"))
    failed = mix("--locked", *arguments)
    assert failed.exit_code == 1
    assert failed.stdout == ""
    assert digests(Path("mixtures/two")) == before
    return failed.stderr.splitlines()


def test_a_lock_allows_what_it_describes(built: Path) -> None:
    before = digests(Path("mixtures/two"))
    assert build(locked=True).unchanged
    assert not build(locked=True, force=True).unchanged
    for lock_file in ("mixtures/two", "mixtures/two/mix.lock.json"):
        assert not build(f"again-{len(lock_file)}", lock_file=Path(lock_file)).unchanged
        assert digests(Path(f"again-{len(lock_file)}")) == before


def test_a_lock_refuses_everything_else_by_name(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit("catalog.yaml", "cap: 20", "cap: 19")
    edit("templates/moods.yaml", "How does", "How do you think does")
    edit("moods/train.jsonl", "fine day", "mild day")
    newer = {**versions(), "polars": "99.0"}
    polars = versions()["polars"]
    monkeypatch.setattr(inputs, "versions", lambda: newer)
    said = refused("--seed", "5")
    assert said[0] == "error: mixtures/two/mix.lock.json: the lock is of other inputs"
    assert said[1:4] == ["  seed: 0 → 5", f"  versions.polars: {polars} → 99.0", "  spec.sampling.cap: 20 → 19"]
    hashed = [re.sub(r"[0-9a-f]{12}…", "…", line) for line in said[4:-1]]
    assert hashed == [
        "  tasks.moods.files.train.jsonl: … → …",
        "  tasks.moods.templates.sha256: … → …",
        "  tasks.moods.templates.each.ask: … → …",
    ]
    assert said[-1] == "  to make another mixture and another lock, build without --locked"


def test_a_long_list_of_differences_is_cut(built: Path) -> None:
    for number in range(30):
        Path(f"moods/train-{number:05}-of-00030.jsonl").write_text(jsonl(MOODS[:1]))
    assert "  and 10 more" in refused()


def test_a_lock_refuses_another_mixture(built: Path) -> None:
    assert refused("one", "--lock", "mixtures/two")[1] == "  mixture: two → one"


@pytest.mark.parametrize(
    "prepare", [lambda: shutil.rmtree("mixtures"), lambda: flip(Path("mixtures/two/mix.lock.json"))]
)
def test_without_a_whole_lock_nothing_is_built(built: Path, prepare: Callable[[], object]) -> None:
    prepare()
    with pytest.raises(OutputError, match=r"not a mixture|lock is not JSON|lock was changed"):
        build(locked=True)


def test_what_comes_out_must_be_what_the_lock_has(built: Path) -> None:
    recorded = lock.read_lock(Path("mixtures/two"))
    recorded["outputs"][TRAIN]["sha256"] = "0" * 64
    recorded["plan"][0]["usable"] += 1
    Path("wanted.json").write_text(lock.dump({**recorded, "lock_sha256": lock._digest(recorded)}))
    said = refused("--lock", "wanted.json")
    assert said[-4] == "error: wanted.json: the build gives something else than the lock has"
    assert said[-3] == "  plan.train.moods.usable: 41 → 40"
    assert said[-2].startswith(f"  outputs.{TRAIN}.sha256: 000000000000… → ")
    assert sorted(path.name for path in Path("mixtures").iterdir()) == [".two.lock", "two"]


def test_a_lock_pins_no_commit_of_another_source(built: Path) -> None:
    catalog = taskmix.load_catalog(Path("catalog.yaml"))
    entry = {"commit": "1" * 40, "spec": {"source": {"path": "elsewhere"}}}
    same = {"commit": "1" * 40, "spec": {"source": {"path": "sums.jsonl", "revision": "main"}}}
    assert inputs.recorded_commits(catalog, {"moods": entry, "sums": same, "gone": entry}) == {"sums": "1" * 40}

"""What `mix diff` says changed is what changed: options, tasks, templates, rows, shares, texts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

import taskmix
from taskmix.cli import main
from taskmix.comparing import rows
from taskmix.comparing.rows import FORMS, Mixture, compare_rows
from taskmix.comparing.words import word_changes
from taskmix.output.changes import Change, changes
from taskmix.output.formats import FORMATS
from taskmix.output.lock import read_lock
from tests.test_unchanged import CATALOG, MOODS, SUMS, TEMPLATES, edit, flip, jsonl

TEXTS = ("prompt", "completion")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project as the working folder, whose mixture is built as `a`."""
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
    build("a")
    return tmp_path


def build(out: str, mixture: str = "two", **options: Any) -> None:
    taskmix.build(mixture, catalog=taskmix.load_catalog(Path("catalog.yaml")), out=Path(out), **options)


def diff(*options: str) -> dict[str, Any]:
    done = CliRunner().invoke(main, ["diff", "a", "b", "--json", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def values(found: list[dict[str, Any]]) -> dict[str, tuple[object, object]]:
    return {".".join(each["place"]): (each["before"], each["after"]) for each in found}


def texts(folder: str, split: str) -> dict[str, dict[str, Any]]:
    """The rows of a split by id, read whole."""
    frame = pl.read_parquet(f"{folder}/data/{split}-*.parquet")
    return {row["id"]: row for row in frame.iter_rows(named=True)}


def test_the_same_mixture_has_not_changed(project: Path) -> None:
    shutil.copytree("a", "b")
    assert not diff()["differ"]
    said = CliRunner().invoke(main, ["diff", "a", "b", "--exit-code"])
    assert (said.exit_code, said.stdout) == (0, "a and b have the same lock: nothing changed\n")


def test_exit_code_tells_when_asked(project: Path) -> None:
    build("b", seed=1)
    for options, code in (((), 0), (("--exit-code",), 1), (("--exit-code", "--json"), 1)):
        assert CliRunner().invoke(main, ["diff", "a", "b", *options]).exit_code == code


def test_options_and_shares(project: Path) -> None:
    edit("catalog.yaml", "holdout: {tasks: [sums]}\n    sampling: {cap: 20}", "sampling: {cap: 10}")
    build("b", limit=12)
    found = diff()
    options = values(found["options"])
    assert options["limit"] == (None, 12)
    assert options["spec.sampling.cap"] == (20, 10)
    assert options["spec.holdout.tasks"] == (["sums"], [])
    assert values(found["holdout"]) == {"heldout": (["sums"], [])}
    by_task = {(row["split"], row["task"]): row for row in found["rows"]}
    assert by_task["train", "moods"] | {"share_after": 0.5} == {
        "split": "train",
        "task": "moods",
        "before": 20,
        "after": 10,
        "share_before": 1.0,
        "share_after": 0.5,
    }
    assert by_task["train", "sums"]["before"] == 0
    assert found["splits"]["heldout"]["after"] == 0


def test_tasks_that_come_go_and_change(project: Path) -> None:
    edit(
        "catalog.yaml",
        "tasks: [moods, sums]\n    decontamination: off\n    holdout: {tasks: [sums]}",
        "tasks: [moods, notes]",
    )
    edit("catalog.yaml", "gloomy", "sad")
    edit("moods/train.jsonl", "fine day", "mild day")
    build("b")
    found = diff()
    assert {name: found["tasks"][name] for name in ("added", "removed", "changed")} == {
        "added": ["notes"],
        "removed": ["sums"],
        "changed": ["moods"],
    }
    changed = values(found["tasks"]["values"]["moods"])
    assert list(changed) == ["labels.bad", "files.train.jsonl", "labels"]
    assert changed["labels"] == (["gloomy", "cheerful"], ["sad", "cheerful"])


def test_templates_by_name_and_the_texts_that_changed(project: Path) -> None:
    edit("templates/moods.yaml", "How does this sound", "How does that sound")
    Path("templates/moods.yaml").write_text(
        Path("templates/moods.yaml").read_text()
        + '- {name: more, instruction: "{{ text }}", output: "{{ choices[label] }}."}\n'
    )
    build("b")
    found = diff("--examples", "100")
    assert found["templates"] == {"moods": {"added": ["more"], "removed": [], "changed": ["ask"]}}
    for split in found["texts"]:
        a, b = texts("a", split["split"]), texts("b", split["split"])
        both = a.keys() & b.keys()
        differ = {id for id in both if any(a[id][name] != b[id][name] for name in TEXTS)}
        assert split["both"] == len(both)
        assert (split["only_before"], split["only_after"]) == (len(a.keys() - both), len(b.keys() - both))
        assert split["prompts"] == [["moods", "ask", len(differ)]]
        assert split["completions"] == []
        assert {example["id"] for example in split["examples"]} == differ
        for example in split["examples"]:
            assert example["before"] == {name: a[example["id"]][name] for name in TEXTS}
            assert example["after"] == {name: b[example["id"]][name] for name in TEXTS}
            assert example["source_row"] == a[example["id"]]["source_row"]
    assert [split["split"] for split in found["texts"]] == ["train", "validation"]


def test_words_that_evaluation_lists_are_compared_too(project: Path) -> None:
    edit("catalog.yaml", "gloomy", "sad")
    build("b")
    train, validation = diff()["texts"]
    assert train["alternatives"] == []
    assert sum(count for *_, count in validation["alternatives"]) == validation["both"] == 12
    assert sum(count for *_, count in validation["completions"]) == 6


def test_a_split_that_is_the_same_is_not_read(project: Path) -> None:
    edit("sums.jsonl", "3 + 3", "3 plus 3")
    build("b")
    flip(next(Path("b/data").glob("train-*")))
    (heldout,) = diff()["texts"]
    assert heldout["split"] == "heldout"
    assert heldout["examples"][0]["before"] != heldout["examples"][0]["after"]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_compared(project: Path, form: str) -> None:
    edit("catalog.yaml", "sampling:", f"format: {form}\n    sampling:")
    build("b")
    found = diff()
    assert (found["texts"] is None) == (form != "prompt-completion")
    shutil.move("b", "a-too")
    edit("templates/moods.yaml", "How does this", "How does that")
    build("b")
    shutil.rmtree("a")
    shutil.move("a-too", "a")
    (train, _) = diff("--examples", "1")["texts"]
    ((task, template, count),) = train["prompts"]
    assert (task, template) == ("moods", "ask")
    assert count > 0
    assert train["completions"] == []
    (example,) = train["examples"]
    assert example["before"]["prompt"].replace("this", "that") == example["after"]["prompt"]


def test_forms_are_those_of_the_formats() -> None:
    assert FORMS.keys() == FORMATS.keys()


def test_of_many_rows_a_sample_is_compared(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit("templates/moods.yaml", "?", "??")
    build("b")
    (whole, *_) = compare_rows(*mixtures(), 3)
    monkeypatch.setattr(rows, "ROWS_HELD", 7)
    (sample, *_) = compare_rows(*mixtures(), 3)
    assert sample.one_in == 3
    wanted = [id for id in texts("a", "train") if int(id[:15], 16) % 3 == 0]
    assert sample.both == len(wanted)
    assert 0 < sample.both < whole.both == 20
    assert {example.id for example in sample.examples} <= set(wanted)
    said = CliRunner().invoke(main, ["diff", "a", "b"])
    assert "train, of a sample of one row in 3: " in said.stdout


def mixtures() -> tuple[Mixture, Mixture]:
    a, b = (Mixture(Path(name), read_lock(Path(name))) for name in ("a", "b"))
    return a, b


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda: shutil.rmtree("b"), "not a mixture"),
        (lambda: flip(Path("b/mix.lock.json")), "the lock"),
        (lambda: shutil.rmtree("b/data"), "its rows cannot be read"),
        (lambda: next(Path("b/data").glob("train-*")).write_bytes(b"PAR1"), "its rows cannot be read"),
    ],
    ids=["no folder", "lock", "no data", "data"],
)
def test_what_cannot_be_compared_is_said(project: Path, damage: Callable[[], object], message: str) -> None:
    edit("templates/moods.yaml", "?", "??")
    build("b")
    damage()
    failed = CliRunner().invoke(main, ["diff", "a", "b"])
    assert failed.exit_code == 1
    assert isinstance(failed.exception, SystemExit)
    assert message in failed.stderr


# Values and words


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": None}, {}, []),
        ({"a": 1, "b": {"c": [1]}}, {"a": 2, "b": {"c": [1, 2]}}, ["a: 1 → 2", "b.c: with 2"]),
        ({"a": ["x", "y"]}, {"a": ["y", "z"]}, ["a: without x; with z"]),
        ({"a": ["x", "y"]}, {"a": ["y", "x"]}, ["a: in another order: y, x"]),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, ["a: in another order: y, x"]),
        ({}, {"a": {"x": True}}, ["a.x: none → True"]),
        ({"a": 0}, {"a": False}, ["a: 0 → False"]),
        ({"a": "12" * 32}, {"a": "ab" * 20}, ["a: 121212121212… → abababababab…"]),
        ({"a": "\x1b[31m"}, {"a": ""}, ["a: '\\x1b[31m' → ''"]),
    ],
)
def test_changes_of_values(old: object, new: object, lines: list[str]) -> None:
    assert [str(change) for change in changes(old, new)] == lines


def test_a_key_is_shown_with_its_control_characters() -> None:
    assert str(Change(("a\x1b",), 1, 2)) == "a\\x1b: 1 → 2"


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("", "", ""),
        ("same", "same", "same"),
        ("", "new", "{+new+}"),
        ("old", "", "[-old-]"),
        ("one two", "one 2", "one [-two-]{+2+}"),
        ("a b c", "a c", "a [-b -]c"),
        (f"{'x ' * 50}old{' y' * 50}", f"{'x ' * 50}new{' y' * 50}", "… x x x x [-old-]{+new+} y y y y …"),
    ],
)
def test_changes_of_words(old: str, new: str, shown: str) -> None:
    marks = {"same": "{}", "gone": "[-{}-]", "come": "{{+{}+}}"}
    assert "".join(marks[kind].format(words) for kind, words in word_changes(old, new)) == shown


@pytest.mark.parametrize("words", [20, 2_000])
def test_long_changes_are_shown_short_and_soon(words: int) -> None:
    old, new = (" ".join(f"{name}{number}" for number in range(words)) for name in "ab")
    assert len("".join(text for _, text in word_changes(old, new))) < 4_000


def test_what_people_see_has_no_control_characters(project: Path) -> None:
    edit("templates/moods.yaml", '"How does', '"\\e[31m How does')
    build("b")
    said = CliRunner().invoke(main, ["diff", "a", "b"])
    assert "\x1b" not in said.stdout
    assert "\\x1b[31m" in said.stdout

"""What the commands print and what the card says, for a small project, kept as files in this folder.

`just golden` (or TASKMIX_GOLDEN=write) writes the files anew: look at the difference before you commit it.
"""

import json
import os
import shutil
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

from taskmix.caching.entries import Cache
from taskmix.cli import main

HERE = Path(__file__).parent
COMMANDS = {
    "list.txt": ["list"],
    "list-one-cluster.txt": ["list", "--cluster", "rhyme"],
    "show-task.txt": ["show", "weather-moods"],
    "show-mixture.txt": ["show", "small"],
    "show-template.txt": ["show", "weather-moods/diary"],
    "preview.txt": ["preview", "weather-moods", "--rows", "1"],
    "build.txt": ["build"],
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, as the working folder, without settings of this machine."""
    shutil.copytree(HERE / "project", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for name in ("TASKMIX_CATALOG", "TASKMIX_MIRROR", "COLUMNS", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def output(*arguments: str) -> str:
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def check(name: str, found: str) -> None:
    if os.environ.get("TASKMIX_GOLDEN") == "write":
        (HERE / name).write_text(found, "utf-8")
    assert found == (HERE / name).read_text("utf-8"), f"tests/golden/{name} differs; if that is meant: just golden"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_prints_what_it_printed(project: Path, name: str) -> None:
    check(name, output(*COMMANDS[name]))


def test_the_card_says_what_it_said(project: Path) -> None:
    output("build")
    card = (project / "mixtures/small/README.md").read_text("utf-8")
    check("card.md", card.replace(f"taskmix {metadata.version('taskmix')}", "taskmix VERSION"))


def test_the_lock_says_who_made_the_data(project: Path) -> None:
    output("build")
    tasks = json.loads((project / "mixtures/small/mix.lock.json").read_text("utf-8"))["tasks"]
    assert tasks["rhymes"]["spec"]["citation"].startswith("A. Barometer, 1901.")
    assert "citation" not in tasks["harbour-questions"]["spec"]


def test_a_build_with_nothing_to_do_says_what_it_said(project: Path) -> None:
    output("build")
    check("build-unchanged.txt", output("build"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text, path
    path.write_text(text.replace(old, new), "utf-8")


@pytest.fixture
def edited(project: Path) -> Path:
    """The project with its mixture built, and then an option, a template, a row and a task changed."""
    output("build")
    edit(project / "templates/weather-moods.yaml", "the speaker {{ choices", "whoever says this {{ choices")
    edit(project / "templates/rhymes.yaml", "{{ target }}!", "{{ target }}.")
    edit(project / "data/rhymes.jsonl", "night", "bite")
    edit(project / "catalog.yaml", "cap: 5", "cap: 6")
    edit(project / "catalog.yaml", "good: cheerful", "good: bright")
    return project


def test_a_comparison_says_what_it_said(edited: Path) -> None:
    output("build", "--out", "mixtures/edited")
    check("diff.txt", output("diff", "mixtures/small", "mixtures/edited", "--examples", "3"))


def test_a_refusal_names_what_it_named(edited: Path) -> None:
    refused = CliRunner().invoke(main, ["build", "--locked"])
    assert refused.exit_code == 1
    check("build-locked.txt", refused.stderr)


def test_the_cache_is_shown_as_it_was(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKMIX_CACHE", "cache")
    Cache(Path("cache")).put("renders", "ab" * 32, b"x" * 10_000)
    check("cache.txt", output("cache") + output("cache", "prune", "--all"))

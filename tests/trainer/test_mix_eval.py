"""The command `mix eval`: figures of a run, files, and one clear message for everything that cannot be."""

import contextlib
import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from huggingface_hub import constants

from taskmix.cli import main
from taskmix_trainer import cli
from tests.trainer.folders import save_model

CATALOG = """\
version: 1
extends: builtin
mixtures:
  small:
    tasks: [review-sentiment, everyday-entailment, small-functions]
    holdout: {clusters: [nli]}
    sampling: {cap: 40}
    evaluation: {rows: 2}
  talk:
    tasks: [review-sentiment, everyday-entailment]
    holdout: {clusters: [nli]}
    sampling: {cap: 40}
    evaluation: {rows: 2}
    format: messages
  blind: {tasks: [lonely], evaluation: {rows: 2}}
tasks:
  lonely:
    kind: text-classification
    cluster: c
    license: cc0-1.0
    source: {path: lonely.jsonl}
    labels: [no, yes]
    templates: review-sentiment
"""


@dataclass(frozen=True)
class Project:
    """A folder with a catalog, and `mix` in it."""

    root: Path

    def mix(self, *arguments: str) -> Result:
        with contextlib.chdir(self.root):
            return CliRunner().invoke(main, arguments)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("eval")
    (folder / "catalog.yaml").write_text(CATALOG)
    rows = [{"text": f"text {at}", "label": at % 2} for at in range(40)]
    (folder / "lonely.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        yield Project(folder)


@pytest.fixture(scope="module")
def run(project: Project) -> Path:
    """A finished run on a raw task."""
    command = ["train", "review-sentiment", "--model", "scratch:tiny", "--steps", "6", "--batch-size", "32"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ended = project.mix(*command, "--max-length", "40", "--lr", "1e-3", "--out", "run")
    assert ended.exit_code == 0, ended.output
    return project.root / "run"


@pytest.fixture(scope="module")
def writer(project: Project) -> str:
    """A causal model that was never trained."""
    texts = ["Is this positive or negative? def f(x): return x"]
    return save_model(project.root / "writer", "causal-language-model", texts).name


def test_a_run_has_the_figures_of_its_last_validation(project: Project, run: Path) -> None:
    """To the last digit, the loss too, without naming the run's options again."""
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text("utf-8").splitlines()]
    last = next(line for line in reversed(lines) if "eval_accuracy" in line)
    ended = project.mix(
        "eval", "run", "review-sentiment", "--json", "--predictions", "made.jsonl", "--out", "made.json"
    )
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    assert json.loads((project.root / "made.json").read_text("utf-8")) == found
    assert found["form"] == "raw"
    assert found["loss"] == last["eval_loss"]
    (task,) = found["tasks"]
    for metric in ("accuracy", "macro_f1", "mcc"):
        assert task["templates"][0]["values"][metric] == last[f"eval_{metric}"]
    made = [json.loads(line) for line in (project.root / "made.jsonl").read_text("utf-8").splitlines()]
    right = [each["prediction"] == each["right"] for each in made]
    assert len(made) == task["examples"]
    assert sum(right) / len(right) == last["eval_accuracy"]
    assert {each["split"] for each in made} == {"validation"}


def test_a_run_remembers_its_windows(project: Project) -> None:
    """Its greatest length and stride; an option still says otherwise."""
    command = ["train", "short-passages", "--model", "scratch:tiny", "--steps", "2", "--limit", "24"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ended = project.mix(*command, "--max-length", "48", "--stride", "4", "--out", "windows")
    assert ended.exit_code == 0, ended.output
    lines = [json.loads(line) for line in (project.root / "windows/history.jsonl").read_text("utf-8").splitlines()]
    last = next(line for line in reversed(lines) if "eval_squad_f1" in line)
    ended = project.mix("eval", "windows", "short-passages", "--limit", "24", "--json")
    assert ended.exit_code == 0, ended.output
    assert ended.stderr.splitlines()[0] == "as in training: at most 48 tokens, windows that share 4"
    found = json.loads(ended.stdout)
    assert found["loss"] == last["eval_loss"]
    assert found["tasks"][0]["templates"][0]["values"]["squad_f1"] == last["eval_squad_f1"]
    other = project.mix("eval", "windows", "short-passages", "--limit", "24", "--stride", "12", "--json")
    assert other.exit_code == 0, other.output
    assert other.stderr.splitlines()[0] == "as in training: at most 48 tokens"
    assert json.loads(other.stdout)["loss"] != found["loss"]


def test_tables_name_classes(project: Project, run: Path) -> None:
    ended = project.mix("eval", "run", "review-sentiment", "--limit", "20")
    assert ended.exit_code == 0, ended.output
    assert "| review-sentiment " in ended.stdout
    assert "| negative |" in ended.stdout
    told, note = ended.stderr.splitlines()
    assert told == "as in training: at most 40 tokens"
    assert note.startswith("validation: ")
    assert note.endswith(" cut")


def test_a_mixture_from_the_command_line(project: Project, writer: str) -> None:
    """It is built first; code is run under a flag, which says what keeps it apart."""
    command = ["eval", writer, "small", "--limit", "1", "--shots", "1", "--max-new-tokens", "3"]
    ended = project.mix(*command, "--run-code", "--templates", "--out", "out.json", "--predictions", "out.jsonl")
    assert ended.exit_code == 0, ended.output
    assert "mixtures/small: built" in ended.stderr
    assert "--run-code: small-functions: " in ended.stderr
    assert "isolated" in ended.stderr
    assert "answers were cut after 3 tokens" in ended.stderr
    assert "### heldout: held-out tasks" in ended.stdout
    assert "tests passed" in ended.stdout
    found = json.loads((project.root / "out.json").read_text("utf-8"))
    assert {record["style"] for record in found["records"]} == {"1-shot"}
    made = [json.loads(line) for line in (project.root / "out.jsonl").read_text("utf-8").splitlines()]
    assert len(made) == sum(task["examples"] for task in found["tasks"])
    assert {"id", "split", "task", "template", "style", "prediction", "references"} <= made[0].keys()


def test_an_export_from_the_command_line(project: Project) -> None:
    ended = project.mix("eval", "small", "--export", "lm-eval", "--out", "exported")
    assert ended.exit_code == 0, ended.output
    assert "lm_eval --include_path exported --tasks taskmix-small" in ended.stdout
    assert (project.root / "exported" / "taskmix-small-everyday-entailment.yaml").is_file()


def fails(ended: Result, *words: str) -> None:
    """See that a command ends with one message."""
    assert ended.exit_code in (1, 2), ended.output
    # else it is an exception that nothing turned into words
    assert isinstance(ended.exception, SystemExit), ended.exception
    assert ended.stdout == ""
    for word in words:
        assert word in ended.stderr
    # what is built first is told
    assert len([line for line in ended.stderr.splitlines() if line.strip() and ": built" not in line]) <= 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "headline-topics"], ("its 2 labels are negative, positive", "business", "trained on")),
        (["run", "name-tagging"], ("BertForSequenceClassification has no head for token-classification",)),
        (["run", "small"], ("BertForSequenceClassification writes no text",)),
        (["writer", "review-sentiment"], ("has no head for sequence-classification", "--as instruct")),
        (["run", "review-sentiment", "--split", "test"], ("no split 'test'", "train, validation")),
        (["run", "review-sentiment", "--split", "train"], ("train is for training",)),
        (["run", "review-sentiment", "--shots", "2"], ("--shots is for language models",)),
        (["run", "review-sentiment", "--stride", "9"], ("--stride is for question answering",)),
        (["run", "no-such-task"], ("no task, mixture or folder 'no-such-task'",)),
        (["run", "lonely"], ("the task lonely has no split 'validation'",)),
        (["writer", "small", "--split", "test"], ("no evaluation rows in 'test'", "validation")),
        (["writer", "small", "--shots", "2"], ("there are no 2 worked examples to show", "fewer --shots")),
        (["writer", "blind"], ("the mixture blind has no evaluation rows",)),
        (["writer", "talk", "--shots", "1"], ("before chat messages are not supported",)),
        (["writer", "talk", "--run-code"], ("no code task with `tests`",)),
        (["writer", "helpful-chats"], ("a raw conversation is not evaluated", "--as instruct")),
        (["no-such/model", "review-sentiment"], ("no-such/model",)),
        (["no-such/model", "small"], ("no-such/model",)),
        (["./nowhere", "small"], ("./nowhere",)),
        (["scratch:tiny", "small"], ("a model from scratch knows nothing yet",)),
        (["scratch:tiny", "review-sentiment"], ("a model from scratch knows nothing yet",)),
        (["run"], ("name a MODEL and a TARGET",)),
        (["run", "small", "--export", "lm-eval"], ("--export takes a TARGET alone",)),
        (["talk", "--export", "lm-eval"], ("the format messages",)),
        (["review-sentiment", "--export", "lm-eval"], ("only mixtures have held-out tasks to export",)),
    ],
)
def test_what_cannot_be_evaluated(
    project: Project, run: Path, writer: str, arguments: list[str], words: tuple[str, ...]
) -> None:
    fails(project.mix("eval", *arguments), *words)


def test_an_unfinished_run_is_refused(project: Project, run: Path) -> None:
    shutil.copytree(run, project.root / "unfinished")
    path = project.root / "unfinished" / "train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "done": False}))
    ended = project.mix("eval", "unfinished", "review-sentiment")
    fails(ended, "the run there is not finished", "`mix train` goes on")


def test_prepared_tokens_are_refused(project: Project, run: Path) -> None:
    ended = project.mix("train", "review-sentiment", "--model", "scratch:tiny", "--prepare", "tokens")
    assert ended.exit_code == 0, ended.output
    fails(project.mix("eval", "run", "tokens"), "prepared tokens are for training")


def test_a_file_that_cannot_be_written(project: Project, run: Path) -> None:
    (project.root / "in-the-way").write_text("")
    command = ["eval", "run", "review-sentiment", "--limit", "5"]
    fails(project.mix(*command, "--out", "in-the-way/figures.json"), "in-the-way")


def test_where_there_is_no_terminal_lines_say_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0, 4, 12, 12, 15])
    monkeypatch.setattr("taskmix_trainer.cli.time.monotonic", lambda: next(now))
    with cli.counting("evaluated") as report:
        report(5)
        report(1_200)
        report(1_300)
    assert capsys.readouterr().err == "1,200 evaluated\n"

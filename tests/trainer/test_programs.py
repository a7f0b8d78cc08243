"""`mix eval --run-code`: what is written is run with the tests of the task's source, and only then."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from taskmix.catalog.loading import load_catalog
from taskmix.errors import UsageError
from taskmix_trainer.evaluation import mixtures
from taskmix_trainer.evaluation.generating import Generated, Generation
from taskmix_trainer.evaluation.programs import Program, programs_of_task, written_program
from taskmix_trainer.evaluation.running import Evaluation, Options, evaluate
from taskmix_trainer.evaluation.sandbox import run_tests
from taskmix_trainer.models.opening import ModelName
from taskmix_trainer.targets import Mixture, RawTask
from tests.trainer.folders import build_mixture, save_model

CATALOG = """\
version: 1
extends: builtin
tasks:
  heads:
    kind: text-generation
    cluster: code
    license: unknown
    source: {path: heads.jsonl}
    splits: {validation: train}
    columns: {input: "{{ prompt | trim }}", target: body, tests: "{{ test ~ '\\ncheck(' ~ name ~ ')' }}",
      program_start: prompt}
mixtures:
  functions:
    tasks: [review-sentiment, small-functions]
    holdout: {clusters: [code]}
    sampling: {cap: 40}
    evaluation: {rows: 2}
  prose: {tasks: [review-sentiment], sampling: {cap: 40}, evaluation: {rows: 2}}
"""
HEADS = [
    {
        "prompt": f"def {name}(x):\n    '''Return x {sign} 2.'''\n",
        "name": name,
        "body": f"    return x {sign} 2",
        "test": f"def check(candidate):\n    assert candidate(3) == {value}",
    }
    for name, sign, value in (("more", "+", 5), ("less", "-", 1), ("times", "*", 6))
]


@pytest.fixture
def catalog(project: Callable[..., Path]) -> Path:
    return project(CATALOG, {"heads.jsonl": "".join(json.dumps(row) + "\n" for row in HEADS)})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelName:
    return save_model(tmp_path_factory.mktemp("programs"), "causal-language-model", ["def f(x): return x"])


def writing(monkeypatch: pytest.MonkeyPatch, answers: Sequence[str] | Callable[[str], str]) -> None:
    """Let models write these answers, prompt by prompt."""

    def generate(model: Any, tokenizer: Any, prompts: Sequence[str], **options: Any) -> Generation:
        texts = answers if not callable(answers) else [answers(prompt) for prompt in prompts]
        assert len(texts) == len(prompts)
        return Generation(tuple(Generated(text, 1, "end") for text in texts), 0)

    monkeypatch.setattr(mixtures, "generate", generate)


def passed(found: Evaluation) -> list[float]:
    return [
        measure.value for record in found.records for measure in record.measures if measure.metric == "tests_passed"
    ]


def test_a_reference_passes_and_a_wrong_answer_does_not(
    catalog: Path, model: ModelName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a raw task, whose programs go on after the head of a function."""
    task = RawTask(load_catalog(catalog).tasks["heads"], None)
    writing(monkeypatch, [row["body"] for row in HEADS])
    found = evaluate(model, task, Options(run_code=True))
    assert passed(found) == [1.0]
    assert [each["tests"] for each in found.predictions] == ["passed"] * 3
    # right, wrong, and no Python
    writing(monkeypatch, ["\n    return x + 2\n", "    return x", "I cannot say."])
    found = evaluate(model, task, Options(run_code=True))
    assert passed(found) == [pytest.approx(1 / 3)]
    assert found.predictions[0]["tests"] == "passed"
    assert found.predictions[1]["tests"].startswith("failed: AssertionError")
    assert found.predictions[2]["tests"].startswith("failed: ")


def test_nothing_is_run_without_the_flag(catalog: Path, model: ModelName, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*given: Any) -> Any:
        raise AssertionError("run")

    monkeypatch.setattr(mixtures, "run_all", never)
    writing(monkeypatch, [row["body"] for row in HEADS])
    found = evaluate(model, RawTask(load_catalog(catalog).tasks["heads"], None))
    assert passed(found) == []
    assert [measure.metric for measure in found.records[0].measures] == ["code_match", "chrf"]
    assert found.records[0].measures[0].value == 1.0


def test_the_code_of_a_mixture_is_run_with_its_sources_tests(
    catalog: Path, model: ModelName, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixture = build_mixture(catalog, "functions")
    rows = known_answers(mixture)
    writing(monkeypatch, rows.__getitem__)
    found = evaluate(model, mixture, Options(run_code=True, catalog=catalog, splits=("heldout",)))
    # under each template the references pass, in Markdown or not; one asks for the tests
    assert passed(found) == [1.0] * len(found.records)
    words = "its references do not pass the tests, so it was left out"
    assert found.notes == (f"small-functions, template write-the-tests: {words}",)
    assert {each.template for each in found.records} == {*templates_of(mixture)} - {"write-the-tests"}
    assert len(found.records) > 5
    assert found.results.tasks[0].metric == "tests_passed"
    writing(monkeypatch, lambda prompt: "def f():\n    return None")
    found = evaluate(model, mixture, Options(run_code=True, catalog=catalog, splits=("heldout",)))
    assert passed(found) == [0.0] * len(found.records)


def templates_of(mixture: Mixture) -> list[str]:
    import polars as pl

    return pl.read_parquet(mixture.folder / "data" / "heldout-*.parquet")["template"].unique().to_list()


def known_answers(mixture: Mixture) -> dict[str, str]:
    import polars as pl

    frame = pl.read_parquet(mixture.folder / "data" / "heldout-*.parquet")
    return dict(zip(frame["prompt"], frame["completion"], strict=True))


def test_other_sources_than_the_mixtures_are_refused(catalog: Path, model: ModelName) -> None:
    mixture = build_mixture(catalog, "functions")
    files = dict(mixture.lock["tasks"]["small-functions"]["files"])
    files["validation.jsonl"] = "0" * 64
    mixture.lock["tasks"]["small-functions"]["files"] = files
    with pytest.raises(
        UsageError, match="the source of small-functions is not the one that the mixture was built from"
    ):
        evaluate(model, mixture, Options(run_code=True, catalog=catalog, splits=("heldout",)))


def test_a_target_without_tests_is_refused(catalog: Path, model: ModelName, shared_data: Path) -> None:
    with pytest.raises(UsageError, match="has no code task with `tests`"):
        evaluate(model, build_mixture(catalog, "prose"), Options(run_code=True, catalog=catalog))
    sums = RawTask(load_catalog(catalog).tasks["gsm8k"], shared_data)
    with pytest.raises(UsageError, match="the task gsm8k has no code task with `tests`"):
        evaluate(model, sums, Options(run_code=True, limit=1))


def test_the_tests_of_the_catalogs_code_tasks(shared_data: Path) -> None:
    tasks = load_catalog(Path("catalog.yaml")).tasks
    own = programs_of_task(RawTask(tasks["small-functions"], None))
    programs = programs_of_task(RawTask(tasks["mbpp"], shared_data))
    assert len(own) > 100
    assert {split for split, _ in programs} == {"train", "validation"}
    assert all("assert" in program.tests for program in [*own.values(), *programs.values()])
    first = programs["validation", 0].tests
    right = (
        "def find_Min_Sum(n, i=2):\n"
        "    return i + find_Min_Sum(n // i, i) if n % i == 0 else n > 1 and find_Min_Sum(n, i + 1)"
    )
    assert run_tests(right, first).passed
    assert not run_tests("def find_Min_Sum(n):\n    return 0", first).passed


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("x = 1", "x = 1"),
        ("```python\nx = 1\n```", "x = 1\n"),
        ("Here:\n```\nx = 1\n```\nand\n```\ny = 2\n```", "x = 1\n"),
        # cut before its end
        ("```py\nx = 1\ny = ", "x = 1\ny = "),
        ("print('``` no fence')", "print('``` no fence')"),
    ],
)
def test_a_program_is_found_in_an_answer(text: str, program: str) -> None:
    assert written_program(text, Program("")) == program
    assert written_program(text, Program("", "import os\n\n")) == f"import os\n{program}"

"""`mix eval --export lm-eval`: lm-evaluation-harness finds the same answers in what is exported as `mix eval` does."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskmix.errors import OutputError
from taskmix_trainer.evaluation.exporting import export_lm_eval
from taskmix_trainer.evaluation.posing import read_groups
from taskmix_trainer.evaluation.running import Evaluation, Options, evaluate
from taskmix_trainer.targets import Mixture
from tests.trainer.folders import build_mixture, save_model

CATALOG = """\
version: 1
extends: builtin
mixtures:
  apart:
    tasks: [review-sentiment, headline-topics, everyday-entailment, plain-reasoning, short-passages]
    holdout: {clusters: [nli, reading-comprehension]}
    sampling: {cap: 40}
    evaluation: {rows: 6}
  shown:
    tasks: [review-sentiment, phrasebook, small-functions]
    holdout: {clusters: [translation]}
    sampling: {cap: 40}
    evaluation: {rows: 6, few_shot: {k: 1, splits: [heldout]}}
  chat:
    tasks: [review-sentiment, everyday-entailment]
    holdout: {clusters: [nli]}
    sampling: {cap: 40}
    evaluation: {rows: 6}
    format: messages
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("exporting")
    (found / "catalog.yaml").write_text(CATALOG)
    return found


@pytest.fixture(scope="module")
def mixture(folder: Path) -> Mixture:
    return build_mixture(folder / "catalog.yaml", "apart")


def harness(model: str, exported: Path, tasks: list[str]) -> Mapping[str, Any]:
    """Return what lm-evaluation-harness finds."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    manager = TaskManager(include_path=str(exported), include_defaults=False)
    opened = HFLM(pretrained=model, device="cpu", dtype="float32", batch_size=8)
    found: Mapping[str, Any] | None = simple_evaluate(
        opened, tasks=tasks, task_manager=manager, bootstrap_iters=0, log_samples=True
    )
    assert found is not None
    return found


def by_template(found: Evaluation) -> dict[str, dict[str, float]]:
    """Return our figures by the names that the export gives."""
    return {
        f"taskmix-{found.target}-{record.split}-{record.task}-{record.template}"
        + ("" if record.style == "zero-shot" else f"-{record.style}"): {
            measure.metric: measure.value for measure in record.measures
        }
        for record in found.records
    }


@pytest.mark.filterwarnings("ignore")
def test_the_harness_finds_the_same(mixture: Mixture, tmp_path: Path) -> None:
    splits = ("validation", "heldout")
    groups = read_groups(mixture, splits, None)
    texts = [example.prompt + example.completion for group in groups for example in group.examples]
    model = save_model(tmp_path / "model", "causal-language-model", texts)
    assert export_lm_eval(mixture, splits, tmp_path / "exported", limit=3) == len(groups)
    # read from another place than where it was written
    theirs = harness(model.name, (tmp_path / "exported").rename(tmp_path / "moved"), ["taskmix-apart"])
    own = evaluate(model, mixture, Options(splits=splits, limit=3, separator_scored=True))
    figures = by_template(own)
    assert figures.keys() == theirs["samples"].keys()
    ranked = 0
    for name, measures in figures.items():
        result = theirs["results"][name]
        if "accuracy" in measures:
            ranked += 1
            assert result["acc,none"] == measures["accuracy"]
            assert result["acc_norm,none"] == measures["accuracy_per_character"]
    assert ranked > 20
    assert len({each["acc,none"] for each in theirs["results"].values() if "acc,none" in each}) > 2
    wrote = {each["id"]: each for each in own.predictions if "sums" not in each}
    assert len(wrote) > 10
    for name, samples in theirs["samples"].items():
        for sample in samples:
            if sample["doc"]["id"] not in wrote:
                continue
            made = wrote[sample["doc"]["id"]]
            assert sample["resps"][0][0].strip() == made["prediction"].strip(), name
            assert list(sample["target"]) == made["references"]
            known = [each.lower() for each in made["references"]]
            assert sample["exact_match"] == float(made["prediction"].strip().lower() in known)
    # a group's figure is the mean over its rows
    of_task = [value for name, value in figures.items() if "-everyday-entailment-" in name]
    assert theirs["results"]["taskmix-apart-everyday-entailment"]["acc,none"] == pytest.approx(
        sum(each["accuracy"] for each in of_task) / len(of_task)
    )


@pytest.mark.filterwarnings("ignore")
def test_worked_examples_of_the_mixture_are_exported_with_it(folder: Path, tmp_path: Path) -> None:
    mixture = build_mixture(folder / "catalog.yaml", "shown")
    groups = read_groups(mixture, ("heldout",), None)
    assert {group.style for group in groups} == {"few-shot"}
    texts = [example.prompt + example.completion for group in groups for example in group.examples]
    model = save_model(tmp_path / "model", "causal-language-model", texts)
    export_lm_eval(mixture, ("heldout",), tmp_path / "exported", limit=2)
    theirs = harness(model.name, tmp_path / "exported", ["taskmix-shown-phrasebook"])
    own = evaluate(model, mixture, Options(splits=("heldout",), limit=2))
    wrote = {each["id"]: each["prediction"] for each in own.predictions}
    samples = [sample for each in theirs["samples"].values() for sample in each]
    assert {sample["doc"]["id"]: sample["resps"][0][0].strip() for sample in samples} == wrote
    assert by_template(own).keys() == theirs["samples"].keys()


def test_what_is_exported_is_the_mixture(folder: Path, tmp_path: Path) -> None:
    mixture, out = build_mixture(folder / "catalog.yaml", "shown"), tmp_path / "exported"
    export_lm_eval(mixture, ("validation",), out)
    groups = read_groups(mixture, ("validation",), None)
    assert len(list((out / "data").iterdir())) == len(groups)
    for group in groups:
        name = f"taskmix-shown-validation-{group.task}-{group.template}"
        rows = [json.loads(line) for line in (out / "data" / f"{name}.jsonl").read_text("utf-8").splitlines()]
        assert [row["prompt"] for row in rows] == [example.prompt for example in group.examples]
        text = (out / f"{name}.yaml").read_text("utf-8")
        assert str(tmp_path) not in text
        task = yaml.load(text.replace("!function ", ""), yaml.SafeLoader)
        assert task["dataset_kwargs"] == {"rows": f"{name}.jsonl"}
        assert task["target_delimiter"] == ""
        if group.task == "small-functions":
            # code has empty lines within, and is longer
            assert task["generation_kwargs"] == {"until": [], "max_gen_toks": 512, "do_sample": False}


def test_an_export_replaces_an_export_and_nothing_else(mixture: Mixture, tmp_path: Path) -> None:
    out = tmp_path / "exported"
    export_lm_eval(mixture, ("validation",), out)
    export_lm_eval(mixture, ("heldout",), out)
    assert not list(out.glob("*-validation-*"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="the folder has other files"):
        export_lm_eval(mixture, ("heldout",), tmp_path / "mine")


def test_chats_are_not_exported(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the format messages"):
        export_lm_eval(build_mixture(folder / "catalog.yaml", "chat"), ("heldout",), tmp_path / "out")

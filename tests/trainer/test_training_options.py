"""What the options of training do: adapters, compiling, precision, checkpointing, stopping early, reports, cards."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, TrainingArguments

from taskmix_trainer.heads import HEADS
from taskmix_trainer.models.opening import ModelName, open_model
from taskmix_trainer.quiet import without_future_warnings
from taskmix_trainer.tokens.preparing import saved_tokenizer
from taskmix_trainer.training.settings import OURS
from tests.forks import Forks

SMALL: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.fixture(scope="module", params=["raw", "instruct"])
def made(request: pytest.FixtureRequest, forks: Forks) -> tuple[str, Path, Path]:
    """The form, a model without dropout, and tokens for it."""
    form: str = request.param
    target = "review-sentiment" if form == "raw" else "starter"
    drawn, model, tokens = (forks.root / f"options-{form}-{name}" for name in ("drawn", "model", "tokens"))
    common = ["train", target, "--limit", "48"]
    ended = forks.mix(*common, "--model", "scratch:tiny", "--prepare", str(drawn))
    assert ended.code == 0, ended.output
    tokenizer = saved_tokenizer(drawn)
    torch.manual_seed(0)
    if form == "raw":
        quiet: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        BertModel(BertConfig(vocab_size=len(tokenizer), **SMALL, **quiet)).save_pretrained(model)
    else:
        LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **SMALL)).save_pretrained(model)
    tokenizer.save_pretrained(model)
    ended = forks.mix(*common, "--model", str(model), "--max-length", "512", "--prepare", str(tokens))
    assert ended.code == 0, ended.output
    return form, model, tokens


def run(forks: Forks, made: tuple[str, Path, Path], name: str, *options: str, steps: int = 3) -> Path:
    form, _, tokens = made
    out = forks.root / f"options-{form}-{name}"
    sizes = ["--batch-size", "16"] if form == "raw" else ["--batch-tokens", "2048", "--micro-tokens", "512"]
    command = ["train", str(tokens), *sizes, "--steps", str(steps), "--epochs", "4", "--out", str(out), *options]
    ended = forks.mix(*command)
    assert ended.code == 0, ended.output
    return out


def lines(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "history.jsonl").read_text("utf-8").splitlines()]


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in lines(out) if "loss" in line]


@pytest.fixture(scope="module")
def plain(forks: Forks, made: tuple[str, Path, Path]) -> list[float]:
    """The losses of a run without options."""
    return losses(run(forks, made, "plain"))


def outputs(model: Any, form: str) -> torch.Tensor:
    model.eval()
    found = model(input_ids=torch.arange(5, 25)[None])
    logits: torch.Tensor = found.logits
    assert logits.ndim == (2 if form == "raw" else 3)
    return logits.detach()


@contextmanager
def keeping(model: Path) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the weights of a model that must not change."""
    before = load_file(model / "model.safetensors")
    yield before
    after = load_file(model / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_adapters_are_all_that_is_trained(forks: Forks, made: tuple[str, Path, Path], tmp_path: Path) -> None:
    form, model, tokens = made
    with keeping(model) as whole:
        out = run(forks, made, "lora", "--lora", "4", "--lr", "0.01")
    saved = load_file(out / "adapter_model.safetensors")
    new = {name for name in saved if "lora_" not in name}
    assert all("classifier" in name or "pooler" in name for name in new) if form == "raw" else not new
    assert not (out / "model.safetensors").exists()
    assert sum(each.numel() for each in saved.values()) < sum(each.numel() for each in whole.values()) / 2

    head = HEADS["sequence-classification" if form == "raw" else "causal-language-model"]
    tokenizer = saved_tokenizer(tokens)
    labels = ("negative", "positive") if form == "raw" else ()
    opened = open_model(ModelName(str(out)), head, tokenizer, labels)
    assert type(opened).__name__ == ("BertForSequenceClassification" if form == "raw" else "LlamaForCausalLM")
    # what is merged gives what the adapter beside the model gives, and is saved as a whole model
    from peft import PeftModel

    base = open_model(ModelName(str(model)), head, tokenizer, labels)
    with without_future_warnings():
        beside = PeftModel.from_pretrained(base, str(out))
    assert torch.allclose(outputs(opened, form), outputs(beside, form), atol=1e-5)
    opened.save_pretrained(tmp_path)
    again = open_model(ModelName(str(tmp_path)), head, tokenizer, labels)
    assert torch.equal(outputs(again, form), outputs(opened, form))
    base = open_model(ModelName(str(model)), head, tokenizer, labels)
    assert not torch.allclose(outputs(opened, form), outputs(base, form), atol=1e-3), "it was trained"


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for the CPU takes a C++ compiler")
def test_compiled_layers_give_the_same_losses(forks: Forks, made: tuple[str, Path, Path], plain: list[float]) -> None:
    if made[0] == "instruct":
        pytest.skip("compiling takes long, and what is compiled is a layer")
    assert losses(run(forks, made, "compiled", "--compile")) == pytest.approx(plain, rel=1e-5)


def test_activation_checkpointing_gives_the_same_losses(
    forks: Forks, made: tuple[str, Path, Path], plain: list[float]
) -> None:
    found = losses(run(forks, made, "activations", "--set", "activation_checkpointing=true"))
    assert found == pytest.approx(plain, rel=1e-6)


def test_bf16_gives_nearly_the_same_losses(forks: Forks, made: tuple[str, Path, Path], plain: list[float]) -> None:
    found = losses(run(forks, made, "bf16", "--precision", "bf16"))
    assert found == pytest.approx(plain, rel=2e-2)
    assert found != plain


def test_accumulating_and_not_packing_give_the_same_first_loss(
    forks: Forks, made: tuple[str, Path, Path], plain: list[float]
) -> None:
    if made[0] == "raw":
        found = losses(run(forks, made, "parts", "--accumulate", "4"))
        assert found == pytest.approx(plain, rel=1e-5)
        return
    alone, packed = (
        lines(run(forks, made, name, *more, steps=1)) for name, more in (("apart", ["--no-pack"]), ("side", []))
    )
    # the same model on the same validation split
    assert alone[-1]["eval_loss"] == pytest.approx(packed[-1]["eval_loss"], rel=1e-2)


def test_the_best_checkpoint_is_kept_and_training_stops(forks: Forks, made: tuple[str, Path, Path]) -> None:
    options = ["--best", "--patience", "2", "--eval-every", "1", "--lr", "0.5", "--report-to", "tensorboard"]
    out = run(forks, made, "best", *options, steps=12)
    metric = "eval_accuracy" if made[0] == "raw" else "eval_loss"
    found = [(line["step"], line[metric]) for line in lines(out) if metric in line]
    best = max(value for _, value in found) if made[0] == "raw" else min(value for _, value in found)
    # at such a learning rate it does not get better for long
    assert len(found) < 12
    described = json.loads((out / "train.json").read_text("utf-8"))
    assert described["metrics"][metric.removeprefix("eval_")] == best
    assert f"{best:.4f}" in (out / "README.md").read_text("utf-8")
    assert list((out / "tensorboard").glob("events.out.tfevents.*"))


def test_every_argument_of_the_trainer_can_be_set_or_is_decided_elsewhere(
    forks: Forks, made: tuple[str, Path, Path]
) -> None:
    known = {each.name for each in fields(TrainingArguments)}
    options = ["--set", "max_grad_norm=0.5", "--set", "adam_beta2=0.98", "--set", "lr_scheduler_type=constant"]
    out = run(forks, made, "set", *options)
    assert set(OURS) - known <= {"group_by_length", "dataloader_drop_last", "ignore_data_skip", "label_names"}
    assert {line["learning_rate"] for line in lines(out) if "learning_rate" in line}.__len__() == 1


def test_the_card_is_one_that_the_hub_reads(forks: Forks, made: tuple[str, Path, Path], plain: list[float]) -> None:
    form, _, tokens = made
    card = (forks.root / f"options-{form}-plain" / "README.md").read_text("utf-8")
    _, front, body = card.split("---\n", 2)
    read = yaml.safe_load(front)
    assert read["library_name"] == "transformers"
    assert read["pipeline_tag"] == ("text-classification" if form == "raw" else "text-generation")
    lock = json.loads((tokens / "tokens.json").read_text("utf-8"))["lock_sha256"]
    assert (lock in body) == bool(lock) == (form == "instruct") or form == "raw"


def test_the_report_needs_nothing_from_elsewhere(
    forks: Forks, made: tuple[str, Path, Path], plain: list[float]
) -> None:
    page = (forks.root / f"options-{made[0]}-plain" / "report.html").read_text("utf-8")
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "<svg" in page
    assert "<script" not in page
    assert page.count("<svg") == page.count("</svg>") >= 3


@pytest.mark.parametrize(
    ("task", "more", "metric"),
    [
        ("everyday-entailment", (), "accuracy"),
        ("name-tagging", (), "entity_f1"),
        ("short-passages", ("--stride", "8", "--max-length", "48"), "squad_f1"),
        ("plain-reasoning", (), "accuracy"),
        ("phrasebook", (), "loss"),
        ("phrasebook", ("--head", "sequence-to-sequence"), "loss"),
    ],
)
def test_every_kind_has_its_head(forks: Forks, task: str, more: tuple[str, ...], metric: str) -> None:
    out = forks.root / f"options-{task}-{len(more)}"
    command = ["train", task, "--model", "scratch:tiny", "--limit", "12", "--steps", "1", *more, "--out", str(out)]
    ended = forks.mix(*command)
    assert ended.code == 0, ended.output
    assert metric in json.loads((out / "train.json").read_text("utf-8"))["metrics"]

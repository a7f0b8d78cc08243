"""What stops a run, in words: numbers, memory, disks, foreign code, damaged files, wrong options."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.forks import Ended, Forks

FAULT = """
import resource, signal
import torch
from taskmix.cli import main
import taskmix_trainer.training.loop as loop

original = loop.MixTrainer.compute_loss
def compute_loss(self, model, inputs, *rest, **more):
    if self.state.global_step >= 2:
        if FAULT == "nan":
            return original(self, model, inputs, *rest, **more) * float("nan")
        if FAULT == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        if FAULT == "allocation":
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
    return original(self, model, inputs, *rest, **more)
loop.MixTrainer.compute_loss = compute_loss

if FAULT == "disk":
    saved = loop.MixTrainer._save_checkpoint
    def full(self, *rest):
        if self.state.global_step == 3:
            # a write beyond it fails as on a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        saved(self, *rest)
    loop.MixTrainer._save_checkpoint = full
main(ARGUMENTS, prog_name="mix")
"""


class Mark:
    """Pickled, it is a call: what unpickles it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def tokens(forks: Forks) -> Path:
    folder = forks.root / "faults-tokens"
    ended = forks.mix("train", "review-sentiment", "--model", "scratch:tiny", "--limit", "64", "--prepare", str(folder))
    assert ended.code == 0, ended.output
    return folder


@pytest.fixture(scope="module")
def finished(forks: Forks, tokens: Path) -> Path:
    """The folder of a run that is done, with its checkpoints."""
    out = forks.root / "faults-finished"
    ended = forks.mix("train", str(tokens), "--steps", "2", "--save-every", "1", "--out", str(out))
    assert ended.code == 0, ended.output
    return out


def refused(ended: Ended, *words: str, code: int = 1) -> None:
    """Assert that a command ended with words rather than a traceback."""
    assert "Traceback" not in ended.output
    assert ended.code == code, ended.output
    for word in words:
        assert word in ended.stderr, ended.stderr


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("nan", ["step 3: the loss is nan", "lower --learning-rate"]),
        ("memory", ["step 3: out of memory on a batch of (16, ", "smaller --micro-tokens"]),
        ("allocation", ["step 3: out of memory"]),
        ("disk", ["checkpoint-3: cannot be written"]),
    ],
)
def test_a_fault_stops_the_run_and_keeps_the_last_checkpoint(
    forks: Forks, tokens: Path, fault: str, words: list[str]
) -> None:
    out = forks.root / f"faults-{fault}"
    arguments = ["train", str(tokens), "--batch-size", "16", "--save-every", "1", "--out", str(out)]
    ended = forks.script(f"FAULT, ARGUMENTS = {fault!r}, {arguments!r}\n{FAULT}")
    refused(ended, *words, "checkpoint-2")
    if fault != "disk":
        named = ended.stderr.split("rows: ")[1].splitlines()[0].split(", ")
        assert len(named) == 16
        assert all(row.startswith("train:") for row in named)
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["checkpoint-1", "checkpoint-2"]
    assert not json.loads((out / "train.json").read_text("utf-8"))["done"]
    # the disk has room again, or the machine more memory
    ended = forks.mix(*arguments)
    assert ended.code == 0, ended.output
    assert "going on from" in ended.stderr


def test_a_row_that_is_not_a_number_spoils_nothing(forks: Forks, tokens: Path) -> None:
    """A learning rate that is far too high ends in words too."""
    out = forks.root / "faults-rate"
    ended = forks.mix("train", str(tokens), "--lr", "1e30", "--save-every", "1", "--out", str(out))
    refused(ended, "lower --learning-rate")
    (*_, last) = sorted((out / "checkpoints").glob("checkpoint-*"))
    assert all(torch.isfinite(each).all() for each in load_file(last / "model.safetensors").values())


# Foreign code


def model_of(finished: Path, folder: Path) -> Path:
    """Return a copy of a model and its tokenizer alone."""
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(finished / name, folder)
    return folder


def edited(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")


def with_pickled_weights(folder: Path, mark: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Mark(mark)))


def with_code(folder: Path, mark: Path) -> None:
    (folder / "code.py").write_text(f"open({str(mark)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    own = {"AutoConfig": "code.Config", "AutoModelForSequenceClassification": "code.Model"}
    edited(folder / "config.json", model_type="mine", auto_map=own)


def with_code_for_the_tokenizer(folder: Path, mark: Path) -> None:
    (folder / "code.py").write_text(f"open({str(mark)!r}, 'w')\nclass Mine: pass\n")
    edited(folder / "tokenizer_config.json", tokenizer_class="Mine", auto_map={"AutoTokenizer": ["code.Mine", None]})
    edited(folder / "config.json", model_type="mine")


def with_a_pickled_adapter(folder: Path, mark: Path) -> None:
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(folder), "r": 4}), "utf-8"
    )
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Mark(mark)))


def with_an_adapter_of_itself(folder: Path, mark: Path) -> None:
    with_a_pickled_adapter(folder, mark)
    save_file({"one": torch.zeros(1)}, folder / "adapter_model.safetensors")


def with_cut_weights(folder: Path, mark: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def with_a_config_that_is_none(folder: Path, mark: Path) -> None:
    (folder / "config.json").write_text("[1, 2]", "utf-8")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (with_pickled_weights, "model.safetensors"),
        (with_code, "code that comes with it, which is never run"),
        (with_code_for_the_tokenizer, "cannot be opened"),
        (with_a_pickled_adapter, "the adapter has no adapter_model.safetensors"),
        (with_an_adapter_of_itself, "the adapter is one of another adapter"),
        (with_cut_weights, "sequence-classification model"),
        (with_a_config_that_is_none, "cannot be opened"),
    ],
)
def test_a_model_that_means_harm_runs_nothing(
    forks: Forks, finished: Path, spoil: Callable[[Path, Path], None], words: str
) -> None:
    folder, mark = forks.root / f"harm-{spoil.__name__}", forks.root / f"ran-{spoil.__name__}"
    model_of(finished, folder)
    spoil(folder, mark)
    out = forks.root / f"out-{spoil.__name__}"
    ended = forks.mix("train", "review-sentiment", "--limit", "8", "--model", str(folder), "--out", str(out))
    refused(ended, words)
    assert "trust_remote_code" not in ended.stderr, "nobody is told to let it run"
    assert not mark.exists()
    assert not out.exists()


def test_code_beside_a_model_that_transformers_knows_is_left_alone(forks: Forks, finished: Path) -> None:
    folder, mark = model_of(finished, forks.root / "harmless"), forks.root / "ran-harmless"
    (folder / "code.py").write_text(f"open({str(mark)!r}, 'w')\nclass Model: pass\n")
    edited(folder / "config.json", auto_map={"AutoModelForSequenceClassification": "code.Model"})
    out = str(forks.root / "out-harmless")
    ended = forks.mix("train", "review-sentiment", "--limit", "8", "--steps", "1", "--model", str(folder), "--out", out)
    assert ended.code == 0, ended.output
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "model.safetensors", "trainer_state.json"]
)
def test_a_checkpoint_that_means_harm_runs_nothing(forks: Forks, tokens: Path, finished: Path, name: str) -> None:
    out, mark = forks.root / f"harm-{name}", forks.root / f"ran-{name}"
    shutil.copytree(finished, out)
    edited(out / "train.json", done=False, settings={**json.loads((out / "train.json").read_text())["settings"]})
    shutil.rmtree(out / "checkpoints" / "checkpoint-2")
    spoilt = out / "checkpoints" / "checkpoint-1" / name
    if name == "model.safetensors":
        spoilt.unlink()
        (spoilt.parent / "pytorch_model.bin").write_bytes(pickle.dumps(Mark(mark)))
    else:
        spoilt.write_bytes(pickle.dumps(Mark(mark)))
    ended = forks.mix("train", str(tokens), "--steps", "2", "--save-every", "1", "--out", str(out))
    refused(ended, "checkpoint-1: the checkpoint cannot be read", "remove it")
    assert not mark.exists()
    shutil.rmtree(spoilt.parent)
    assert forks.mix("train", str(tokens), "--steps", "2", "--save-every", "1", "--out", str(out)).code == 0


# Damaged tokens


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokens.json", b"{", "tokens.json is damaged"),
        ("tokens.json", b'{"version": 99}', "made by another version"),
        ("tokens.json", b'{"version": 1, "splits": {"train": 3}}', "tokens.json is damaged"),
        ("train.arrow", None, "the tokens cannot be read"),
        ("train.arrow", b"ARROW1\0\0", "the tokens cannot be read"),
        ("train.arrow", b"", "the tokens cannot be read"),
        ("tokenizer/tokenizer.json", b"{}", "the tokenizer of the tokens cannot be read"),
    ],
)
def test_damaged_tokens_are_said_to_be(
    forks: Forks, tokens: Path, tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    shutil.copytree(tokens, tmp_path / "tokens")
    path = tmp_path / "tokens" / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    refused(forks.mix("train", str(tmp_path / "tokens"), "--out", str(tmp_path / "out")), words)
    assert not (tmp_path / "out").exists()


# Folders and options


def test_a_folder_with_something_else_is_left_alone(forks: Forks, tokens: Path, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text('{"data": []}', "utf-8")
    for more in ([], ["--force"]):
        refused(forks.mix("train", str(tokens), "--out", str(tmp_path), *more), "has other files")
    assert (tmp_path / "train.json").read_text("utf-8") == '{"data": []}'
    refused(forks.mix("train", str(tokens), "--out", str(finished)), "a run is finished there", "--force")
    refused(
        forks.mix("train", "review-sentiment", "--model", "scratch:tiny", "--prepare", str(tmp_path)), "other files"
    )


def test_an_unfinished_run_of_other_settings_is_not_gone_on_with(
    forks: Forks, tokens: Path, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    edited(tmp_path / "run" / "train.json", done=False)
    command = ["train", str(tokens), "--steps", "2", "--save-every", "1", "--out", str(tmp_path / "run")]
    ended = forks.mix(*command, "--lr", "1e-3", "--seed", "5")
    refused(ended, "unfinished run of other settings", "learning_rate", "seed")
    ended = forks.mix(*command, "--lr", "1e-3", "--seed", "5", "--force")
    assert ended.code == 0, ended.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["TOKENS", "--batch-size", "4", "--batch-tokens", "400"], "give one of them"),
        (["TOKENS", "--accumulate", "2", "--batch-tokens", "4000"], "--accumulate goes with --batch-size"),
        (["TOKENS", "--batch-tokens", "4000", "--micro-tokens", "8"], "an example has"),
        (["TOKENS", "--set", "learning_rat=1"], "did you mean 'learning_rate'?"),
        (["TOKENS", "--set", "max_steps=5"], "use --steps"),
        (["TOKENS", "--set", "group_by_length=true"], "the plan of batches decides it"),
        (["TOKENS", "--set", "lr_scheduler_type=zigzag"], "make no sense"),
        (["TOKENS", "--set", "optim=nothing"], "make no sense"),
        (["TOKENS", "--set", "nothing"], "is not KEY=VALUE"),
        (["TOKENS", "--lora", "4"], "random ones are kept nowhere"),
        (["TOKENS", "--max-length", "64"], "--max-length says how tokens are made"),
        (["TOKENS", "--model", "scratch:small"], "not of scratch:small"),
        (["TOKENS", "--as", "instruct"], "is raw, not instruct"),
        (["TOKENS", "--best", "--set", "save_steps=3", "--set", "eval_steps=2"], "make no sense"),
        (["review-sentiment"], "which model?"),
        (["review-sentimant", "--model", "scratch:tiny"], "review-sentiment"),
        (["review-sentiment", "--model", "scratch:tiny", "--head", "causal-language-model"], "is not trained with"),
        (["review-sentiment", "--model", "scratch:tiny", "--max-length", "4096"], "the model reads 2,048 tokens"),
    ],
)
def test_wrong_options_are_said_to_be(forks: Forks, tokens: Path, arguments: list[str], words: str) -> None:
    out = forks.root / "wrong"
    command = [str(tokens) if each == "TOKENS" else each for each in arguments]
    refused(forks.mix("train", *command, "--out", str(out)), words, code=2)
    assert not out.exists()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("scratch:huge", "no size"),
        ("./nowhere", "there is no such folder"),
        ("nobody/nothing-at-all", "cannot be opened"),
    ],
)
def test_unknown_models_are_said_to_be(forks: Forks, model: str, words: str) -> None:
    ended = forks.mix("train", "review-sentiment", "--model", model, "--limit", "8")
    refused(ended, words)


def test_a_mixture_of_which_all_is_too_long(forks: Forks) -> None:
    ended = forks.mix("train", "starter", "--model", "scratch:tiny", "--limit", "20", "--max-length", "8")
    refused(ended, "nothing of starter is left to train on", "20 too long", "--too-long cut")


def test_a_task_without_a_train_split(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test.jsonl").write_text(
        '{"text": "a", "label": "good"}\n{"text": "b", "label": "bad"}\n', "utf-8"
    )
    (tmp_path / "catalog.yaml").write_text(
        "version: 1\ntasks:\n  only-tests:\n    cluster: moods\n    kind: text-classification\n    license: CC0-1.0\n"
        "    source: {path: data}\n    splits: {validation: test}\n"
        "    columns: {text: text, label: label}\n    labels: [bad, good]\n",
        "utf-8",
    )
    catalog = ["--catalog", str(tmp_path / "catalog.yaml")]
    refused(forks.mix("train", "only-tests", *catalog, "--model", "scratch:tiny"), "has no train split")

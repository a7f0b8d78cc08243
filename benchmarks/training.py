"""Training: tokens a second of `mix train`, of TRL's SFTTrainer and of transformers' Trainer; tokenisation; memory.

    python benchmarks/training.py [--size 10M] [--mixture DIR] [--steps 12] [--threads N] [--write]
    python benchmarks/training.py --tokens DIR --size 1B --compile      # on a GPU

One run, the same model of random weights, the same tokens, the same examples a step on average; each way to train has a
process of its own, which measures from the fourth step on. Counted are the tokens of examples, not what fills batches
up. The share of the peak is that of a large matrix product measured in the same run. TRL is measured padded, grouped by
length, and packed without padding, with each attention that is installed; what is not installed is left out.

`--prepare DIR` makes the tokens and stops; a GPU node that has nothing but them can run the rest with `--tokens DIR`.
`--only throughput|tokenisation|memory` does one part. `--write` puts the tables into docs/training-results.md.
"""

import argparse
import json
import os
import platform
import tempfile
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata, util
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from measuring import ROOT, apart, peak_bytes

PAGE = ROOT / "docs/training-results.md"
WARM = 3
"""Steps before the measured ones."""
MAX_LENGTH = 512
OURS = ("mix train", "mix train, compiled")


@dataclass(frozen=True)
class Size:
    """A model: Qwen3 of this width, with an inner width of three times that and half as many heads for keys."""

    width: int
    layers: int
    heads: int
    vocabulary: int


SIZES: Mapping[str, Size] = {
    "10M": Size(width=384, layers=4, heads=6, vocabulary=8_000),
    "0.1B": Size(width=768, layers=12, heads=12, vocabulary=32_000),
    "1B": Size(width=2048, layers=20, heads=16, vocabulary=32_000),
}


@dataclass(frozen=True)
class Setup:
    """What all ways to train share.

    Attributes:
        model: the folder of the model.
        tokens: the folder of tokens.
        steps: steps of the optimiser.
        step_tokens: tokens a step.
        micro_tokens: tokens a micro-batch.
        examples: examples of a padded micro-batch: as many as have `micro_tokens` tokens on average.
        threads: threads of PyTorch; None for its own choice.
    """

    model: Path
    tokens: Path
    steps: int
    step_tokens: int
    micro_tokens: int
    examples: int
    threads: int | None


@dataclass(frozen=True)
class Speed:
    """What one way to train did in the measured steps; `failed` says why it did not."""

    way: str
    tokens: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    loss: float = 0.0
    failed: str = ""

    @property
    def rate(self) -> float:
        """Return tokens of examples a second."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def cpu_rate(self) -> float:
        """Return tokens of examples a second of CPU time, which other work on the machine does not change much."""
        return self.tokens / self.cpu_seconds if self.cpu_seconds else 0.0


# Throughput


def on_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def set_up(setup: Setup) -> None:
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if setup.threads:
        torch.set_num_threads(setup.threads)


class Clock:
    """Notes when the measured steps begin and end, and the losses; a callback of transformers' Trainer."""

    def __init__(self) -> None:
        self.at: list[tuple[float, float]] = []
        self.losses: list[float] = []

    def callback(self) -> Any:
        """Return what tells a Trainer to note its steps here."""
        from transformers import TrainerCallback

        clock = self

        class _Callback(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step in (WARM, state.max_steps):
                    clock.note()

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
                if logs and "loss" in logs:
                    clock.losses.append(float(logs["loss"]))

        return _Callback()

    def note(self) -> None:
        """Note the time when the device has done all that it was asked to."""
        import torch

        if on_cuda():
            torch.cuda.synchronize()
        self.at.append((perf_counter(), process_time()))

    def speed(self, way: str, tokens: int) -> Speed:
        """Return the speed of the steps between both notes."""
        import torch

        (start, cpu), (end, cpu_end) = self.at
        peak = torch.cuda.max_memory_allocated() if on_cuda() else peak_bytes()
        loss = self.losses[-1] if self.losses else 0.0
        return Speed(way, tokens, end - start, cpu_end - cpu, peak, loss)


def mix_train(setup: Setup, way: str) -> Speed:
    """Train as `mix train` does."""
    set_up(setup)
    from taskmix_trainer.models.opening import ModelName
    from taskmix_trainer.quiet import without_datasets

    with without_datasets():
        from taskmix_trainer.training.running import train
    from taskmix_trainer.training.settings import Settings

    clock, seen = Clock(), [0]
    callback = clock.callback()
    step_end = callback.on_step_end

    def count(args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step_end(args, state, control, **kwargs)
        if state.global_step == state.max_steps:
            seen[0] = kwargs["train_dataloader"].dataset.tokens_between(WARM, state.max_steps)[0]

    callback.on_step_end = count
    with tempfile.TemporaryDirectory() as out:
        settings = Settings(
            ModelName(str(setup.model)),
            Path(out) / "run",
            epochs=1000,
            steps=setup.steps,
            batch_tokens=setup.step_tokens,
            micro_tokens=setup.micro_tokens,
            compile="compiled" in way,
            eval_every=10**9,
            more={"save_strategy": "no", "eval_strategy": "no"},
        )
        train(setup.tokens, settings, watch=False, callbacks=[callback])
    return clock.speed(way, seen[0])


def examples_of(setup: Setup) -> tuple[list[list[int]], list[list[int]]]:
    """Return ids and labels of all examples."""
    from taskmix_trainer.tokens.folder import Tokens

    split = Tokens(setup.tokens / "train.arrow")
    ids, labels = [], []
    for at in range(len(split)):
        feature = split[at]
        row = feature["input_ids"].tolist()
        marked, spans = [-100] * len(row), feature["trained"].tolist()
        for start, end in zip(spans[::2], spans[1::2], strict=True):
            marked[start:end] = row[start:end]
        ids.append(row)
        labels.append(marked)
    return ids, labels


def common(setup: Setup, out: str) -> dict[str, Any]:
    """Return the arguments that TRL and transformers share."""
    cuda = on_cuda()
    return {
        "output_dir": out,
        "max_steps": setup.steps,
        "gradient_accumulation_steps": max(1, round(setup.step_tokens / setup.micro_tokens)),
        "learning_rate": 2e-5,
        "bf16": cuda,
        "use_cpu": not cuda,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_num_workers": 2 if cuda else 0,
        "dataloader_pin_memory": cuda,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        # on by default in TRL, for memory, at the price of a third more work
        "gradient_checkpointing": False,
        "seed": 0,
    }


def open_model(setup: Setup, attention: str | None) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    given = {"attn_implementation": attention} if attention else {}
    return AutoModelForCausalLM.from_pretrained(setup.model, dtype=torch.float32, **given)


def counting(trainer: type[Any]) -> type[Any]:
    """Return a Trainer that counts the tokens of examples from step `WARM` on."""
    import torch

    class Counting(trainer):  # type: ignore[misc]
        seen: Any = 0

        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if self.state.global_step >= WARM:
                mask = inputs.get("attention_mask")
                # not asked for here, which would wait for the device
                found = mask.sum() if mask is not None else torch.tensor(inputs["input_ids"].numel())
                self.seen = self.seen + found
            return super().training_step(model, inputs, *args, **kwargs)

    return Counting


def plain_trainer(setup: Setup, way: str) -> Speed:
    """Train with transformers' Trainer and batches filled up to their longest example."""
    set_up(setup)
    import torch
    from transformers import AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    ids, labels = examples_of(setup)
    rows = [{"input_ids": row, "labels": marked} for row, marked in zip(ids, labels, strict=True)]
    clock = Clock()
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(per_device_train_batch_size=setup.examples, **common(setup, out))
        trainer = counting(Trainer)(
            model=open_model(setup, None),
            args=arguments,
            train_dataset=_Rows(rows),
            data_collator=DataCollatorForSeq2Seq(AutoTokenizer.from_pretrained(setup.tokens / "tokenizer")),
            callbacks=[clock.callback()],
        )
        trainer.train()
    return clock.speed(way, int(torch.as_tensor(trainer.seen)))


class _Rows:
    """Rows of a list, as PyTorch's loader asks for them."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: int) -> Any:
        return self._rows[at]


def trl(setup: Setup, way: str) -> Speed:
    """Train with TRL, the way that its name says: padded, grouped, or packed with an attention."""
    set_up(setup)
    import datasets
    import torch
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    ids, labels = examples_of(setup)
    packs, attention = "packed" in way, next((each for each in ATTENTIONS if each in way), None)
    options = common(setup, "")
    # rows of a packed micro-batch lie one after the other in the end, so their length is TRL's own affair
    row = min(setup.micro_tokens, 2048)
    options["per_device_train_batch_size"] = setup.micro_tokens // row if packs else setup.examples
    if "grouped" in way:
        options["train_sampling_strategy"] = "group_by_length"
    if "compiled" in way:
        options["torch_compile"] = True
    if "Liger" in way:
        options["use_liger_kernel"] = True
    clock = Clock()
    with tempfile.TemporaryDirectory() as out:
        options["output_dir"] = out
        arguments = SFTConfig(packing=packs, max_length=row if packs else MAX_LENGTH, **options)
        trainer = counting(SFTTrainer)(
            model=open_model(setup, attention),
            args=arguments,
            train_dataset=datasets.Dataset.from_dict({"input_ids": ids, "labels": labels}),
            processing_class=AutoTokenizer.from_pretrained(setup.tokens / "tokenizer"),
            callbacks=[clock.callback()],
        )
        trainer.train()
    return clock.speed(way, int(torch.as_tensor(trainer.seen)))


ATTENTIONS = ("flash_attention_2", "flex_attention", "sdpa")


def ways(*, compiled: bool) -> list[tuple[str, Callable[[Setup, str], Speed]]]:
    """Return the ways to train that can be tried here, by name."""
    found: list[tuple[str, Callable[[Setup, str], Speed]]] = [(OURS[0], mix_train)]
    if compiled:
        found.append((OURS[1], mix_train))
    found.append(("Trainer, padded", plain_trainer))
    if not util.find_spec("trl") or not util.find_spec("datasets"):
        print("TRL is not installed: left out")
        return found
    found += [("TRL, padded", trl), ("TRL, grouped by length", trl)]
    attentions = ["sdpa"]
    if on_cuda():
        attentions = ["flash_attention_2"] * bool(util.find_spec("flash_attn")) + ["flex_attention", "sdpa"]
    found += [(f"TRL, packed, {attention}", trl) for attention in attentions]
    if compiled:
        found += [(f"TRL, packed, {attentions[0]}, compiled", trl), ("TRL, grouped by length, compiled", trl)]
    if util.find_spec("liger_kernel"):
        found.append((f"TRL, packed, {attentions[0]}, Liger", trl))
    return found


def tried(way: str, train: Callable[[Setup, str], Speed], setup: Setup) -> Speed:
    """Return what a way to train does in a process of its own, or why it does not."""
    try:
        return apart(caught, train, setup, way)
    except Exception as error:
        # a process that was killed
        return Speed(way, failed=f"{type(error).__name__}: {error}"[:200])


def caught(train: Callable[[Setup, str], Speed], setup: Setup, way: str) -> Speed:
    try:
        return train(setup, way)
    except Exception as error:
        traceback.print_exc()
        return Speed(way, failed=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200])


@dataclass(frozen=True)
class Peak:
    """The best of a few large matrix products: operations a second, and a second of CPU time."""

    rate: float
    cpu_rate: float
    what: str


def matmul_peak(threads: int | None) -> Peak:
    """Measure matrix products in the type that training computes in."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    cuda = on_cuda()
    size, kind, device = (8192, torch.bfloat16, "cuda") if cuda else (2048, torch.float32, "cpu")
    one, other = (torch.randn(size, size, dtype=kind, device=device) for _ in range(2))
    best, cpu_best = 0.0, 0.0
    for _ in range(12):
        if cuda:
            torch.cuda.synchronize()
        started, cpu = perf_counter(), process_time()
        for _ in range(10 if cuda else 1):
            one @ other
        if cuda:
            torch.cuda.synchronize()
        done = 2 * size**3 * (10 if cuda else 1)
        best, cpu_best = max(best, done / (perf_counter() - started)), max(cpu_best, done / (process_time() - cpu))
    name = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    return Peak(best, cpu_best, f"{name}: {size}³ in {str(kind).removeprefix('torch.')}")


def operations(size: Size, tokens: Path) -> float:
    """Return the operations that a token takes, forward and backward, on average.

    Matrix products alone: six for each weight, those of the output layer for tokens with a label only; and attention,
    of which half is masked.
    """
    import numpy as np

    from taskmix_trainer.heads.language import count_trained
    from taskmix_trainer.tokens.folder import Tokens

    split = Tokens(tokens / "train.arrow")
    lengths = split.lengths().astype(np.float64)
    labelled = sum(count_trained(split.column("trained"))) / lengths.sum()
    inner = size.layers * 12 * size.width**2
    outer = size.width * size.vocabulary * labelled
    context = float((lengths**2).sum() / lengths.sum())
    return float(6 * (inner + outer) + 6 * size.layers * size.width * context)


# The model and the tokens


def make_model(size: Size, tokens: Path, to: Path) -> Path:
    """Write a model of random weights and return its folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config

    tokenizer = AutoTokenizer.from_pretrained(tokens / "tokenizer")
    config = Qwen3Config(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=max(1, size.heads // 2),
        head_dim=size.width // size.heads,
        intermediate_size=3 * size.width,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(to)
    tokenizer.save_pretrained(to)
    # the tokens are those of this model, whatever it is called
    manifest = json.loads((tokens / "tokens.json").read_text("utf-8"))
    (tokens / "tokens.json").write_text(json.dumps({**manifest, "model": str(to)}), "utf-8")
    return to


def make_tokens(mixture: Path, vocabulary: str, to: Path) -> Path:
    """Return the folder of a mixture's tokens, with a tokenizer that is trained on it."""
    from taskmix_trainer.models.opening import ModelName
    from taskmix_trainer.targets import Mixture, resolve
    from taskmix_trainer.tokens.preparing import Wanted, prepare

    found = resolve(str(mixture))
    assert isinstance(found, Mixture)
    wanted = Wanted(ModelName(f"scratch:{vocabulary}"), max_length=MAX_LENGTH, splits=("train",))
    return prepare(found, wanted, to)


def build_starter(to: Path) -> Path:
    """Build the mixture that needs no download."""
    import taskmix

    return taskmix.build("starter", out=to).out


# Tokenisation


def tokenise(how: str, mixture: Path, tokenizer: Path) -> tuple[str, int, float, float]:
    """Return what tokenised, the rows, the seconds and the CPU seconds."""
    import transformers

    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["HF_DATASETS_CACHE"] = cache
        action, rows = TOKENISERS[how](mixture, tokenizer, Path(cache))
        started, cpu = perf_counter(), process_time()
        action()
        return how, rows, perf_counter() - started, process_time() - cpu


def tokenise_here(mixture: Path, tokenizer: Path, cache: Path) -> tuple[Callable[[], object], int]:
    from taskmix_trainer.models.opening import ModelName
    from taskmix_trainer.targets import Mixture, resolve
    from taskmix_trainer.tokens.preparing import Wanted, prepare

    found = resolve(str(mixture))
    assert isinstance(found, Mixture)
    wanted = Wanted(ModelName(str(tokenizer)), head="causal-language-model", max_length=MAX_LENGTH, splits=("train",))
    return lambda: prepare(found, wanted, cache / "tokens"), found.lock["splits"]["train"]["rows"]


def _loaded(mixture: Path) -> Any:
    import datasets

    datasets.disable_progress_bars()
    loaded = datasets.load_dataset("parquet", data_files=str(mixture / "data/train-*.parquet"), split="train")
    return loaded.select_columns(["prompt", "completion"])


def tokenise_trl(mixture: Path, tokenizer: Path, cache: Path) -> tuple[Callable[[], object], int]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config
    from trl import SFTConfig, SFTTrainer

    rows, opened = _loaded(mixture), AutoTokenizer.from_pretrained(tokenizer)
    torch.set_num_threads(1)
    tiny = Qwen3Config(vocab_size=len(opened), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, head_dim=8)
    model = AutoModelForCausalLM.from_config(tiny)
    options: dict[str, Any] = {"output_dir": str(cache / "out"), "report_to": "none", "use_cpu": True, "bf16": False}
    arguments = SFTConfig(max_length=MAX_LENGTH, **options)
    return lambda: SFTTrainer(model=model, args=arguments, train_dataset=rows, processing_class=opened), len(rows)


def tokenise_map(mixture: Path, tokenizer: Path, cache: Path) -> tuple[Callable[[], object], int]:
    from transformers import AutoTokenizer

    rows, opened = _loaded(mixture), AutoTokenizer.from_pretrained(tokenizer)

    def encode(batch: Mapping[str, Sequence[str]]) -> Any:
        texts = [prompt + completion for prompt, completion in zip(batch["prompt"], batch["completion"], strict=True)]
        return opened(texts, truncation=True, max_length=MAX_LENGTH)

    return lambda: rows.map(encode, batched=True, remove_columns=["prompt", "completion"]), len(rows)


TOKENISERS: Mapping[str, Callable[[Path, Path, Path], tuple[Callable[[], object], int]]] = {
    "mix train": tokenise_here,
    "TRL": tokenise_trl,
    "datasets.map, batched, without what is trained on": tokenise_map,
}


# Memory


def loss_memory(how: str, tokens: int, vocabulary: int, threads: int | None) -> tuple[str, int, float]:
    """Return how the loss was computed, the bytes that a step of loss and gradient added, and the loss."""
    import torch
    from torch import nn
    from torch.nn import functional

    from taskmix_trainer.models import losses

    if threads:
        torch.set_num_threads(threads)
    if how == "whole logits":
        losses._LEAST_WORTH = 10**18
    if how == "chunks of taskmix":
        vars(functional).pop("linear_cross_entropy", None)
    device = "cuda" if on_cuda() else "cpu"
    torch.manual_seed(0)
    layer = nn.Linear(256, vocabulary, bias=False, device=device)
    hidden = torch.randn(1, tokens, 256, device=device, requires_grad=True)
    labels = torch.randint(0, vocabulary, (1, tokens), device=device)
    # what the libraries allocate once
    losses.linear_loss(hidden[:, :8], layer, labels[:, :8]).backward()
    if on_cuda():
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if on_cuda() else peak_bytes()
    loss = losses.linear_loss(hidden, layer, labels)
    loss.backward()
    after = torch.cuda.max_memory_allocated() if on_cuda() else peak_bytes()
    return how, after - before, float(loss.detach()) / tokens


# The whole


@dataclass
class Figures:
    """All that was measured."""

    about: dict[str, Any]
    peak: Peak | None = None
    operations: float = 0.0
    speeds: list[Speed] = field(default_factory=list)
    tokenised: list[tuple[str, int, float, float]] = field(default_factory=list)
    memory: list[tuple[str, int, float]] = field(default_factory=list)


def throughput_table(figures: Figures) -> str:
    """Return the table of the ways to train."""
    assert figures.peak is not None
    cuda = figures.about["device"] == "cuda"
    best = (
        max((each.cpu_rate, each.rate)[cuda] for each in figures.speeds if each.way.startswith("TRL"))
        if any(each.way.startswith("TRL") and not each.failed for each in figures.speeds)
        else 0.0
    )
    head = "tokens/s" if cuda else "tokens/s | tokens a CPU second"
    lines = [
        f"| | {head} | times TRL's best | share of the peak | peak memory, MiB |",
        "| --- |" + " ---: |" * (4 + (not cuda)),
    ]
    for each in figures.speeds:
        if each.failed:
            lines.append(f"| {each.way} | {each.failed} |" + " |" * (3 + (not cuda)))
            continue
        rate, peak = (each.rate, figures.peak.rate) if cuda else (each.cpu_rate, figures.peak.cpu_rate)
        shown = f"{each.rate:,.0f}" if cuda else f"{each.rate:,.0f} | {each.cpu_rate:,.0f}"
        times = f"{rate / best:.2f}" if best else ""
        share = f"{rate * figures.operations / peak:.1%}"
        lines.append(f"| {each.way} | {shown} | {times} | {share} | {each.peak_bytes / 2**20:,.0f} |")
    return "\n".join(lines)


def tables(figures: Figures) -> str:
    """Return all tables, with what they depend on."""
    about, parts = figures.about, []
    if figures.speeds:
        assert figures.peak is not None
        kind = "" if about["device"] == "cuda" else f" ({figures.peak.cpu_rate / 1e9:,.0f} a CPU second)"
        parts.append(
            f"A model of {about['parameters'] / 1e6:,.0f} million parameters on {about['device']}, "
            f"{about['step_tokens']:,} tokens a step in micro-batches of {about['micro_tokens']:,}, steps {WARM + 1} "
            f"to {about['steps']}; examples of {about['mean_length']:.0f} tokens on average. The peak is "
            f"{figures.peak.rate / 1e9:,.0f} GFLOP/s{kind}, {figures.peak.what}."
        )
        parts.append(throughput_table(figures))
    if figures.tokenised:
        lines = ["| tokenisation | rows | rows/s | rows a CPU second |", "| --- | ---: | ---: | ---: |"]
        lines += [f"| {how} | {n:,} | {n / s:,.0f} | {n / cpu:,.0f} |" for how, n, s, cpu in figures.tokenised]
        parts.append("\n".join(lines))
    if figures.memory:
        parts.append(
            f"The loss and its gradient, {about['memory_tokens']:,} tokens with a label and a vocabulary of "
            f"{about['memory_vocabulary']:,}:"
        )
        lines = ["| loss | peak memory added, MiB | loss a token |", "| --- | ---: | ---: |"]
        lines += [f"| {how} | {added / 2**20:,.0f} | {loss:.5f} |" for how, added, loss in figures.memory]
        parts.append("\n".join(lines))
    parts.append(f"{about['versions']}; load of the machine {about['load'][0]:.1f} on {about['cores']} cores.")
    return "\n\n".join(parts)


def versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in ("torch", "transformers", "trl", "datasets"):
        if util.find_spec(name):
            found.append(f"{name} {metadata.version(name)}")
    return ", ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="10M")
    parser.add_argument("--mixture", type=Path, help="the folder of a mixture  [default: starter, built]")
    parser.add_argument("--tokens", type=Path, help="a folder that --prepare made")
    parser.add_argument("--prepare", type=Path, metavar="DIR", help="make the tokens and stop")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--step-tokens", type=int, help="[default: 4096, on a GPU 32768]")
    parser.add_argument("--micro-tokens", type=int, help="[default: as --step-tokens]")
    parser.add_argument("--threads", type=int, help="threads of PyTorch")
    parser.add_argument("--compile", action="store_true", help="try compiled models too")
    parser.add_argument("--ways", nargs="+", help="only ways whose names have one of these words")
    parser.add_argument("--only", nargs="+", choices=["throughput", "tokenisation", "memory"])
    parser.add_argument("--memory-tokens", type=int, default=8192)
    parser.add_argument("--memory-vocabulary", type=int, default=32_768)
    parser.add_argument("--json", type=Path, help="write every single figure to this file")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/training-results.md")
    wanted = parser.parse_args()
    if wanted.threads:
        os.environ["OMP_NUM_THREADS"] = str(wanted.threads)
    with tempfile.TemporaryDirectory() as work:
        figures = measure(wanted, Path(work))
    if figures is None:
        return
    text = tables(figures)
    print(text)
    if wanted.json:
        wanted.json.write_text(json.dumps(asdict(figures), indent=1, default=str) + "\n", "utf-8")
    if wanted.write:
        write(text, str(figures.about["device"]))


def measure(wanted: argparse.Namespace, work: Path) -> Figures | None:
    """Return the figures that are wanted; None where tokens were to be made."""
    parts = wanted.only or ["throughput", "tokenisation", "memory"]
    size = SIZES[wanted.size]
    tokens, mixture = wanted.tokens, wanted.mixture
    if tokens is None or ("tokenisation" in parts and mixture is None):
        mixture = mixture or apart(build_starter, work / "mixture")
    if tokens is None:
        vocabulary = "small" if size.vocabulary < 32_000 else "base"
        tokens = apart(make_tokens, mixture, vocabulary, wanted.prepare or work / "tokens")
        if wanted.prepare:
            print(f"tokens in {tokens}")
            return None
    device = "cuda" if apart(on_cuda) else "cpu"
    step_tokens = wanted.step_tokens or (32_768 if device == "cuda" else 4_096)
    split = json.loads((tokens / "tokens.json").read_text("utf-8"))["splits"]["train"]
    mean = split["tokens"] / split["features"]
    figures = Figures(
        {
            "device": device,
            "size": wanted.size,
            "parameters": size.layers * 12 * size.width**2 + size.width * size.vocabulary,
            "steps": wanted.steps,
            "step_tokens": step_tokens,
            "micro_tokens": wanted.micro_tokens or step_tokens,
            "mean_length": mean,
            "memory_tokens": wanted.memory_tokens,
            "memory_vocabulary": wanted.memory_vocabulary,
            "versions": versions(),
            "load": os.getloadavg(),
            "cores": os.cpu_count(),
        }
    )
    if "throughput" in parts:
        model = apart(make_model, size, tokens, work / "model")
        micro = figures.about["micro_tokens"]
        setup = Setup(model, tokens, wanted.steps, step_tokens, micro, max(1, round(micro / mean)), wanted.threads)
        figures.operations = apart(operations, size, tokens)
        figures.peak = apart(matmul_peak, wanted.threads)
        for way, train in chosen(apart(ways, compiled=wanted.compile), wanted.ways):
            figures.speeds.append(tried(way, train, setup))
            print(f"{way}: {figures.speeds[-1].rate:,.0f} tokens/s {figures.speeds[-1].failed}", flush=True)
    if "tokenisation" in parts and mixture is not None:
        for how in TOKENISERS:
            if how == "TRL" and not util.find_spec("trl"):
                continue
            figures.tokenised.append(apart(tokenise, how, mixture, tokens / "tokenizer"))
    if "memory" in parts:
        for how in ("whole logits", "linear_cross_entropy of PyTorch", "chunks of taskmix"):
            figures.memory.append(
                apart(loss_memory, how, wanted.memory_tokens, wanted.memory_vocabulary, wanted.threads)
            )
    return figures


def chosen(
    found: Iterable[tuple[str, Callable[[Setup, str], Speed]]], words: Sequence[str] | None
) -> list[tuple[str, Callable[[Setup, str], Speed]]]:
    """Return the ways whose names have one of some words; all of them without words."""
    return [each for each in found if not words or any(word in each[0] for word in words)]


def write(text: str, device: str) -> None:
    """Put the tables into the page, in the place of this kind of device."""
    start, end = f"<!-- figures: benchmarks/training.py --write, {device} -->", f"<!-- end, {device} -->"
    page = PAGE.read_text("utf-8")
    before, found, rest = page.partition(start)
    assert found, start
    PAGE.write_text(f"{before}{start}\n\n{text}\n\n{end}{rest.partition(end)[2]}", "utf-8")


if __name__ == "__main__":
    main()

"""What a training run is to do, and the arguments of transformers' Trainer that follow."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from taskmix.errors import UsageError, nearest
from taskmix_trainer.batches.plan import Budget, Ints, Plan
from taskmix_trainer.heads.base import Head, Recipe
from taskmix_trainer.models.opening import ModelName

CHECKPOINTS = "checkpoints"
LEAST_STEPS = 20
"""Steps of a pass over few tokens, where the size of a step is not given."""
FROM_SCRATCH = 1e-3
"""The learning rate of models with random weights, which are small here."""
LORA_TIMES = 10
"""Low-rank adapters take about so many times the learning rate of whole weights."""
Precision = Literal["auto", "bf16", "fp32"]

OURS: Mapping[str, str] = {
    "output_dir": "--out",
    "per_device_train_batch_size": "--batch-size or --batch-tokens",
    "per_device_eval_batch_size": "--micro-tokens",
    "gradient_accumulation_steps": "--accumulate",
    "num_train_epochs": "--epochs",
    "max_steps": "--steps",
    "train_sampling_strategy": "",
    "group_by_length": "",
    "average_tokens_across_devices": "",
    "remove_unused_columns": "",
    "label_smoothing_factor": "",
    "auto_find_batch_size": "",
    "torch_compile": "--compile",
    "bf16": "--precision",
    "fp16": "--precision bf16",
    "resume_from_checkpoint": "--resume",
    "push_to_hub": "",
    "dataloader_drop_last": "",
    "ignore_data_skip": "",
    "label_names": "",
    "seed": "--seed",
    "data_seed": "--seed",
}
"""Arguments of the Trainer that the plan decides, and the option that is there instead."""


@dataclass(frozen=True)
class Settings:
    """What a run is to do; what is None follows from the head, as `heads.base.Recipe` says.

    Attributes:
        model: what to start from.
        out: the folder of the run.
        epochs: passes over the training split.
        steps: at most so many steps of the optimiser.
        learning_rate: the highest.
        batch_size: examples a step, for classic heads.
        batch_tokens: tokens a step, for language models; by default fewer where a pass would have few steps.
        micro_tokens: the most tokens of a micro-batch on one device; by default a few times the longest example.
        accumulate: micro-batches that a step is cut into, on all devices together, where `batch_size` counts.
        seed: for the order, and for weights that are drawn.
        lora: the rank of low-rank adapters (Hu et al. 2021), which are then all that is trained.
        compile: whether layers are compiled.
        precision: what the forward pass computes in; `auto` is bfloat16 where a GPU has it.
        eval_every: steps between evaluations; by default once an epoch.
        save_every: steps between checkpoints; by default as `eval_every`.
        best: whether the checkpoint with the best result is what is kept, rather than the last.
        patience: evaluations without a better result after which training stops; implies `best`.
        resume: whether to go on from the last checkpoint of an unfinished run.
        force: whether to replace a finished run.
        pack: whether examples lie side by side, where the model can.
        more: further arguments of transformers' TrainingArguments.
    """

    model: ModelName
    out: Path
    epochs: float | None = None
    steps: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    batch_tokens: int | None = None
    micro_tokens: int | None = None
    accumulate: int | None = None
    seed: int = 0
    lora: int | None = None
    compile: bool = False
    precision: Precision = "auto"
    eval_every: int | None = None
    save_every: int | None = None
    best: bool = False
    patience: int | None = None
    resume: bool = True
    force: bool = False
    pack: bool = True
    more: Mapping[str, Any] = field(default_factory=dict)


def make_budget(settings: Settings, head: Head, lengths: Ints, world: int, *, packs: bool) -> Budget:
    """Return how much a step takes.

    Args:
        settings: what is asked for.
        head: whose defaults hold where nothing is.
        lengths: the tokens of each example. (examples,)
        world: how many processes share a step.
        packs: whether examples lie side by side.

    Raises:
        UsageError: options contradict each other, or the number of processes does not fit.
    """
    recipe = head.recipe
    epochs = settings.epochs or recipe.epochs
    if settings.batch_size is not None and settings.batch_tokens is not None:
        raise UsageError("--batch-size counts examples, --batch-tokens tokens: give one of them")
    by_examples = settings.batch_size is not None or (settings.batch_tokens is None and recipe.batch_size is not None)
    if by_examples:
        micro = settings.accumulate or world
        if micro % world:
            raise UsageError(
                f"a step is cut into {micro} parts (--accumulate), which {world} processes cannot share evenly",
                hint=f"give a multiple of {world}",
            )
        size = settings.batch_size or recipe.batch_size
        return Budget(epochs, examples=size, micro=micro, steps=settings.steps)
    longest, all_tokens = int(lengths.max(initial=0)), int(lengths.sum())
    tokens = settings.batch_tokens or recipe.batch_tokens or 0
    few = settings.batch_tokens is None and all_tokens < LEAST_STEPS * tokens
    if few:
        tokens = max(all_tokens // LEAST_STEPS, 1)
    if settings.accumulate is not None:
        raise UsageError(
            "--accumulate goes with --batch-size", hint="--micro-tokens says how large a part of a step is"
        )
    micro_tokens = settings.micro_tokens or max(longest, min(tokens // world, 8192), 1)
    if micro_tokens < longest:
        raise UsageError(f"an example has {longest:,} tokens, and --micro-tokens is {micro_tokens:,}")
    # all processes take as many parts: together about what is given, but no more than what follows from few tokens
    each = tokens // micro_tokens // world if few else -(-round(tokens / micro_tokens) // world)
    step = max(each, 1) * world * micro_tokens
    return Budget(epochs, tokens=step, micro_tokens=micro_tokens, pack=packs, steps=settings.steps)


def learning_rate(settings: Settings, recipe: Recipe) -> float:
    """Return the highest learning rate of a run: the one that is given, or that of the head and of what is trained."""
    if settings.learning_rate is not None:
        return settings.learning_rate
    if settings.model.size is not None:
        return FROM_SCRATCH
    return recipe.learning_rate * (LORA_TIMES if settings.lora is not None else 1)


def make_arguments(settings: Settings, recipe: Recipe, plan: Plan, world: int, metric: str | None) -> Any:
    """Return the TrainingArguments of a run; `metric` is what it is evaluated by, None to do without.

    Raises:
        UsageError: one of `more` is not one of them, is decided by the plan, or has a value that makes no sense.
    """
    import torch
    from transformers import TrainingArguments

    if settings.lora is not None and settings.model.size is not None:
        raise UsageError("--lora trains beside weights that are there, and random ones are kept nowhere")
    known = {each.name for each in dataclasses.fields(TrainingArguments)}
    for name in settings.more:
        if name in OURS:
            instead = f"use {OURS[name]}" if OURS[name] else "the plan of batches decides it"
            raise UsageError(f"--set {name}: not here", hint=instead)
        if name not in known:
            raise UsageError(f"--set {name}: TrainingArguments have no such argument", hint=nearest(name, known))
    cuda = torch.cuda.is_available() and not settings.more.get("use_cpu")
    wanted = settings.precision == "bf16" or (settings.precision == "auto" and cuda and torch.cuda.is_bf16_supported())
    per_epoch = max(1, round(plan.steps / max(len(plan.passes), 1)))
    eval_every = settings.eval_every or per_epoch
    values: dict[str, Any] = {
        "output_dir": str(settings.out / CHECKPOINTS),
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": plan.micro // world,
        "max_steps": plan.steps,
        "train_sampling_strategy": "sequential",
        "learning_rate": learning_rate(settings, recipe),
        "lr_scheduler_type": recipe.schedule,
        "warmup_steps": recipe.warmup,
        "weight_decay": recipe.weight_decay,
        "bf16": wanted,
        "seed": settings.seed,
        "logging_steps": max(1, plan.steps // 500),
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if metric else "no",
        "eval_steps": eval_every,
        "save_strategy": "steps",
        "save_steps": settings.save_every or eval_every,
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "average_tokens_across_devices": False,
        "accelerator_config": {"dispatch_batches": False, "even_batches": False},
        "dataloader_num_workers": 2 if cuda else 0,
        "dataloader_pin_memory": cuda,
        "ddp_find_unused_parameters": False,
        "use_cpu": not cuda,
        "save_on_each_node": False,
    }
    if metric and (settings.best or settings.patience is not None):
        values |= {"load_best_model_at_end": True, "metric_for_best_model": f"eval_{metric}"}
        values["greater_is_better"] = metric != "loss"
    values |= settings.more
    _check_sharding(values, world)
    try:
        return TrainingArguments(**values)
    except (ValueError, TypeError, ImportError) as error:
        raise UsageError(f"the arguments of training make no sense: {str(error).splitlines()[0]}") from None


def _check_sharding(values: Mapping[str, Any], world: int) -> None:
    """Raise UsageError where a model is to be spread over devices, and would not be, or not safely."""
    if not values.get("fsdp"):
        return
    if world == 1:
        raise UsageError(
            "--set fsdp: there is one process", hint="start several: torchrun --nproc-per-node 8 -m taskmix"
        )
    if values["use_cpu"]:
        # accelerate takes no notice of it on the CPU: every process would have the whole model
        raise UsageError("--set fsdp: accelerate shards models over GPUs alone")
    config = values.get("fsdp_config") or {}
    if isinstance(config, Mapping) and "SHARDED" in str(config.get("state_dict_type", "")):
        raise UsageError("--set fsdp_config: checkpoints in shards have pickles, which are not read; leave it out")

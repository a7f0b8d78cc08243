"""A training run from a target to a model: tokens, plan, loop, and what is left in the folder."""

import dataclasses
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from taskmix.errors import OutputError, UsageError
from taskmix_trainer import processes
from taskmix_trainer.batches.loading import Batches, only
from taskmix_trainer.batches.plan import Plan, make_plan
from taskmix_trainer.errors import TrainError
from taskmix_trainer.evaluation.raw import figures, metric_of
from taskmix_trainer.heads import HEADS, Head
from taskmix_trainer.heads.base import Padding
from taskmix_trainer.models import adapters, compiling, losses
from taskmix_trainer.models.opening import ModelName, open_model, open_tokenizer
from taskmix_trainer.models.packing import enable_packing
from taskmix_trainer.predicting import labels_of
from taskmix_trainer.runs import read_run, write_run
from taskmix_trainer.tokens.folder import Manifest, Tokens, read_manifest
from taskmix_trainer.tokens.preparing import saved_tokenizer
from taskmix_trainer.training import card, report
from taskmix_trainer.training.settings import CHECKPOINTS, Settings, make_arguments, make_budget
from taskmix_trainer.training.watching import HISTORY, Bar, History, read_history

BOARDS = "tensorboard"
"""The folder of what TensorBoard reads."""
_LOG = logging.getLogger("taskmix.trainer")
_SEEN_EXAMPLES = 2_000
"""Of a language model's validation split, so many examples are read at each evaluation."""


@dataclass(frozen=True)
class Trained:
    """A finished run: its folder, and the figures of its last evaluation."""

    out: Path
    steps: int
    metrics: Mapping[str, float]
    ended_early: bool = False


def train(tokens: Path, settings: Settings, *, watch: bool = True, callbacks: Sequence[Any] = ()) -> Trained:
    """Train a model on prepared tokens.

    Args:
        tokens: a folder that `tokens.preparing.prepare` made.
        settings: what to do.
        watch: whether to show progress on stderr.
        callbacks: further callbacks of transformers' Trainer.

    Returns:
        The run; with `ended_early` where it was asked to end (SIGTERM), and can be taken up again.

    Raises:
        TrainError: it had to stop; the last checkpoint is whole.
        OutputError: the folder has another run, or other files.
        TaskmixError: the model or the tokens cannot be read, or the settings make no sense.
    """
    manifest = read_manifest(tokens)
    head = HEADS[manifest.head]
    world = processes.world()
    split = Tokens(tokens / "train.arrow")
    longest = manifest.splits["train"].longest
    model, tokenizer = _model(settings, manifest, tokens, head)
    packs = head.packs and settings.pack and _can_pack(model, settings)
    lengths = split.lengths()
    budget = make_budget(settings, head, lengths, world, packs=packs)
    try:
        plan = make_plan(lengths, budget, settings.seed)
    except ValueError as error:
        raise TrainError(str(error)) from None
    padding = Padding(tokenizer.pad_token_id, labels=len(manifest.labels) if manifest.multi_label else 0)
    evaluate = _evaluation(head, manifest, tokens, padding, world)
    metric = metric_of(head, multi_label=manifest.multi_label) if evaluate else None
    arguments = make_arguments(settings, head.recipe, plan, world, metric)
    run = _describe(settings, manifest, plan)
    with processes.first_goes_first(on_cpu=not _on_cuda(settings)):
        _enter(settings, run)
    losses.install(model, head, longest)
    if settings.lora is not None:
        model = adapters.add_lora(model, settings.lora, head, settings.model)
    if settings.compile:
        compiling.compile_layers(model)
    # not above: it imports much
    from taskmix_trainer.training.loop import MixTrainer

    trainer = MixTrainer(
        batches=Batches(plan, split, head, padding, labels_of(head, split)),
        evaluate_with=evaluate,
        model=model,
        args=arguments,
        data_collator=only,
        processing_class=tokenizer,
        callbacks=[History(settings.out / HISTORY), *_boards(arguments, settings), *_patience(settings), *callbacks],
    )
    bar = Bar()
    if watch:
        trainer.add_callback(bar)
    try:
        return _run(trainer, settings, manifest, run)
    finally:
        bar.close()


def _model(settings: Settings, manifest: Manifest, tokens: Path, head: Head) -> tuple[Any, Any]:
    """Return the model to start from, always the same for a seed, and its tokenizer."""
    from transformers import set_seed

    tokenizer = saved_tokenizer(tokens)
    if settings.model.name != manifest.model and not _has_the_tokenizer(settings.model, head, tokenizer):
        raise UsageError(
            f"the tokens are those of {manifest.model}, not of {settings.model.name}", hint="prepare them again"
        )
    set_seed(settings.seed)
    model = open_model(settings.model, head, tokenizer, manifest.labels, multi_label=manifest.multi_label)
    return model, tokenizer


def _has_the_tokenizer(model: ModelName, head: Head, tokenizer: Any) -> bool:
    """Whether tokens mean the same to a model, such as one that lies in another place than where they were made."""
    return model.size is None and bool(open_tokenizer(model, head).get_vocab() == tokenizer.get_vocab())


def _on_cuda(settings: Settings) -> bool:
    return torch.cuda.is_available() and not settings.more.get("use_cpu")


def _can_pack(model: Any, settings: Settings) -> bool:
    cuda = _on_cuda(settings)
    if cuda:
        model.to("cuda")
    wants = settings.precision == "bf16" or (settings.precision == "auto" and cuda)
    autocast: AbstractContextManager[Any] = (
        torch.autocast("cuda" if cuda else "cpu", torch.bfloat16) if wants else nullcontext()
    )
    return enable_packing(model, autocast)


def _describe(settings: Settings, manifest: Manifest, plan: Plan) -> dict[str, Any]:
    """Return what a run follows from, as it stands in its folder."""
    given = {name: value for name, value in dataclasses.asdict(settings).items() if name not in _FREE}
    return {
        "target": manifest.target,
        "source": manifest.source,
        "lock_sha256": manifest.lock_sha256,
        "head": manifest.head,
        "max_length": manifest.max_length,
        "stride": manifest.stride,
        "plan_sha256": plan.sha256,
        "steps": plan.steps,
        "settings": given,
    }


_FREE = ("out", "resume", "force", "save_every")
"""Settings that may differ when a run is taken up again."""


def _enter(settings: Settings, run: Mapping[str, Any]) -> None:
    """Make the folder of a run, or find the same run unfinished in it. The first process does, for all.

    Raises:
        OutputError: there is a finished run, another one, or other files.
    """
    if processes.rank():
        return
    out = settings.out
    there = read_run(out)
    if there is not None and "plan_sha256" not in there:
        # some other file of that name: what lies beside it is not to be replaced
        there = None
    if there is None and out.is_dir() and any(out.iterdir()):
        raise OutputError("the folder has other files", where=str(out), hint="choose another with --out")
    if there is not None and not settings.force:
        if there.get("done"):
            raise OutputError(
                "a run is finished there", where=str(out), hint="--force replaces it; --out names another"
            )
        if settings.resume and (differs := _difference(there, run)):
            hint = f"--force starts anew; what differs: {differs}"
            raise OutputError("an unfinished run of other settings is there", where=str(out), hint=hint)
    try:
        if there is not None and (settings.force or not settings.resume):
            shutil.rmtree(out)
        out.mkdir(parents=True, exist_ok=True)
        write_run(out, {**run, "done": False})
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", where=str(out)) from None


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return what differs between two runs' descriptions, in words."""
    again = json.loads(json.dumps(new, default=str))
    found = [name for name in again if name != "settings" and old.get(name) != again[name]]
    before = old.get("settings", {})
    found += [name for name, value in again["settings"].items() if before.get(name) != value]
    return ", ".join(found)


def _run(trainer: Any, settings: Settings, manifest: Manifest, run: Mapping[str, Any]) -> Trained:
    from transformers.trainer_callback import PrinterCallback

    from taskmix_trainer.training.loop import check_checkpoint, ending_on_request, last_checkpoint

    # it prints what the bar shows
    trainer.remove_callback(PrinterCallback)
    last = last_checkpoint(settings.out / CHECKPOINTS) if settings.resume else None
    if last is not None:
        check_checkpoint(last)
        _LOG.info("going on from %s", last)
    try:
        with ending_on_request(trainer):
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        steps = trainer.state.global_step
        if trainer.ending and steps < trainer.batches.plan.steps:
            return Trained(settings.out, steps, {}, ended_early=True)
        return Trained(settings.out, steps, _finish(trainer, settings, manifest, run))
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        where = str(getattr(error, "filename", None) or settings.out)
        hint = "what was done is in its checkpoints; the same command goes on"
        raise OutputError(f"cannot be written: {reason}", where=where, hint=hint) from None


def _boards(arguments: Any, settings: Settings) -> list[Any]:
    """Return what writes for TensorBoard, if that is wanted, beside the checkpoints rather than among them."""
    if "tensorboard" not in arguments.report_to:
        return []
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations.integration_utils import TensorBoardCallback

    arguments.report_to.remove("tensorboard")
    writer = SummaryWriter(str(settings.out / BOARDS)) if arguments.should_log else None
    return [TensorBoardCallback(writer)] if writer is not None else []


def _used(trainer: Any, manifest: Manifest) -> dict[str, Any]:
    """Return what a run has used: the arguments that followed from its settings, and the size of its data."""
    names = ("learning_rate", "warmup_steps", "weight_decay", "bf16", "gradient_accumulation_steps")
    arguments = {name: getattr(trainer.args, name) for name in names}
    epochs = trainer.batches.plan.epoch(trainer.state.global_step)
    return {
        "used": {**arguments, "schedule": str(trainer.args.lr_scheduler_type), "epochs": round(epochs, 4)},
        "splits": {name: dataclasses.asdict(split) for name, split in manifest.splits.items()},
    }


def _patience(settings: Settings) -> list[Any]:
    if settings.patience is None:
        return []
    from transformers import EarlyStoppingCallback

    return [EarlyStoppingCallback(early_stopping_patience=settings.patience)]


def _evaluation(
    head: Head, manifest: Manifest, tokens: Path, padding: Padding, world: int
) -> Callable[[Any], dict[str, float]] | None:
    """Return what measures a model on the validation split; None if there is none."""
    if not (manifest.splits.get("validation") and manifest.splits["validation"].features):
        return None
    split = Tokens(tokens / "validation.arrow")
    share = (processes.rank(), world)
    most = None if head.metric else _SEEN_EXAMPLES
    return lambda model: figures(model, head, manifest, tokens, "validation", split, padding, share=share, most=most)


def _finish(
    trainer: Any,
    settings: Settings,
    manifest: Manifest,
    run: Mapping[str, Any],
) -> dict[str, float]:
    """Write the model, its card and the report; the run is done when all of it is there."""
    out = settings.out
    trainer.save_model(str(out))
    history = read_history(out / HISTORY) if trainer.is_world_process_zero() else []
    metrics = _metrics(history, trainer.state.best_global_step if trainer.args.load_best_model_at_end else None)
    if trainer.is_world_process_zero():
        (out / "training_args.bin").unlink(missing_ok=True)
        (out / "report.html").write_text(report.make_report(manifest, run, history, metrics), "utf-8")
        (out / "README.md").write_text(card.make_card(manifest, run, metrics), "utf-8")
        write_run(out, {**run, "done": True, "metrics": metrics, **_used(trainer, manifest)})
        # not before: a run that is killed here goes on from them
        if not settings.save_every:
            shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return metrics


def _metrics(history: Sequence[Mapping[str, float]], step: int | None) -> dict[str, float]:
    """Return the figures of the last evaluation, or of that after a step."""
    evaluated = [each for each in history if any(name.startswith("eval_") for name in each)]
    found = next((each for each in reversed(evaluated) if step in (None, each["step"])), {})
    return {name.removeprefix("eval_"): value for name, value in found.items() if name.startswith("eval_")}

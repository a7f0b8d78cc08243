"""The training loop: transformers' Trainer, driven by a plan.

What is ours: micro-batches come from the plan in its order; the loss is the model's own sum (`models.losses`); numbers
that are not finite, and memory that runs out, stop the run before they do harm and name the rows; checkpoints appear
whole; a request to end saves first.
"""

import logging
import math
import os
import pickle
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers.trainer import Trainer
from transformers.trainer_callback import TrainerCallback, TrainerState

from taskmix.errors import OutputError
from taskmix.text import visible
from taskmix_trainer.batches.loading import Batches
from taskmix_trainer.errors import TrainError

TRAINER_STATE = "trainer_state.json"
ARGUMENTS = "training_args.bin"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")
"""A checkpoint has its weights in one of these, and no others are read."""
_WRITING = ".writing"
_REMOVING = ".removing"
_ROWS_SHOWN = 20
_LOG = logging.getLogger("taskmix.trainer")

Evaluate = Callable[[Any], dict[str, float]]


class MixTrainer(Trainer):
    """A Trainer whose batches are those of a plan.

    Args:
        batches: the micro-batches.
        evaluate_with: metrics of a model, by name; None to do without.
        options: what transformers' Trainer takes.
    """

    def __init__(self, *, batches: Batches, evaluate_with: Evaluate | None, **options: Any) -> None:
        super().__init__(train_dataset=batches, eval_dataset=batches if evaluate_with else None, **options)
        self.batches = batches
        self._run = Path(str(self.args.output_dir))
        self.loss_is_scaled_for_ga = True
        self.add_callback(_Watch(self))
        self.ending = False
        self._evaluate_with = evaluate_with
        self._staging: Path | None = None
        self._losses: list[Tensor] = []
        self._norm: Any = None
        self._since: tuple[float, int] | None = None

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> None:
        """Each micro-batch knows by what its loss is divided."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the loss of a micro-batch: its share of the step's, as gradients are averaged over processes."""
        outputs = model(**inputs)
        loss = outputs["loss"] * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Train on a micro-batch; raises TrainError where there is not enough memory."""
        try:
            loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _is_memory(error):
                raise
            shape = tuple(inputs["input_ids"].shape)
            raise self._stopped(
                f"out of memory on a batch of {shape}", "smaller --micro-tokens, more --accumulate, or --lora"
            ) from None
        self._losses.append(loss)
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        trainer: Any = super()
        self._norm = trainer._get_grad_norm(model, grad_norm)
        return self._norm

    def check_finite(self) -> None:
        """Raise TrainError if the step that is about to be taken has a loss or gradient that is not a number."""
        losses, self._losses = self._losses, []
        total = float(torch.stack(losses).sum())
        if not math.isfinite(total):
            raise self._stopped(f"the loss is {total}", "a lower --learning-rate, or --precision fp32")
        norm = None if self._norm is None else float(self._norm)
        if norm is not None and not math.isfinite(norm):
            raise self._stopped(f"the gradient's norm is {norm}", "a lower --learning-rate, or --precision fp32")

    def _stopped(self, why: str, hint: str) -> TrainError:
        step = self.state.global_step
        rows = self.batches.rows(step)
        shown = ", ".join(rows[:_ROWS_SHOWN])
        more = f", and {len(rows) - _ROWS_SHOWN:,} more" if len(rows) > _ROWS_SHOWN else ""
        kept = last_checkpoint(self._run)
        left = f"the last checkpoint is {kept}" if kept else "there is no checkpoint yet"
        return TrainError(f"step {step + 1}: {why}; rows: {shown}{more}", hint=f"{left}; try {hint}")

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        """Return the metrics of the validation split, each with the prefix `eval_`."""
        if self._evaluate_with is None:
            return {}
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self._evaluate_with(self.model).items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._since = None
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the passes that are done, the tokens a second, and the share of tokens that only fill up."""
        plan, step = self.batches.plan, self.state.global_step
        if step <= plan.steps:
            self.state.epoch = plan.epoch(step)
        now = time.monotonic()
        if "loss" in logs:
            if self._since is not None and step > self._since[1]:
                real, cells = self.batches.tokens_between(self._since[1], step)
                logs["tokens_per_second"] = round(real / max(now - self._since[0], 1e-9), 1)
                logs["padding"] = round(1 - real / cells, 4)
            self._since = (now, step)
        super().log(logs, start_time)

    # Checkpoints

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with _loading(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with _loading(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with _loading(checkpoint):
            super()._load_rng_state(checkpoint)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging or super()._get_output_dir(trial))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint beside its final name, and rename it when it is whole and on the disk."""
        run, step = self._run, self.state.global_step
        staging, name = run / _WRITING, f"checkpoint-{step}"
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        self._staging = staging
        before = self.state.best_model_checkpoint
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:
            # PyTorch and safetensors have errors of their own for a disk that is full
            shutil.rmtree(staging, ignore_errors=True)
            kept = last_checkpoint(run)
            left = f"the last checkpoint is {kept}" if kept else "there is no checkpoint yet"
            raise OutputError(f"cannot be written: {_first_line(error)}", where=str(run / name), hint=left) from None
        finally:
            self._staging, self.args.save_total_limit = None, limit
        # it knows the place where this one is written; and every process must know, as all load it at the end
        best = self.state.best_global_step == step
        self.state.best_model_checkpoint = str(run / name) if best else before
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            made = staging / name
            self.state.save_to_json(str(made / TRAINER_STATE))
            # pickled, and nothing reads it
            (made / ARGUMENTS).unlink(missing_ok=True)
            _sync(made)
            _remove(run / name)
            made.rename(run / name)
            _sync(run)
            staging.rmdir()
            _keep(run, limit, {self.state.best_model_checkpoint})
        self.accelerator.wait_for_everyone()


class _Watch(TrainerCallback):
    """Stops a run before a step that would spoil it, and at the end of a step when it is asked to end."""

    def __init__(self, trainer: MixTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Find the best checkpoint in this run's folder, wherever that was when the path was written down."""
        if state.best_model_checkpoint:
            state.best_model_checkpoint = str(Path(args.output_dir) / Path(state.best_model_checkpoint).name)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop before a step that is not a number."""
        self._trainer.check_finite()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop with a checkpoint when the run is asked to end."""
        if _agreed(self._trainer.ending, args):
            self._trainer.ending = True
            control.should_save = True
            control.should_training_stop = True


def _agreed(ending: bool, args: Any) -> bool:
    """Whether any process was asked to end: all must stop after the same step."""
    if args.world_size == 1:
        return ending
    mark = torch.tensor(float(ending), device=args.device)
    torch.distributed.all_reduce(mark, op=torch.distributed.ReduceOp.MAX)
    return bool(mark.item())


@contextmanager
def ending_on_request(trainer: MixTrainer) -> Iterator[None]:
    """While in the block, SIGTERM ends the run after the step that is at work, with a checkpoint."""

    def end(number: int, frame: FrameType | None) -> None:
        trainer.ending = True

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def last_checkpoint(run: Path) -> Path | None:
    """Return the newest checkpoint, each of which is whole; None if there is none."""
    found = {}
    for path in run.glob("checkpoint-*") if run.is_dir() else ():
        with suppress(ValueError):
            found[int(path.name.removeprefix("checkpoint-"))] = path
    return found[max(found)] if found else None


def check_checkpoint(checkpoint: Path) -> None:
    """Raise TrainError if a checkpoint cannot be gone on from: it is damaged, or its weights are no safetensors."""
    with _loading(str(checkpoint)):
        if not any((checkpoint / name).is_file() for name in WEIGHTS):
            raise ValueError("it has no safetensors")
        TrainerState.load_from_json(str(checkpoint / TRAINER_STATE))


@contextmanager
def _loading(checkpoint: str | None) -> Iterator[None]:
    """Turn what reading a checkpoint raises into words. Pickles in it are of tensors alone: no code is run."""
    try:
        yield
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        reason = f"the checkpoint cannot be read: {_first_line(error)}"
        hint = "remove it to go on from the one before, or start anew with --force"
        raise TrainError(reason, where=str(checkpoint), hint=hint) from None


def _first_line(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip()
    return visible(text.splitlines()[0]) if text else type(error).__name__


def _keep(run: Path, limit: int | None, needed: set[str | None]) -> None:
    """Remove the oldest checkpoints above a limit, but for those that are needed."""
    if not limit:
        return
    paths = sorted(run.glob("checkpoint-*"), key=lambda path: int(path.name.removeprefix("checkpoint-")))
    spare = [path for path in paths[:-1] if str(path) not in needed]
    for path in spare[: max(0, len(paths) - limit)]:
        _remove(path)


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint, so that no half of it is ever taken for a whole one."""
    if checkpoint.exists():
        removing = checkpoint.with_name(_REMOVING)
        shutil.rmtree(removing, ignore_errors=True)
        checkpoint.rename(removing)
        shutil.rmtree(removing, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Wait until a folder and the files in it are on the disk."""
    for path in [*folder.iterdir(), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)

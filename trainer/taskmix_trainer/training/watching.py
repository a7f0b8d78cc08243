"""What is seen of a run while it goes on: a file of figures, and a bar or lines on stderr."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers.trainer_callback import TrainerCallback

HISTORY = "history.jsonl"
_SECONDS_BETWEEN_LINES = 5.0


class History(TrainerCallback):
    """Writes what is logged to a file, a JSON object a line. A run that is taken up again goes on with it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin the file, with what was logged before the checkpoint that the run goes on from."""
        if state.is_world_process_zero:
            # what was logged after the checkpoint will be logged again
            self._path.write_text("".join(map(_line, state.log_history)), "utf-8")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Write a line."""
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line({**logs, "step": state.global_step}))


def _line(logs: dict[str, Any]) -> str:
    return json.dumps(logs) + "\n"


def read_history(path: Path) -> list[dict[str, float]]:
    """Return what a run logged."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


class Bar(TrainerCallback):
    """A bar on a terminal: steps, loss, tokens a second, share of padding, time left; elsewhere a line now and then."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._shown: dict[str, float] = {}
        self._last = 0.0
        self._begun: tuple[float, int] = (0.0, 0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put up the bar, on a terminal."""
        self._begun = (time.monotonic(), state.global_step)
        if not state.is_world_process_zero or not self._console.is_terminal:
            return
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._bar.add_task("steps", total=state.max_steps, completed=state.global_step)
        self._bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the bar on."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Show the figures of training, or those of an evaluation on a line of their own."""
        if not state.is_world_process_zero or not logs or "train_runtime" in logs:
            return
        evaluated = {name.removeprefix("eval_"): value for name, value in logs.items() if name.startswith("eval_")}
        if evaluated:
            self._say(f"step {state.global_step:,}: validation {_figures(evaluated)}")
            return
        self._shown |= logs
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=_training(self._shown))
        elif time.monotonic() - self._last > _SECONDS_BETWEEN_LINES or state.global_step == state.max_steps:
            self._last = time.monotonic()
            seconds, start = time.monotonic() - self._begun[0], self._begun[1]
            left = seconds / max(state.global_step - start, 1) * (state.max_steps - state.global_step)
            self._say(
                f"step {state.global_step:,} of {state.max_steps:,}: {_training(self._shown)}, {left:,.0f} s left"
            )

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the bar away."""
        self.close()

    def close(self) -> None:
        """Take the bar away, if there is one."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text)
        else:
            print(text, file=sys.stderr)


def _training(logs: dict[str, float]) -> str:
    parts = [f"loss {logs['loss']:.4f}"] if "loss" in logs else []
    if "tokens_per_second" in logs:
        parts += [f"{logs['tokens_per_second']:,.0f} tokens/s", f"padding {logs['padding']:.1%}"]
    return ", ".join(parts)


def _figures(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in values.items() if isinstance(value, float))

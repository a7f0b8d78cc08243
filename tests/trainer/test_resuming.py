"""A run that is cut off, anywhere, ends where it would have ended: the same losses, the same weights, to the bit."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.forks import Forks

STEPS = 10
"""Two epochs of five steps."""
TRAIN = """
import os, signal
from pathlib import Path
from taskmix_trainer.models.opening import ModelName
from taskmix_trainer.training.running import train
from taskmix_trainer.training.settings import Settings
from transformers import Trainer
from transformers.trainer_callback import TrainerCallback

class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **rest):
        if KILL_AFTER == state.global_step:
            os.kill(os.getpid(), SIGNAL)
    def on_substep_end(self, args, state, control, **rest):
        if KILL_WITHIN == state.global_step:
            os.kill(os.getpid(), SIGNAL)

if KILL_SAVING:
    name, step = KILL_SAVING
    original = getattr(Trainer, name)
    def killed(self, *rest, **more):
        original(self, *rest, **more)
        if self.state.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)
    setattr(Trainer, name, killed)

if KILL_DONE:
    from taskmix_trainer.training import running
    written = running.write_run
    def last_words(out, run):
        if run["done"]:
            os.kill(os.getpid(), signal.SIGKILL)
        written(out, run)
    running.write_run = last_words

settings = Settings(ModelName("scratch:tiny"), Path(OUT), epochs=2, save_every=SAVE_EVERY, eval_every=5, seed=3, **MORE)
done = train(Path(TOKENS), settings, watch=False, callbacks=[Kill()])
print(done.steps, done.ended_early)
"""
MORE = {"raw": {"batch_size": 32, "accumulate": 2}, "instruct": {"batch_tokens": 8192, "micro_tokens": 2048}}


@pytest.fixture(scope="module", params=["raw", "instruct"])
def tokens(request: pytest.FixtureRequest, forks: Forks) -> tuple[str, Path]:
    """Tokens of a task, and of a mixture."""
    form = request.param
    folder = forks.root / form
    target = "review-sentiment" if form == "raw" else "starter"
    limit = ["--limit", "160"] if form == "instruct" else []
    ended = forks.mix("train", target, "--model", "scratch:tiny", *limit, "--prepare", str(folder))
    assert ended.code == 0, ended.output
    return form, folder


@pytest.fixture(scope="module")
def whole(forks: Forks, tokens: tuple[str, Path]) -> Path:
    """A run that nothing cut off."""
    ended = run(forks, tokens, "whole")
    assert ended == (0, forks.root / f"{tokens[0]}-whole")
    return ended[1]


def run(
    forks: Forks,
    tokens: tuple[str, Path],
    name: str,
    *,
    after: int = -1,
    within: int = -1,
    by: int = signal.SIGKILL,
    saving: tuple[str, int] | None = None,
    done: bool = False,
    save_every: int | None = 1,
) -> tuple[int, Path]:
    form, folder = tokens
    out = forks.root / f"{form}-{name}"
    values = {
        "KILL_AFTER": after,
        "KILL_WITHIN": within,
        "SIGNAL": int(by),
        "KILL_SAVING": saving,
        "KILL_DONE": done,
        "SAVE_EVERY": save_every,
        "OUT": str(out),
        "TOKENS": str(folder),
        "MORE": MORE[form],
    }
    ended = forks.script("".join(f"{name} = {value!r}\n" for name, value in values.items()) + TRAIN)
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.code, out


def figures(out: Path) -> list[dict[str, float]]:
    """Return what a run logged, but for how fast it was."""
    lines = [json.loads(line) for line in (out / "history.jsonl").read_text("utf-8").splitlines()]
    return [
        {name: value for name, value in line.items() if "per_second" not in name and name != "padding"}
        for line in lines
    ]


def assert_same(out: Path, whole: Path) -> None:
    assert figures(out) == figures(whole)
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert json.loads((out / "train.json").read_text())["done"] is True


def steps(whole: Path) -> int:
    return int(json.loads((whole / "train.json").read_text())["steps"])


def test_killed_after_every_step(forks: Forks, tokens: tuple[str, Path], whole: Path) -> None:
    """One run, killed again and again: after each of its steps, before its checkpoint is written."""
    assert steps(whole) >= 6
    for step in range(1, steps(whole) + 1):
        assert run(forks, tokens, "killed", after=step)[0] == -signal.SIGKILL
    code, out = run(forks, tokens, "killed")
    assert code == 0
    assert_same(out, whole)


def test_killed_within_steps(forks: Forks, tokens: tuple[str, Path], whole: Path) -> None:
    """Between the parts of a step."""
    last = steps(whole) - 1
    for step in (0, last // 2, last):
        assert run(forks, tokens, "within", within=step)[0] == -signal.SIGKILL
    code, out = run(forks, tokens, "within")
    assert code == 0
    assert_same(out, whole)


@pytest.mark.parametrize("part", ["save_model", "_save_optimizer_and_scheduler", "_save_rng_state"])
def test_killed_while_a_checkpoint_is_written(forks: Forks, tokens: tuple[str, Path], whole: Path, part: str) -> None:
    """The one before is whole, and is what the run goes on from."""
    code, out = run(forks, tokens, f"saving-{part}", saving=(part, 3))
    assert code == -signal.SIGKILL
    found = sorted(path.name for path in (out / "checkpoints").iterdir() if path.name.startswith("checkpoint"))
    assert found == ["checkpoint-1", "checkpoint-2"]
    code, out = run(forks, tokens, f"saving-{part}")
    assert code == 0
    assert_same(out, whole)


def test_killed_at_the_very_end(forks: Forks, tokens: tuple[str, Path], whole: Path) -> None:
    """Checkpoints that nobody asked to keep go when the run is done, not before: else all of it would be lost."""
    code, out = run(forks, tokens, "end", done=True, save_every=None)
    assert code == -signal.SIGKILL
    assert list((out / "checkpoints").glob("checkpoint-*"))
    code, out = run(forks, tokens, "end", save_every=None)
    assert code == 0
    assert_same(out, whole)
    assert not (out / "checkpoints").exists()


def test_asked_to_end(forks: Forks, tokens: tuple[str, Path], whole: Path) -> None:
    """SIGTERM: the step is finished, a checkpoint is written, and the same call goes on."""
    code, out = run(forks, tokens, "asked", after=4, by=signal.SIGTERM)
    assert code == 0
    assert (out / "checkpoints" / "checkpoint-4").is_dir()
    assert not json.loads((out / "train.json").read_text())["done"]
    code, out = run(forks, tokens, "asked")
    assert code == 0
    assert_same(out, whole)


def test_the_command_ends_with_143_when_asked_to_end(forks: Forks, tokens: tuple[str, Path]) -> None:
    form, folder = tokens
    out = forks.root / f"{form}-command"
    command = ["train", str(folder), "--epochs", "500", "--save-every", "1000000", "--out", str(out)]
    pid = forks.root / f"{form}.pid"
    begun = forks.begin(*command, TASKMIX_TEST_PID=str(pid))
    end = time.monotonic() + 60
    while not (out / "history.jsonl").exists() or len((out / "history.jsonl").read_text().splitlines()) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    os.kill(int(pid.read_text()), signal.SIGTERM)
    ended = begun.end()
    assert ended.code == 143, ended.output
    assert "the same command goes on" in ended.stderr
    assert list((out / "checkpoints").glob("checkpoint-*"))


def test_a_checkpoint_holds_nothing_pickled_but_tensors(forks: Forks, tokens: tuple[str, Path]) -> None:
    import torch
    from transformers.trainer_pt_utils import safe_globals

    _, out = run(forks, tokens, "pickles", after=3)
    (checkpoint,) = (out / "checkpoints").glob("checkpoint-2")
    names = {path.name for path in checkpoint.iterdir()}
    assert "model.safetensors" in names
    assert "training_args.bin" not in names
    for name in names:
        if name.endswith((".pt", ".pth", ".bin")):
            with safe_globals():
                torch.load(checkpoint / name, weights_only=True)

"""Several processes that train together give what one gives with the same batches."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.forks import ROOT, Ended, Forks

MODEL = """
import torch, transformers
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(TOKENS + "/tokenizer")
torch.manual_seed(0)
if FORM == "raw":
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )
    model = transformers.BertModel(config)
else:
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=64, tie_word_embeddings=False,
    )
    model = transformers.LlamaForCausalLM(config)
model.save_pretrained(FOLDER)
tokenizer.save_pretrained(FOLDER)
"""
TRAIN = """
import os, signal
from pathlib import Path
import torch
from transformers.trainer_callback import TrainerCallback
from taskmix_trainer.models.opening import ModelName
from taskmix_trainer.training import settings as made
from taskmix_trainer.training.running import train

class Look(TrainerCallback):
    def on_step_end(self, args, state, control, model=None, **rest):
        print(sorted({type(each).__name__ for each in model.parameters()}))
        if state.global_step == KILL_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)

if SHARD:
    # accelerate shards on GPUs alone; gloo can do it too, so the rest of the path can be seen here
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType
    original = AcceleratorState.__init__
    def init(self, *given, fsdp_plugin=None, **more):
        original(self, *given, fsdp_plugin=fsdp_plugin, **more)
        if fsdp_plugin is not None:
            self.distributed_type = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    AcceleratorState.__init__ = init
    made._check_sharding = lambda values, world: None

settings = made.Settings(ModelName(MODEL), Path(OUT), epochs=2, save_every=1, eval_every=2, seed=3, **MORE)
done = train(Path(TOKENS), settings, watch=False, callbacks=[Look()])
print(done.steps)
"""
MORE: dict[str, dict[str, Any]] = {
    "raw": {"batch_size": 36, "accumulate": 4},
    "instruct": {"batch_tokens": 4096, "micro_tokens": 1024},
}
# of BERT, accelerate would by itself shard the embeddings twice, which fails
LAYERS = {"raw": "BertLayer", "instruct": "LlamaDecoderLayer"}


def assigned(values: dict[str, Any]) -> str:
    return "".join(f"{name} = {value!r}\n" for name, value in values.items())


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


@pytest.fixture(scope="module", params=["raw", "instruct"])
def made(request: pytest.FixtureRequest, forks: Forks) -> tuple[str, Path, Path]:
    """The form, a model without dropout, which draws other numbers in every process, and tokens for it."""
    form: str = request.param
    target, limit = ("review-sentiment", "90") if form == "raw" else ("starter", "60")
    drawn, folder, tokens = (forks.root / f"processes-{form}-{name}" for name in ("drawn", "model", "tokens"))
    common = [target, "--limit", limit]
    ended = forks.mix("train", *common, "--model", "scratch:tiny", "--prepare", str(drawn))
    assert ended.code == 0, ended.output
    ended = forks.script(assigned({"TOKENS": str(drawn), "FOLDER": str(folder), "FORM": form}) + MODEL)
    assert ended.code == 0, ended.output
    ended = forks.mix("train", *common, "--model", str(folder), "--max-length", "512", "--prepare", str(tokens))
    assert ended.code == 0, ended.output
    return form, folder, tokens


def run(
    forks: Forks, made: tuple[str, Path, Path], name: str, *, world: int = 2, shard: bool = False, kill_after: int = -1
) -> tuple[Path, Sequence[Ended]]:
    """Train in so many processes, started as torchrun starts them."""
    form, model, tokens = made
    out = forks.root / f"processes-{form}-{name}"
    sharded = {"fsdp": True, "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": [LAYERS[form]]}}
    more = {**MORE[form], **({"more": sharded} if shard else {})}
    values = {"MODEL": str(model), "TOKENS": str(tokens), "OUT": str(out), "MORE": more, "SHARD": shard}
    script = assigned({**values, "KILL_AFTER": kill_after}) + TRAIN
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": str(world)}
    numbers = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]
    begun = [forks.begin_script(script, **(shared | own if world > 1 else {})) for own in numbers]
    return out, [each.end() for each in begun]


def figures(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "history.jsonl").read_text("utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name != "tokens_per_second"} for line in lines]


def assert_alike(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=2e-5)


@pytest.fixture(scope="module")
def alone(forks: Forks, made: tuple[str, Path, Path]) -> list[dict[str, float]]:
    """What one process logs."""
    out, (ended,) = run(forks, made, "alone", world=1)
    assert ended.code == 0, ended.output
    return figures(out)


def test_two_processes_log_what_one_logs(
    forks: Forks, made: tuple[str, Path, Path], alone: list[dict[str, float]]
) -> None:
    out, ended = run(forks, made, "two")
    assert [each.code for each in ended] == [0, 0], [each.output for each in ended]
    assert_alike(figures(out), alone)
    assert len([line for line in alone if "loss" in line]) >= 4

    # a run that is cut off, in both processes, goes on in both
    cut, ended = run(forks, made, "cut", kill_after=3)
    assert [each.code for each in ended] == [-9, -9]
    again, ended = run(forks, made, "cut")
    assert [each.code for each in ended] == [0, 0], [each.output for each in ended]
    assert cut == again
    assert figures(again) == figures(out)
    assert (again / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


def test_sharded_models_log_what_whole_ones_log(
    forks: Forks, made: tuple[str, Path, Path], alone: list[dict[str, float]]
) -> None:
    """FSDP2: each process has a half of every parameter; taken up again, too."""
    if made[0] == "instruct":
        out, ended = run(forks, made, "sharded", shard=True, kill_after=3)
        assert [each.code for each in ended] == [-9, -9], [each.output for each in ended]
    out, ended = run(forks, made, "sharded", shard=True)
    assert [each.code for each in ended] == [0, 0], [each.output for each in ended]
    assert all("['DTensor']" in each.stdout for each in ended), "sharded they were"
    assert_alike(figures(out), alone)


def test_sharding_that_would_be_ignored_is_refused(forks: Forks, made: tuple[str, Path, Path]) -> None:
    _, _, tokens = made
    out = forks.root / "not-sharded"
    ended = forks.mix("train", str(tokens), "--set", "fsdp=true", "--out", str(out))
    assert (ended.code, out.exists()) == (2, False)
    assert "there is one process" in ended.stderr


def test_torchrun_starts_the_command(forks: Forks, made: tuple[str, Path, Path]) -> None:
    """Each process runs the whole command; the first one speaks."""
    form, _, tokens = made
    if form == "instruct":
        pytest.skip("the command is the same")
    starting = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port(), "-m", "taskmix"]
    training = ["train", str(tokens), "--steps", "2", "--accumulate", "2", "--out", str(forks.root / "torchrun")]
    paths = os.pathsep.join([str(ROOT / "builders"), str(ROOT / "trainer")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, *starting, *training], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 steps") == 1

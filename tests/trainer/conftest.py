"""Settings of the trainer's tests, and the process whose forks are their runs."""

import os
from collections.abc import Iterator

import pytest
import torch

from tests.forks import Forks, forking

# OpenMP's threads wait for each other by spinning: on a machine with other work, tiny models take minutes with several
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """A process that has imported what training needs, in a folder of its own."""
    settled = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    modules = (
        "taskmix.cli,polars,taskmix_trainer.training.loop,taskmix_trainer.training.running,"
        "transformers.models.bert.modeling_bert,transformers.models.qwen3.modeling_qwen3,torch._dynamo"
    )
    with forking(tmp_path_factory.mktemp("trainer"), settled, modules) as found:
        yield found

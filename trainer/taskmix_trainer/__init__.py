"""Models trained on mixtures and raw tasks, and measured on both.

>>> import taskmix_trainer
>>> taskmix_trainer.ModelName("scratch:tiny").size
'tiny'

What `mix train`, `mix eval` and `mix compare` do, from Python: `resolve` a name of the catalog, a folder or an address
to a target; `prepare` its tokens; `train` on them with `Settings`; `evaluate` with `Options`; `compare`.
"""

import importlib
from typing import TYPE_CHECKING

from taskmix_trainer.errors import ModelError, TrainError

if TYPE_CHECKING:
    from taskmix_trainer.comparing import compare
    from taskmix_trainer.evaluation.running import Options, evaluate
    from taskmix_trainer.models.opening import ModelName
    from taskmix_trainer.targets import resolve
    from taskmix_trainer.tokens.preparing import Wanted, prepare
    from taskmix_trainer.training.running import train
    from taskmix_trainer.training.settings import Settings

__all__ = [
    "ModelError",
    "ModelName",
    "Options",
    "Settings",
    "TrainError",
    "Wanted",
    "compare",
    "evaluate",
    "prepare",
    "resolve",
    "train",
]

_HOMES = {
    "ModelName": "models.opening",
    "Options": "evaluation.running",
    "Settings": "training.settings",
    "Wanted": "tokens.preparing",
    "compare": "comparing",
    "evaluate": "evaluation.running",
    "prepare": "tokens.preparing",
    "resolve": "targets",
    "train": "training.running",
}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is first used: `mix --help` needs none of what they need."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Turn labelled task datasets into instruction-tuning mixtures, with whole tasks held out.

>>> import taskmix
>>> catalog = taskmix.load_catalog()
>>> next(taskmix.preview("review-sentiment", catalog=catalog)).template
'overall-verdict'
"""

import importlib
from typing import TYPE_CHECKING

from taskmix.errors import TaskmixError

if TYPE_CHECKING:
    from taskmix.building import build
    from taskmix.catalog.loading import load_catalog
    from taskmix.planning import plan
    from taskmix.previewing import preview
    from taskmix.sharing.fetching import fetch
    from taskmix.sharing.pushing import push

    __version__: str

__all__ = ["TaskmixError", "build", "fetch", "load_catalog", "plan", "preview", "push"]

_HOMES = {
    "build": "taskmix.building",
    "fetch": "taskmix.sharing.fetching",
    "load_catalog": "taskmix.catalog.loading",
    "plan": "taskmix.planning",
    "preview": "taskmix.previewing",
    "push": "taskmix.sharing.pushing",
}


def __getattr__(name: str) -> object:
    """Import a function when it is first used: `mix --help` needs none of what they need."""
    if name == "__version__":
        from importlib import metadata

        return metadata.version("taskmix")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'taskmix' has no attribute {name!r}")

"""Keeping transformers from loading what a run does not need, and libraries from warning of each other."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def without_datasets() -> Iterator[None]:
    """While in the block, transformers finds no `datasets`, which its Trainer would import for nothing.

    That takes seconds, and a machine that trains on prepared tokens need not have it.
    """
    if "datasets" in sys.modules:
        yield
        return
    modules: dict[str, Any] = sys.modules
    # what is None in there counts as not installed
    modules["datasets"] = None
    try:
        import transformers.trainer  # noqa: F401 - it looks for `datasets` once, when it is imported

        yield
    finally:
        del modules["datasets"]


@contextmanager
def without_future_warnings() -> Iterator[None]:
    """While in the block, nothing is said of names that one library uses and another will rename: no user can."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield

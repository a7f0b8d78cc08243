"""Where the cache lies, and the names of the folders in it."""

import os
from pathlib import Path

FILES = "files"
"""SHA-256 of source files and of shards."""
RENDERS = "renders"
"""Texts that Jinja rendered row by row."""
COMPARISONS = "comparisons"
"""Which rows of a split are those of evaluation splits, and which the same as an earlier one."""
TOKENS = "tokens"
"""Tokens that the trainer made, a folder each."""
HUB = "hub"
"""Hub datasets as Parquet, which `sources.hub` writes."""
STORES = "stores"
"""Copies of data in object stores, which `sources.buckets` makes."""


def cache_folder() -> Path:
    """Return $TASKMIX_CACHE, else the platform's cache folder for taskmix."""
    variable = os.environ.get("TASKMIX_CACHE")
    if variable:
        return Path(variable)
    # not above: a build that asks for nothing else does without
    import platformdirs

    return Path(platformdirs.user_cache_dir("taskmix"))

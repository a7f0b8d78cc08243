"""What the bytes of a mixture depend on besides its inputs: the program and the libraries that make them."""

import functools
import hashlib
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

LIBRARIES = ("jinja2", "polars", "pyarrow", "taskmix")
_PACKAGE = Path(__file__).parent
_NO_PART_IN_A_BUILD = frozenset(("adding", "caching", "cli", "comparing", "importers", "linting"))
"""Folders of the package that decide nothing of what a build writes."""


@functools.cache
def versions() -> Mapping[str, str]:
    """Return the versions of Python and of the libraries, and a hash of this program's own code.

    Between releases, and in a checkout that somebody works in, the version alone would not tell.
    """
    python = ".".join(map(str, sys.version_info[:2]))
    return {"python": python, **{name: metadata.version(name) for name in LIBRARIES}, "code": _code()}


def _code() -> str:
    """Return the SHA-256 over the names and contents of the modules that take part in a build."""
    digest = hashlib.sha256()
    for file in sorted(_PACKAGE.rglob("*.py")):
        name = file.relative_to(_PACKAGE)
        if name.parts[0] not in _NO_PART_IN_A_BUILD:
            content = file.read_bytes().replace(b"\r\n", b"\n")
            digest.update(f"{name.as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()

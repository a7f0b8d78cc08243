"""Folders of the cache with the hashes of their files beside them, so that damage is found before it is read."""

import json
from pathlib import Path

from taskmix import hashing
from taskmix.caching.fingerprints import Fingerprints

SEAL = ".sha256.json"


def seal(folder: Path) -> None:
    """Write the hashes of a folder's files into it."""
    hashes = {file.name: hashing.file_sha256(file) for file in sorted(folder.iterdir())}
    (folder / SEAL).write_text(json.dumps(hashes), "utf-8")


def damaged(folder: Path, fingerprints: Fingerprints) -> str | None:
    """Return the name of the first file that is not what the folder was sealed with; None if all are.

    A folder without a seal was made by an earlier version, and is believed.
    """
    if not (folder / SEAL).exists():
        return None
    try:
        hashes = json.loads((folder / SEAL).read_bytes())
        for name, expected in hashes.items():
            if fingerprints.sha256(folder / name) != expected:
                return str(name)
    except (OSError, ValueError, AttributeError):
        return SEAL
    return None

"""What a push sends and deletes, from what the mixture is and what is there."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskmix import hashing
from taskmix.errors import PushError
from taskmix.output.folder import LOCK
from taskmix.sharing.places import CONFIG, HubPlace
from taskmix.sharing.remote import Head, LocalFile

_HARMLESS = re.compile(r"\.gitattributes|\.gitignore|README\.md|LICEN[CS]E[\w.]*", re.IGNORECASE)
"""What a repository may hold that was made for a mixture and has none yet."""
_CONFIG_LOCK = re.compile(rf"({CONFIG.pattern})/{re.escape(LOCK)}")


@dataclass(frozen=True)
class Change:
    """What makes the head into one that holds the mixture: files to send, paths to delete, files that are there."""

    sends: Sequence[LocalFile]
    deletes: Sequence[str]
    kept: Sequence[LocalFile]

    @property
    def size(self) -> int:
        """Return the bytes of what is to be sent."""
        return sum(file.size for file in self.sends)

    def __bool__(self) -> bool:
        return bool(self.sends or self.deletes)


def local_files(folder: Path, lock: Mapping[str, Any], below: str) -> list[LocalFile]:
    """Return the files of a verified mixture, to lie below a folder of the repository; the lock comes last."""
    files = [
        LocalFile(below + name, folder / name, output["sha256"], output["bytes"])
        for name, output in lock["outputs"].items()
    ]
    path = folder / LOCK
    return [*files, LocalFile(below + LOCK, path, hashing.file_sha256(path), path.stat().st_size)]


def plan(files: Sequence[LocalFile], head: Head | None, below: str) -> Change:
    """Return what a push has to do. Data that would be read with the mixture's, but is not of it, goes."""
    there = head.files if head else {}
    kept = [file for file in files if file.path in there and there[file.path].holds(file)]
    ours = {file.path for file in files}
    deletes = sorted(path for path in there if path.startswith(f"{below}data/") and path not in ours)
    stays = {file.path for file in kept}
    return Change([file for file in files if file.path not in stays], deletes, kept)


def configs(files: Iterable[str]) -> list[str]:
    """Return the names of the configurations that have a mixture each in a folder of their own, from all paths."""
    found = (_CONFIG_LOCK.fullmatch(path) for path in files)
    return sorted(each[1] for each in found if each)


def check_layout(place: HubPlace, head: Head | None) -> None:
    """Check that a push does not hide or delete what is no mixture, nor mixes two layouts.

    Raises:
        PushError: the repository is another dataset, or holds one mixture where there are to be several, or several.
    """
    there = head.files if head else {}
    named = configs(there)
    where = str(place)
    if place.config is None and named:
        hint = f"name the one to push with --config: {', '.join(named)}, or a new one"
        raise PushError("the repository holds mixtures as configurations", where=where, hint=hint)
    if place.config is not None and LOCK in there:
        hint = f"push to another repository, or delete README.md, {LOCK} and data/ from it first"
        raise PushError("the repository holds one mixture, not several as configurations", where=where, hint=hint)
    foreign = sorted(path for path in there if not _HARMLESS.fullmatch(path))
    if foreign and LOCK not in there and not named:
        hint = "push to another repository, or delete what is in it first"
        raise PushError(f"the repository is no mixture: it has {foreign[0]}, but no {LOCK}", where=where, hint=hint)

"""What lies in the cache, and removing what is no longer used."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from taskmix.caching.entries import PART
from taskmix.caching.place import COMPARISONS, FILES, HUB, RENDERS, STORES, TOKENS
from taskmix.errors import OutputError

_FILES_EACH = (FILES, RENDERS, COMPARISONS)
"""Kinds whose entries are files."""
_FOLDERS_EACH = (HUB, STORES)
"""Kinds whose entries are folders: what was downloaded."""
_MADE_HERE = (*_FILES_EACH, TOKENS)
KINDS = (*_MADE_HERE, *_FOLDERS_EACH)
_DAY = 24 * 3600.0
_PART_SECONDS = 3600.0
"""A part that is older was left by a build that was killed."""


@dataclass(frozen=True)
class Kept:
    """Entries of a kind: how many, their bytes, and the days since the one longest unused was used."""

    kind: str
    entries: int
    bytes: int
    oldest_days: float | None


@dataclass(frozen=True)
class Stock:
    """Entries of a cache, by kind."""

    folder: Path
    kinds: tuple[Kept, ...]


@dataclass(frozen=True)
class _Entry:
    path: Path
    bytes: int
    seconds: float
    """Since it was last used."""


def take_stock(folder: Path) -> Stock:
    """Return what lies in a cache, which need not be there."""
    return Stock(folder, tuple(_kept(kind, list(_entries(folder, kind))) for kind in KINDS))


def prune(folder: Path, days: int, *, downloads: bool) -> Stock:
    """Remove what was not used for so many days, 0 for all, downloads if asked; return what was removed.

    Raises:
        OutputError: the system refuses to remove something.
    """
    removed = []
    for kind in KINDS if downloads else _MADE_HERE:
        old = [each for each in _entries(folder, kind) if not days or each.seconds >= days * _DAY]
        for entry in old:
            _remove(entry.path)
        removed.append(_kept(kind, old))
    for part in _parts(folder):
        _remove(part)
    return Stock(folder, tuple(removed))


def _kept(kind: str, entries: list[_Entry]) -> Kept:
    oldest = max((each.seconds for each in entries), default=None)
    days = None if oldest is None else max(oldest, 0) / _DAY
    return Kept(kind, len(entries), sum(each.bytes for each in entries), days)


def _entries(folder: Path, kind: str) -> Iterator[_Entry]:
    """Yield the entries of a kind: files, or folders: of tokens, a hub dataset's commit, a store's state."""
    now, are_folders = time.time(), kind in (*_FOLDERS_EACH, TOKENS)
    found = (folder / kind).glob("*/*/*" if kind in _FOLDERS_EACH else "*/*")
    for path in sorted(found):
        if path.name.startswith(".") or path.parent.name == "refs" or path.is_dir() != are_folders:
            continue
        # another program may remove it at any moment
        with suppress(FileNotFoundError):
            files = [each for each in path.rglob("*") if each.is_file()] if are_folders else [path]
            yield _Entry(path, sum(file.stat().st_size for file in files), now - path.stat().st_mtime)


def _parts(folder: Path) -> list[Path]:
    """Return what killed builds left of entries that they were writing."""
    now, found = time.time(), []
    for kind in _MADE_HERE:
        for path in (folder / kind).glob(f"*/{PART}*"):
            with suppress(FileNotFoundError):
                found += [path] * (abs(now - path.stat().st_mtime) > _PART_SECONDS)
    return found


def _remove(path: Path) -> None:
    try:
        if path.is_dir():
            _remove_folder(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot be removed: {error.strerror or error}", where=str(path)) from None


def _remove_folder(path: Path) -> None:
    """Remove a folder so that whoever looks for it meanwhile finds the whole or nothing."""
    with FileLock(path.parent.parent / ".lock"), tempfile.TemporaryDirectory(dir=path.parent, prefix=PART) as part:
        shutil.move(path, part)

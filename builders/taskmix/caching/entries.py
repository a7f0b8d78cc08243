"""Entries of the cache: bytes under a key, in a file each, with a checksum of its own.

An entry appears whole, by a rename, so that several builds may share a cache and any of them may be killed. What a
crash of the machine or a broken disk made of it is found by its checksum, removed, and made anew by whoever asked. A
cache that cannot be written is no error: nothing more is kept in it, and one remark says so.
"""

import hashlib
import logging
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from taskmix.caching.place import cache_folder
from taskmix.text import visible

PART = ".part-"
"""How the names of entries begin that are being written."""
_MAGIC = b"taskmix cache 1\n"
_DIGEST = hashlib.sha256().digest_size
_SECONDS_BETWEEN_MARKS = 24 * 3600
_LOG = logging.getLogger(__name__)


@dataclass
class Cache:
    """Entries by kind and key (hexadecimal) below a folder. Several threads and processes may use it."""

    folder: Path
    _may_write: bool = True
    _said: set[str] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def get(self, kind: str, key: str) -> bytes | None:
        """Return the content of an entry; None if there is none, or none that is whole."""
        path = self._path(kind, key)
        try:
            whole = path.read_bytes()
        except OSError:
            return None
        content = _content(kind, key, whole)
        if content is None:
            self._remark("damaged", f"the cache entry {path} is damaged and made anew, as is any other such one")
            with suppress(OSError):
                path.unlink()
            return None
        mark_used(path)
        return content

    def put(self, kind: str, key: str, content: bytes) -> None:
        """Keep an entry, if the cache can be written."""
        if not self._may_write:
            return
        path = self._path(kind, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, _MAGIC + _digest(kind, key, content) + content)
        except OSError as error:
            self._may_write = False
            reason = error.strerror or error
            self._remark("closed", f"the cache {self.folder} cannot be written ({reason}): nothing is kept in it")

    def _path(self, kind: str, key: str) -> Path:
        return self.folder / kind / key[:2] / key[2:]

    def _remark(self, what: str, text: str) -> None:
        """Log something once."""
        with self._lock:
            first = what not in self._said
            self._said.add(what)
        if first:
            _LOG.warning("remark: %s", visible(text))


def open_cache() -> Cache:
    """Return the cache of this user, which need not be there yet."""
    return Cache(cache_folder())


def _digest(kind: str, key: str, content: bytes) -> bytes:
    """Return the checksum of an entry, which belongs to its content and its name."""
    found = hashlib.sha256(f"{kind}/{key}\n".encode())
    found.update(content)
    return found.digest()


def _content(kind: str, key: str, whole: bytes) -> bytes | None:
    """Return the content of an entry, if its file is whole."""
    start = len(_MAGIC) + _DIGEST
    content = whole[start:]
    return content if whole[:start] == _MAGIC + _digest(kind, key, content) else None


def _write(path: Path, whole: bytes) -> None:
    handle, part = tempfile.mkstemp(prefix=PART, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(whole)
        os.replace(part, path)  # noqa: PTH105 - the name is no Path
    except BaseException:
        with suppress(OSError):
            Path(part).unlink()
        raise


def mark_used(path: Path) -> None:
    """Note on an entry of the cache that it is in use, once a day at most: `mix cache prune` goes by that."""
    with suppress(OSError):
        if abs(time.time() - path.stat().st_mtime) > _SECONDS_BETWEEN_MARKS:
            os.utime(path)

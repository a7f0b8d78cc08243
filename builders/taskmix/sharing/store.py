"""A folder in a store of fsspec, by the few things that are done there."""

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskmix import urls
from taskmix.errors import PushError
from taskmix.sharing.places import StorePlace

_BLOCK = 8 << 20


@dataclass(frozen=True)
class Store:
    """A folder: names are relative to it, with slashes."""

    place: StorePlace
    fs: Any
    root: str

    def sizes(self) -> Mapping[str, int]:
        """Return the bytes of every object by its name."""
        self.fs.invalidate_cache()
        found = self.fs.find(self.root, detail=True) if self.fs.exists(self.root) else {}
        prefix = self.root.rstrip("/") + "/"
        return {path.removeprefix(prefix): int(about["size"] or 0) for path, about in found.items() if path != prefix}

    def read(self, name: str) -> bytes:
        """Return an object's content; empty if there is none."""
        self.fs.invalidate_cache()
        try:
            return bytes(self.fs.cat_file(self._path(name)))
        except FileNotFoundError:
            return b""

    def write(self, name: str, content: bytes) -> None:
        """Write an object."""
        self._make_folder(name)
        self.fs.pipe_file(self._path(name), content)

    def send(self, name: str, path: Path, sent: Callable[[int], None]) -> None:
        """Write an object from a file, and tell how many bytes went."""
        from fsspec.callbacks import Callback

        told = 0

        def tell(size: object, value: int, **more: object) -> None:
            nonlocal told
            sent(value - told)
            told = value

        self._make_folder(name)
        self.fs.put_file(os.fspath(path), self._path(name), callback=Callback(hooks={"sent": tell}))
        # not every store tells all of it
        sent(path.stat().st_size - told)

    def get(self, name: str, path: Path) -> None:
        """Write an object's content to a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.fs.get_file(self._path(name), os.fspath(path))

    def remove(self, name: str) -> None:
        """Remove an object."""
        self.fs.rm_file(self._path(name))

    def sha256(self, name: str) -> str:
        """Return the hash of what the store gives back for an object."""
        self.fs.invalidate_cache()
        digest = hashlib.sha256()
        with self.fs.open(self._path(name), "rb", block_size=_BLOCK) as file:
            while piece := file.read(_BLOCK):
                digest.update(piece)
        return digest.hexdigest()

    def stamp(self, name: str) -> str:
        """Return what changes when an object is written again, as far as the store tells."""
        self.fs.invalidate_cache()
        return urls.state(self.fs.info(self._path(name)))

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    def _make_folder(self, name: str) -> None:
        # object stores have none, and some would take this for the making of a bucket
        if self.fs.protocol in ("memory", ("file", "local")) or "sftp" in self.fs.protocol:
            self.fs.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)


def open_store(place: StorePlace) -> Store:
    """Return the folder that a URL names. Raises PushError as `urls.opened`."""
    return Store(place, *urls.opened(place.url, PushError))


def understood(place: StorePlace) -> AbstractContextManager[None]:
    """Turn what a store's client raises into one error that names the place."""
    hint = "push again when the store answers: what is there already is not sent again"
    return urls.understood(place.url, PushError, hint)

"""Where files of a build lie: in a folder, or behind a URL that fsspec opens, such as an object store's.

A place is a few words, so that it can be sent to another machine, which opens it anew.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from taskmix import urls
from taskmix.errors import UsageError

WORK = ".shuffle"
"""The folder, in that of a mixture, for what is removed before the mixture is complete."""


class Place(Protocol):
    """A folder with files by name; a name may have slashes."""

    def create(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a new file for writing, in folders that appear with it."""

    def open(self, name: str) -> Any:
        """Open a file for reading at any position: as Arrow does, or as Python does."""

    def move(self, name: str, to: str) -> None:
        """Give a file another name, in the place of what has it: where the system can, in one step."""

    def read(self, name: str) -> bytes | None:
        """Return what a file holds; None if it is not there."""

    def names(self, below: str = "") -> list[str]:
        """Return the names of all files below a name, sorted."""

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that it holds, if it is there."""

    def below(self, name: str) -> "Place":
        """Return the place of a folder inside."""


@dataclass(frozen=True)
class Folder:
    """A folder of this machine, or one that several machines share under one path."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        """Do what `Place` says."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        import pyarrow as pa

        with pa.OSFile(str(file), "wb") as opened:
            yield opened

    def open(self, name: str) -> Any:
        """Do what `Place` says: not mapped into memory, since what was read would count as the process's own."""
        import pyarrow as pa

        return pa.OSFile(str(self.path / name))

    def move(self, name: str, to: str) -> None:
        """Do what `Place` says."""
        final = self.path / to
        final.parent.mkdir(parents=True, exist_ok=True)
        with (self.path / name).open("rb") as written:
            os.fsync(written)
        (self.path / name).replace(final)

    def read(self, name: str) -> bytes | None:
        """Do what `Place` says."""
        try:
            return (self.path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self, below: str = "") -> list[str]:
        """Do what `Place` says."""
        files = (file for file in (self.path / below).rglob("*") if not file.is_dir())
        return sorted(file.relative_to(self.path).as_posix() for file in files)

    def remove(self, name: str) -> None:
        """Do what `Place` says."""
        if (found := self.path / name).is_dir():
            shutil.rmtree(found, ignore_errors=True)
        else:
            found.unlink(missing_ok=True)

    def below(self, name: str) -> "Folder":
        """Do what `Place` says."""
        return Folder(self.path / name)


@dataclass(frozen=True)
class Bucket:
    """A folder behind a URL. Who may write there is up to the file system's own settings, on each machine."""

    url: str

    def __str__(self) -> str:
        return self.url

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        """Do what `Place` says."""
        files, path = self._found(name)
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
        with files.open(path, "wb") as opened:
            yield cast("BinaryIO", opened)

    def open(self, name: str) -> Any:
        """Do what `Place` says."""
        files, path = self._found(name)
        return files.open(path, "rb")

    def move(self, name: str, to: str) -> None:
        """Do what `Place` says."""
        files, path = self._found(name)
        _, final = self._found(to)
        files.makedirs(final.rpartition("/")[0], exist_ok=True)
        files.mv(path, final)

    def read(self, name: str) -> bytes | None:
        """Do what `Place` says."""
        files, path = self._found(name)
        # what another machine did may not be known yet
        files.invalidate_cache()
        try:
            return bytes(files.cat_file(path))
        except FileNotFoundError:
            return None

    def names(self, below: str = "") -> list[str]:
        """Do what `Place` says."""
        files, root = self._found("")
        files.invalidate_cache()
        found = files.find(self._found(below)[1])
        return sorted(path[len(root.rstrip("/")) + 1 :] for path in found)

    def remove(self, name: str) -> None:
        """Do what `Place` says."""
        files, path = self._found(name)
        files.invalidate_cache()
        if files.exists(path):
            files.rm(path, recursive=True)

    def below(self, name: str) -> "Bucket":
        """Do what `Place` says."""
        return Bucket(f"{self.url.rstrip('/')}/{name}")

    def _found(self, name: str) -> tuple[Any, str]:
        """Return the file system, and the path in it of a name."""
        files, path = urls.opened(self.url, UsageError)
        return files, f"{path.rstrip('/')}/{name}" if name else path

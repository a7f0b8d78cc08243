"""Bytes to the hub: only what it lacks, counted as they are read, from files that do not change meanwhile."""

import io
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from taskmix.errors import PushError
from taskmix.sharing.client import meaning, retried, status_of
from taskmix.sharing.remote import Hub, LocalFile

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

Progress = Callable[[int], None]
"""Called with a number of bytes just sent; with a negative one when they have to be sent again."""


_ROUNDS = 3
_EXPIRED = (400, 403)
"""What a storage answers to an address that was given too long ago; the next round gets new ones."""


def no_progress(sent: int) -> None:
    """Do nothing."""


class MeteredFile(io.BufferedIOBase):
    """A file that tells how far it was read. It is open only while it is read, so that there may be many.

    The client sends such a file over HTTP, request by request; a path it would hand to hf_xet, whose requests pass no
    guard of ours.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._position, self._told = path, 0, 0
        self._progress: Progress = no_progress
        self._file: BinaryIO | None = None
        self._reading = threading.Lock()

    def count(self, progress: Progress) -> None:
        """Report from now on what is read."""
        self._progress, self._told = progress, self._position

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, and return the new position in bytes."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._path.stat().st_size}[whence]
        self._position = start + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes; the file is closed behind the last."""
        with self._reading:
            if self._file is None:
                self._file = self._path.open("rb")
            self._file.seek(self._position)
            found = self._file.read(-1 if size is None else size)
            self._position += len(found)
            if not found or size in (None, -1):
                self._shut()
        self._tell()
        return found

    def _tell(self) -> None:
        # what is sent again after a failure is counted again from where it starts
        self._progress(self._position - self._told)
        self._told = self._position

    def _shut(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def close(self) -> None:
        """Close the file."""
        self._shut()
        super().close()


def additions(files: Sequence[LocalFile], progress: Progress) -> "list[CommitOperationAdd]":
    """Return what the client is to add to a commit. The files are hashed once more, as they are now.

    Raises:
        PushError: a file is not what the lock says any more.
    """
    from huggingface_hub import CommitOperationAdd

    found = []
    for file in files:
        metered = MeteredFile(file.source) if isinstance(file.source, Path) else None
        addition = CommitOperationAdd(file.path, metered or file.source)  # type: ignore[arg-type]
        if (addition.upload_info.sha256.hex(), addition.upload_info.size) != (file.sha256, file.size):
            raise PushError("changed while it was pushed", where=file.path, hint="push again")
        if metered is not None:
            metered.count(progress)
        found.append(addition)
    return found


def stamps(files: Sequence[LocalFile]) -> list[tuple[int, int, int]]:
    """Return what changes when a file is written again or replaced."""
    found = [file.source.stat() for file in files if isinstance(file.source, Path)]
    return [(each.st_ino, each.st_size, each.st_mtime_ns) for each in found]


def upload(hub: Hub, files: "Sequence[CommitOperationAdd]", revision: str, *, create_pr: bool) -> None:
    """Send the large files that the hub has not stored yet; what was sent before an interruption is not sent again.

    Raises:
        PushError: the hub does not take them.
    """
    distinct = list({each.upload_info.sha256: each for each in files}.values())

    def send() -> None:
        hub.api.preupload_lfs_files(
            hub.id, distinct, repo_type="dataset", revision=revision, create_pr=create_pr, free_memory=False
        )

    for _ in range(_ROUNDS - 1):
        try:
            return send()
        except Exception as error:
            if status_of(error) not in _EXPIRED:
                raise meaning(error, str(hub.place), "uploading") from None
    return retried(str(hub.place), "uploading", send, hub.patience.once)

"""The folder of a mixture appears whole, by one atomic exchange, or not at all.

A build happens in `.NAME.building-PID/` beside the final folder. When it is complete the two change places
(`renameat2(RENAME_EXCHANGE)`), and the old one is removed. Where the system has no exchange, the old folder is
first renamed to `.NAME.previous`; a run that finds no folder but a previous one puts it back. Nothing is removed
under the name `.NAME.previous`, so what has that name is whole.
"""

import ctypes
import errno
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from taskmix.errors import OutputError

LOCK = "mix.lock.json"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `out` when the block ends without an error.

    Raises:
        OutputError: `out` is not a mixture's folder, another build writes there, or the disk refuses.
    """
    final = Path(os.path.realpath(out))
    check_target(out)
    with understood(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(_beside(final, "lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise OutputError("another build is writing this mixture", where=str(out), hint="wait for it") from None
    try:
        with understood(final):
            _restore(final)
            check_target(out)
            _clear_remains(final)
            building = _beside(final, f"building-{os.getpid()}")
            building.mkdir()
        try:
            with understood(final):
                yield building
                sync(building)
                # somebody may have put files there since the build began
                check_target(out)
                exchange(building, final)
                sync(final.parent)
        finally:
            # the old mixture, or what a failed build wrote
            with suppress(OSError):
                _clear_remains(final)
    finally:
        # the lock's file stays: removing it would let two builds hold "the" lock, one of them on a removed file
        lock.release()


def tidy(out: Path) -> None:
    """Remove what killed builds left beside a mixture, unless a build is at work there or the disk refuses."""
    final = Path(os.path.realpath(out))
    if not previous(final).exists() and not any(_remains(final)):
        return
    with suppress(OSError, Timeout), FileLock(_beside(final, "lock"), timeout=0):
        _clear_remains(final)


@contextmanager
def understood(path: Path | str) -> Iterator[None]:
    """Turn the system's errors while writing into one that names the folder."""
    try:
        yield
    except OSError as error:
        hint = {errno.ENOSPC: "free some space", errno.EROFS: "choose another folder with --out"}.get(
            error.errno or 0, ""
        )
        # what Arrow gives as `strerror` is a sentence around the system's words
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OutputError(f"cannot be written: {reason}", where=str(path), hint=hint) from None


def previous(final: Path) -> Path:
    """Return where the old folder waits while a system without exchange puts the new one in its place."""
    return _beside(final, "previous")


def _beside(final: Path, what: str) -> Path:
    return final.parent / f".{final.name}.{what}"


def _restore(final: Path) -> None:
    """Undo an exchange that was cut off between its two renames."""
    if not final.exists() and previous(final).is_dir():
        previous(final).rename(final)


def check_target(out: Path) -> None:
    """Check that a build may write `out`. Raises OutputError if it is anything but a mixture or empty."""
    final = Path(os.path.realpath(out))
    with understood(out):
        if not final.exists() and not final.is_symlink():
            return
        foreign = final.is_dir() and any(final.iterdir()) and not (final / LOCK).is_file()
    if not final.is_dir():
        raise OutputError("not a folder", where=str(out), hint="choose another with --out")
    if foreign:
        raise OutputError(
            f"the folder is not a mixture: it has files but no {LOCK}",
            where=str(out),
            hint="choose another with --out, or empty it yourself",
        )


def _clear_remains(final: Path) -> None:
    """Remove what this build or killed ones leave beside the folder; the lock says that no other is at work."""
    for remains in _remains(final):
        shutil.rmtree(remains, ignore_errors=True)
    if final.exists() and previous(final).exists():
        # under another name, so that no half of it is ever taken for the whole
        remains = previous(final).rename(_beside(final, "building-previous"))
        shutil.rmtree(remains, ignore_errors=True)


def _remains(final: Path) -> Iterator[Path]:
    return final.parent.glob(f".{glob.escape(final.name)}.building-*")


def exchange(new: Path, final: Path) -> None:
    """Put `new` in the place of `final`, so that a reader finds one or the other, whole."""
    if not final.exists():
        new.rename(final)
    elif not _swap(new, final):
        try:
            final.rename(previous(final))
            new.rename(final)
        except BaseException:
            _restore(final)
            raise


def _swap(new: Path, final: Path) -> bool:
    """Exchange two folders in one step; return whether the system can."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    if rename(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(final), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code))


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

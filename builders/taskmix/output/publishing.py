"""What a build writes to: a folder that appears whole, or a URL, where files appear one by one and the lock last.

Behind a URL nothing changes places in one step. The lock of the mixture that was there is removed before the first of
its files is replaced, and a new one is written when all else is; between the two the place holds no mixture, only the
mark of a build that may write there again.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from taskmix.errors import OutputError
from taskmix.output.folder import LOCK, check_target, replacing, understood
from taskmix.output.places import WORK, Bucket, Folder, Place
from taskmix.urls import is_url

Target = Path | str
CARD = "README.md"
UNFINISHED = "mix.unfinished"
_NOTE = b"A build of taskmix was begun here and has not come to its end.\n"


@dataclass(frozen=True)
class Draft:
    """A mixture in the making: `place` takes its data, `folder`, of this machine, its card and its lock."""

    place: Place
    folder: Path


def as_target(given: Path | str) -> Target:
    """Return a place to write to, as it was given, as a path or as the text of a URL."""
    return given if is_url(given) else Path(given)


def check(target: Target) -> None:
    """Check that a build may write to a folder or URL. Raises OutputError if it is anything but a mixture or empty."""
    if isinstance(target, Path):
        check_target(target)
        return
    bucket = Bucket(target)
    with understood(target):
        ours = bucket.read(LOCK) is not None or bucket.read(UNFINISHED) is not None
        if not ours and bucket.names():
            raise OutputError(
                f"this is not a mixture: there are files but no {LOCK}",
                where=target,
                hint="choose another place with --out, or empty it yourself",
            )


@contextmanager
def drafted(target: Target) -> Iterator[Draft]:
    """Yield what becomes the mixture in `target` when the block ends without an error.

    Raises:
        OutputError: `target` holds something else, or cannot be written.
    """
    if isinstance(target, Path):
        with replacing(target) as folder:
            yield Draft(Folder(folder), folder)
        return
    assert is_url(target), target
    check(target)
    bucket = Bucket(target)
    with understood(target), tempfile.TemporaryDirectory() as folder:
        bucket.remove(WORK)
        _write(bucket, UNFINISHED, _NOTE)
        try:
            yield Draft(bucket, Path(folder))
            _finish(bucket, Path(folder))
        except BaseException:
            with suppress(OSError):
                if bucket.read(LOCK) is not None:
                    # the older mixture is whole
                    bucket.remove(UNFINISHED)
            raise


def _finish(bucket: Bucket, folder: Path) -> None:
    """Remove what is not of the mixture, and add its card and lock."""
    lock = (folder / LOCK).read_bytes()
    made = json.loads(lock)["outputs"]
    for name in bucket.names("data"):
        if name not in made:
            bucket.remove(name)
    for name, content in ((CARD, (folder / CARD).read_bytes()), (LOCK, lock)):
        _write(bucket, f"{WORK}/{name}", content)
        bucket.move(f"{WORK}/{name}", name)
    bucket.remove(WORK)
    bucket.remove(UNFINISHED)


def _write(bucket: Bucket, name: str, content: bytes) -> None:
    with bucket.create(name) as file:
        file.write(content)

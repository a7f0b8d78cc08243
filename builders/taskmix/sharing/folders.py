"""A push to a folder on this machine: it appears whole, as a build does."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskmix.errors import OutputError, PushError, UsageError
from taskmix.output.folder import LOCK, check_target, replacing, sync
from taskmix.output.lock import verify
from taskmix.sharing.places import FolderPlace
from taskmix.sharing.pushed import Options, Pushed, Reporter


def push(folder: Path, lock: Mapping[str, Any], place: FolderPlace, options: Options, report: Reporter) -> Pushed:
    """Copy a verified mixture to a folder, in one exchange.

    Raises:
        OutputError: the folder holds something else than a mixture, or cannot be written.
    """
    if os.path.realpath(folder) == os.path.realpath(place.path):
        raise UsageError("the mixture is there already", where=str(place))
    check_target(place.path)
    names = [*lock["outputs"], LOCK]
    if _is_there(place.path, lock):
        return _result(place, {}, len(names), options)
    sizes = {name: (folder / name).stat().st_size for name in names}
    if not options.dry_run:
        report.start(sum(sizes.values()))
        with replacing(place.path) as new:
            for name in names:
                _copy(folder / name, new / name)
                report.sent(sizes[name])
            _check(new)
            sync(new / "data")
        report.finish()
    return _result(place, sizes, 0, options)


def _is_there(path: Path, lock: Mapping[str, Any]) -> bool:
    """Return whether a folder holds this very mixture, undamaged."""
    try:
        return bool(verify(path)["lock_sha256"] == lock["lock_sha256"])
    except OutputError:
        return False


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)
    sync(target)


def _check(new: Path) -> None:
    """Check what was copied before it takes its place: the source may have changed meanwhile."""
    try:
        verify(new)
    except OutputError as error:
        raise PushError(f"changed while it was copied: {error.message}", hint="push again") from None


def _result(place: FolderPlace, sent: Mapping[str, int], kept: int, options: Options) -> Pushed:
    return Pushed(str(place), str(place.path), sent, (), kept, dry_run=options.dry_run)

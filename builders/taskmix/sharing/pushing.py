"""`mix push`: a mixture's folder, checked, to where it is to go."""

import logging
from pathlib import Path

from taskmix.errors import UsageError
from taskmix.output import licences
from taskmix.output.lock import verify
from taskmix.sharing import folders, hub, stores
from taskmix.sharing.client import Patience, default_patience
from taskmix.sharing.places import FolderPlace, HubPlace, Place, destination_of
from taskmix.sharing.pushed import Options, Pushed, Reporter
from taskmix.text import visible

_LOG = logging.getLogger(__name__)


def push(
    folder: Path,
    place: Place | str,
    options: Options | None = None,
    *,
    report: Reporter | None = None,
    patience: Patience | None = None,
) -> Pushed:
    """Push the mixture in a folder to a place, all or nothing as far as the place allows.

    Args:
        folder: a mixture that is what its lock says.
        place: `ORG/NAME` on the hub, a URL of fsspec, the path of a folder, or what `destination_of` gives for one.
        options: how; by default to a public repository, without a tag.
        report: what to call while bytes are sent.
        patience: how long to wait for the hub, and how often to try.

    Raises:
        OutputError: the folder is not what its lock says.
        PushError: the mixture is not where it was to go; the message says what is there.
        UsageError: the options make no sense for this place.
    """
    place = destination_of(place) if isinstance(place, str) else place
    options, report = options or Options(), report or Reporter()
    _check(place, options)
    lock = verify(folder)
    for warning in licences.warnings(licences.of_lock(lock)):
        _LOG.warning("warning: licences: %s", visible(warning))
    if isinstance(place, HubPlace):
        return hub.push(folder, lock, place, options, report, patience or default_patience())
    if isinstance(place, FolderPlace):
        return folders.push(folder, lock, place, options, report)
    return stores.push(folder, lock, place, options, report)


def _check(place: Place, options: Options) -> None:
    """Raise UsageError for options that this place has no meaning for."""
    if isinstance(place, HubPlace):
        hub.check_options(place, options)
        return
    given = {
        "--private": options.private,
        "--tag": options.tag,
        "--create-pr": options.create_pr,
        "--message": options.message,
    }
    for name, value in given.items():
        if value:
            raise UsageError(f"{name} is for the hub alone", where=str(place))

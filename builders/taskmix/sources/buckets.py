"""Data in object stores: copied into the cache once for each state that the objects are in.

What the store lists (names, and of each object its state) is what a hub dataset's commit is: a copy is of one such
listing, and is read like any folder, by this machine and by the nodes of a cluster, each of which copies for itself. So
what a build reads is hashed by its content, and is the same from beginning to end, whatever is written to the store
meanwhile.
"""

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock

from taskmix import urls
from taskmix.caching.entries import PART, mark_used, open_cache
from taskmix.caching.fingerprints import Fingerprints
from taskmix.caching.place import STORES, cache_folder
from taskmix.caching.sealed import damaged, seal
from taskmix.errors import SourceError
from taskmix.text import quoted, visible
from taskmix.threads import in_order

_THREADS = 4
_HINT = "try again, or copy the data and name its folder"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """What lies at a URL: of each object its path in the store and its state, by name.

    `is_folder`: they are the objects of a folder, not one object or those that a pattern names.
    """

    url: str
    objects: Mapping[str, tuple[str, str]]
    is_folder: bool

    def only(self, names: Collection[str]) -> "Listing":
        """Return the listing of some objects."""
        return Listing(self.url, {name: self.objects[name] for name in sorted(names)}, self.is_folder)


def listed(url: str) -> Listing:
    """Return the objects that a URL names: those of a folder (not of folders inside), of a pattern, or one.

    Raises:
        SourceError: the store cannot be opened or refuses, or there is nothing.
    """
    store = urls.object_store(url)
    with urls.understood(url, SourceError, _HINT):
        files, root = urls.opened(store, SourceError)
        pattern = any(mark in root for mark in "*?[")
        try:
            found = list(files.glob(root, detail=True).values() if pattern else files.ls(root, detail=True))
        except FileNotFoundError as error:
            raise SourceError(f"there is nothing: {visible(str(error))[:300]}", where=visible(url)) from None
    # an object whose name ends with a slash stands for an empty folder
    objects = [about for about in found if about["type"] == "file" and not about["name"].endswith("/")]
    if not objects:
        hint = "data lies in the folder itself, not in folders inside" if found else "check the address"
        raise SourceError("there are no files", where=visible(url), hint=hint)
    is_folder = not pattern and [about["name"].strip("/") for about in objects] != [root.strip("/")]
    known = {_name(about["name"], url): (about["name"], urls.state(about)) for about in objects}
    return Listing(store, known, is_folder)


def _name(path: str, url: str) -> str:
    """Return the last part of an object's path. Raises SourceError if it can be no file's name."""
    name = path.rpartition("/")[2]
    if name in ("", ".", "..") or visible(name) != name or "\\" in name:
        raise SourceError(f"an object cannot be copied into a file of its name: {quoted(name)}", where=visible(url))
    return name


def fetch(listing: Listing) -> Path:
    """Return a folder with copies of all objects of a listing, which are made if they are not in the cache.

    Raises:
        SourceError: the store refuses, an object changes meanwhile, or the cache cannot be written.
    """
    base = cache_folder() / STORES / _digest(listing.url)
    folder = base / "objects" / _digest([listing.url, *([name, state] for name, (_, state) in listing.objects.items())])
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(base / ".lock"):
            if folder.is_dir() and (name := damaged(folder, Fingerprints(open_cache()))) is not None:
                _LOG.warning("warning: %s is damaged and copied again", folder / name)
                shutil.rmtree(folder)
            if not folder.is_dir():
                _copy(listing, folder)
            mark_used(folder)
    except OSError as error:
        hint = "$TASKMIX_CACHE names the folder that copies are kept in"
        message = f"the cache cannot be written: {error.strerror or error}"
        raise SourceError(message, where=str(base), hint=hint) from None
    return folder


def _copy(listing: Listing, folder: Path) -> None:
    """Copy objects beside the final folder, which appears when all are there as they were listed."""
    _LOG.info("copying %s", visible(listing.url))
    for left in folder.parent.glob(f"{PART}*"):
        shutil.rmtree(left)  # by a build that was killed: the lock is ours
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=PART) as part:
        final = Path(part) / "final"
        final.mkdir()
        with urls.understood(listing.url, SourceError, _HINT):
            files, _ = urls.opened(listing.url, SourceError)
            copies = (partial(files.get_file, path, str(final / name)) for name, (path, _) in listing.objects.items())
            for _ in in_order(copies, _THREADS):
                pass
        now = listed(listing.url).objects
        if changed := [name for name, about in listing.objects.items() if now.get(name) != about]:
            message = f"{quoted(changed[0])} changed while it was copied"
            raise SourceError(message, where=visible(listing.url), hint="build again")
        seal(final)
        final.rename(folder)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:40]

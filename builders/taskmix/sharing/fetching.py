"""A mixture wherever it lies, as a folder on this machine that is what its lock says."""

import hashlib
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock

from taskmix.caching.place import cache_folder
from taskmix.errors import OutputError, SourceError
from taskmix.output.folder import LOCK
from taskmix.output.lock import read_lock, verify
from taskmix.sharing import downloading
from taskmix.sharing.client import Patience, connected, default_patience
from taskmix.sharing.places import FolderPlace, HubPlace, Place, StorePlace, place_of
from taskmix.sharing.planning import configs
from taskmix.sharing.pushed import Reporter
from taskmix.sharing.remote import Hub, RemoteFile
from taskmix.sharing.store import open_store, understood
from taskmix.text import quoted

_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)*")
_HASH = re.compile(r"[0-9a-f]{64}")
_Download = Callable[[str, Path], None]


@dataclass(frozen=True)
class Fetched:
    """A mixture on this machine: its folder, its lock, and the commit that it came from, if it is of the hub."""

    folder: Path
    lock: Mapping[str, Any]
    commit: str | None = None


def fetch(address: str, *, report: Reporter | None = None, patience: Patience | None = None) -> Fetched:
    """Return a mixture that is what its lock says, downloaded if it is not on this machine yet.

    Args:
        address: a folder, `hf://datasets/ORG/NAME[@REVISION][/CONFIGURATION]`, or a URL that fsspec knows.
        report: what to call while bytes come.
        patience: how long to wait for the hub, and how often to try.

    Raises:
        OutputError: it is not what its lock says; the first file that differs is named.
        SourceError: there is no mixture, or it came damaged; nothing of it is kept.
        PushError: the hub or the store cannot be reached.
        UsageError: it is no address.
    """
    place, report = place_of(address), report or Reporter()
    if isinstance(place, FolderPlace):
        return Fetched(place.path, verify(place.path))
    if isinstance(place, StorePlace):
        return _from_store(place, report)
    return _from_hub(place, report, patience or default_patience())


def folder_of(address: str, *, report: Reporter | None = None) -> Path:
    """Return the folder of a mixture: a local one as it is, any other as `fetch` brings it. Raises as `fetch` does."""
    place = place_of(address)
    return place.path if isinstance(place, FolderPlace) else fetch(address, report=report).folder


def _from_hub(place: HubPlace, report: Reporter, patience: Patience) -> Fetched:
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    with connected(patience) as api:
        hub = Hub(api, place, patience)
        try:
            commit, _ = hub.ask(place.revision)
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            what = "revision" if isinstance(error, RevisionNotFoundError) else "dataset"
            hint = "check the name; a private dataset needs `hf auth login` or HF_TOKEN"
            raise SourceError(f"the hub has no such {what}", where=str(place), hint=hint) from None
        every = hub.files(commit)
        if not place.config and LOCK not in every and (named := configs(every)):
            hint = f"name one: {', '.join(f'{place.url}/{name}' for name in named)}"
            raise SourceError("several mixtures, each a configuration", where=str(place), hint=hint)
        files = {path.removeprefix(place.folder): file for path, file in every.items() if path.startswith(place.folder)}

        def download(name: str, target: Path) -> None:
            downloading.download(hub, commit, _listed(files, name, place), target)

        cache = _cache("hub", place.repository.replace("/", "--"), place.config or "", commit)
        folder, lock = _cached(cache, place, set(files), download, report)
    return Fetched(folder, lock, commit)


def _listed(files: Mapping[str, RemoteFile], name: str, place: Place) -> RemoteFile:
    if name not in files:
        what = f"no mixture: it has no {LOCK}" if name == LOCK else f"damaged: it has no {name}"
        raise SourceError(what, where=str(place))
    return files[name]


def _from_store(place: StorePlace, report: Reporter) -> Fetched:
    with understood(place):
        store = open_store(place)
        there = set(store.sizes())
        if LOCK not in there:
            raise SourceError(f"no mixture: it has no {LOCK}", where=str(place))
        digest = hashlib.sha256(store.read(LOCK)).hexdigest()
        cache = _cache("stores", hashlib.sha256(place.url.encode()).hexdigest()[:20], "", digest)
        folder, lock = _cached(cache, place, there, store.get, report)
    return Fetched(folder, lock)


def _cache(*parts: str) -> Path:
    return cache_folder().joinpath("mixtures", *(part or "all" for part in parts))


def _cached(
    final: Path, place: Place, there: set[str], download: _Download, report: Reporter
) -> tuple[Path, Mapping[str, Any]]:
    """Return a mixture's folder in the cache and its lock. A damaged one is downloaded again, as a new one is."""
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(final.parent / ".lock"):
            if final.is_dir():
                try:
                    return final, verify(final)
                except OutputError:
                    shutil.rmtree(final)
            for left in final.parent.glob(".part-*"):
                shutil.rmtree(left)  # by a run that was killed: the lock is ours
            with TemporaryDirectory(dir=final.parent, prefix=".part-") as part:
                made = Path(part) / "mixture"
                _fill(made, place, there, download, report)
                lock = verify(made)
                made.rename(final)
            return final, lock
    except OSError as error:
        hint = "$TASKMIX_CACHE names the folder that downloads are kept in"
        raise SourceError(
            f"the cache cannot be written: {error.strerror or error}", where=str(final), hint=hint
        ) from None


def _fill(made: Path, place: Place, there: set[str], download: _Download, report: Reporter) -> None:
    """Download a mixture: the lock, then every file that it names; each is checked when all are there.

    Raises:
        OutputError: the lock was changed.
        SourceError: there is data that the lock does not name, or a file is missing.
    """
    download(LOCK, made / LOCK)
    outputs = _outputs(read_lock(made), place)
    if strays := sorted(name for name in there if name.startswith("data/") and name not in outputs):
        raise SourceError(f"damaged: {strays[0]} is not of the mixture that the lock describes", where=str(place))
    report.start(sum(outputs.values()))
    for name, size in outputs.items():
        download(name, made / name)
        report.sent(size)
    report.finish()


def _outputs(lock: Mapping[str, Any], place: Place) -> Mapping[str, int]:
    """Return the size of every file that a lock names, which may be anybody's. Raises SourceError for a bad name."""
    outputs = lock.get("outputs")
    if not isinstance(outputs, dict):
        raise SourceError("the lock names no files", where=str(place))
    for name, output in outputs.items():
        if not _NAME.fullmatch(name) or not _is_sound(output):
            raise SourceError(f"the lock names a file that no mixture has: {quoted(name)}", where=str(place))
    return {name: output["bytes"] for name, output in outputs.items()}


def _is_sound(output: object) -> bool:
    return (
        isinstance(output, dict)
        and isinstance(output.get("bytes"), int)
        and _HASH.fullmatch(str(output.get("sha256"))) is not None
    )

"""A push to a store of fsspec: each object whole, data first, the lock last.

A store has no commits: while a push is under way, its folder holds files of the old mixture and of the new one. What
can be had is that this shows. `mix.push.json` is there from before the first change until after the last one; the lock
of the new mixture comes when all else was written, read back and hashed, so that whoever compares with the lock takes
no blend for a mixture. A push that finds the mark of a broken one trusts nothing that is there without hashing it.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskmix import hashing
from taskmix.errors import PushError
from taskmix.output.folder import LOCK
from taskmix.sharing.places import StorePlace
from taskmix.sharing.pushed import Options, Pushed, Reporter
from taskmix.sharing.store import Store, open_store, understood

MARK = "mix.push.json"


@dataclass(frozen=True)
class _Change:
    """What is to be done in a store: names to send in order, to delete, and stamps of what stays as it is."""

    sends: tuple[str, ...]
    deletes: tuple[str, ...]
    kept: Mapping[str, str]


def push(folder: Path, lock: Mapping[str, Any], place: StorePlace, options: Options, report: Reporter) -> Pushed:
    """Write a verified mixture to a store.

    Raises:
        PushError: the store refuses, holds something else than a mixture, or another push came in between.
    """
    with understood(place):
        store = open_store(place)
        change = _plan(store, folder, lock)
        sizes = {name: (folder / name).stat().st_size for name in change.sends}
        if change.sends and not options.dry_run:
            report.start(sum(sizes.values()))
            _write(store, folder, lock, change, report)
            report.finish()
    kept, dry_run = len(lock["outputs"]) + 1 - len(sizes), options.dry_run
    return Pushed(str(place), place.url, sizes, change.deletes, kept, dry_run=dry_run)


def _plan(store: Store, folder: Path, lock: Mapping[str, Any]) -> _Change:
    """Compare the mixture with what is there. The lock is sent whenever anything is, last."""
    there = store.sizes()
    if there and LOCK not in there and MARK not in there:
        hint = "push to another folder, or delete what is in it first"
        raise PushError(f"the folder is no mixture: it has files, but no {LOCK}", where=str(store.place), hint=hint)
    known = {} if MARK in there else _hashes(store.read(LOCK) if LOCK in there else b"")
    outputs: Mapping[str, Any] = lock["outputs"]
    kept = {}
    for name, output in outputs.items():
        if there.get(name) == output["bytes"]:
            sha256 = known.get(name) if MARK not in there else store.sha256(name)
            if sha256 == output["sha256"]:
                kept[name] = store.stamp(name)
    deletes = tuple(sorted(name for name in there if name.startswith("data/") and name not in outputs))
    sends = tuple(name for name in sorted(outputs, key=_order) if name not in kept)
    same = LOCK in there and MARK not in there and store.read(LOCK) == (folder / LOCK).read_bytes()
    return _Change((), (), kept) if same and not sends and not deletes else _Change((*sends, LOCK), deletes, kept)


def _order(name: str) -> tuple[bool, str]:
    """Sort data before the card."""
    return not name.startswith("data/"), name


def _hashes(text: bytes) -> Mapping[str, str]:
    """Return the hashes that a lock names; none if it is no lock."""
    try:
        return {name: output["sha256"] for name, output in json.loads(text)["outputs"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write(store: Store, folder: Path, lock: Mapping[str, Any], change: _Change, report: Reporter) -> None:
    """Do what is to be done, under a mark."""
    mark = json.dumps({"push": uuid.uuid4().hex, "lock_sha256": lock["lock_sha256"]}).encode()
    store.write(MARK, mark)
    stamps = dict(change.kept)
    for name in change.sends[:-1]:
        _check_mark(store, mark)
        stamps[name] = _send(store, folder / name, name, lock["outputs"][name]["sha256"], report.sent)
    _check_mark(store, mark)
    for name in change.deletes:
        store.remove(name)
    if changed := [name for name, stamp in stamps.items() if store.stamp(name) != stamp]:
        raise _conflict(store, f"{changed[0]} was written by somebody else")
    _check_mark(store, mark)
    _send(store, folder / LOCK, LOCK, hashing.file_sha256(folder / LOCK), report.sent)
    store.remove(MARK)


def _send(store: Store, path: Path, name: str, sha256: str, sent: Callable[[int], None]) -> str:
    """Write a file, read it back, and return its stamp."""
    store.send(name, path, sent)
    if store.sha256(name) != sha256:
        where = f"{store.place}/{name}"
        raise PushError("what the store gives back is not what the lock says", where=where, hint="push again")
    return store.stamp(name)


def _check_mark(store: Store, mark: bytes) -> None:
    """Raise PushError if the mark is another's, or gone with it: two pushes were at work in one folder."""
    found = store.read(MARK)
    if found == mark:
        return
    if not found:
        # the other has ended, and something of ours may have come after it: the next push shall trust nothing there
        store.write(MARK, mark)
    raise _conflict(store, "another push began there after this one")


def _conflict(store: Store, what: str) -> PushError:
    hint = "what is there may be a blend until one of them is done: push again when the other has ended"
    return PushError(f"in conflict: {what}", where=str(store.place), hint=hint)

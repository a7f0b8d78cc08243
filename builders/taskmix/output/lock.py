"""mix.lock.json: everything a build depended on, with hashes, and the hash of everything it made."""

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from taskmix import hashing
from taskmix.errors import OutputError
from taskmix.mixing.parts import figures
from taskmix.mixing.plan import Plan
from taskmix.output.folder import LOCK
from taskmix.output.shards import Written, describe
from taskmix.tasks.task import Task

VERSION = 1
LIBRARIES = ("jinja2", "polars", "pyarrow", "taskmix")
Json = dict[str, Any]
Engines = Mapping[tuple[str, str], Json]


def make_lock(plan: Plan, written: Written, engines: Engines, card: Path) -> Json:
    """Return the lock of a mixture whose files are written; `card` is its README.md.

    `engines` says, by split and task, what Jinja rendered row by row.
    """
    tasks = {part.task.name: part.task for part in plan.parts}
    lock: Json = {
        "lock_version": VERSION,
        "mixture": plan.mixture,
        "seed": plan.seed,
        "limit": plan.limit,
        "tokenizer": plan.tokenizer,
        "versions": {name: metadata.version(name) for name in LIBRARIES},
        "spec": plan.spec.model_dump(mode="json", by_alias=True),
        "tasks": {name: _task(task) for name, task in sorted(tasks.items())},
        "holdout": {"heldout": list(plan.heldout), "excluded": dict(plan.excluded)},
        "refused": dict(plan.refused),
        "plan": [figures(part) | engines[part.split, part.task.name] for part in plan.parts],
        "splits": {
            name: {"rows": split.rows, "content_sha256": split.content_sha256} for name, split in written.items()
        },
        "outputs": {},
    }
    shards = [shard for split in written.values() for shard in split.shards]
    for shard in (*shards, describe(card.parent, card.name, 0)):
        lock["outputs"][shard.path] = {"sha256": shard.sha256, "bytes": shard.bytes} | (
            {"rows": shard.rows} if shard.path != card.name else {}
        )
    return {**lock, "lock_sha256": _digest(lock)}


def _task(task: Task) -> Json:
    """Return what a task's rows and texts depended on."""
    used = {split.source_split for split in task.splits.values()}
    files = [file for split in sorted(used) for file in task.source.splits[split]]
    hashes = {file.relative_to(task.source.root).as_posix(): hashing.file_sha256(file) for file in files}
    # after they are hashed: the hashes are those of what was rendered
    task.source.check_unchanged()
    template = task.template_path
    return {
        "spec": task.entry.spec.model_dump(mode="json", by_alias=True, exclude_none=True),
        "commit": task.source.commit,
        "files": hashes,
        "labels": list(task.view.labels.words) if task.view.labels else None,
        "templates": {
            "file": template.name if template else None,
            "sha256": hashing.file_sha256(template) if template else None,
        },
    }


def _digest(lock: Mapping[str, Any]) -> str:
    body = {name: value for name, value in lock.items() if name != "lock_sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def dump(lock: Json) -> str:
    """Return the text of a lock file."""
    return json.dumps(lock, indent=1, ensure_ascii=False) + "\n"


def read_lock(folder: Path) -> Json:
    """Read a mixture's lock. Raises OutputError if there is none, or if it was changed since it was written."""
    path = folder / LOCK
    try:
        text = path.read_bytes().decode("utf-8")
        lock = json.loads(text)
    except FileNotFoundError:
        raise OutputError(f"not a mixture: it has no {LOCK}", where=str(folder)) from None
    except OSError as error:
        raise OutputError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except ValueError:
        raise OutputError("the lock is not JSON: it is damaged", where=str(path), hint="build again") from None
    if not isinstance(lock, dict) or text != dump(lock) or lock.get("lock_sha256") != _digest(lock):
        raise OutputError("the lock was changed since it was written", where=str(path), hint="build again")
    if lock["lock_version"] != VERSION:
        raise OutputError(f"the lock is of version {lock['lock_version']}, not {VERSION}", where=str(path))
    return lock


def verify(folder: Path) -> Json:
    """Hash every file of a mixture again and return its lock.

    Raises:
        OutputError: a file is missing, changed, or not in the lock; every one is named.
    """
    lock = read_lock(folder)
    differences = {name: _difference(folder / name, expected) for name, expected in lock["outputs"].items()}
    faults = [f"{name}: {difference}" for name, difference in differences.items() if difference]
    # a link to a folder is of the folder's kind, but is no part of a mixture
    found = [file for file in folder.rglob("*") if file.is_symlink() or not file.is_dir()]
    present = {file.relative_to(folder).as_posix() for file in found}
    faults += [f"{name}: not of this mixture" for name in sorted(present - set(lock["outputs"]) - {LOCK})]
    if faults:
        hint = "\n".join([*faults[1:], "build the mixture again"])
        raise OutputError(faults[0], where=str(folder), hint=hint)
    return lock


def _difference(file: Path, expected: Mapping[str, Any]) -> str:
    """Say how a file differs from what the lock has of it; empty if it does not."""
    try:
        if file.is_symlink() or not file.is_file():
            return "missing"
        if (size := file.stat().st_size) != expected["bytes"]:
            return f"{size:,} bytes, not {expected['bytes']:,}"
        return "its content was changed" if hashing.file_sha256(file) != expected["sha256"] else ""
    except OSError as error:
        return f"cannot be read: {error.strerror}"

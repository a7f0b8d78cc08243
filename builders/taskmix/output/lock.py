"""mix.lock.json: everything a build depended on, with hashes, and the hash of everything it made."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskmix import hashing
from taskmix.caching.fingerprints import Fingerprints
from taskmix.errors import OutputError
from taskmix.output.folder import LOCK
from taskmix.output.inputs import Asked, Json, TaskInputs, inputs_sha256, make_inputs

if TYPE_CHECKING:
    from taskmix.mixing.plan import Plan
    from taskmix.output.shards import Written
    from taskmix.tasks.task import Task
    from taskmix.templates.files import Template

VERSION = 1
Engines = Mapping[tuple[str, str], Json]


def make_lock(plan: "Plan", written: "Written", engines: Engines, card: Path, fingerprints: Fingerprints) -> Json:
    """Return the lock of a mixture whose files are written; `card` is its README.md.

    `engines` says, by split and task, what Jinja rendered row by row.
    """
    # not above: `mix verify` needs none of what a plan needs
    from taskmix.mixing.parts import figures

    tasks = {part.task.name: part.task for part in plan.parts}
    asked = Asked(plan.mixture, plan.spec, plan.limit, plan.tokenizer, plan.heldout, plan.excluded, plan.refused)
    inputs = make_inputs(asked, map(_task_inputs, tasks.values()), fingerprints)
    for task in tasks.values():
        # after they are hashed: the hashes are those of what was rendered
        task.source.check_unchanged()
    lock: Json = {
        "lock_version": VERSION,
        "inputs_sha256": inputs_sha256(inputs),
        **inputs,
        "tasks": {name: _task(inputs["tasks"][name], task) for name, task in sorted(tasks.items())},
        "plan": [figures(part) | engines[part.split, part.task.name] for part in plan.parts],
        "splits": {
            name: {"rows": split.rows, "content_sha256": split.content_sha256} for name, split in written.items()
        },
        "outputs": {},
    }
    for shard in (shard for split in written.values() for shard in split.shards):
        lock["outputs"][shard.path] = {"sha256": shard.sha256, "bytes": shard.bytes, "rows": shard.rows}
    lock["outputs"][card.name] = {"sha256": hashing.file_sha256(card), "bytes": card.stat().st_size}
    return {**lock, "lock_sha256": _digest(lock)}


def _task_inputs(task: "Task") -> TaskInputs:
    """Return what a task was made from."""
    used = sorted({split.source_split for split in task.splits.values()})
    files = tuple(file for split in used for file in task.source.splits[split])
    return TaskInputs(task.entry, task.source.root, files, task.source.commit, task.template_path)


def _task(inputs: Json, task: "Task") -> Json:
    """Return the inputs of a task, with what follows from them: labels, and a hash of each template."""
    labels = list(task.view.labels.words) if task.view.labels else None
    return {**inputs, "labels": labels, "templates": {**inputs["templates"], "each": template_hashes(task.templates)}}


def template_hashes(templates: "Iterable[Template]") -> dict[str, str]:
    """Return the SHA-256 of what a file says of each template, by its name."""
    return {each.name: hashlib.sha256(each.spec.model_dump_json().encode()).hexdigest() for each in templates}


def _digest(lock: Mapping[str, Any]) -> str:
    body = {name: value for name, value in lock.items() if name != "lock_sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def dump(lock: Json) -> str:
    """Return the text of a lock file."""
    return json.dumps(lock, indent=1, ensure_ascii=False) + "\n"


def read_lock(folder: Path) -> Json:
    """Read a mixture's lock. Raises OutputError if there is none, or if it was changed since it was written."""
    return read_lock_file(folder / LOCK)


def read_lock_file(path: Path) -> Json:
    """Read a lock, wherever it lies. Raises OutputError as `read_lock` does."""
    try:
        text = path.read_bytes().decode("utf-8")
        lock = json.loads(text)
    except FileNotFoundError:
        raise OutputError(f"not a mixture: it has no {path.name}", where=str(path.parent)) from None
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
    if faults := output_faults(folder, lock):
        hint = "\n".join([*faults[1:], "build the mixture again"])
        raise OutputError(faults[0], where=str(folder), hint=hint)
    return lock


def output_faults(
    folder: Path, lock: Mapping[str, Any], sha256: Callable[[Path], str] = hashing.file_sha256
) -> list[str]:
    """Return how the files of a folder differ from what its lock says, a line each."""
    differences = {name: _difference(folder / name, expected, sha256) for name, expected in lock["outputs"].items()}
    faults = [f"{name}: {difference}" for name, difference in differences.items() if difference]
    # a link to a folder is of the folder's kind, but is no part of a mixture
    found = [file for file in folder.rglob("*") if file.is_symlink() or not file.is_dir()]
    present = {file.relative_to(folder).as_posix() for file in found}
    return faults + [f"{name}: not of this mixture" for name in sorted(present - set(lock["outputs"]) - {LOCK})]


def _difference(file: Path, expected: Mapping[str, Any], sha256: Callable[[Path], str]) -> str:
    """Say how a file differs from what the lock has of it; empty if it does not."""
    try:
        if file.is_symlink() or not file.is_file():
            return "missing"
        if (size := file.stat().st_size) != expected["bytes"]:
            return f"{size:,} bytes, not {expected['bytes']:,}"
        return "its content was changed" if sha256(file) != expected["sha256"] else ""
    except OSError as error:
        return f"cannot be read: {error.strerror}"

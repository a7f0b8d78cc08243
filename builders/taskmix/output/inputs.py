"""What a build depends on: known before any data is read, and part of the lock.

Two builds with equal inputs give the same mixture. Nothing here needs Polars.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from taskmix.caching.fingerprints import Fingerprints
from taskmix.catalog import builtin
from taskmix.catalog.loading import Catalog, CatalogTask
from taskmix.catalog.models import MixtureSpec
from taskmix.errors import SourceError
from taskmix.sources.finding import Found, used_splits
from taskmix.text import shown
from taskmix.versions import versions

Json = dict[str, Any]
INPUTS = ("mixture", "seed", "limit", "tokenizer", "versions", "spec", "tasks", "holdout", "refused")
"""The keys of a lock that are inputs."""


@dataclass(frozen=True)
class TaskInputs:
    """What a task's rows and texts are made from; `template` is None where it has none, or is not known yet."""

    entry: CatalogTask
    root: Path
    files: tuple[Path, ...]
    commit: str | None
    template: Path | None


@dataclass(frozen=True)
class Asked:
    """A mixture as it was asked for, and the roles of its tasks that follow from the catalog.

    `tokenizer` is the hash of the one that counts the mixture's size, if one does.
    """

    mixture: str
    spec: MixtureSpec
    limit: int | None
    tokenizer: str | None
    heldout: tuple[str, ...]
    excluded: Mapping[str, str]
    refused: Mapping[str, str]


def task_inputs(entry: CatalogTask, found: Found, recorded: Mapping[str, Any]) -> TaskInputs:
    """Return what a task is made from, without opening it; `recorded` is what a lock says of it.

    Which file of its kind serves a task without templates of its own follows from the data: so the lock knows, as long
    as all else is the same.
    """
    files = [file for split in used_splits(entry, found.splits) for file in found.splits.get(split, ())]
    name = (recorded.get("templates") or {}).get("file")
    return TaskInputs(entry, found.root, tuple(files), found.commit, _template(entry, name))


def _template(entry: CatalogTask, recorded: str | None) -> Path | None:
    """Return the template file by the rules of `tasks.opening.template_path`, which knows the kind's own."""
    own, folders = entry.root / "templates", [entry.root / "templates", builtin.templates_folder()]
    if entry.spec.templates is None and not (own / f"{entry.name}.yaml").is_file():
        names = [recorded] if recorded not in (None, f"{entry.name}.yaml") else []
    else:
        names = [f"{entry.spec.templates or entry.name}.yaml"]
    found = (folder / name for name in names for folder in folders if name)
    return next((path for path in found if path.is_file()), None)


def make_inputs(asked: Asked, tasks: Iterable[TaskInputs], fingerprints: Fingerprints) -> Json:
    """Return the inputs of a build as they stand in a lock.

    Raises:
        SourceError: a file cannot be read.
    """
    tasks = sorted(tasks, key=lambda task: task.entry.name)
    read = [path for task in tasks for path in (*task.files, task.template) if path is not None]
    try:
        hashes = fingerprints.of(read)
    except OSError as error:
        where = shown(Path(error.filename)) if error.filename else ""
        raise SourceError(f"cannot be read: {error.strerror or error}", where=where) from None
    return {
        "mixture": asked.mixture,
        "seed": asked.spec.seed,
        "limit": asked.limit,
        "tokenizer": asked.tokenizer,
        "versions": _versions(asked),
        "spec": _plain(asked.spec.model_dump(mode="json", by_alias=True)),
        "tasks": {task.entry.name: _task(task, hashes) for task in tasks},
        "holdout": {"heldout": list(asked.heldout), "excluded": dict(asked.excluded)},
        "refused": dict(asked.refused),
    }


def _versions(asked: Asked) -> dict[str, str]:
    counting = {"tokenizers": metadata.version("tokenizers")} if asked.tokenizer else {}
    return {**versions(), **counting}


def _task(task: TaskInputs, hashes: Mapping[Path, str]) -> Json:
    return {
        "spec": _plain(task.entry.spec.model_dump(mode="json", by_alias=True, exclude_none=True)),
        "commit": task.commit,
        "files": {file.relative_to(task.root).as_posix(): hashes[file] for file in sorted(task.files)},
        "templates": {
            "file": task.template.name if task.template else None,
            "sha256": hashes[task.template] if task.template else None,
        },
    }


def _plain(spec: object) -> Any:
    """Return a specification as JSON reads it again."""
    return json.loads(json.dumps(spec, ensure_ascii=False))


def inputs_of(lock: Mapping[str, Any]) -> Json:
    """Return the inputs that a lock has, as `make_inputs` gives them."""
    tasks = {
        name: {
            **{key: task.get(key) for key in ("spec", "commit", "files")},
            "templates": {key: task["templates"].get(key) for key in ("file", "sha256")},
        }
        for name, task in lock["tasks"].items()
    }
    return {key: tasks if key == "tasks" else lock.get(key) for key in INPUTS}


def inputs_sha256(inputs: Mapping[str, Any]) -> str:
    """Return the hash of inputs. The order of keys counts: labels of a catalog are numbered by it."""
    return hashlib.sha256(json.dumps(inputs, ensure_ascii=False).encode()).hexdigest()


def recorded_commits(catalog: Catalog, recorded: Mapping[str, Any]) -> Mapping[str, str | None]:
    """Return the commits that a lock has of tasks whose source is still the same."""
    found = {}
    for name, task in recorded.items():
        entry = catalog.tasks.get(name)
        source = entry.spec.source.model_dump(mode="json", exclude_none=True) if entry else None
        if task["commit"] and source == task["spec"]["source"]:
            found[name] = task["commit"]
    return found


def pinned(catalog: Catalog, commits: Mapping[str, str | None]) -> Catalog:
    """Return a catalog whose tasks read these commits of their hub datasets."""
    found = {name: replace(catalog.tasks[name], commit=commit) for name, commit in commits.items()}
    return replace(catalog, tasks={**catalog.tasks, **found})

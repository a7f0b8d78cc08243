"""Recipes as bytes, for processes on other machines.

What the plan decided goes along, templates and the catalog's words too, so that a node needs neither. What belongs to
one process is made anew there: locks, caches, and the processes that Jinja runs in. Files are found where they lie on
the node: under the same path, or, those of the hub, in the node's own cache, at the commit of the plan.
"""

import dataclasses
import functools
import io
import pickle
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskmix import hashing
from taskmix.engines.recipes import Recipe
from taskmix.errors import SourceError
from taskmix.kinds import KINDS, Kind
from taskmix.mixing.examples import Exemplars
from taskmix.sources import hub
from taskmix.sources.finding import Stamp, stamp
from taskmix.sources.opening import Source, open_source
from taskmix.tasks.held import Held
from taskmix.tasks.task import Task
from taskmix.templates.rowwise import Workers
from taskmix.text import shown, visible
from taskmix.urls import is_url

Stamps = Mapping[str, Stamp | None]


@dataclasses.dataclass(frozen=True)
class Packed:
    """A recipe on its way, and what its files looked like where the plan was made, by their paths below the root."""

    content: bytes
    stamps: Stamps


def pack(recipe: Recipe) -> Packed:
    """Return a recipe as bytes."""
    into = io.BytesIO()
    _Pickler(into, pickle.HIGHEST_PROTOCOL).dump(recipe)
    found = {name: stamp(file) for name, file in source_files(recipe).items()}
    return Packed(into.getvalue(), found)


def source_files(recipe: Recipe) -> Mapping[str, Path]:
    """Return the files that a recipe reads, by their paths below the root of their source."""
    posing = recipe.posing
    splits = {posing.split.source_split, *([posing.exemplars.split.source_split] if posing.exemplars else [])}
    source = posing.task.source
    listed = [file for split in sorted(splits) for file in source.splits[split]]
    return {file.relative_to(source.root).as_posix(): file for file in listed}


@functools.lru_cache(maxsize=64)
def unpack(content: bytes) -> Recipe:
    """Return a recipe in a process that renders; the same one for the same bytes.

    Raises:
        SourceError: this machine does not have a file that it reads.
    """
    recipe = pickle.loads(content)
    assert isinstance(recipe, Recipe), type(recipe)
    return recipe


def other_copies(recipe: Recipe, stamps: Stamps) -> dict[str, str]:
    """Return the SHA-256 of files that may not be the ones that the plan was made from: those of another stamp."""
    here = source_files(recipe)
    return {name: sha256_of(file) for name, file in here.items() if stamp(file) != stamps[name]}


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, which is read once for each state that it is in."""
    return _sha256(file, stamp(file))


@functools.lru_cache(maxsize=4096)
def _sha256(file: Path, now: Stamp | None) -> str:
    return hashing.file_sha256(file)


class _Pickler(pickle.Pickler):
    """Leaves out what belongs to a process."""

    def reducer_override(self, value: object) -> Any:
        """Return how a value is made again, where pickle's own way would not do."""
        if isinstance(value, Kind):
            return _kind, (value.name,)
        if isinstance(value, Task):
            left_out = {"workers", "held"}
            own = [each.name for each in dataclasses.fields(value) if each.name not in left_out]
            return _task, ({name: getattr(value, name) for name in own},)
        if isinstance(value, Exemplars):
            public = [each.name for each in dataclasses.fields(value) if not each.name.startswith("_")]
            # only the few that are shown are chosen from on a node: the same ones
            return _exemplars, ({name: getattr(value, name) for name in public} | {"rows": value.few},)
        if isinstance(value, Source):
            return Source, (value.label, value.root, value.splits, value.commit)
        return NotImplemented


def _kind(name: str) -> Kind:
    return KINDS[name]


def _exemplars(known: dict[str, Any]) -> Exemplars:
    return Exemplars(**known)


def _task(known: dict[str, object]) -> Task:
    task = Task(**known, workers=_workers(), held=Held())  # type: ignore[arg-type]
    return dataclasses.replace(task, source=_found_here(task))


@functools.cache
def _workers() -> Workers:
    """Return the processes of this one: a node runs several like it at a time."""
    return Workers(1)


def _found_here(task: Task) -> Source:
    """Return the task's source as this machine has it."""
    source, spec = task.source, task.entry.spec.source
    used = sorted({split.source_split for split in task.splits.values()})
    missing = [file for split in used for file in source.splits[split] if not file.is_file()]
    if not missing:
        return source
    if spec.path is not None and is_url(spec.path):
        return _copied_here(task)
    if source.commit is None or spec.hub is None:
        raise SourceError(
            f"not there on the node {socket.gethostname()}",
            where=f"task {task.name}: {shown(missing[0])}",
            hint="every node reads the data: put it, or the mirror, on a file system that all of them share",
        )
    folder = hub.fetch(spec.hub, spec.config, source.commit).folder
    splits = {
        split: tuple(folder / file.relative_to(source.root) for file in found) for split, found in source.splits.items()
    }
    return Source(source.label, folder, splits, source.commit)


def _copied_here(task: Task) -> Source:
    """Return the task's source in this machine's own cache, copied from the store that it lies in."""
    found = open_source(task.entry, None)
    # folders have the names of their objects' states
    if found.root.name != task.source.root.name:
        message = f"the store has other objects for the node {socket.gethostname()} than for the plan"
        raise SourceError(message, where=f"task {task.name}: {visible(found.label)}", hint="build again")
    return found

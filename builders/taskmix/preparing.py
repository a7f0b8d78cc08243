"""What comes before a build: what it depends on, whether it is there already, and whether a lock allows it.

Nothing here needs Polars, so that a build with nothing to do takes no time to start.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskmix.caching.entries import Cache, open_cache
from taskmix.caching.fingerprints import Fingerprints
from taskmix.catalog.loading import Catalog, CatalogTask, load_catalog
from taskmix.catalog.models import MixtureSpec, TokensSpec
from taskmix.catalog.selection import overridden, select
from taskmix.errors import OutputError, SourceError, TaskmixError, UsageError
from taskmix.mixing.holdout import assign_roles
from taskmix.output.changes import Change, changes, input_changes
from taskmix.output.folder import LOCK
from taskmix.output.inputs import (
    Asked,
    Json,
    TaskInputs,
    inputs_of,
    inputs_sha256,
    make_inputs,
    pinned,
    recorded_commits,
    task_inputs,
)
from taskmix.output.lock import output_faults, read_lock, read_lock_file, template_hashes
from taskmix.output.publishing import Target, as_target, check
from taskmix.sources.finding import find_source
from taskmix.text import visible

_MADE = ("plan", "splits", "outputs")
"""The keys of a lock that say what was made."""
_NAMED_AT_MOST = 20
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A build to carry out. The catalog reads the commits that its hub datasets have now, or have in the lock.

    `unchanged` is the lock of the mixture in `out` where that is what would be built; `expected` is the one that must
    come out, by its file.
    """

    mixture: str
    catalog: Catalog
    out: Target
    mirror: Path | None
    seed: int | None
    limit: int | None
    inputs: Json
    unchanged: Json | None
    expected: tuple[Path, Json] | None
    cache: Cache

    @property
    def fingerprints(self) -> Fingerprints:
        """Return what knows the hashes of files."""
        return Fingerprints(self.cache)


def prepare(
    mixture: str | None,
    catalog: Catalog | None = None,
    out: Target | None = None,
    mirror: Path | None = None,
    seed: int | None = None,
    limit: int | None = None,
    *,
    force: bool = False,
    locked: bool = False,
    lock_file: Path | None = None,
) -> Prepared:
    """Find out what a build depends on. `taskmix.building.build` says what the arguments mean.

    Raises:
        OutputError: the lock does not allow the build; everything that differs is named.
        TaskmixError: the catalog, a source or the folder is not what it should be.
    """
    catalog = catalog or load_catalog()
    name, spec = catalog.mixture(mixture)
    out = Path("mixtures") / name if out is None else as_target(out)
    check(out)
    expected = _expected(out, lock_file) if locked or lock_file else None
    earlier = _earlier(out)
    recorded: Json = expected[1] if expected else earlier or {}
    cache = open_cache()
    spec = overridden(spec, seed, limit)
    catalog, tasks, inputs = _inputs(catalog, name, spec, limit, mirror, recorded, bool(expected), Fingerprints(cache))
    if expected:
        _check_inputs(*expected, inputs, tasks)
    same = earlier is not None and (expected is None or earlier == expected[1])
    known = same and not force and isinstance(out, Path)
    unchanged = earlier if known and _is_whole(Path(out), earlier or {}, inputs, Fingerprints(cache)) else None
    return Prepared(name, catalog, out, mirror, seed, limit, inputs, unchanged, expected, cache)


def _expected(out: Target, lock_file: Path | None) -> tuple[Path, Json]:
    """Return the lock to go by."""
    if lock_file is None:
        if not isinstance(out, Path):
            raise UsageError("the lock behind a URL is not read", where=out, hint="name a copy of it with --lock")
        return out / LOCK, read_lock(out)
    path = lock_file / LOCK if lock_file.is_dir() else lock_file
    return path, read_lock_file(path)


def _earlier(out: Target) -> Json | None:
    """Return the lock in a folder; None if there is none, or none that is whole. What a URL has is always replaced."""
    if not isinstance(out, Path):
        return None
    try:
        return read_lock(out)
    except OutputError as error:
        if (out / LOCK).exists():
            _LOG.info("%s: built anew: %s", visible(str(out)), error.message)
        return None


def _inputs(
    catalog: Catalog,
    name: str,
    spec: MixtureSpec,
    limit: int | None,
    mirror: Path | None,
    recorded: Mapping[str, Any],
    by_lock: bool,
    fingerprints: Fingerprints,
) -> tuple[Catalog, list[TaskInputs], Json]:
    """Return the catalog with its hub datasets pinned, to the commits of the lock if so, and the build's inputs."""
    selection = select(catalog, name)
    roles = assign_roles(catalog, name, selection.tasks)
    known = recorded.get("tasks", {})
    if by_lock and mirror is None:
        catalog = pinned(catalog, recorded_commits(catalog, known))
    tasks = [_find(catalog.tasks[each], mirror, known.get(each, {})) for each in sorted((*roles.train, *roles.heldout))]
    tokenizer = _tokenizer(catalog, name, spec, fingerprints)
    asked = Asked(name, spec, limit, tokenizer, roles.heldout, roles.excluded, selection.refused)
    inputs = make_inputs(asked, tasks, fingerprints)
    return pinned(catalog, {task.entry.name: task.commit for task in tasks if task.commit}), tasks, inputs


def _tokenizer(catalog: Catalog, name: str, spec: MixtureSpec, fingerprints: Fingerprints) -> str | None:
    """Return the hash of the tokenizer that counts the mixture's size, if one does."""
    if not isinstance(spec.sampling.size, TokensSpec):
        return None
    wanted = spec.sampling.size.tokenizer
    if (file := catalog.path.parent / wanted).is_file():
        with suppress(OSError):
            return fingerprints.sha256(file)
    # not above: what opens it needs Polars
    from taskmix.mixing.tokens import open_tokenizer

    where = catalog.where("mixtures", name, "sampling", "size")
    return open_tokenizer(wanted, catalog.path.parent, where).sha256


def _find(entry: CatalogTask, mirror: Path | None, recorded: Mapping[str, Any]) -> TaskInputs:
    return task_inputs(entry, find_source(entry, mirror), recorded)


def _is_whole(out: Path, lock: Json, inputs: Json, fingerprints: Fingerprints) -> bool:
    """Whether a folder holds what its lock says, made from these inputs; if not, the log says why."""
    found = [*map(str, input_changes(inputs_of(lock), inputs))]
    if not found and lock.get("inputs_sha256") != inputs_sha256(inputs):
        found = ["the lock has another hash of its inputs"]
    found = found or output_faults(out, lock, fingerprints.sha256)
    if found:
        more = f" (and {len(found) - 1:,} more)" if len(found) > 1 else ""
        _LOG.info("%s: built anew: %s%s", visible(str(out)), visible(found[0]), more)
    return not found


def _check_inputs(path: Path, lock: Json, inputs: Json, tasks: Iterable[TaskInputs]) -> None:
    """Raise OutputError, naming everything that is not as the lock has it."""
    if found := input_changes(inputs_of(lock), inputs):
        raise _refusal(path, "the lock is of other inputs", [*found, *_template_changes(lock, tasks)])


def _template_changes(lock: Json, tasks: Iterable[TaskInputs]) -> Iterator[Change]:
    """Yield the templates that are not what the lock has, of the files that can be read."""
    # not above: only what fails needs Jinja
    from taskmix.templates.files import read_templates

    for task in tasks:
        name = task.entry.name
        known = lock["tasks"].get(name, {}).get("templates", {}).get("each")
        if known and task.template is not None:
            with suppress(TaskmixError):
                now = template_hashes(read_templates(task.template))
                yield from changes(known, now, ("tasks", name, "templates", "each"))


def check_made(prepared: Prepared, made: Json) -> None:
    """Check that what was built is what was prepared, and what the lock expects.

    Raises:
        SourceError: a template or a file of the data changed while it was built.
        OutputError: the lock expects other rows or files; each that differs is named.
    """
    for change in changes(prepared.inputs["tasks"], inputs_of(made)["tasks"]):
        # which file of the kind serves a task is known once it is open
        if change.old is not None or "templates" not in change.place:
            raise SourceError(f"changed while the mixture was built: {change}", hint="build again")
    if prepared.expected is None:
        return
    path, lock = prepared.expected
    before, after = ({key: _by_name(each[key]) for key in _MADE} for each in (lock, made))
    if found := list(changes(before, after)):
        raise _refusal(path, "the build gives something else than the lock has", found)


def _by_name(made: Any) -> Any:
    """Return a part of a lock as a mapping."""
    return {f"{part['split']}.{part['task']}": part for part in made} if isinstance(made, list) else made


def _refusal(path: Path, message: str, found: list[Change]) -> OutputError:
    lines = [str(change) for change in found[:_NAMED_AT_MOST]]
    if len(found) > _NAMED_AT_MOST:
        lines.append(f"and {len(found) - _NAMED_AT_MOST:,} more")
    hint = "\n  ".join([*lines, "to make another mixture and another lock, build without --locked"])
    return OutputError(message, where=str(path), hint=hint)

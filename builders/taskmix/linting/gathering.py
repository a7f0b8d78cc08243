"""What is to be looked at: tasks and template files by name, opened as far as their data is at hand."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import polars as pl

from taskmix import hashing
from taskmix.catalog import builtin, yamlfile
from taskmix.catalog.loading import Catalog, CatalogTask
from taskmix.errors import CatalogError, TaskmixError, UsageError, nearest
from taskmix.frames import SOURCE_ROW
from taskmix.kinds import KINDS, View
from taskmix.linting.subjects import FileSubject, TaskSubject
from taskmix.rowsets import RowSet
from taskmix.sources import hub
from taskmix.tasks.opening import open_bare, template_path
from taskmix.tasks.task import Split, Task
from taskmix.templates.files import Template, entries_in, template_file
from taskmix.templates.rowwise import Workers
from taskmix.text import quoted
from taskmix.urls import is_url

_SPARE = 4
"""So many times the rows are drawn where `where` or a cut may take some away."""


@dataclass(frozen=True)
class Gathered:
    """The subjects of one run: the task subjects have no samples yet."""

    files: Sequence[FileSubject]
    tasks: Sequence[TaskSubject]


def gather(catalog: Catalog, targets: Sequence[str], mirror: Path | None, workers: Workers) -> Gathered:
    """Return the files and tasks that the targets name; without targets all of the catalog's own.

    Raises:
        UsageError: a target is neither a task, a cluster, a glob nor a template file.
    """
    own = {name: task for name, task in catalog.tasks.items() if task.root == catalog.document.path.parent}
    tasks, paths = _resolve(catalog, targets) if targets else (own, _files_beside(catalog))
    subjects = [_open(task, mirror, workers) for task in tasks.values()]
    if targets and paths:
        others = [task for name, task in catalog.tasks.items() if name not in tasks and _may_use(task, paths)]
        subjects += [each for each in (_open(task, mirror, workers) for task in others) if _in(each.file, paths)]
    used = [subject.file for subject in subjects if subject.file is not None]
    files = {path.resolve(): path for path in [*paths, *used]}
    unused = set() if targets else _unused(catalog, own.values())
    return Gathered([_read(path, at in unused) for at, path in files.items()], subjects)


def _resolve(catalog: Catalog, targets: Sequence[str]) -> tuple[dict[str, CatalogTask], list[Path]]:
    tasks: dict[str, CatalogTask] = {}
    paths: list[Path] = []
    for target in targets:
        if target.endswith((".yaml", ".yml")):
            if not Path(target).is_file():
                raise UsageError(f"there is no template file {quoted(target)}")
            paths.append(Path(target))
        else:
            tasks |= _match(catalog, target)
    return tasks, paths


def _match(catalog: Catalog, target: str) -> dict[str, CatalogTask]:
    """Return the tasks that a name, a glob or a cluster means."""
    name = target.removeprefix("cluster:")
    found = {key: task for key, task in catalog.tasks.items() if name == target and fnmatchcase(key, target)}
    found = found or {key: task for key, task in catalog.tasks.items() if task.spec.cluster == name}
    if not found:
        clusters = {task.spec.cluster for task in catalog.tasks.values()}
        hint = nearest(name, {*catalog.tasks, *clusters} if name == target else clusters)
        raise UsageError(f"no task or cluster of {catalog.path} matches {quoted(target)}", hint=hint)
    return found


def _files_beside(catalog: Catalog) -> list[Path]:
    return sorted((catalog.document.path.parent / "templates").glob("*.yaml"))


def _own_file(task: CatalogTask) -> Path | None:
    """Return the file that a task names or that bears its name; None if its kind's serves, or there is none."""
    folders = [task.root / "templates", builtin.templates_folder()]
    wanted = task.spec.templates
    return template_file(wanted, folders) if wanted else template_file(task.name, folders[:1])


def _may_use(task: CatalogTask, paths: Collection[Path]) -> bool:
    own = _own_file(task)
    return _in(own, paths) if own else any(path.stem.startswith(task.spec.kind) for path in paths)


def _in(path: Path | None, paths: Collection[Path]) -> bool:
    return path is not None and path.resolve() in {each.resolve() for each in paths}


def _unused(catalog: Catalog, own: Collection[CatalogTask]) -> set[Path]:
    """Return the files beside the catalog that neither a task nor a kind can take."""
    used = {found.resolve() for task in own if (found := _own_file(task))}
    kinds = tuple(KINDS)
    return {path.resolve() for path in _files_beside(catalog) if not path.stem.startswith(kinds)} - used


def _read(path: Path, unused: bool) -> FileSubject:
    try:
        return FileSubject(path, entries_in(yamlfile.read(path)), unused)
    except CatalogError as error:
        return FileSubject(path, [error], unused)


def _open(entry: CatalogTask, mirror: Path | None, workers: Workers) -> TaskSubject:
    """Open a task as far as its data is at hand: nothing is downloaded."""
    try:
        at_hand, missing = _at_hand(entry, mirror)
        if at_hand is None:
            return TaskSubject(entry, _file_without_data(entry), skipped=missing)
        task = open_bare(at_hand, mirror, workers)
    except TaskmixError as error:
        return TaskSubject(entry, _own_file(entry), fault=error)
    return TaskSubject(entry, task.template_path, replace(task, entry=entry))


def _at_hand(entry: CatalogTask, mirror: Path | None) -> tuple[CatalogTask | None, str]:
    """Return the task with its source as it can be read now; None and why if it would have to be downloaded."""
    source = entry.spec.source
    if source.path is not None:
        # what a store has is not known without asking it
        return (None, f"{source.path} is not on this machine") if is_url(source.path) else (entry, "")
    assert source.hub is not None
    if mirror is not None:
        folder = mirror / source.hub / (source.config or "")
        return (entry, "") if folder.is_dir() else (None, f"{source.hub} is not in the mirror")
    commit = hub.fetched(source.hub, source.config, source.revision)
    if commit is None:
        return None, f"{source.hub} was not downloaded yet"
    pinned = source.model_copy(update={"revision": commit})
    return replace(entry, spec=entry.spec.model_copy(update={"source": pinned})), ""


def _file_without_data(entry: CatalogTask) -> Path | None:
    """Return a task's template file as far as the catalog tells. Raises CatalogError if it names one that is not."""
    if entry.spec.kind == "text-classification" and entry.spec.templates is None:
        # which of the kind's files serves depends on the columns
        return _own_file(entry)
    return template_path(entry, KINDS[entry.spec.kind], View(entry.name, frozenset(entry.spec.columns)))


def with_sample(subject: TaskSubject, templates: Collection[Template], rows: int) -> TaskSubject:
    """Return the subject with at most so many rows, drawn by hash from its splits, that its templates can render."""
    task = subject.task
    if task is None:
        return subject
    names = frozenset[str]().union({"label", "choices"}, *(template.names for template in templates)) & task.variables()
    names |= {"messages"} & task.kind.names
    samples, unusable = dict[str, pl.DataFrame](), list[tuple[str, TaskmixError]]()
    each = -(-rows // len({split.source_split for split in task.splits.values()}))
    for split in task.splits.values():
        if split.source_split not in samples:
            try:
                samples[split.source_split] = _sample(task, replace(split, low=0, high=2**64), names, each)
            except TaskmixError as error:
                unusable.append((split.source_split, error))
    return replace(subject, samples=samples, unusable=unusable)


def _sample(task: Task, split: Split, names: Collection[str], rows: int) -> pl.DataFrame:
    total = task.source.count(split.source_split)
    key = hashing.key(0, task.name, split.source_split, "lint")
    numbered = pl.DataFrame({SOURCE_ROW: pl.int_range(total, dtype=pl.UInt64, eager=True)})
    drawn = numbered.with_columns(order=hashing.draws(key, pl.col(SOURCE_ROW))).sort("order")
    spare = 1 if task.keep is None else _SPARE
    wanted = RowSet.of([drawn.head(rows * spare)[SOURCE_ROW].sort().to_numpy()])
    batches = [batch for batch, _ in task.kept_batches(split, names, wanted)]
    if not batches:
        return pl.DataFrame(schema={SOURCE_ROW: pl.UInt64})
    kept = pl.concat(batches).join(drawn, on=SOURCE_ROW, how="inner")
    return kept.sort("order").head(rows).drop("order").sort(SOURCE_ROW)


def templates_of(files: Sequence[FileSubject], subject: TaskSubject) -> list[Template]:
    """Return the templates of a task that compile."""
    mine = [file for file in files if _in(subject.file, [file.path])]
    return [template for file in mine for template in file.templates]

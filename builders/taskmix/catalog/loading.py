"""From a catalog file to checked values, each with the line that it came from."""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from taskmix.catalog import builtin, faults, yamlfile
from taskmix.catalog.models import CatalogSpec, CutSpec, MixtureSpec, TaskSpec
from taskmix.errors import CatalogError, UsageError, nearest
from taskmix.text import quoted


@dataclass(frozen=True)
class CatalogTask:
    """A task of a catalog: its name, what the catalog says of it, and where.

    `commit` pins its hub dataset, whatever its revision names by now.
    """

    name: str
    spec: TaskSpec
    document: yamlfile.Document
    commit: str | None = None

    @property
    def root(self) -> Path:
        """Return the folder that its paths and templates are relative to."""
        return self.document.path.parent

    def where(self, *keys: str | int) -> str:
        """Return ``file:line`` of a key of the task."""
        return self.document.where(("tasks", self.name, *keys))


@dataclass(frozen=True)
class Catalog:
    """The tasks and mixtures of one catalog file, with the built-in tasks where it extends them."""

    path: Path
    tasks: Mapping[str, CatalogTask]
    mixtures: Mapping[str, MixtureSpec]
    default_mixture: str | None
    document: yamlfile.Document
    paired_clusters: tuple[tuple[str, str], ...] = ()

    def task(self, name: str) -> CatalogTask:
        """Return a task by name. Raises UsageError with the nearest name."""
        if name not in self.tasks:
            raise UsageError(f"no task {quoted(name)} in {self.path}", hint=nearest(name, self.tasks))
        return self.tasks[name]

    def mixture(self, name: str | None = None) -> tuple[str, MixtureSpec]:
        """Return a mixture by name, or the default one. Raises UsageError with the nearest name."""
        chosen = name or self.default_mixture
        if chosen is None:
            hint = nearest("", self.mixtures) or "the catalog has no mixtures"
            raise UsageError(f"{self.path} names no default_mixture: name one", hint=hint)
        if chosen not in self.mixtures:
            raise UsageError(f"no mixture {quoted(chosen)} in {self.path}", hint=nearest(chosen, self.mixtures))
        return chosen, self.mixtures[chosen]

    def where(self, *keys: str | int) -> str:
        """Return ``file:line`` of a key of the catalog."""
        return self.document.where(keys)


def find_catalog(path: Path | None = None) -> Path:
    """Return the catalog file to use: the given one, $TASKMIX_CATALOG, ./catalog.yaml, or the built-in one."""
    if path is not None:
        return path
    if variable := os.environ.get("TASKMIX_CATALOG"):
        return Path(variable)
    local = Path("catalog.yaml")
    return local if local.is_file() else builtin.catalog_path()


def load_catalog(path: Path | None = None) -> Catalog:
    """Load and check a catalog file; by default the one that `find_catalog` finds.

    Raises:
        CatalogError: the file cannot be read, or says something that cannot be; every fault with its line.
    """
    document = yamlfile.read(find_catalog(path))
    spec = _validate(document)
    tasks = {name: CatalogTask(name, task, document) for name, task in spec.tasks.items()}
    inherited_pairs: tuple[tuple[str, str], ...] = ()
    if spec.extends == "builtin":
        base = _builtin()
        inherited, inherited_pairs = base.tasks, base.paired_clusters
        for name in tasks.keys() & inherited.keys():
            raise CatalogError(
                f"the task {quoted(name)} is one of the built-in catalog too",
                where=document.where(("tasks", name)),
                hint="give it another name, or drop `extends: builtin`",
            )
        tasks = {**inherited, **tasks}
    default = spec.default_mixture
    if default is not None and default not in spec.mixtures:
        raise CatalogError(
            f"default_mixture: no mixture {quoted(default)}",
            where=document.where(("default_mixture",)),
            hint=nearest(default, spec.mixtures),
        )
    pairs = (*inherited_pairs, *((one, other) for one, other in spec.paired_clusters))
    catalog = Catalog(document.path, tasks, spec.mixtures, default, document, pairs)
    _check_tasks(catalog, spec)
    _check_pairs(catalog, spec)
    return catalog


def _builtin() -> Catalog:
    path = builtin.catalog_path()
    stat = path.stat()
    return _read_builtin(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=1)
def _read_builtin(path: Path, modified: int, size: int) -> Catalog:
    """Read the built-in catalog once for each state that it is in: most catalogs of users extend it."""
    return load_catalog(path)


def _validate(document: yamlfile.Document) -> CatalogSpec:
    if not isinstance(document.value, dict):
        raise CatalogError(
            "the catalog is empty or not a mapping", where=str(document.path), hint="start with `version: 1`"
        )
    try:
        return CatalogSpec.model_validate(document.value, by_alias=True)
    except ValidationError as error:
        raise faults.explain(document, error, CatalogSpec) from None


def _check_pairs(catalog: Catalog, spec: CatalogSpec) -> None:
    """Check that paired clusters are clusters of tasks."""
    clusters = {task.spec.cluster for task in catalog.tasks.values()}
    for index, pair in enumerate(spec.paired_clusters):
        for name in pair:
            if name not in clusters:
                raise CatalogError(
                    f"paired_clusters: no task is of the cluster {quoted(name)}",
                    where=catalog.where("paired_clusters", index),
                    hint=nearest(name, clusters),
                )


def _check_tasks(catalog: Catalog, spec: CatalogSpec) -> None:
    """Check what no single value shows: splits that cut from each other, names that mixtures use."""
    for name, task in spec.tasks.items():
        for ours, theirs in (task.splits or {}).items():
            if not isinstance(theirs, CutSpec):
                continue
            parent = (task.splits or {}).get(theirs.from_)
            if not isinstance(parent, str):
                raise CatalogError(
                    f"tasks.{name}.splits.{ours} is cut from {theirs.from_!r}, which is not a split of the source",
                    where=catalog.where("tasks", name, "splits", ours),
                    hint="cut from a split that names one of the source's: `train: train`",
                )

"""Which tasks a mixture means by its names, clusters and globs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from taskmix.catalog.loading import Catalog, CatalogTask
from taskmix.catalog.models import LicensesSpec, MixtureSpec
from taskmix.errors import CatalogError, nearest
from taskmix.text import quoted


@dataclass(frozen=True)
class Selection:
    """The tasks of a mixture in name order, those that its licence rule leaves out, and the weights of tasks."""

    tasks: Mapping[str, CatalogTask]
    refused: Mapping[str, str]
    weights: Mapping[str, float]


def select(catalog: Catalog, mixture: str) -> Selection:
    """Return the tasks that a mixture's `tasks` and `licenses` name.

    Raises:
        CatalogError: an entry matches nothing, or a task named outright has a refused licence.
    """
    _, spec = catalog.mixture(mixture)
    chosen: dict[str, CatalogTask] = {}
    refused: dict[str, str] = {}
    weights: dict[str, float] = {}
    for index, (entry, weight) in enumerate(spec.entries):
        where = catalog.where("mixtures", mixture, "tasks", index)
        for name in _match(catalog.tasks, entry, where):
            if weight is not None:
                # a later entry says it anew: first a pattern, then its exceptions
                weights[name] = weight
            licence = _refused_licence(catalog.tasks[name], spec.licenses)
            if licence is None:
                chosen[name] = catalog.tasks[name]
            elif name == entry:
                raise CatalogError(
                    f"the task {quoted(name)} has the licence {quoted(licence)}, which this mixture refuses",
                    where=where,
                    hint="take it out of `tasks`, or change `licenses`",
                )
            else:
                refused[name] = licence
    if not chosen:
        raise CatalogError("no task is left", where=catalog.where("mixtures", mixture, "tasks"), hint="see `licenses`")
    return Selection(dict(sorted(chosen.items())), dict(sorted(refused.items())), weights)


def _match(tasks: Mapping[str, CatalogTask], entry: str, where: str) -> Iterable[str]:
    if entry.startswith("cluster:"):
        cluster = entry.removeprefix("cluster:")
        found = [name for name, task in tasks.items() if task.spec.cluster == cluster]
        hint = nearest(cluster, (task.spec.cluster for task in tasks.values()))
    elif any(character in entry for character in "*?["):
        found = [name for name in tasks if fnmatchcase(name, entry)]
        hint = "the pattern matches no task: `mix list` shows them"
    else:
        found, hint = [name for name in tasks if name == entry], nearest(entry, tasks)
    if not found:
        raise CatalogError(f"no task matches {quoted(entry)}", where=where, hint=hint)
    return found


def _refused_licence(task: CatalogTask, rule: LicensesSpec | None) -> str | None:
    """Return the first licence of a task that the rule refuses."""
    licences = [task.spec.license] if isinstance(task.spec.license, str) else task.spec.license
    if rule is None:
        return None
    if rule.deny is not None:
        return next((licence for licence in licences if licence in rule.deny), None)
    return next((licence for licence in licences if licence not in (rule.allow or ())), None)


def overridden(spec: MixtureSpec, seed: int | None, limit: int | None) -> MixtureSpec:
    """Return a mixture with the seed and the cap of the command line."""
    if seed is not None:
        spec = spec.model_copy(update={"seed": seed})
    if limit is not None:
        cap = min(limit, spec.sampling.cap or limit)
        spec = spec.model_copy(update={"sampling": spec.sampling.model_copy(update={"cap": cap})})
    return spec

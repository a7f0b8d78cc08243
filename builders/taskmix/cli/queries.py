"""What `mix list` and `mix show` say, as plain values."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taskmix.catalog.loading import Catalog, CatalogTask
from taskmix.catalog.selection import select
from taskmix.compiler import RowWise, Vectorised
from taskmix.errors import UsageError, nearest
from taskmix.kinds import KINDS
from taskmix.mixing.holdout import assign_roles
from taskmix.tasks.opening import open_task
from taskmix.templates.files import Template, find_template
from taskmix.templates.rowwise import Workers
from taskmix.text import quoted

Json = dict[str, Any]
_SELDOM = frozenset(("setup", "choices_separator", "undefined", "strip", "empty"))


def find_tasks(
    catalog: Catalog, kind: str | None, cluster: str | None, language: str | None, licence: str | None
) -> list[CatalogTask]:
    """Return the tasks that match every filter given, by cluster and name. Raises UsageError on unknown values."""
    tasks = list(catalog.tasks.values())
    for wanted, option, known in (
        (kind, "--kind", set(KINDS)),
        (cluster, "--cluster", {task.spec.cluster for task in tasks}),
        (language, "--language", {name for task in tasks for name in _listed(task.spec.language)}),
        (licence, "--license", {name for task in tasks for name in _listed(task.spec.license)}),
    ):
        if wanted is not None and wanted not in known:
            raise UsageError(f"{option}: no task has {quoted(wanted)}", hint=nearest(wanted, known))
    found = [
        task
        for task in tasks
        if kind in (None, task.spec.kind)
        and cluster in (None, task.spec.cluster)
        and (language is None or language in _listed(task.spec.language))
        and (licence is None or licence in _listed(task.spec.license))
    ]
    return sorted(found, key=lambda task: (task.spec.cluster, task.name))


def listing(catalog: Catalog, tasks: Sequence[CatalogTask]) -> Json:
    """Return the tasks and mixtures of a catalog."""
    return {
        "tasks": [{"name": task.name, **_spec(task)} for task in tasks],
        "mixtures": [
            {"name": name, "description": spec.description, "default": name == catalog.default_mixture}
            for name, spec in catalog.mixtures.items()
        ],
    }


def describe(catalog: Catalog, name: str, mirror: Path | None) -> Json:
    """Return what the catalog and the data say of a task, a mixture or a template (TASK/TEMPLATE)."""
    task, slash, template = name.partition("/")
    if slash:
        with Workers(1) as workers:
            opened = open_task(catalog.task(task), mirror, workers)
            found = find_template(opened.templates, template, task)
            return {"template": name, **_template(found), "rendered": _engine(opened.engines()[found.name])}
    if name in catalog.mixtures:
        return _mixture(catalog, name)
    if name in catalog.tasks:
        return _task(catalog, name, mirror)
    known = [*catalog.tasks, *catalog.mixtures]
    raise UsageError(f"no task or mixture is named {quoted(name)}", hint=nearest(name, known))


def _task(catalog: Catalog, name: str, mirror: Path | None) -> Json:
    with Workers(1) as workers:
        task = open_task(catalog.tasks[name], mirror, workers)
        engines = task.engines()
    return {
        "task": name,
        **_spec(task.entry),
        "metric": task.kind.metric,
        "head": task.kind.head,
        "source_splits": sorted(task.source.splits),
        "label_words": list(task.view.labels.words) if task.view.labels else None,
        "variables": sorted(task.variables()),
        "template_file": task.template_path.name if task.template_path else None,
        "template_names": [template.name for template in task.templates],
        "row_by_row": {each: _reason(found) for each, found in engines.items() if isinstance(found, RowWise)},
    }


def _engine(found: Vectorised | RowWise) -> str:
    """Return how a template is rendered, in words."""
    return f"row by row: {_reason(found)}" if isinstance(found, RowWise) else "as Polars expressions"


def _reason(found: RowWise) -> str:
    return f"{found.reason} (line {found.line})"


def _mixture(catalog: Catalog, name: str) -> Json:
    _, spec = catalog.mixture(name)
    selection = select(catalog, name)
    roles = assign_roles(catalog, name, selection.tasks)
    return {
        "mixture": name,
        "trains_on": list(roles.train),
        "held_out": list(roles.heldout),
        "excluded": dict(roles.excluded),
        "refused_licence": dict(selection.refused),
        **spec.model_dump(mode="json", by_alias=True, exclude_none=True),
    }


def _template(template: Template) -> Json:
    spec = template.spec.model_dump(mode="json", exclude={"name"})
    return {
        "file": f"{template.file.name}:{template.line}",
        **{
            name: value for name, value in spec.items() if name not in _SELDOM or name in template.spec.model_fields_set
        },
        "variables": sorted(template.names),
    }


def _spec(task: CatalogTask) -> Json:
    return task.spec.model_dump(mode="json", by_alias=True, exclude_none=True)


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value

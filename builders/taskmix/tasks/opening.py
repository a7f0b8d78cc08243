"""A task of the catalog with its source, its kind and its templates, all checked against each other."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from taskmix import hashing
from taskmix.catalog import builtin
from taskmix.catalog.loading import CatalogTask
from taskmix.catalog.models import CutSpec, SplitName
from taskmix.errors import CatalogError, TemplateError, nearest
from taskmix.kinds import KINDS, Kind, View
from taskmix.kinds.labels import Labels, make_labels
from taskmix.sources.opening import Source, open_source
from taskmix.tasks import columns
from taskmix.tasks.held import Held
from taskmix.tasks.task import Split, Task
from taskmix.templates.files import Template, read_templates, template_file
from taskmix.templates.parts import Expression, Part
from taskmix.templates.rowwise import Workers
from taskmix.text import quoted


def open_task(entry: CatalogTask, mirror: Path | None, workers: Workers, held: Held | None = None) -> Task:
    """Open a task's source and templates, and check what the catalog says of them; `held` may keep what is read.

    Raises:
        CatalogError: a split, column, label or template is not what the source or kind has; both are shown.
        SourceError, TemplateError: a file cannot be read, or a template does not compile.
    """
    bare = open_bare(entry, mirror, workers, held)
    task = replace(bare, templates=read_templates(bare.template_path) if bare.template_path else ())
    _check_splits_agree(task)
    for template in task.templates:
        check_names(task, template)
    return task


def open_bare(entry: CatalogTask, mirror: Path | None, workers: Workers, held: Held | None = None) -> Task:
    """Open a task's source and find its template file, which is not read. Raises as `open_task` does."""
    kind = KINDS[entry.spec.kind]
    source = open_source(entry, mirror)
    splits = _splits(entry, source)
    first = next(iter(splits.values())).source_split
    schema = source.schema(first)
    maps = columns.map_columns(entry, schema, f"{source.label} ({first})")
    if not kind.columns:
        maps += columns.nameable(schema, maps)
    view = _view(entry, kind, source, first, maps, workers)
    return Task(
        entry=entry,
        kind=kind,
        view=view,
        source=source,
        splits=splits,
        maps=maps,
        keep=_where(entry, schema, maps, source),
        templates=(),
        template_path=template_path(entry, kind, view),
        workers=workers,
        held=held or Held(),
    )


def _splits(entry: CatalogTask, source: Source) -> Mapping[SplitName, Split]:
    """Return the task's splits; a cut takes a band of its parent's row hashes, which leaves the parent."""
    spec = entry.spec.splits
    if spec is None:
        ours: tuple[SplitName, ...] = ("train", "validation")
        found = {name: Split(name) for name in ours if name in source.splits}
        if not found:
            source.require("train", f"{entry.where('source')}: task {entry.name}")
        return found
    where = {name: f"{entry.where('splits', name)}: task {entry.name}" for name in spec}
    splits = {
        name: Split(source.require(theirs, where[name])) for name, theirs in spec.items() if isinstance(theirs, str)
    }
    for name, theirs in spec.items():
        if isinstance(theirs, CutSpec):
            parent, edge = splits[theirs.from_], hashing.threshold(theirs.fraction)
            splits[name] = Split(parent.source_split, 0, edge)
            splits[theirs.from_] = Split(parent.source_split, edge, parent.high)
    sources = [split for split in splits.values() if split.is_whole]
    if len({split.source_split for split in sources}) < len(sources):
        raise CatalogError(
            f"train and validation are the same split of {source.label}",
            where=f"{entry.where('splits')}: task {entry.name}",
            hint="cut one from the other: `validation: {from: train, fraction: 0.05}`",
        )
    return splits


def _view(
    entry: CatalogTask, kind: Kind, source: Source, split: str, maps: Sequence[columns.ColumnMap], workers: Workers
) -> View:
    """Return how the kind sees the task; checks required columns, and works out the labels."""
    schema = source.schema(split)
    mapped = {each.name for each in maps}
    present = frozenset(name for name in kind.columns if name in mapped or name in schema)
    label = f"{source.label} ({split})"
    for name, column in kind.columns.items():
        if column.required and name not in present:
            raise CatalogError(
                f"a {kind.name} task needs `{name}` ({column.meaning}); {label} has {', '.join(schema)}",
                where=f"{entry.where('columns')}: task {entry.name}",
                hint=f"map it: `columns: {{{name}: …}}`",
            )
    where = f"{entry.where('labels')}: task {entry.name}"
    if kind.labelled is None:
        if entry.spec.labels is not None:
            raise CatalogError(f"a {kind.name} task has no labels", where=where, hint="remove `labels`")
        return View(entry.name, present)
    sample, class_names = _label_sample(entry, source, split, maps, kind.labelled, workers)
    labels = _labels(entry, kind, present, sample, class_names, where, label)
    multi = kind.name == "text-classification" and isinstance(sample, pl.List)
    return View(entry.name, present, labels, multi)


def _labels(
    entry: CatalogTask,
    kind: Kind,
    present: frozenset[str],
    dtype: pl.DataType,
    class_names: Sequence[str] | None,
    where: str,
    source: str,
) -> Labels | None:
    """Return the labels of a task; options of multiple choice need none where ids or keys tell them apart."""
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    assert isinstance(inner, pl.DataType), inner
    if kind.name == "multiple-choice":
        if "keys" in present:
            return None
        if entry.spec.labels is None and inner.is_integer():
            return None
    return make_labels(entry.spec.labels, inner, class_names, where, source)


def _label_sample(
    entry: CatalogTask, source: Source, split: str, maps: Sequence[columns.ColumnMap], name: str, workers: Workers
) -> tuple[pl.DataType, Sequence[str] | None]:
    """Return the type of the label column, and the source's names for its ids."""
    found = next((each for each in maps if each.name == name), None)
    uses = sorted(found.uses) if found else [name]
    batch = next(source.batches(split, uses), None)
    if batch is None or not len(batch):
        raise CatalogError(
            f"the split {split!r} of {source.label} is empty",
            where=f"{entry.where('splits')}: task {entry.name}",
        )
    frame = columns.apply(batch.head(1000), [found], entry.name, workers) if found else batch
    dtype = frame[name].dtype
    plain = not (found and isinstance(found.expression, Expression))
    return dtype, source.class_names(split).get(uses[0]) if plain and len(uses) == 1 else None


def _where(
    entry: CatalogTask, schema: Mapping[str, pl.DataType], maps: Sequence[columns.ColumnMap], source: Source
) -> Expression | None:
    if entry.spec.where is None:
        return None
    line = entry.document.texts.get(("tasks", entry.name, "where"), 1)
    keep = Expression.parse(entry.spec.where, str(entry.document.path), line)
    known = {**schema, **{each.name: pl.Null() for each in maps}}
    for name in sorted(keep.names):
        columns.require_column(name, known, f"{entry.where('where')}: task {entry.name}", source.label)
    return keep


def template_path(entry: CatalogTask, kind: Kind, view: View) -> Path | None:
    """Return the template file: the one named, else the task's own, else the kind's."""
    folders = [entry.root / "templates", builtin.templates_folder()]
    wanted = entry.spec.templates
    # a built-in file serves a task of another catalog only if it is named: the names may meet by chance
    found = template_file(wanted, folders) if wanted else template_file(entry.name, folders[:1])
    if wanted is not None and found is None:
        known = [path.stem for folder in folders if folder.is_dir() for path in folder.glob("*.yaml")]
        raise CatalogError(
            f"there is no template file {quoted(wanted + '.yaml')} in {folders[0]}",
            where=f"{entry.where('templates')}: task {entry.name}",
            hint=nearest(wanted, known),
        )
    fallback = kind.fallback(view)
    if found is None and not kind.names:
        raise CatalogError(
            f"the task {entry.name} has no templates, and a {kind.name} has none of its kind",
            where=f"{entry.where()}: task {entry.name}",
            hint=f"write {folders[0] / entry.name}.yaml, or name another file: `templates: …`",
        )
    return found or (template_file(fallback, folders) if fallback else None)


def _check_splits_agree(task: Task) -> None:
    """Check that every split has the columns that the first one was checked for."""
    first, *others = task.splits.items()
    used = task.used_columns(frozenset().union(*(template.names for template in task.templates)))
    base = {name: dtype for name, dtype in task.source.schema(first[1].source_split).items() if name in used}
    for name, split in others:
        schema = task.source.schema(split.source_split)
        for column, dtype in base.items():
            if column not in schema or (schema[column] != dtype and pl.Null not in (schema[column], dtype)):
                has = schema.get(column, "not there")
                raise CatalogError(
                    f"the column {quoted(column)} of {task.source.label} is {dtype} in {first[1].source_split}, "
                    f"but {has} in {split.source_split}",
                    where=f"{task.entry.where('splits', name)}: task {task.name}",
                )


def check_names(task: Task, template: Template) -> None:
    """Check that a template names only variables that its task has, of types that it can take.

    Raises:
        TemplateError: with the template's file and line, and the nearest name.
    """
    for part, name, hint in unknown_names(template, task.variables()):
        if part.strict:
            message = f"template {template.name}: the task {task.name} has no {quoted(name)}"
            raise TemplateError(message, where=part.where(name), hint=hint)
    for part, name, hint in columns_not_plain(task, template):
        message = f"template {template.name}: the column {quoted(name)} of task {task.name} is {task.schema()[name]}"
        raise TemplateError(message, where=part.where(name), hint=hint)


def unknown_names(template: Template, known: Collection[str]) -> Iterator[tuple[Part, str, str]]:
    """Yield each name that a template uses and nobody gives it: its part, the name, and a hint at the nearest."""
    for part in template.parts:
        is_text = any(part is text for text in template.texts)
        allowed = {*known, "choices"} if template.choices is not None and is_text else {*known}
        for name in sorted(part.names - allowed - part.assigned):
            yield part, name, nearest(name, allowed)


def columns_not_plain(task: Task, template: Template) -> Iterator[tuple[Part, str, str]]:
    """Yield each column that a template names and that holds what templates cannot take, such as dates; a hint."""
    schema = task.schema()
    mapped = {each.name for each in task.maps} | task.kind.names
    for part in template.texts:
        for name in sorted((part.names & set(schema)) - mapped):
            if not columns.is_plain(schema[name]):
                yield part, name, "templates take text, numbers, truth values, and lists and mappings of them"

"""Check hub tasks of the built-in catalog against schemas and rows, and their templates against each other.

    python tests/catalog_check.py all              every hub task
    python tests/catalog_check.py sst2 "xquad-*"   some of them

It wants the shared folder with schemas, data and public templates. Findings are printed with their place; the exit
status is 1 if there are any. What stands below `note` is to be known, not to be mended.
"""

import argparse
import functools
import json
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import polars as pl

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from taskmix.catalog import builtin, yamlfile
from taskmix.catalog.loading import Catalog, CatalogTask, load_catalog
from taskmix.errors import TaskmixError
from taskmix.frames import DRAW, SOURCE_ROW
from taskmix.linting.running import lint
from taskmix.rendering import render
from taskmix.tasks.opening import open_bare
from taskmix.tasks.task import Task
from taskmix.templates.files import Template, entries_in, template_file
from taskmix.templates.rowwise import Workers
from tests import hub_schemas, phrasing
from tests.conftest import SHARED
from tests.typed_rows import FEW, need_a_form, real_mirror, typed_mirror, written_mirror

FREE_TEXT = ("text-generation", "conversation")
"""Kinds of which five templates are enough, for eight of the others."""


_WRITE_ONE = "if rows of the dataset are never like these, write one for the task in docs/examples/"


@dataclass(frozen=True)
class Finding:
    """What is wrong, or only to be known, of a task or of a template."""

    task: str
    where: str
    message: str
    note: bool = False

    def __str__(self) -> str:
        return f"{'note ' if self.note else ''}{self.task}: {self.where}: {self.message}"


@functools.cache
def catalog() -> Catalog:
    return load_catalog(builtin.catalog_path())


def hub_tasks() -> list[str]:
    return [name for name, task in catalog().tasks.items() if task.spec.source.hub is not None]


def check(task: CatalogTask) -> Iterator[Finding]:
    """Yield all that is wrong with a task and its templates."""
    yield from check_entry(task)
    with tempfile.TemporaryDirectory() as folder:
        yield from check_rows(task, Path(folder))
    templates = templates_of(task)
    yield from check_count(task, templates)
    yield from check_phrasing(task, templates)
    yield from check_borrowed(task, templates)


# The entry


def check_entry(task: CatalogTask) -> Iterator[Finding]:
    """Yield what an entry says that the schema of its dataset does not."""
    spec, source = task.spec, task.spec.source
    assert source.hub is not None, task.name
    if spec.citation is None:
        yield Finding(task.name, task.where(), "has no `citation`")
    schema = hub_schemas.find(source.hub)
    real = hub_schemas.data_folder(source.hub, source.config)
    if schema is None:
        if real is None:
            yield Finding(task.name, task.where("source"), f"no schema and no data for {source.hub}: unchecked", True)
        return
    place = task.where("source")
    if schema.hub not in (None, hub_schemas.COPIES.get(source.hub, source.hub)) and real is None:
        yield Finding(task.name, place, f"the hub id is {schema.hub}, not {source.hub}")
    elif schema.hub is None:
        yield Finding(task.name, place, f"the schema {schema.legacy} names no hub id: is it {source.hub}?", True)
    config = schema.config(source.config)
    if config is None:
        configs = ", ".join(list(schema.configs)[:40])
        wrong = f"has no config {source.config!r}" if source.config else "wants a config"
        yield Finding(task.name, place, f"{source.hub} {wrong}: {configs}", real is not None or schema.hub is None)
        return
    yield from _splits(task, config.splits, real is not None)
    yield from _licence(task, schema.licences)


def _splits(task: CatalogTask, known: Mapping[str, int | None], real: bool) -> Iterator[Finding]:
    theirs = [each for each in (task.spec.splits or {}).values() if isinstance(each, str)]
    for split in theirs if known else ():
        if split not in known:
            yield Finding(
                task.name, task.where("splits"), f"the schema has no split {split!r}: {', '.join(known)}", real
            )
    if task.spec.splits is None and known and "validation" not in known and not real:
        yield Finding(task.name, task.where(), f"has no `validation`: {', '.join(known)}")


def _licence(task: CatalogTask, known: Sequence[str]) -> Iterator[Finding]:
    given = task.spec.license
    listed = {given} if isinstance(given, str) else set(given)
    if known and not listed & {each.lower() for each in known}:
        yield Finding(task.name, task.where("license"), f"the schema has the licence {', '.join(known)}", True)


# Rows


def check_rows(task: CatalogTask, folder: Path) -> Iterator[Finding]:
    """Yield what the linter says of a task and its templates: on real rows, else on typed ones.

    Where typed rows do not do, on rows that were written for the task.
    """
    try:
        if real := real_mirror(task, folder):
            yield from _on_rows(task, real, "real")
            return
        typed = typed_mirror(task, folder / "typed")
        found = list(_on_rows(task, typed, "typed")) if typed else []
        again = not typed or (need_a_form(task) and any(not each.note for each in found))
        written = written_mirror(task, folder / "written", more=True) if again else None
    except (ValueError, TypeError, pl.exceptions.PolarsError) as error:
        yield Finding(task.name, f"docs/examples: {task.name}", f"the written rows do not fit the schema: {error}")
        return
    if written:
        yield from _on_rows(task, written, "written")
    elif typed:
        yield from found
    else:
        message = "no schema, no data, no written row: templates are not rendered; write one in docs/examples/"
        yield Finding(task.name, task.where(), message)


def _on_rows(task: CatalogTask, mirror: Path, rows: str) -> Iterator[Finding]:
    yield from _rendered(task, mirror)
    for each in lint([task.name], catalog=catalog(), mirror=mirror).findings:
        row = f" ({rows} rows, {each.split} {each.row})" if each.row is not None else f" ({rows} rows)"
        template = f" [{each.template}]" if each.template else ""
        hint = f"; {each.hint}" if each.hint else ""
        text = f"{each.severity} {each.rule}{template}: {each.message}{hint}{row}"
        if rows == "typed" and each.rule in ("broken-task", "unusable-row", "fails-on-row", "empty-output"):
            text += f"; {_WRITE_ONE}"
        yield Finding(task.name, f"{each.file}:{each.line}", text, each.severity == "note")


def _rendered(task: CatalogTask, folder: Path) -> Iterator[Finding]:
    """Yield the splits of which `where` leaves nothing, and outputs that set out to be JSON and are none."""
    with Workers(1) as workers:
        try:
            opened = replace(open_bare(task, folder, workers), templates=templates_of(task))
            names = frozenset[str]().union(*(each.names for each in opened.templates)) & opened.variables()
            for name, split in opened.splits.items():
                rows = next((batch for batch in opened.batches(split, names) if len(batch)), None)
                if rows is None and split.is_whole:
                    yield Finding(task.name, task.where("where"), f"no row of {name} is left: {_WRITE_ONE}")
                elif rows is not None:
                    yield from _broken_json(opened, rows.head(FEW))
        except TaskmixError:
            return  # the linter says it, with its line


def _broken_json(task: Task, rows: pl.DataFrame) -> Iterator[Finding]:
    for template in task.templates:
        if "tojson" not in template.spec.output:
            continue
        drawn = rows.with_columns(pl.col(SOURCE_ROW).alias(DRAW))
        outputs = render(drawn, template, task.name, None, task.workers, task.facts).rows["output"]
        for output in outputs.drop_nulls():
            try:
                json.loads(output if output[:1] in "{[" else "null")
            except ValueError:
                yield Finding(task.name, _file([template]), f"[{template.name}] is no JSON: {output!r}")
                break


# Templates


def templates_of(task: CatalogTask) -> tuple[Template, ...]:
    """Return the templates that are a task's own, or of the file that it names; none if its kind's serves."""
    file = template_file(task.spec.templates or task.name, [builtin.templates_folder()])
    return _templates_in(file) if file else ()


@functools.cache
def _templates_in(file: Path) -> tuple[Template, ...]:
    try:
        return tuple(each for each in entries_in(yamlfile.read(file)) if isinstance(each, Template))
    except TaskmixError:
        return ()  # the linter says it, with its line


def check_count(task: CatalogTask, templates: Sequence[Template]) -> Iterator[Finding]:
    kind = task.spec.kind
    wanted = 0 if kind == "conversation" else 5 if kind in FREE_TEXT else 8
    if len(templates) < wanted:
        yield Finding(task.name, task.where(), f"has {len(templates)} templates of its own; a {kind} needs {wanted}")


def check_phrasing(task: CatalogTask, templates: Sequence[Template]) -> Iterator[Finding]:
    for pair in phrasing.alike(templates):
        yield Finding(task.name, _file(templates), f"share more than half of their trigrams: {pair}")


def check_borrowed(task: CatalogTask, templates: Sequence[Template]) -> Iterator[Finding]:
    public = phrasing.public_runs(SHARED)
    for template in templates:
        found = dict(phrasing.borrowed(template, public))
        for run, where in list(found.items())[:2]:
            yield Finding(task.name, _file([template]), f"[{template.name}] “{run}” stands in {where}")


def _file(templates: Sequence[Template]) -> str:
    return f"{templates[0].file.name}:{templates[0].line}"


# The command


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tasks", nargs="+", metavar="TASK", help="a task, a glob of tasks, or `all`")
    parser.add_argument("--no-notes", action="store_true", help="print what is to be mended alone")
    options = parser.parse_args(arguments)
    names = hub_tasks()
    chosen = [name for name in names if _wanted(name, options.tasks)]
    if unknown := [
        each for each in options.tasks if each != "all" and not any(_wanted(name, [each]) for name in names)
    ]:
        parser.error(f"no hub task matches {', '.join(unknown)}")
    wrong = 0
    for name in chosen:
        for finding in check(catalog().tasks[name]):
            if not (finding.note and options.no_notes):
                print(finding, flush=True)
            wrong += not finding.note
    templates = sum(len(templates_of(catalog().tasks[name])) for name in chosen)
    print(f"{len(chosen)} tasks, {templates} templates, {wrong} to mend")
    return 1 if wrong else 0


def _wanted(name: str, patterns: Collection[str]) -> bool:
    return any(pattern == "all" or fnmatchcase(name, pattern) for pattern in patterns)


if __name__ == "__main__":
    sys.exit(main())

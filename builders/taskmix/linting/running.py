"""One run of the linter: what is looked at, which rules look, and what they find, each finding once."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from taskmix.catalog.loading import Catalog, load_catalog
from taskmix.linting.findings import Finding, Problem, Report, Rule, S
from taskmix.linting.gathering import Gathered, gather, templates_of, with_sample
from taskmix.linting.rules import FILE_RULES, TASK_RULES, TEMPLATE_RULES, chosen
from taskmix.linting.subjects import FileSubject, Phrasing, TaskSubject
from taskmix.templates.files import Template
from taskmix.templates.rowwise import Limits, Workers
from taskmix.text import shown, visible

ROWS = 200
"""Rows of a task's sample, unless a user wants more or fewer."""

LIMITS = Limits(seconds=2.0)


def lint(
    targets: Sequence[str] = (),
    *,
    catalog: Catalog | None = None,
    mirror: Path | None = None,
    rows: int = ROWS,
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
) -> Report:
    """Look at templates and tasks, and report all that the rules find.

    Args:
        targets: tasks, clusters, globs of tasks, or template files; by default the whole catalog.
        catalog: by default the one that `load_catalog` finds.
        mirror: a folder with copies of hub datasets. Nothing is downloaded: without a mirror a hub dataset is read
            if it was downloaded before.
        rows: at most so many rows a task; 0 for none.
        select: only these rules, by name or by the start of it.
        ignore: all but these.

    Raises:
        UsageError: a target or a rule is unknown; with the nearest name.
        CatalogError: the catalog itself cannot be read.
    """
    rules = chosen(select, ignore)
    with Workers(1, LIMITS) as workers:
        gathered = gather(catalog or load_catalog(), targets, mirror, workers)
        found = list(_findings(gathered, rows, rules))
    skipped = tuple((each.entry.name, each.skipped) for each in gathered.tasks if each.skipped)
    templates = sum(len(file.entries) for file in gathered.files)
    return Report(_once(found), len(gathered.files), templates, len(gathered.tasks), skipped)


def _findings(gathered: Gathered, rows: int, rules: frozenset[str]) -> Iterator[Finding]:
    for file in gathered.files:
        yield from _file(file, rules)
    unseen = {file.path.resolve(): file for file in gathered.files}
    for subject in gathered.tasks:
        templates = templates_of(gathered.files, subject)
        yield from _task(with_sample(subject, templates, rows) if rows else subject, templates, rules)
        if subject.file is not None:
            unseen.pop(subject.file.resolve(), None)
    for file in unseen.values():
        for template in file.templates:
            yield from _template(Phrasing(template), rules)


def _file(file: FileSubject, rules: frozenset[str]) -> Iterator[Finding]:
    for rule, problem in _problems(FILE_RULES, file, rules):
        yield _finding(rule, problem, file.path, template=_template_at(file, problem.line))


def _task(subject: TaskSubject, templates: Iterable[Template], rules: frozenset[str]) -> Iterator[Finding]:
    for rule, problem in _problems(TASK_RULES, subject, rules):
        yield _finding(rule, problem, subject.entry.document.path, task=subject.entry.name)
    for template in templates:
        yield from _template(Phrasing(template, subject), rules)


def _template(phrasing: Phrasing, rules: frozenset[str]) -> Iterator[Finding]:
    task = phrasing.of.entry.name if phrasing.of is not None else None
    for rule, problem in _problems(TEMPLATE_RULES, phrasing, rules):
        yield _finding(rule, problem, phrasing.template.file, task, phrasing.template.name)


def _problems(table: Sequence[Rule[S]], subject: S, rules: frozenset[str]) -> Iterator[tuple[Rule[S], Problem]]:
    for rule in table:
        if rule.name in rules:
            for problem in rule.check(subject):
                yield rule, problem


def _finding(
    rule: Rule[S], problem: Problem, file: Path, task: str | None = None, template: str | None = None
) -> Finding:
    return Finding(
        rule.name,
        rule.severity,
        shown(file.absolute()),
        problem.line,
        _one_line(problem.message),
        _one_line(problem.hint),
        task,
        template,
        problem.split,
        problem.row,
    )


def _one_line(text: str) -> str:
    return visible(" ".join(text.split()))


def _template_at(file: FileSubject, line: int) -> str | None:
    """Return the name of the template that starts on a line."""
    return next((template.name for template in file.templates if template.line == line), None)


def _once(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings by file and line; one that several tasks share stands once, with the first task's row."""
    merged: dict[tuple[object, ...], Finding] = {}
    for each in findings:
        key = (each.file, each.line, each.rule, each.template, each.message)
        first = merged.setdefault(key, each)
        if first.task and each.task and each.task != first.task and each.task not in first.also:
            merged[key] = replace(first, also=(*first.also, each.task))
    return tuple(sorted(merged.values(), key=lambda each: (each.file, each.line, each.rule, each.message)))

"""How a report looks: for a person, for a program, and as the annotations of a GitHub workflow."""

import dataclasses
import json
from collections.abc import Callable, Mapping

from taskmix.linting.findings import Finding, Report
from taskmix.text import counted, visible

_MOST_SKIPPED = 8


def text(report: Report) -> str:
    """Return a line or two a finding, and one that sums up."""
    lines = [_line(finding) for finding in report.findings]
    lines += [_skipped(report)] if report.skipped else []
    return "\n".join([*lines, _summary(report)])


def _line(finding: Finding) -> str:
    first = f"{finding.file}:{finding.line}: {finding.severity}: {finding.message} [{finding.rule}]{_place(finding)}"
    return f"{first}\n  {finding.hint}" if finding.hint else first


def _place(finding: Finding) -> str:
    """Return the template, task and row of a finding in brackets."""
    others = f" and {len(finding.also)} more" if finding.also else ""
    parts = [
        f"template {finding.template}" if finding.template else "",
        f"task {finding.task}{others}" if finding.task else "",
        f"{finding.split} row {finding.row}" if finding.row is not None else "",
    ]
    known = [part for part in parts if part]
    return f" ({', '.join(known)})" if known else ""


def _skipped(report: Report) -> str:
    names = [name for name, _ in report.skipped]
    listed = ", ".join(names[:_MOST_SKIPPED]) + (", …" if len(names) > _MOST_SKIPPED else "")
    return (
        f"note: the data of {counted(len(names), 'task')} is not at hand ({listed}): only template and catalog were "
        "checked\n  give --mirror DIR, or build them once"
    )


def _summary(report: Report) -> str:
    counts = [(report.count(severity), severity) for severity in ("error", "warning", "note")]
    seen = f"{counted(report.templates, 'template')} in {counted(report.files, 'file')}"
    found = ", ".join(counted(number, severity) for number, severity in counts if number) or "no findings"
    return f"{seen}, {counted(report.tasks, 'task')}: {found}"


def as_json(report: Report) -> str:
    """Return the report as one line of JSON."""
    found = {
        "findings": [dataclasses.asdict(finding) for finding in report.findings],
        "errors": report.count("error"),
        "warnings": report.count("warning"),
        "notes": report.count("note"),
        "files": report.files,
        "templates": report.templates,
        "tasks": report.tasks,
        "skipped": [{"task": task, "reason": reason} for task, reason in report.skipped],
    }
    return json.dumps(found, ensure_ascii=False)


def github(report: Report) -> str:
    """Return a workflow command a finding, which GitHub shows beside the line in a pull request."""
    lines = [_command(finding) for finding in report.findings]
    lines += [f"::notice title=rows not checked::{_data(f'{task}: {why}')}" for task, why in report.skipped]
    return "\n".join(lines)


def _command(finding: Finding) -> str:
    message = f"{finding.message}{_place(finding)}" + (f"\n{finding.hint}" if finding.hint else "")
    file, rule = _property(finding.file), _property(finding.rule)
    severity = "notice" if finding.severity == "note" else finding.severity
    return f"::{severity} file={file},line={finding.line},title={rule}::{_data(message)}"


def _data(text: str) -> str:
    """Escape what ends a command's message or starts an escape."""
    return visible(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Escape what ends a command's property, too."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")


FORMATS: Mapping[str, Callable[[Report], str]] = {"text": text, "json": as_json, "github": github}

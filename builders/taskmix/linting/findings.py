"""What a rule is, and what it finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Severity = Literal["error", "warning", "note"]
"""A note says what is good to know of a template that has no fault."""

Needs = Literal["files", "source", "rows"]
"""What a rule reads: template and catalog alone, the source's columns and labels too, or a sample of its rows."""

S = TypeVar("S")


@dataclass(frozen=True)
class Problem:
    """What a rule says of what it looked at: a message, its line, and the row that shows it, if a row does."""

    message: str
    line: int
    hint: str = ""
    split: str | None = None
    row: int | None = None


@dataclass(frozen=True)
class Rule(Generic[S]):
    """A rule of the linter: `check` yields the problems of a file, a task, or a template in the light of a task."""

    name: str
    severity: Severity
    needs: Needs
    description: str
    check: Callable[[S], Iterator[Problem]]


@dataclass(frozen=True)
class Finding:
    """A problem with its rule and its place. `also` are other tasks in which the same template shows the same."""

    rule: str
    severity: Severity
    file: str
    line: int
    message: str
    hint: str = ""
    task: str | None = None
    template: str | None = None
    split: str | None = None
    row: int | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """All findings by file and line; how much was looked at; the tasks whose data is not at hand, and why.

    Of those only what template and catalog alone show was checked.
    """

    findings: tuple[Finding, ...]
    files: int
    templates: int
    tasks: int
    skipped: tuple[tuple[str, str], ...]

    def count(self, severity: Severity) -> int:
        """Return the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

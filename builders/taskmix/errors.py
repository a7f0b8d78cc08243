"""What can go wrong, as a user sees it.

TaskmixError            an understood failure: one message, no traceback, exit 1
├── UsageError          the command was called wrongly: exit 2
├── CatalogError        catalog.yaml or a template file says something that cannot be
├── SourceError         a dataset is missing, unreadable, or not what the catalog says
├── RowError            one row of a dataset cannot be used
├── TemplateError       a template cannot be compiled, or fails on a row
├── OutputError         a mixture cannot be written, or is not what its lock says
└── PushError           a mixture cannot be put where it is to go, or somebody else was there first
"""

import difflib
from collections.abc import Iterable, Sequence


class TaskmixError(Exception):
    """An understood failure: what happened, where, what would mend it, and further faults found with it."""

    exit_code = 1

    def __init__(self, message: str, *, where: str = "", hint: str = "", more: "Sequence[TaskmixError]" = ()) -> None:
        self.message, self.where, self.hint, self.more = message, where, hint, tuple(more)
        super().__init__(message, where, hint)

    def __reduce__(self) -> tuple[object, ...]:
        # by default an exception is made anew from its arguments by position, in another process too
        return _again, (type(self), self.message, self.where, self.hint, self.more)

    def __str__(self) -> str:
        first = f"{self.where}: {self.message}" if self.where else self.message
        own = f"{first}\n  {self.hint}" if self.hint else first
        return "\n".join([own, *map(str, self.more)])


def _again(kind: type[TaskmixError], message: str, where: str, hint: str, more: Sequence[TaskmixError]) -> TaskmixError:
    return kind(message, where=where, hint=hint, more=more)


class UsageError(TaskmixError):
    """The command or function was called with arguments that make no sense."""

    exit_code = 2


class CatalogError(TaskmixError):
    """A catalog or template file is malformed or contradicts itself."""


class SourceError(TaskmixError):
    """A dataset cannot be read, or does not have what the catalog says."""


class RowError(TaskmixError):
    """A row holds a value that its task cannot take."""


class TemplateError(TaskmixError):
    """A template does not compile, or fails on a row."""


class OutputError(TaskmixError):
    """A mixture cannot be written, or differs from its lock."""


class PushError(TaskmixError):
    """A mixture cannot be put where it is to go; the message says what is there now."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the closest of the known names, or all of a short list."""
    options = sorted(set(known))
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    if not options:
        return ""
    shown = ", ".join(options[:12])
    return f"known: {shown}{', …' if len(options) > 12 else ''}"

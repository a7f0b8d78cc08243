"""A task's entry put into the text of a catalog, which keeps its comments and its form."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from taskmix.catalog import builtin
from taskmix.catalog.loading import Catalog, CatalogTask, load_catalog
from taskmix.errors import CatalogError, OutputError, UsageError
from taskmix.text import quoted

NEW = "version: 1\nextends: builtin  # the built-in tasks can be named in mixtures, too; `mix list` shows them\n"


def check_own(path: Path) -> None:
    """Raise UsageError if a catalog is the built-in one, which is never edited."""
    if path.resolve() == builtin.catalog_path().resolve():
        hint = "name a catalog of your own with --catalog; it is made if it is not there"
        raise UsageError("the built-in catalog is not edited", hint=hint)


def read(path: Path) -> str | None:
    """Return a catalog's text with its line ends as they are; None if there is no such file."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise CatalogError(f"not UTF-8: {error.reason} at byte {error.start}", where=str(path)) from None
    except OSError as error:
        raise CatalogError(f"cannot be read: {error.strerror}", where=str(path)) from None


def inserted(text: str, entry: Sequence[str], path: Path) -> str:
    """Return a catalog's text with an entry below `tasks`, behind those that are there.

    Raises:
        CatalogError: the tasks are written in a form that lines cannot be added to.
    """
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += end
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    found = {key.value: (key, value) for key, value in root.value} if isinstance(root, yaml.MappingNode) else {}
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        raise CatalogError("not a mapping over several lines", where=str(path), hint="start with `version: 1`")
    if "tasks" not in found:
        at = _content_end(lines, 0, _last_line(lines))
        return _joined(lines, at, ["", "tasks:", *_indented(entry, "  ")], end)
    key, tasks = found["tasks"]
    if isinstance(tasks, yaml.MappingNode) and tasks.value and not tasks.flow_style:
        indent = " " * tasks.value[0][0].start_mark.column
        at = _content_end(lines, tasks.start_mark.line, _next_line(root, tasks, lines))
        return _joined(lines, at, _indented(entry, indent), end)
    if isinstance(tasks, yaml.MappingNode) and not tasks.value:
        line = key.start_mark.line
        before, _, after = lines[line].partition(":")
        comment = after[after.index("#") :].rstrip() if "#" in after else ""
        lines[line] = f"{before}:{f'  {comment}' if comment else ''}{end}"
        return _joined(lines, line + 1, _indented(entry, " " * (key.start_mark.column + 2)), end)
    where, hint = f"{path}:{tasks.start_mark.line + 1}", "write one task a line below `tasks:`"
    raise CatalogError("`tasks` is written in braces, to which no lines can be added", where=where, hint=hint)


def _next_line(root: yaml.MappingNode, tasks: yaml.Node, lines: Sequence[str]) -> int:
    """Return the line on which what follows the tasks starts."""
    later = [key.start_mark.line for key, _ in root.value if key.start_mark.line > tasks.start_mark.line]
    return min(later, default=_last_line(lines))


def _last_line(lines: Sequence[str]) -> int:
    """Return the line behind the document: that of its end marker, if it has one."""
    return next((at for at, line in enumerate(lines) if line.rstrip() == "..."), len(lines))


def _content_end(lines: Sequence[str], start: int, end: int) -> int:
    """Return the line behind the last one of content: comments at the margin belong to what follows."""
    while end > start and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    return end


def _indented(lines: Sequence[str], indent: str) -> list[str]:
    return [indent + line if line else line for line in lines]


def _joined(lines: Sequence[str], at: int, added: Sequence[str], end: str) -> str:
    return "".join([*lines[:at], *(line + end for line in added), *lines[at:]])


def replace(path: Path, old: str | None, new: str, name: str) -> Catalog:
    """Write a catalog's new text beside it, load it, and only then put it in its place.

    Raises:
        CatalogError: the new text is no valid catalog, or would change more than this one task.
        OutputError: it cannot be written, or was changed by somebody else meanwhile.
    """
    target = path.resolve()
    before = load_catalog(target).tasks if old is not None else {}
    part = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}-", suffix=".yaml")
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(new)
            file.flush()
            os.fsync(file.fileno())
        _check(Path(part), before, name)
        if read(target) != old:
            raise OutputError("was changed meanwhile", where=str(path), hint="run the command again")
        Path(part).chmod(target.stat().st_mode & 0o777 if old is not None else 0o644)
        Path(part).replace(target)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(path)) from None
    finally:
        if part is not None:
            Path(part).unlink(missing_ok=True)
    return load_catalog(path)


def _check(part: Path, before: Mapping[str, CatalogTask], name: str) -> None:
    """Raise CatalogError unless a new catalog has what the old one has, and the new task."""
    after = load_catalog(part).tasks
    lost = [each for each, task in before.items() if each not in after or after[each].spec != task.spec]
    if lost or name not in after:
        raise CatalogError(f"the entry does not fit into the file: {quoted(lost or name)} would change")

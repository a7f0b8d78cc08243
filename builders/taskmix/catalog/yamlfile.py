"""YAML files read strictly, with the line of every value.

A subset of YAML 1.2's core schema: `no` is text, `010` is ten, a duplicate key or a tag is an error. Files are
untrusted: size, depth and the number of values after aliases are expanded are bounded.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from taskmix.errors import CatalogError
from taskmix.text import quoted, visible

Scalar = str | int | float | bool | None
Location = tuple[str | int, ...]

MAX_BYTES = 16 * 2**20
MAX_DEPTH = 32
MAX_VALUES = 500_000

_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class Document:
    """A file's value, and the line (1-based) of every value in it.

    `lines` holds the line of each location's key or item; `texts` the line on which a text's content starts,
    which for a block scalar is the one below; `tags` the tag of each location that has one of those asked for.
    """

    path: Path
    value: object
    lines: Mapping[Location, int]
    texts: Mapping[Location, int]
    tags: Mapping[Location, str] = field(default_factory=dict)

    def line(self, location: Location) -> int:
        """Return the line of a location, or of the nearest value around it."""
        while location not in self.lines and location:
            location = location[:-1]
        return self.lines.get(location, 1)

    def where(self, location: Location = ()) -> str:
        """Return ``file:line`` of a location, for a message."""
        return f"{self.path}:{self.line(location)}"


def read(path: Path, tags: Collection[str] = ()) -> Document:
    """Read a YAML file. The `tags` are noted and mean nothing: what they stand on is read as if they were not there.

    Raises:
        CatalogError: the file cannot be read, is not strict YAML, or exceeds a bound; with its line.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CatalogError(f"the file is larger than {MAX_BYTES >> 20} MiB", where=str(path))
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise CatalogError(f"not UTF-8: {error.reason} at byte {error.start}", where=f"{path}:{line}") from None
    except OSError as error:
        raise CatalogError(f"cannot be read: {error.strerror}", where=str(path)) from None
    return parse(text, path, tags)


def parse(text: str, path: Path, tags: Collection[str] = ()) -> Document:
    """Parse YAML text; `path` is what messages name. Raises CatalogError as `read` does."""
    try:
        _check_events(text, path, tags)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        if "nesting depth" in (error.problem or ""):
            # libyaml's own bound, which it meets while it looks ahead of the events
            raise CatalogError(f"nested deeper than {MAX_DEPTH} levels", where=where) from None
        at_tab = mark is not None and text.removeprefix("\ufeff")[mark.index : mark.index + 1] == "\t"
        hint = "indent with spaces, not tabs" if at_tab else ""
        raise CatalogError(f"not valid YAML: {visible(error.problem or '')}", where=where, hint=hint) from None
    except yaml.YAMLError as error:
        raise CatalogError(f"not valid YAML: {visible(str(error))}", where=str(path)) from None
    builder = _Builder(path, tags)
    value = builder.value(node, ()) if node is not None else None
    return Document(path, value, builder.lines, builder.texts, builder.tags)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Gives no value the tag that YAML 1.1 would: `plain` reads scalars."""

    def resolve(self, kind: type[yaml.Node], value: str | None, implicit: object) -> str:
        return ""


def _check_events(text: str, path: Path, tags: Collection[str]) -> None:
    """Refuse other tags and deep nesting before anything is built."""
    allowed, depth = (None, "!", *tags), 0
    for event in yaml.parse(text, Loader=_Loader):
        tag = getattr(event, "tag", None)
        if tag not in allowed:
            raise CatalogError(
                f"the tag {quoted(tag)} is not allowed here", where=_where(path, event), hint="remove it"
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise CatalogError(f"nested deeper than {MAX_DEPTH} levels", where=_where(path, event))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _where(path: Path, event: yaml.Event) -> str:
    assert event.start_mark is not None, event
    return f"{path}:{event.start_mark.line + 1}"


@dataclass
class _Builder:
    """Turns YAML nodes into plain values and notes their lines."""

    path: Path
    known: Collection[str] = ()
    lines: dict[Location, int] = field(default_factory=dict)
    texts: dict[Location, int] = field(default_factory=dict)
    tags: dict[Location, str] = field(default_factory=dict)
    count: int = 0

    def value(self, node: yaml.Node, at: Location) -> object:
        self.count += 1
        line = node.start_mark.line + 1
        if self.count > MAX_VALUES:
            hint = "aliases (*name) that contain aliases multiply: write the values out"
            raise CatalogError(f"expands to more than {MAX_VALUES:,} values", where=f"{self.path}:{line}", hint=hint)
        if len(at) > MAX_DEPTH:
            hint = "an alias (*name) nests what it names, endlessly if that is around it"
            raise CatalogError(f"nested deeper than {MAX_DEPTH} levels", where=f"{self.path}:{line}", hint=hint)
        self.lines.setdefault(at, line)
        if node.tag in self.known:
            self.tags[at] = node.tag
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, at)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*at, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        self.texts[at] = line + 1 if node.style in ("|", ">") else line
        return node.value if node.style else plain(node.value)

    def _mapping(self, node: yaml.MappingNode, at: Location) -> dict[Scalar, object]:
        found: dict[Scalar, object] = {}
        first: dict[Scalar, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            where = f"{self.path}:{line}"
            if not isinstance(key_node, yaml.ScalarNode):
                raise CatalogError(
                    "a key must be a name", where=where, hint='quote a text that starts with a brace: "{{ … }}"'
                )
            name = key_node.value if key_node.style else plain(key_node.value)
            if name in found:
                # 1, 1.0 and true are one key to Python
                message = f"the key {quoted(name)} stands twice (first on line {first[name]})"
                raise CatalogError(message, where=where)
            first[name] = line
            self.lines[(*at, str(name))] = line
            found[name] = self.value(value_node, (*at, str(name)))
        return found


def plain(text: str) -> Scalar:
    """Resolve a plain scalar by the core schema of YAML 1.2 (without octal and hexadecimal)."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        # Python refuses to convert integers of more than 4,300 digits: they stay text
        return int(text) if len(text) < 100 else text
    return float(text) if _FLOAT.fullmatch(text) else text

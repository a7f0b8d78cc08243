"""YAML as a person would write it: texts of several lines as block scalars, nothing quoted that need not be."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from taskmix.catalog import yamlfile
from taskmix.errors import TaskmixError

Value = str | int | float | bool | Sequence["Value"] | Mapping[str, "Value"]

# what YAML lets stand in a plain or block scalar: printable characters, without tab for safety in plain ones
_BLOCK = re.compile(r"[\n\t\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]*")
_PLAIN = re.compile(r"[A-Za-z0-9_À-ɏ./(][^\n\t#:{}\[\],&*!|>'\"%@`\x00-\x1f\x7f-\xa0\u2028\u2029\ufeff]*")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_WIDTH = 110


def mapping(values: Mapping[str, Value], indent: int = 0) -> str:
    """Return the lines of a block mapping."""
    return "".join(_entry(key, value, indent) for key, value in values.items())


def items(values: Sequence[Mapping[str, Value]]) -> str:
    """Return the lines of a list of mappings, each starting with a dash."""
    return "".join("- " + mapping(value, 2)[2:] for value in values)


def comment(text: str) -> str:
    """Return text as comment lines."""
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())


def _entry(key: str, value: Value, indent: int) -> str:
    start = f"{' ' * indent}{scalar(key)}:"
    if isinstance(value, Mapping):
        flow = _flow(value)
        if len(start) + len(flow) < _WIDTH and not any(isinstance(each, Mapping) for each in value.values()):
            return f"{start} {flow}\n"
        return f"{start}\n{mapping(value, indent + 2)}"
    if isinstance(value, str) and _is_block(value) and ("\n" in value or _needs_escapes(value)):
        return f"{start} {_block(value, indent + 2)}"
    if isinstance(value, str) or not isinstance(value, Sequence):
        return f"{start} {scalar(value)}\n"
    flow = _flow(value)
    if len(start) + len(flow) < _WIDTH:
        return f"{start} {flow}\n"
    return f"{start}\n" + "".join(f"{' ' * (indent + 2)}- {_flow(each)}\n" for each in value)


def _needs_escapes(text: str) -> bool:
    """Whether neither kind of quotes holds a text as it is."""
    return not _is_plain(text) and "'" in text and ('"' in text or "\\" in text)


def _is_plain(text: str) -> bool:
    plain = _PLAIN.fullmatch(text) and not text.endswith(" ") and isinstance(yamlfile.plain(text), str)
    # what older readers of YAML take for true or false is quoted for their sake
    return bool(plain) and text.lower() not in ("yes", "no", "on", "off", "y", "n")


def _is_block(text: str) -> bool:
    """Whether a text can and should stand as a block: what it starts and ends with would be hard to see there."""
    return _BLOCK.fullmatch(text) is not None and text.strip() == text


def _block(text: str, indent: int) -> str:
    """Return a literal block scalar: its head and its lines."""
    return "|-\n" + "".join((" " * indent + line if line else "") + "\n" for line in text.split("\n"))


def _flow(value: Value) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, str) or not isinstance(value, Sequence):
        return scalar(value)
    return "[" + ", ".join(_flow(each) for each in value) + "]"


def scalar(value: str | int | float | bool) -> str:
    """Return one value on one line, in quotes where it would be read as something else.

    >>> scalar("movie review"), scalar("no: 1"), scalar("12"), scalar(12)
    ('movie review', '"no: 1"', '"12"', '12')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return str(value)
    if _is_plain(value):
        return value
    if ('"' in value or "\\" in value) and "'" not in value and "\n" not in value and _BLOCK.fullmatch(value):
        return f"'{value}'"
    return '"' + "".join(_escaped(character) for character in value) + '"'


def _escaped(character: str) -> str:
    if found := _ESCAPES.get(character):
        return found
    code = ord(character)
    if _BLOCK.fullmatch(character):
        return character
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def check(text: str, value: object, name: str) -> None:
    """Raise TaskmixError unless YAML text holds the value: what was imported would be changed."""
    if yamlfile.parse(text, Path(name)).value != value:
        raise TaskmixError(f"{name} would not hold what was imported")

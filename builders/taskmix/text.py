"""How text from data and catalogs is shown to a person: never raw, since it may be hostile."""

import re
from pathlib import Path

# C0 and C1 controls but newline and tab, bidi overrides and isolates, zero-width and line separators.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def visible(text: str) -> str:
    r"""Return the text with control and direction characters spelled out (``\x1b``).

    >>> visible("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return _UNSAFE.sub(lambda found: _escape(ord(found[0])), text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def shown(path: Path) -> str:
    """Return a path for a message: relative to the working folder where it lies inside."""
    try:
        return visible(str(path.relative_to(Path.cwd())))
    except ValueError:
        return visible(str(path))


def quoted(value: object, limit: int = 80) -> str:
    """Return a value's repr, visible and cut to ``limit`` characters, for a message."""
    text = visible(repr(value))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: 1 task, 2 tasks."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

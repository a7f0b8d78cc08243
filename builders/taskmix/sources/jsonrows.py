"""Rows of JSON, checked before Polars reads them: what its reader would change in silence is refused.

It makes text of values whose types differ from row to row, rounds large whole numbers that stand beside fractions,
drops columns that only later files have, keeps one of two equal keys, reads half of a surrogate pair as NUL, and
overflows its stack on deep nesting.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Never

import polars as pl

from taskmix.text import quoted

MAX_DEPTH = 64
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

_WHOLE, _FRACTION = "a whole number", "a fraction"
_LARGE, _HUGE = "a whole number above 2**53", "a whole number above 2**63"
_TOGETHER = {
    frozenset((_WHOLE, _LARGE)): _LARGE,
    frozenset((_WHOLE, _HUGE)): _HUGE,
    frozenset((_LARGE, _HUGE)): _HUGE,
    frozenset((_WHOLE, _FRACTION)): _FRACTION,
}
"""Kinds of numbers that one column can hold, all of them exactly, and the wider of the two."""
_TYPES = {
    "": pl.Null(),
    "a text": pl.String(),
    "true or false": pl.Boolean(),
    _WHOLE: pl.Int64(),
    _LARGE: pl.Int64(),
    _HUGE: pl.Int128(),
    _FRACTION: pl.Float64(),
}


@dataclass(slots=True)
class Place:
    """What stands at one place of all rows: the kind of its values, and the places inside them.

    The root's values are the rows themselves. One tree serves all files of a split, whose types must agree.
    """

    name: str = ""
    kind: str = ""
    inside: dict[str, "Place"] = field(default_factory=dict)

    def check(self, value: object, depth: int = 0) -> None:
        """Note a value. Raises ValueError if it cannot stand beside the earlier ones without a change."""
        if value is None:
            return
        kind = _kind(value, self.name)
        if kind != self.kind:
            self._admit(kind)
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict):
            for key, item in value.items():
                self._below(key, f"{self.name}.{key}" if self.name else key).check(item, depth + 1)
        elif isinstance(value, list | tuple | range):
            items = self._below("", f"{self.name}[]")
            for item in value:
                items.check(item, depth + 1)

    def schema(self) -> pl.Schema:
        """Return the columns of the rows and their types."""
        return pl.Schema({key: below.dtype() for key, below in self.inside.items()})

    def dtype(self) -> pl.DataType:
        """Return the type that holds every value that was noted."""
        if self.kind == "a list":
            items = self.inside.get("")
            return pl.List(items.dtype() if items else pl.Null())
        return pl.Struct(self.schema()) if self.kind == "an object" else _TYPES[self.kind]

    def _below(self, key: str, name: str) -> "Place":
        found = self.inside.get(key)
        if found is None:
            found = self.inside[key] = Place(name)
        return found

    def _admit(self, kind: str) -> None:
        together = _TOGETHER.get(frozenset((kind, self.kind))) if self.kind else kind
        if together is None:
            raise ValueError(f"{quoted(self.name)} is {kind}, but {self.kind} before: one column holds one type")
        self.kind = together


def _kind(value: object, name: str) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, int):
        if not -(2**127) <= value < 2**127:
            raise ValueError(f"{quoted(name)} is a whole number of more than 128 bits: make it a text")
        return _WHOLE if abs(value) <= 2**53 else _LARGE if -(2**63) <= value < 2**63 else _HUGE
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{quoted(name)} is not a number, or one too large to hold")
        return _FRACTION
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple | range):
        return "a list"
    raise ValueError(f"{quoted(name)} is a {type(value).__name__}, which no column holds")


def decode(text: str, *, nan_as_null: bool = False) -> object:
    """Return the value of JSON text.

    Raises:
        ValueError: it is not JSON, has a key twice, a NaN or infinity unless those are to be null, half of a
            surrogate pair, or is too deep.
    """
    try:
        value: object = (_LENIENT if nan_as_null else _DECODER).decode(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text.strip() else ""
        raise ValueError(f"not valid JSON: {error.msg} ({line}character {error.colno})") from None
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    # most texts have no such escape; whether one stands alone is seen only when it is decoded
    if _ESCAPED_SURROGATE.search(text) and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise ValueError("half of a surrogate pair (\\ud800 to \\udfff), which is no character")
    return value


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {quoted(repeated)} stands twice in one object")
    return found


def _no_number(name: str) -> Never:
    raise ValueError(f"{name} is not a number in JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)
_LENIENT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=lambda name: None)

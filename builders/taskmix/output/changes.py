"""What differs between two locks, or parts of locks: one change a value, with its place."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from taskmix.text import quoted, visible

_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_HASH_SHOWN = 12


@dataclass(frozen=True)
class Change:
    """A value that was `old` and is `new`; None where there is none. `place` are the keys that lead to it."""

    place: tuple[str, ...]
    old: object
    new: object

    def __str__(self) -> str:
        return f"{visible('.'.join(self.place))}: {self._values()}"

    def _values(self) -> str:
        if isinstance(self.old, list) and isinstance(self.new, list):
            gone = [each for each in self.old if each not in self.new]
            come = [each for each in self.new if each not in self.old]
            if gone or come:
                parts = (("without", gone), ("with", come))
                return "; ".join(f"{word} {', '.join(map(shown, each))}" for word, each in parts if each)
            return f"in another order: {', '.join(map(shown, self.new))}"
        return f"{shown(self.old)} → {shown(self.new)}"


def shown(value: object) -> str:
    """Return a value for a message: hashes cut short, long texts too."""
    if value is None:
        return "none"
    if isinstance(value, str):
        if _HASH.fullmatch(value):
            return f"{value[:_HASH_SHOWN]}…"
        return visible(value) if value.isprintable() and 0 < len(value) <= 80 else quoted(value)
    return str(value) if isinstance(value, int | float) else quoted(value)


def changes(old: object, new: object, place: tuple[str, ...] = ()) -> Iterator[Change]:
    """Yield what differs between two values of JSON, mapping by mapping; lists are compared whole.

    A key that is not there and one without value are the same. Mappings whose keys stand in another order differ.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from changes(old.get(key), new.get(key), (*place, key))
        if list(old) != list(new) and set(old) == set(new):
            yield Change(place, list(old), list(new))
    elif isinstance(old, Mapping) and new is None:
        yield from changes(old, {}, place)
    elif old is None and isinstance(new, Mapping):
        yield from changes({}, new, place)
    elif old != new or type(old) is not type(new):
        yield Change(place, old, new)


def input_changes(old: Mapping[str, object], new: Mapping[str, object]) -> list[Change]:
    """Return what differs between inputs; the seed stands in them twice, and is named once."""
    return [change for change in changes(old, new) if change.place != ("spec", "seed")]

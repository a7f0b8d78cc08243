"""What two locks say: tasks, templates, options, rows and shares, what is held out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taskmix.output.changes import Change, changes, input_changes
from taskmix.output.inputs import Json

OPTIONS = ("mixture", "seed", "limit", "tokenizer", "spec", "versions")


@dataclass(frozen=True)
class Names:
    """Names that came, went, or stayed and mean something else."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True)
class Rows:
    """The rows that a task gives to a split, and its share of them, before and after."""

    split: str
    task: str
    before: int
    after: int
    share_before: float
    share_after: float


@dataclass(frozen=True)
class LockChanges:
    """What differs between two locks; of tasks that both have, each value, and the names of their templates."""

    options: tuple[Change, ...]
    tasks: Names
    task_values: Mapping[str, tuple[Change, ...]]
    templates: Mapping[str, Names]
    holdout: tuple[Change, ...]
    rows: tuple[Rows, ...]
    totals: Mapping[str, tuple[int, int]]


def compare_locks(a: Json, b: Json) -> LockChanges:
    """Return what differs from lock A to lock B."""
    both = [name for name in a["tasks"] if name in b["tasks"]]
    values = {name: _task(a["tasks"][name], b["tasks"][name]) for name in both}
    templates = {name: names(*(each["tasks"][name]["templates"].get("each", {}) for each in (a, b))) for name in both}
    before, after = _totals(a), _totals(b)
    return LockChanges(
        options=tuple(input_changes(*({key: each.get(key) for key in OPTIONS} for each in (a, b)))),
        tasks=names(a["tasks"], b["tasks"]),
        task_values={name: found for name, found in values.items() if found},
        templates={name: found for name, found in templates.items() if found},
        holdout=tuple(changes(a["holdout"], b["holdout"])) + tuple(changes(a["refused"], b["refused"], ("refused",))),
        rows=tuple(_rows(a, b, before, after)),
        totals={split: (before.get(split, 0), after.get(split, 0)) for split in dict.fromkeys([*before, *after])},
    )


def names(a: Mapping[str, Any], b: Mapping[str, Any]) -> Names:
    """Return which keys came, went, or have another value."""
    return Names(
        tuple(name for name in b if name not in a),
        tuple(name for name in a if name not in b),
        tuple(name for name in a if name in b and a[name] != b[name]),
    )


def _task(a: Json, b: Json) -> tuple[Change, ...]:
    """Return what a task says of itself that differs; its templates are compared by name."""
    spec = tuple(changes(a["spec"], b["spec"]))
    others = (change for key in ("commit", "files", "labels") for change in changes(a.get(key), b.get(key), (key,)))
    file = changes(a["templates"].get("file"), b["templates"].get("file"), ("template file",))
    return (*spec, *others, *file)


def _totals(lock: Json) -> dict[str, int]:
    return {split: found["rows"] for split, found in lock["splits"].items()}


def _rows(a: Json, b: Json, before: Mapping[str, int], after: Mapping[str, int]) -> list[Rows]:
    """Return the tasks whose rows or share of a split differ."""
    old, new = ({(part["split"], part["task"]): part["rows"] for part in lock["plan"]} for lock in (a, b))
    found = []
    for split, task in dict.fromkeys([*old, *new]):
        rows = old.get((split, task), 0), new.get((split, task), 0)
        shares = rows[0] / max(before.get(split, 0), 1), rows[1] / max(after.get(split, 0), 1)
        if rows[0] != rows[1] or shares[0] != shares[1]:
            found.append(Rows(split, task, *rows, *shares))
    return found

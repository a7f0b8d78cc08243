"""How a comparison of two mixtures looks on a terminal, and as JSON."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from taskmix.cli.tables import printed, table
from taskmix.comparing.locks import Names, Rows
from taskmix.comparing.rows import Example, SplitRows
from taskmix.comparing.running import Comparison
from taskmix.comparing.words import word_changes
from taskmix.output.changes import Change
from taskmix.text import visible

_MARKS = {"same": ("", "", ""), "gone": ("[-", "-]", "red"), "come": ("{+", "+}", "green")}
_HEAD = [("split", ""), ("task", ""), *((name, "right") for name in ("rows before", "after", "share before", "after"))]
_KINDS = {"prompts": "prompts", "completions": "completions", "alternatives": "choices or references"}


def text(found: Comparison) -> str:
    """Return what `mix diff` prints."""
    if not found.any:
        return printed(Text(f"{found.a} and {found.b} have the same lock: nothing changed"))
    parts: list[Any] = [Text(f"{found.a} → {found.b}")]
    for title, lines in _sections(found):
        if lines:
            parts += [Text(f"\n{title}", style="bold"), *(Text(f"  {visible(line)}") for line in lines)]
    if found.locks.rows:
        parts += [Text("\nrows", style="bold"), table(_HEAD, [_row(each) for each in found.locks.rows])]
        parts += [Text(f"  {line}") for line in _totals(found.locks.totals)]
    if lines := list(_texts(found)):
        parts += [Text("\ntexts", style="bold"), *(Text(f"  {visible(line)}") for line in lines)]
    for split in found.rows:
        parts += [_example(each) for each in split.examples]
    return printed(*parts)


def _sections(found: Comparison) -> Iterator[tuple[str, list[str]]]:
    locks = found.locks
    yield "options", list(map(str, locks.options))
    changed = [f"~ {name}: {change}" for name, values in locks.task_values.items() for change in values]
    yield "tasks", [*_came_and_went(locks.tasks), *changed]
    yield "templates", [f"{name}: {', '.join(_named(each))}" for name, each in locks.templates.items()]
    yield "held out", list(map(str, locks.holdout))


def _came_and_went(names: Names) -> list[str]:
    return [*(f"+ {name}" for name in names.added), *(f"- {name}" for name in names.removed)]


def _named(names: Names) -> list[str]:
    return [*_came_and_went(names), *(f"~ {name}" for name in names.changed)]


def _row(rows: Rows) -> tuple[str, ...]:
    shares = (f"{share:.1%}" for share in (rows.share_before, rows.share_after))
    return (rows.split, rows.task, f"{rows.before:,}", f"{rows.after:,}", *shares)


def _totals(totals: Mapping[str, tuple[int, int]]) -> list[str]:
    return [f"{split}: {before:,} → {after:,} rows" for split, (before, after) in totals.items() if before != after]


def _texts(found: Comparison) -> Iterator[str]:
    if not found.same_format:
        yield "not compared: the mixtures have different formats"
    for split in found.rows:
        sample = f", of a sample of one row in {split.one_in}" if split.one_in > 1 else ""
        yield (
            f"{split.split}{sample}: {split.both:,} rows in both, {split.only_before:,} only before, "
            f"{split.only_after:,} only after"
        )
        for kind, words in _KINDS.items():
            for (task, template), count in getattr(split, kind).items():
                yield f"  {task} × {template}: {words} changed: {count:,}"


def _example(example: Example) -> Text:
    place = f"{example.split}: {example.task} / {example.template} ({example.style})"
    shown = Text(f"\n── {place}, {example.source_split} row {example.source_row} ──\n", style="dim")
    for name, before in example.before.items():
        after = example.after[name]
        if before != after:
            shown.append(f"{name}: ", style="bold")
            shown.append_text(_marked(before, after))
            shown.append("\n")
    shown.rstrip()
    return shown


def _marked(before: str, after: str) -> Text:
    found = Text()
    for kind, words in word_changes(before, after):
        opens, closes, style = _MARKS[kind]
        found.append(f"{opens}{visible(words)}{closes}" if words else "", style=style)
    return found


def as_json(found: Comparison) -> dict[str, Any]:
    """Return a comparison as plain values."""
    locks = found.locks
    return {
        "a": str(found.a),
        "b": str(found.b),
        "differ": found.any,
        "options": _changes(locks.options),
        "tasks": dataclasses.asdict(locks.tasks)
        | {"values": {name: _changes(values) for name, values in locks.task_values.items()}},
        "templates": {name: dataclasses.asdict(each) for name, each in locks.templates.items()},
        "holdout": _changes(locks.holdout),
        "rows": [dataclasses.asdict(each) for each in locks.rows],
        "splits": {split: {"before": rows[0], "after": rows[1]} for split, rows in locks.totals.items()},
        "texts": [_split(each) for each in found.rows] if found.same_format else None,
    }


def _changes(changes: Sequence[Change]) -> list[dict[str, Any]]:
    return [{"place": list(change.place), "before": change.old, "after": change.new} for change in changes]


def _split(split: SplitRows) -> dict[str, Any]:
    counted = {kind: [[*names, count] for names, count in getattr(split, kind).items()] for kind in _KINDS}
    rows = {name: getattr(split, name) for name in ("split", "one_in", "both", "only_before", "only_after")}
    return {**rows, **counted, "examples": [dataclasses.asdict(each) for each in split.examples]}

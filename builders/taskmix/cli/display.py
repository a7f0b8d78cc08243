"""How results look on a terminal. Text from data and catalogs is shown with its control characters spelled out."""

import dataclasses
import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.table import Table
from rich.text import Text

from taskmix.building import Built
from taskmix.catalog.loading import Catalog, CatalogTask
from taskmix.cli.queries import Json
from taskmix.cli.tables import printed as _print
from taskmix.cli.tables import table as _table
from taskmix.explaining import Explained
from taskmix.mixing.parts import SPLITS, Part, figures
from taskmix.mixing.plan import Plan
from taskmix.previewing import Preview
from taskmix.templates.sandbox import END, START
from taskmix.text import counted, visible


def built(result: Built) -> str:
    """Return the table at the end of a build."""
    head = [
        ("task", ""),
        ("cluster", ""),
        ("split", ""),
        ("rows", "right"),
        ("templates", "right"),
        ("share", "right"),
        ("prompt", "right"),
        ("completion", "right"),
    ]
    rows = [
        (
            part.task,
            part.cluster,
            part.split,
            f"{part.rows:,}",
            str(part.templates),
            f"{part.share:.1%}",
            f"{part.prompt_chars:,.0f}",
            f"{part.completion_chars:,.0f}",
        )
        for part in result.parts
    ]
    size = sum(output["bytes"] for output in result.lock["outputs"].values())
    end = f"{result.place}: {result.rows:,} rows, {size / 1e6:,.1f} MB; lengths are mean characters"
    return _print(_table(head, rows), Text(f"\n{end}"))


def planned(plan: Plan) -> str:
    """Return the tables of a plan: what each task has and gives, and what is left out."""
    left = ("task", ""), ("split", "")
    right = "source rows", "left out", "usable", "used", "passes", "rate", "share", "templates", "examples"
    rows = [_planned(part) for part in plan.parts]
    splits = [(name, plan.rows(name)) for name in SPLITS if plan.rows(name)]
    end = ", ".join(f"{name} {count:,}" for name, count in splits)
    parts: list[Table | Text | str] = [_table([*left, *((name, "right") for name in right)], rows)]
    parts += [Text(f"\n{end} examples")]
    parts += [Text(f"{visible(name)} appears nowhere: close to {visible(of)}") for name, of in plan.excluded.items()]
    parts += [Text(f"{visible(name)} is left out: its licence is {visible(of)}") for name, of in plan.refused.items()]
    return _print(*parts)


def _planned(part: Part) -> tuple[str, ...]:
    counts, used = part.counts, len(part.rows)
    ration = part.ration
    passes = f"{len(part) / (used * part.phrasings):.2f}" if ration is not None and used else ""
    return (
        part.task.name,
        part.split,
        f"{counts.source:,}",
        f"{counts.source - counts.usable:,}",
        f"{counts.usable:,}",
        f"{used:,}",
        passes,
        f"{ration.rate:,.6g}" if ration is not None else "",
        f"{ration.share:.2%}" if ration is not None else "",
        str(len(part.templates)),
        f"{len(part):,}",
    )


def plan_json(plan: Plan) -> str:
    """Return a plan for programs."""
    found = {"mixture": plan.mixture, "seed": plan.seed, "parts": [figures(part) for part in plan.parts]}
    named = {"heldout": plan.heldout, "excluded": dict(plan.excluded), "refused": dict(plan.refused)}
    return json.dumps({**found, **named}, ensure_ascii=False)


def listing(catalog: Catalog, tasks: Sequence[CatalogTask]) -> str:
    """Return the tasks of a catalog by cluster, and its mixtures, as tables; `tasks` are in the order of clusters."""
    head = [(name, "") for name in ("task", "kind", "language", "licence", "source")]
    rows: list[tuple[str, ...]] = []
    for cluster, group in groupby(tasks, lambda task: task.spec.cluster):
        members = list(group)
        rows += [(f"{cluster} ({len(members)})", *[""] * (len(head) - 1)), *map(_listed_task, members)]
    clusters = len({task.spec.cluster for task in tasks})
    count = f"\n{counted(len(tasks), 'task')} in {counted(clusters, 'cluster')}"
    names = [
        (f"{name} (default)" if name == catalog.default_mixture else name, spec.description or "")
        for name, spec in catalog.mixtures.items()
    ]
    parts: list[Table | Text] = [_table(head, rows), Text(count)]
    if names:
        parts += [Text(""), _table([("mixture", ""), ("", "")], names)]
    return _print(*parts)


def _listed_task(task: CatalogTask) -> tuple[str, ...]:
    spec = task.spec
    config = f" {spec.source.config}" if spec.source.config else ""
    source = f"{spec.source.hub}{config}" if spec.source.hub else str(spec.source.path)
    return f"  {task.name}", spec.kind, _listed(spec.language), _listed(spec.license), source


def described(found: Json) -> str:
    """Return what `mix show` found, a line or block for each field."""
    lines = Text()
    for name, value in found.items():
        if value is None or value == [] or value == {}:
            continue
        lines.append(f"{name.replace('_', ' ')}: ", style="bold")
        text = value if isinstance(value, str) and value.strip() else _flat(value)
        lines.append("\n  " + visible(text).replace("\n", "\n  ") if "\n" in text else visible(text))
        lines.append("\n")
    return _print(lines)


def explained(found: Explained) -> str:
    """Return where a row comes from, a line or block for each fact."""
    row, source = found.row, found.source
    from_ = source["spec"]["source"]
    facts = {
        "row": f"{row['id']} of {found.split}",
        "task": f"{row['task']} ({row['cluster']})",
        "source": " ".join(f"{name} {value}" for name, value in from_.items()),
        "commit": source["commit"],
        "source row": f"{row['source_row']} of {row['source_split']}",
        "variables": json.dumps(found.source_row, ensure_ascii=False, default=str),
        "template": f"{row['template']} ({found.template})" if found.template else "",
        "style": row["style"],
        "worked examples": ", ".join(map(str, found.exemplars))
        and f"rows {', '.join(map(str, found.exemplars))} of {found.exemplar_split}",
        "example of its source row": f"number {found.number + 1}",
        "seed": str(found.seed),
        "rendered again": "the same bytes" if found.same else "OTHER BYTES: the catalog or the sources have changed",
    }
    return described({name: value for name, value in facts.items() if value})


def explained_json(found: Explained) -> str:
    """Return where a row comes from, for programs."""
    return json.dumps(dataclasses.asdict(found), ensure_ascii=False, default=str)


def preview(example: Preview) -> str:
    """Return a rendered example, what comes from the data in colour."""
    shown = Text(f"── {example.task} / {example.template} ({example.style}), ", style="dim")
    shown.append(f"{example.source_split} row {example.source_row} ──\n")
    for turn in example.messages:
        shown.append(f"{turn['role']}: ", style="bold")
        shown.append(visible(turn["content"]) + "\n")
    if not example.messages:
        shown.append_text(_highlighted(example.marked[0], "cyan"))
        shown.append_text(_highlighted(example.marked[1], "green"))
        shown.append("\n")
    return _print(shown)


def preview_json(example: Preview) -> str:
    """Return a rendered example as one line of JSON."""
    fields = dataclasses.asdict(example)
    del fields["marked"]
    return json.dumps(fields, ensure_ascii=False)


def imported(summary: Json, folder: Path) -> str:
    """Return what an import made, and what it refused."""
    refused, shown = summary["refused"], 40
    rows = [(f"{each['file']}:{each['line']}", each["name"], each["reason"]) for each in refused[:shown]]
    parts: list[Table | Text] = []
    if rows:
        parts += [_table([("refused", ""), ("name", ""), ("reason", "")], rows), Text("")]
    if len(refused) > shown:
        parts += [Text(f"… and {len(refused) - shown:,} more, all in {folder / 'import.json'}\n")]
    parts += [Text(visible(remark)) for remark in summary["remarks"]]
    counts = f"{summary['tasks']:,} tasks with {summary['templates']:,} templates, {len(refused):,} refused"
    return _print(*parts, Text(f"{folder}: {counts}"))


def _highlighted(marked: str, colour: str) -> Text:
    shown = Text(style="" if colour == "cyan" else "bold")
    for piece in marked.split(START):
        inside, end, after = piece.partition(END)
        shown.append(visible(inside), style=colour if end else "")
        shown.append(visible(after))
    return shown


def _flat(value: object) -> str:
    return (
        ", ".join(map(str, value))
        if isinstance(value, list) and all(isinstance(v, str) for v in value)
        else json.dumps(value, ensure_ascii=False)
    )


def _listed(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)

"""The dataset card: what is inside, under which licences, what was held out, how to load it."""

import html
from collections.abc import Iterable, Sequence
from importlib import metadata

import yaml

from taskmix.mixing.parts import SPLITS, Part
from taskmix.mixing.plan import Plan
from taskmix.output import licences
from taskmix.output.shards import Written
from taskmix.text import visible

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
    (10**9, "100M<n<1B"),
)
_CATEGORIES = {
    "text-classification": "text-classification",
    "token-classification": "token-classification",
    "question-answering": "question-answering",
    "multiple-choice": "multiple-choice",
    "text-generation": "text-generation",
    "conversation": "text-generation",
    "table": "text-generation",
}
_MEANINGS = {
    "train": "what to train on",
    "validation": "unseen rows of the training tasks, each under every template",
    "heldout": "tasks that training never saw, each row under every template",
    "heldout_templates": "unseen rows of the training tasks, under phrasings that training never saw",
}


def make_card(plan: Plan, written: Written) -> str:
    """Return the text of README.md: YAML front matter, then Markdown. What comes from data or catalog is escaped."""
    front = yaml.safe_dump(_front_matter(plan, written), sort_keys=False, allow_unicode=True)
    sections = [
        f"# {_cell(plan.mixture)}",
        _cell(plan.spec.description or "An instruction mixture, built from labelled task datasets by taskmix."),
        _loading(plan, written),
        _splits(plan, written),
        _tasks(plan),
        _licences(plan),
        _holdout(plan),
        _dropped(plan),
        _notes(plan),
        _citations(plan),
        _building(plan),
    ]
    return f"---\n{front}---\n\n" + "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(plan: Plan, written: Written) -> dict[str, object]:
    specs = [part.task.entry.spec for part in plan.parts]
    rows = sum(split.rows for split in written.values())
    return {
        "license": licences.for_hub(licence for spec in specs for licence in _listed(spec.license)),
        "language": sorted({language for spec in specs for language in _listed(spec.language)}),
        "pretty_name": visible(plan.mixture),
        "task_categories": sorted({_CATEGORIES[spec.kind] for spec in specs}),
        "tags": ["instruction-tuning", "taskmix", *sorted({f"cluster:{spec.cluster}" for spec in specs})],
        "size_categories": [next((name for limit, name in _SIZES if rows < limit), "1B<n<10B")],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": name, "path": f"data/{name}-*.parquet"} for name in written],
            }
        ],
    }


def _loading(plan: Plan, written: Written) -> str:
    first = next(iter(written))
    return f"""## Load

```python
import datasets

mixture = datasets.load_dataset("path/to/this/folder")
print(mixture["{first}"][0])
```

The format is `{plan.spec.format}`. Every row names its `task`, `cluster`, `template` and `style`, and the row of the
source that it was made from (`source_split`, `source_row`). In the evaluation splits `choices`, `answer` and
`references` say what a scorer needs."""


def _splits(plan: Plan, written: Written) -> str:
    rows = [(name, f"{written[name].rows:,}", len(plan.parts_of(name)), _MEANINGS[name]) for name in written]
    return "## Splits\n\n" + _table(("split", "rows", "tasks", "what it is"), rows) + _worked_examples(plan)


def _worked_examples(plan: Plan) -> str:
    """Return a paragraph on what stands before the rows of evaluation splits, if the mixture says so."""
    few = plan.spec.evaluation.few_shot
    if few is None:
        return ""
    text = (
        f"Up to {few.k} worked examples stand before each row of {_names(few.splits)}, from the task's training split."
    )
    return f"\n\n{text}" + (" Those of held-out tasks are in no other split." if "heldout" in few.splits else "")


def _tasks(plan: Plan) -> str:
    total = max(1, plan.rows("train"))
    rows = []
    for split in SPLITS:
        for part in plan.parts_of(split):
            spec = part.task.entry.spec
            share = f"{len(part) / total:.1%}" if split == "train" else "–"
            licence = ", ".join(_listed(spec.license))
            cells = (
                part.task.name,
                spec.cluster,
                spec.kind,
                _origin(part),
                licence,
                ", ".join(_listed(spec.language)),
            )
            passes = f"{len(part) / (len(part.rows) * part.phrasings):.2f}" if split == "train" else "–"
            rows.append((*cells, split, f"{len(part):,}", share, passes, len(part.templates)))
    head = (
        "task",
        "cluster",
        "kind",
        "source",
        "licence",
        "language",
        "split",
        "rows",
        "share of train",
        "passes",
        "templates",
    )
    return "## Tasks\n\n" + _table(head, rows)


def _licences(plan: Plan) -> str:
    """Say what stands in the way of passing the mixture on; nothing if nothing does."""
    found = licences.group((part.task.name, part.task.entry.spec.license) for part in plan.parts)
    unique = {name: list(dict.fromkeys(tasks)) for name, tasks in found.items()}
    lines = [f"- {_cell(warning)}" for warning in licences.warnings(unique)]
    if not lines:
        return ""
    return "## Licences\n\nLook into this before you pass the mixture on:\n\n" + "\n".join(lines)


def _origin(part: Part) -> str:
    source, commit = part.task.source.label, part.task.source.commit
    return f"{source} at {commit[:10]}" if commit else source


def _holdout(plan: Plan) -> str:
    holdout = plan.spec.holdout
    lines = []
    if plan.heldout:
        by = [f"the cluster `{_code(name)}`" for name in holdout.clusters] + [
            f"`{_code(name)}`" for name in holdout.tasks
        ]
        lines.append(f"Held out: {', '.join(by)}. No row of {_names(plan.heldout)} is in `train`.")
    lines += [
        f"`{_code(name)}` appears nowhere: it shares an origin with the held-out `{_code(of)}`, or its cluster is "
        "paired with that one's."
        for name, of in plan.excluded.items()
    ]
    if withheld := plan.parts_of("heldout_templates"):
        lines.append(f"Withheld phrasings: {holdout.templates} of each of {len(withheld)} tasks.")
    lines += [
        f"`{_code(name)}` is left out: this mixture refuses its licence, {_cell(licence)}."
        for name, licence in plan.refused.items()
    ]
    return "## Held out\n\n" + "\n\n".join(lines or ["Nothing: this mixture measures no unseen task."])


def _dropped(plan: Plan) -> str:
    rows = [
        (
            part.task.name,
            part.split,
            f"{c.source:,}",
            f"{c.cut:,}",
            f"{c.where:,}",
            f"{c.duplicates:,}",
            f"{sum(c.contaminated.values()):,}",
            f"{c.too_short_or_long:,}",
            f"{c.empty:,}",
            f"{c.usable:,}",
        )
        for part in plan.parts
        if (c := part.counts).cut or c.where or c.duplicates or c.contaminated or c.too_short_or_long or c.empty
    ]
    if not rows:
        return ""
    head = (
        "task",
        "split",
        "rows of the source split",
        "of another split",
        "dropped by `where`",
        "duplicates",
        "in an evaluation split",
        "dropped by length",
        "left empty by their template",
        "usable",
    )
    return "## Rows left out\n\n" + _table(head, rows)


def _notes(plan: Plan) -> str:
    notes = {part.task.name: part.task.entry.spec.note for part in plan.parts if part.task.entry.spec.note}
    return "## Notes\n\n" + "\n".join(f"- `{_code(n)}`: {_cell(t)}" for n, t in notes.items() if t) if notes else ""


def _citations(plan: Plan) -> str:
    """Return who made the data, each source once with the tasks that are made from it."""
    tasks: dict[str, set[str]] = {}
    for part in plan.parts:
        if citation := part.task.entry.spec.citation:
            tasks.setdefault(citation, set()).add(part.task.name)
    lines = [f"- {_cell(citation)} ({_names(sorted(names))})" for citation, names in sorted(tasks.items())]
    return "## Citations\n\n" + "\n".join(lines) if lines else ""


def _building(plan: Plan) -> str:
    return f"""## How it was built

By taskmix {metadata.version("taskmix")}, with the seed {plan.seed}. `mix.lock.json` holds the sources and templates
with their hashes and the hash of every file here; `mix verify` checks them. The same lock gives the same bytes."""


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(str(cell)) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """Return text that Markdown and HTML show as it is, on one line."""
    flat = html.escape(visible(" ".join(text.split())), quote=False)
    return "".join(f"\\{character}" if character in "\\`*_[]|#!" else character for character in flat)


def _code(text: str) -> str:
    """Return text for a code span."""
    return visible(" ".join(text.split())).replace("`", "ʼ").replace("|", "¦")


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{_code(name)}`" for name in names)


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value

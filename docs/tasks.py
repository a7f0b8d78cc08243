"""Write docs/tasks.md: every task of the built-in catalog, what is known of its data, and an example of it.

    python docs/tasks.py            write it
    python docs/tasks.py --check    exit 1 if it is out of date

It reads the schemas and the real data of the shared folder (see tests/conftest.py). The examples are rows of
docs/examples/, which are written for this page: no row of a dataset is shown.
"""

import functools
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from tests import hub_schemas
from tests.typed_rows import written_mirror

from taskmix.catalog import builtin
from taskmix.catalog.loading import Catalog, CatalogTask, load_catalog
from taskmix.frames import SOURCE_ROW
from taskmix.mixing.examples import examples
from taskmix.rowsets import RowSet, lowest
from taskmix.tasks.opening import open_bare
from taskmix.tasks.task import Task
from taskmix.templates.files import Template, read_templates, template_file
from taskmix.templates.rowwise import Workers
from taskmix.text import counted

WORKERS = Workers(1)
FENCE = "```"
PAGE = Path(__file__).parent / "tasks.md"
Checked = Literal["rows", "schema", "nothing"]
CHECKED: Mapping[Checked, str] = {
    "rows": "real rows of the dataset",
    "schema": "the features, label names and splits that the dataset had on the hub in October 2022",
    "nothing": "neither: their ids, columns and labels are as papers and public code have them",
}


@dataclass(frozen=True)
class Entry:
    """A task as the page shows it. `rows` are those of the source's splits, by ours."""

    task: CatalogTask
    templates: Sequence[Template]
    checked: Checked
    rows: Mapping[str, int | None]

    @property
    def cluster(self) -> str:
        """Return the skill."""
        return self.task.spec.cluster


def page() -> str:
    """Return the text of the page."""
    catalog = load_catalog(builtin.catalog_path())
    entries = sorted(map(_entry, catalog.tasks.values()), key=lambda each: (each.cluster, each.task.name))
    skills = {cluster: list(group) for cluster, group in groupby(entries, lambda each: each.cluster)}
    parts = [_head(entries), _skills(skills), _checks(entries), _mixtures(catalog)]
    return "\n\n".join([*parts, *(_skill(name, members) for name, members in skills.items())]) + "\n"


def _entry(task: CatalogTask) -> Entry:
    source = task.spec.source
    file = template_file(task.spec.templates or task.name, [builtin.templates_folder()])
    templates = _read(file) if file else ()
    if source.hub is None:
        folder = task.root / str(source.path)
        lines = {path.stem: len(path.read_text("utf-8").splitlines()) for path in sorted(folder.glob("*.jsonl"))}
        return Entry(task, templates, "rows", lines)
    schema = hub_schemas.find(source.hub)
    config = schema.config(source.config) if schema else None
    real = hub_schemas.data_folder(source.hub, source.config)
    checked: Checked = "rows" if real else "schema" if config and schema and schema.known else "nothing"
    known = {**(hub_schemas.rows_of(real) if real else {}), **hub_schemas.known_rows(config)}
    return Entry(task, templates, checked, _ours(task, known))


@functools.cache
def _read(file: Path) -> tuple[Template, ...]:
    return read_templates(file)


def _ours(task: CatalogTask, known: Mapping[str, int | None]) -> Mapping[str, int | None]:
    """Return the rows of a task's splits, without those that are cut from another."""
    theirs = task.spec.splits or {name: name for name in ("train", "validation") if name in known or not known}
    return {ours: known.get(split) for ours, split in theirs.items() if isinstance(split, str)}


# The page's head


def _head(entries: Sequence[Entry]) -> str:
    hub = [each for each in entries if each.task.spec.source.hub]
    datasets = {each.task.spec.source.hub for each in hub}
    languages = {language for each in entries for language in _listed(each.task.spec.language)}
    counts = f"{counted(len(entries), 'task')} in {counted(len(languages), 'language')}"
    text = f"""
    {counts}, with {counted(_written(entries), "template")}: {len(entries) - len(hub)} small ones that are part of the
    package, and {len(hub)} over {counted(len(datasets), "hub dataset")}. `mix list` shows them, `mix list --kind KIND
    --cluster SKILL --language CODE --license ID` some of them, and `mix show TASK` what is known of one. The data is no
    part of taskmix: it is downloaded from the hub when a mixture names it, under its own licence. Rows are those of a
    whole split, before `where`; splits that are cut from another one have none here. Examples are made of rows that
    were written for this page."""
    return f"# The built-in tasks\n\n<!-- Written by docs/tasks.py. -->\n\n{' '.join(text.split())}"


def _written(entries: Iterable[Entry]) -> int:
    """Return the number of templates of all entries; what several tasks share counts once."""
    return sum({template.file: len(each.templates) for each in entries for template in each.templates}.values())


def _skills(skills: Mapping[str, Sequence[Entry]]) -> str:
    rows = [
        (
            f"[{name}](#skill-{name})",
            str(len(members)),
            str(_written(members)),
            ", ".join(sorted({language for each in members for language in _listed(each.task.spec.language)})),
        )
        for name, members in skills.items()
    ]
    return _table(("skill", "tasks", "templates", "languages"), rows)


def _checks(entries: Sequence[Entry]) -> str:
    lines = []
    for checked, against in CHECKED.items():
        names = [each.task.name for each in entries if each.checked == checked and each.task.spec.source.hub]
        listed = f": {', '.join(f'[`{name}`](#{_anchor(name)})' for name in names)}" if checked == "nothing" else ""
        if names:
            lines.append(f"- {counted(len(names), 'task')} against {against}{listed}.")
    return (
        "## What was checked\n\nA test looks at every hub task's columns, label words and their order, and splits:\n\n"
        + "\n".join(lines)
        + "\n\nA dataset may have changed on the hub since. A build says so: what an entry names and the data"
        " lacks is an error."
    )


def _mixtures(catalog: Catalog) -> str:
    rows = [(f"`{name}`", spec.description or "") for name, spec in catalog.mixtures.items()]
    return "## Mixtures\n\n" + _table(("mixture", "what it is"), rows)


# Skills and tasks


def _skill(name: str, members: Sequence[Entry]) -> str:
    head = ("task", "dataset", "kind", "language", "licence", "rows", "templates")
    rows = [
        (
            f"[{each.task.name}](#{_anchor(each.task.name)})",
            _dataset(each.task),
            each.task.spec.kind,
            ", ".join(_listed(each.task.spec.language)),
            ", ".join(_listed(each.task.spec.license)),
            _rows(each.rows),
            str(len(each.templates)) if each.templates else "–",
        )
        for each in members
    ]
    parts = [f"## Skill: {name}", _table(head, rows), *(_task(each) for each in members)]
    return "\n\n".join(parts)


def _rows(counts: Mapping[str, int | None]) -> str:
    return ", ".join(f"{split} {'?' if count is None else f'{count:,}'}" for split, count in counts.items())


def _dataset(task: CatalogTask) -> str:
    source = task.spec.source
    if source.hub is None:
        return "part of the package"
    link = f"[{source.hub}](https://huggingface.co/datasets/{source.hub})"
    return f"{link} `{source.config}`" if source.config else link


def _task(entry: Entry) -> str:
    spec = entry.task.spec
    shown = _example(entry)
    origins = ", ".join(f"`{each}`" for each in spec.derived_from)
    lines = [
        spec.citation or "",
        " ".join(spec.note.split()) if spec.note else "",
        f"Made from {origins}." if origins else "",
        _fenced(shown) if shown else "",
    ]
    return "\n\n".join([f"### {entry.task.name}", *filter(None, lines)])


def _example(entry: Entry) -> str:
    """Return a row that is no dataset's under one of the plain templates; empty if there is none."""
    plain = [each for each in entry.templates if each.spec.style is None]
    # another template for each task, and the same one every time
    first = zlib.crc32(entry.task.name.encode()) % max(1, len(plain))
    with tempfile.TemporaryDirectory() as folder:
        mirror = written_mirror(entry.task, Path(folder))
        if mirror is None and entry.task.spec.source.hub is not None:
            return ""
        task = open_bare(entry.task, mirror, WORKERS)
        turns = [[each] for each in (*plain[first:], *plain[:first])] or [[]]
        texts = (next(_rendered(replace(task, templates=tuple(each))), "") for each in turns)
        return next((text for text in texts if FENCE not in text), "")


def _rendered(task: Task) -> Iterator[str]:
    """Yield the first row of each split that has one, as it reads: a cut may have taken the only one."""
    for split in task.splits.values():
        found = RowSet.of(batch[SOURCE_ROW].to_numpy() for batch in task.batches(split, ()))
        if len(found):
            first = lowest([found], [0], 1)[0]
            row = next(examples(task, split, task.templates, first, 0, evaluation=False)).row(0, named=True)
            if messages := row.get("messages"):
                yield "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)
            else:
                yield f"{row['prompt'].rstrip()}\n\n→ {row['output']}".replace("\r\n", "\n")


def _fenced(text: str) -> str:
    return f"{FENCE}text\n{text}\n{FENCE}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _anchor(name: str) -> str:
    return name.replace(".", "")


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def run(check: bool) -> int:
    """Write the page, or only say that it is out of date; return the exit status."""
    text = page()
    if PAGE.is_file() and PAGE.read_text("utf-8") == text:
        return 0
    print(f"{PAGE.name} {'is out of date: run python docs/tasks.py' if check else 'written'}")
    if not check:
        PAGE.write_text(text, "utf-8")
    return 1 if check else 0


if __name__ == "__main__":
    sys.exit(run(check="--check" in sys.argv[1:]))

"""Draw rows of every skill to be read by eye: is it grammatical, does the output follow, do the options match?

    python benchmarks/read_rows.py --shared ../shared --rows 10 --seed 1 > rows.txt

A hash of the seed draws tasks of a skill, templates of each in all styles, and a row for each template: a real one
where the shared folder has the data, else one of docs/examples/, else one typed from the dataset's schema, whose words
mean nothing.
"""

import argparse
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from taskmix import hashing
from taskmix.catalog import builtin
from taskmix.catalog.loading import CatalogTask, load_catalog
from taskmix.frames import SOURCE_ROW
from taskmix.mixing.examples import examples
from taskmix.rowsets import RowSet, lowest
from taskmix.tasks.opening import open_bare
from taskmix.tasks.task import Split, Task
from taskmix.templates.files import Template
from taskmix.templates.rowwise import Workers


@dataclass(frozen=True)
class Drawn:
    """A template of a task that is to be read on one row; None for a conversation, which has no templates."""

    task: CatalogTask
    template: Template | None


def drawn(
    tasks: Sequence[CatalogTask], templates: Mapping[str, Sequence[Template]], count: int, seed: int
) -> list[Drawn]:
    """Draw templates of the tasks of a skill: as many tasks as can be, each with another template every time."""
    order = sorted(tasks, key=lambda task: hashing.key(seed, "task", task.name))
    left: dict[str, list[Template | None]] = {}
    for task in order:
        named = sorted(templates[task.name], key=lambda each: hashing.key(seed, task.name, each.name))
        left[task.name] = [*named] or [None]
    found: list[Drawn] = []
    while len(found) < count and any(left.values()):
        found += [Drawn(task, left[task.name].pop(0)) for task in order if left[task.name]]
    return found[:count]


def rendered(task: Task, template: Template | None, seed: int) -> tuple[str, int, str, str]:
    """Return the split, the number, the prompt and the completion of a row that is drawn for a template."""
    name, split, row = _row(task, template, seed)
    chosen = (template,) if template else ()
    posed = replace(task, templates=chosen)
    example = next(examples(posed, split, chosen, row, seed, evaluation=False)).row(0, named=True)
    if messages := example.get("messages"):
        turns = [f"{message['role']}: {message['content']}" for message in messages]
        return name, int(example[SOURCE_ROW]), "\n\n".join(turns[:-1]), turns[-1]
    return name, int(example[SOURCE_ROW]), example["prompt"], example["output"]


def _row(task: Task, template: Template | None, seed: int) -> tuple[str, Split, RowSet]:
    for name, split in task.splits.items():
        rows = RowSet.of(batch[SOURCE_ROW].to_numpy() for batch in task.batches(split, ()))
        if len(rows):
            key = hashing.key(seed, task.name, template.name if template else "", "row")
            return name, split, lowest([rows], [key], 1)[0]
    raise SystemExit(f"{task.name}: no split has a row")


def read(patterns: Sequence[str], count: int, seed: int) -> Iterator[str]:
    """Yield the rows of each skill, each under a heading that says where it is from."""
    from tests.catalog_check import templates_of  # the tests look for the shared folder when they are imported

    skills: dict[str, list[CatalogTask]] = defaultdict(list)
    for task in load_catalog(builtin.catalog_path()).tasks.values():
        if any(fnmatchcase(name, each) for name in (task.name, task.spec.cluster) for each in patterns):
            skills[task.spec.cluster].append(task)
    with Workers(1) as workers, tempfile.TemporaryDirectory() as folder:
        for skill in sorted(skills):
            templates = {task.name: templates_of(task) for task in skills[skill]}
            for number, each in enumerate(drawn(skills[skill], templates, count, seed), start=1):
                rows, mirror = _mirror(each.task, Path(folder) / each.task.name)
                opened = open_bare(each.task, mirror, workers)
                split, row, prompt, completion = rendered(opened, each.template, seed)
                style = each.template.spec.style or "plain" if each.template else "conversation"
                name = f"{each.task.name}/{each.template.name if each.template else '-'}"
                yield f"=== {skill} {number}: {name} ({style}; {rows} rows, {split} {row})\n{prompt}»{completion}«\n"


def _mirror(task: CatalogTask, folder: Path) -> tuple[str, Path | None]:
    from tests.typed_rows import real_mirror, typed_mirror, written_mirror

    if task.spec.source.hub is None:
        return "real", None
    for name, made in (("real", real_mirror), ("written", written_mirror), ("typed", typed_mirror)):
        if mirror := made(task, folder / name):
            return name, mirror
    raise SystemExit(f"{task.name}: no data, no written row and no schema")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("patterns", nargs="*", default=["*"], metavar="NAME", help="skills or tasks, or globs of them")
    parser.add_argument("--shared", type=Path, help="the folder with schemas and data; by default ../shared")
    parser.add_argument("--rows", type=int, default=10, help="rows of each skill")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.shared:
        os.environ["TASKMIX_TEST_SHARED"] = str(options.shared.resolve())
    for text in read(options.patterns, options.rows, options.seed):
        print(text, flush=True)


if __name__ == "__main__":
    main()

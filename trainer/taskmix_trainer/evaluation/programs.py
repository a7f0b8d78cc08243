"""What generated code is run with: the tests of a task's source, which no mixture holds.

A task of the catalog has them where it maps a column to `tests`: Python that raises where the program before it is
wrong, a text or a list of lines. Where a program goes on after a given beginning, such as the head of a function, that
is mapped to `program_start`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from taskmix.errors import UsageError
from taskmix_trainer import reading
from taskmix_trainer.evaluation import metrics
from taskmix_trainer.evaluation.posing import Group
from taskmix_trainer.targets import Mixture, RawTask

_FENCE = re.compile(r"^```[^\n`]*\n(.*?)(?:^```|\Z)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Program:
    """The tests of a program, and what stands before what is written."""

    tests: str
    start: str = ""


Programs = Mapping[tuple[str, int], Program]
"""By the source's split and the row in it."""


def written_program(text: str, program: Program) -> str:
    """Return the program in an answer: the first Markdown block of code, or all of it, after its beginning.

    >>> written_program("Here it is:\\n```python\\nx = 1\\n```\\nIt sets x.", Program("assert x"))
    'x = 1\\n'
    """
    fenced = _FENCE.search(text)
    code = fenced[1] if fenced else text
    return f"{program.start.rstrip()}\n{code}" if program.start else code


def programs_of_task(task: RawTask) -> Programs:
    """Return the tests of all rows of a task; none if it has no column of them. Raises TaskmixError as reading does."""
    found: dict[tuple[str, int], Program] = {}
    with reading.open_raw(task) as reader:
        for split in reader.splits:
            for origin, tests, start in reader.tests(split):
                found[origin] = Program(tests, start)
    return found


def programs_of_mixture(
    mixture: Mixture, groups: Iterable[Group], catalog: Path | None, mirror: Path | None
) -> dict[str, Programs]:
    """Return the tests of a mixture's code tasks, from the sources that the catalog names.

    Raises:
        UsageError: no code task has tests, or a source is not the one that the mixture was built from.
        TaskmixError: a source cannot be read.
    """
    from taskmix.catalog.loading import load_catalog

    loaded = load_catalog(catalog)
    found: dict[str, Programs] = {}
    names = dict.fromkeys(group.task for group in groups if not group.ranks and metrics.is_code(group.cluster))
    for name in names:
        if name in loaded.tasks and loaded.tasks[name].spec.kind == "text-generation":
            task = RawTask(loaded.tasks[name], mirror)
            if programs := programs_of_task(task):
                _check_same(mixture, task)
                found[name] = programs
    if not found:
        raise no_tests(f"the mixture {mixture.name}, by the catalog {loaded.path},")
    return found


def no_tests(what: str) -> UsageError:
    """Return the error that --run-code has nothing to run."""
    hint = "map a column to it: `columns: {tests: …}`"
    return UsageError(f"--run-code: {what} has no code task with `tests`", hint=hint)


def _check_same(mixture: Mixture, task: RawTask) -> None:
    """Raise UsageError if a task's files are not those of the mixture, so that rows could be other ones."""
    built = mixture.lock["tasks"][task.name]
    if task.files() != (built["commit"], built["files"]):
        raise UsageError(
            f"--run-code: the source of {task.name} is not the one that the mixture was built from",
            hint="build the mixture again, or name the catalog and mirror that it was built with",
        )

"""What rules look at: a template file, a task, and a template in the light of a task that uses it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import polars as pl

from taskmix import hashing
from taskmix.catalog.loading import CatalogTask
from taskmix.compiler.templates import RowWise, Vectorised
from taskmix.errors import TaskmixError, TemplateError
from taskmix.frames import DRAW, SOURCE_ROW
from taskmix.kinds import KINDS, Kind
from taskmix.mixing.examples import prompt
from taskmix.rendering import compiled_for, render
from taskmix.tasks.opening import columns_not_plain, unknown_names
from taskmix.tasks.task import Task
from taskmix.templates.files import Template


@dataclass(frozen=True)
class FileSubject:
    """A template file: what each entry is or what is wrong with it. `unused` is true if no task can take it."""

    path: Path
    entries: Sequence[Template | TaskmixError]
    unused: bool = False

    @property
    def templates(self) -> list[Template]:
        """Return the templates that compile."""
        return [entry for entry in self.entries if isinstance(entry, Template)]


@dataclass(frozen=True)
class TaskSubject:
    """A task, opened if its data is at hand.

    `fault` says why it does not open although its data is there, `skipped` why its data is not; `samples` are rows by
    split of the source, `unusable` what is wrong with rows that cannot be read.
    """

    entry: CatalogTask
    file: Path | None = None
    task: Task | None = None
    fault: TaskmixError | None = None
    skipped: str = ""
    samples: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    unusable: Sequence[tuple[str, TaskmixError]] = ()

    @property
    def kind(self) -> Kind:
        """Return the task's kind."""
        return KINDS[self.entry.spec.kind]

    @property
    def label_words(self) -> tuple[str, ...] | None:
        """Return the words of the task's labels, if the source or the catalog has them."""
        if self.task is not None:
            return self.task.view.labels.words if self.task.view.labels else None
        spec = self.entry.spec.labels
        return tuple(dict.fromkeys(spec.values() if isinstance(spec, Mapping) else spec)) if spec else None


Failure = tuple[str, int, TemplateError]
"""The split and the number of a row, and how a template failed on it."""


@dataclass(frozen=True)
class Rendered:
    """A template on a sample: `rows` with split, source_row, prompt and the three texts; and the rows that failed.

    `dropped` rows are those that the template drops because they are empty.
    """

    rows: pl.DataFrame
    failures: Sequence[Failure]
    dropped: int


@dataclass(frozen=True)
class Phrasing:
    """A template in the light of a task that uses it, or alone."""

    template: Template
    of: TaskSubject | None = None

    @property
    def kind(self) -> Kind | None:
        """Return the kind of the task."""
        return self.of.kind if self.of is not None else None

    @property
    def known(self) -> frozenset[str] | None:
        """Return the names that the template may use, if the task's source is at hand."""
        task = self.of.task if self.of is not None else None
        return task.variables() if task is not None else None

    @property
    def choices(self) -> tuple[str, ...] | None:
        """Return the words that `choices` has in every row, if they are known: the template's own, or the task's."""
        if isinstance(self.template.choices, tuple):
            return self.template.choices
        labelled = self.kind is not None and self.kind.name in ("text-classification", "token-classification")
        return self.of.label_words if self.of and labelled and self.template.choices is None else None

    @property
    def _has_its_names(self) -> bool:
        """Whether the task is open and has all that the template names."""
        task = self.of.task if self.of is not None else None
        if task is None or any(columns_not_plain(task, self.template)):
            return False
        return not any(part.strict for part, _, _ in unknown_names(self.template, task.variables()))

    @property
    def engine(self) -> Vectorised | RowWise | None:
        """Return how the template is rendered, if a sample of its rows was read."""
        task = self.of.task if self.of is not None else None
        if self.of is None or task is None or not self._has_its_names:
            return None
        schema = next((sample.schema for sample in self.of.samples.values() if len(sample)), None)
        return compiled_for(self.template, schema, None, task.facts) if schema is not None else None

    @cached_property
    def rendered(self) -> Rendered:
        """Return the template on the task's sample; on no rows where there is none, or a name is unknown."""
        rows: list[pl.DataFrame] = []
        failures: list[Failure] = []
        if self.of is not None and self._has_its_names:
            for split, sample in self.of.samples.items():
                assert self.of.task is not None, self.of
                texts, failed = _render(self.of.task, split, sample, self.template)
                rows.append(texts)
                failures += [(split, row, error) for row, error in failed]
        done = pl.concat(rows) if rows else _NO_ROWS
        full = done.filter(pl.col("output").is_not_null())
        return Rendered(full, failures, len(done) - len(full))


MOST_FAILURES = 20
"""So many rows of a split may fail before the others are left alone: a hostile template may take long for each."""

_NO_ROWS = pl.DataFrame(
    schema={
        "split": pl.String,
        SOURCE_ROW: pl.UInt64,
        "prompt": pl.String,
        "instruction": pl.String,
        "input": pl.String,
        "output": pl.String,
    }
)


def _render(
    task: Task, split: str, sample: pl.DataFrame, template: Template
) -> tuple[pl.DataFrame, list[tuple[int, TemplateError]]]:
    """Render all rows at once; where one fails, each for itself until so many have failed."""
    key = hashing.key(0, task.name, split, template.name, "choice")
    rows = sample.with_columns(hashing.draws(key, pl.col(SOURCE_ROW)).alias(DRAW))
    try:
        return _finished(task, rows, split, template), []
    except TemplateError:
        done, failed = [_NO_ROWS], []
    for row in rows.iter_slices(1):
        try:
            done.append(_finished(task, row, split, template))
        except TemplateError as error:
            failed.append((int(row[SOURCE_ROW][0]), error))
            if len(failed) == MOST_FAILURES:
                break
    return pl.concat(done), failed


def _finished(task: Task, rows: pl.DataFrame, split: str, template: Template) -> pl.DataFrame:
    rendered = render(rows, template, task.name, None, task.workers, task.facts).rows
    with_rows = rendered.with_columns(rows[SOURCE_ROW], pl.lit(split).alias("split"), prompt(rendered, template))
    return with_rows.select(_NO_ROWS.columns)

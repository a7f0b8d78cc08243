"""From planned rows to rendered examples, a bounded number at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from taskmix import hashing
from taskmix.compiler.templates import RowWise
from taskmix.frames import DRAW, SOURCE_ROW, span
from taskmix.rendering import render
from taskmix.tasks.task import Split, Task
from taskmix.templates.files import Template
from taskmix.templates.rows import Alternatives

Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Examples:
    """Rendered examples of one template of a task (its index), and how: see `rendering.Rendered`.

    `rows` has `source_row`, `template`, `prompt`, `instruction`, `input`, `output`, `ending`, and in evaluation
    `choices`, `answer`, `references`. Conversations have `messages` instead of the texts.
    """

    rows: pl.DataFrame
    template: int = 0
    handed_back: int = 0
    row_wise: RowWise | None = None


Job = Callable[[], Examples]


def no_progress(task: str, rows: int) -> None:
    """Report nothing."""


def jobs(
    task: Task,
    split: Split,
    templates: Sequence[Template],
    rows: pl.DataFrame,
    seed: int,
    *,
    evaluation: bool,
) -> Iterator[Job]:
    """Yield the work of rendering planned rows, cut into pieces that do not depend on each other.

    `rows` has `source_row` (ascending) and `template` (index). Each job gives the examples of one template.
    """
    names = names_read(task, templates, evaluation=evaluation)
    for frame in task.rows(split, rows[SOURCE_ROW], names):
        planned = rows[span(rows[SOURCE_ROW], frame[SOURCE_ROW][0], frame[SOURCE_ROW][-1] + 1)]
        if not templates:
            yield partial(_conversations, frame)
        # both are in the order of the source's rows, and the frame has each of them once
        position = planned[SOURCE_ROW].rle_id()
        for index, template in enumerate(templates):
            chosen = frame[position.filter(planned["template"] == index)]
            if len(chosen):
                yield partial(_render, task, split, template, index, chosen, seed, evaluation=evaluation)


def names_read(task: Task, templates: Sequence[Template], *, evaluation: bool) -> frozenset[str]:
    """Return the variables that the templates of a task need, and in evaluation those of the alternatives."""
    names = frozenset().union(*(template.names for template in templates))
    if evaluation:
        names |= {"label", "choices", *(task.kind.answer or ())} & task.kind.names
    return names | ({"messages"} if task.kind.name == "conversation" else set())


def examples(
    task: Task,
    split: Split,
    templates: Sequence[Template],
    rows: pl.DataFrame,
    seed: int,
    *,
    evaluation: bool,
) -> Iterator[pl.DataFrame]:
    """Yield what the jobs give, one after the other."""
    for job in jobs(task, split, templates, rows, seed, evaluation=evaluation):
        yield job().rows


def _render(
    task: Task, split: Split, template: Template, index: int, rows: pl.DataFrame, seed: int, *, evaluation: bool
) -> Examples:
    """Render one template on rows of one task."""
    key = hashing.key(seed, task.name, split.source_split, template.name, "choice")
    drawn = rows.with_columns(pl.Series(DRAW, hashing.draw(np.uint64(key), rows[SOURCE_ROW].to_numpy())))
    by_label = task.kind.labelled == "label" and not task.view.multi_label
    rule = Alternatives(by_label, task.kind.answer, task.kind.by_word)
    rendered = render(drawn, template, task.name, rule if evaluation else None, task.workers, task.facts)
    whole = rendered.rows.with_columns(
        rows[SOURCE_ROW],
        pl.lit(index, pl.UInt32).alias("template"),
        prompt(rendered.rows, template),
        pl.lit(template.ending).alias("ending"),
    )
    return Examples(whole, index, rendered.handed_back, rendered.row_wise)


def prompt(rendered: pl.DataFrame, template: Template) -> pl.Expr:
    """Return the expression of the prompts of what was rendered: instruction, separator, input, ending.

    The separator stands only between two parts that are not empty.
    """
    both = rendered.select((pl.col("instruction") != "") & (pl.col("input") != "")).to_series()
    separator = pl.lit(template.separator if both.any() else "")
    if both.any() and not both.all():
        separator = pl.when(both).then(separator).otherwise(pl.lit(""))
    return pl.concat_str("instruction", separator, "input", pl.lit(template.ending)).alias("prompt")


def lengths(examples: pl.DataFrame) -> pl.DataFrame:
    """Return the characters of every example's `prompt` and `completion` (UInt32).

    Of a conversation the last turn is the completion, and all before it are the prompt.
    """
    if "messages" not in examples.columns:
        return examples.select(pl.col("prompt").str.len_chars(), pl.col("output").str.len_chars().alias("completion"))
    chars = pl.col("messages").list.eval(pl.element().struct.field("content").str.len_chars()).list
    return examples.select((chars.sum() - chars.last()).alias("prompt"), chars.last().alias("completion"))


def _conversations(rows: pl.DataFrame) -> Examples:
    """Return conversations as examples: nothing is rendered."""
    return Examples(rows.select("messages", SOURCE_ROW, pl.lit(0, pl.UInt32).alias("template")))

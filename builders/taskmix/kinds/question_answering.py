"""Extractive question answering: the answer is a span of the context, or there is none."""

from collections.abc import Collection

import polars as pl

from taskmix.errors import RowError
from taskmix.kinds.base import Column, Kind, View, describe, fail, text, texts, wrong_type


def canonical(frame: pl.DataFrame, view: View, names: Collection[str]) -> pl.DataFrame:
    """Check the texts; split the answers into texts and offsets."""
    answers, starts = _answers(frame, view)
    return frame.with_columns(
        text(view, frame, "context").alias("context"),
        text(view, frame, "question").alias("question"),
        answers.alias("answers"),
        starts.alias("answer_starts"),
        answers.list.first().fill_null("").alias("answer"),
    )


def _answers(frame: pl.DataFrame, view: View) -> tuple[pl.Series, pl.Series]:
    """Return accepted texts and their offsets (in characters; null where the source has none)."""
    series = frame["answers"]
    if isinstance(series.dtype, pl.List) and isinstance(series.dtype.inner, pl.Struct):
        fields = [each.name for each in series.dtype.inner.fields]
        columns = {name: series.list.eval(pl.element().struct.field(name)) for name in fields}
    elif isinstance(series.dtype, pl.Struct):
        columns = {each.name: series.struct.field(each.name) for each in series.dtype.fields}
    else:
        return texts(view, frame, "answers"), pl.Series("answer_starts", [None] * len(frame), pl.List(pl.Int64))
    if "text" not in columns:
        raise RowError(f"`answers` is {describe(series.dtype)}: it has no `text`", where=f"task {view.task}")
    inner = frame.select("source_row").with_columns(columns["text"].alias("answers"))
    answers = texts(view, inner, "answers")
    if "answer_start" not in columns:
        return answers, pl.Series("answer_starts", [None] * len(frame), pl.List(pl.Int64))
    starts = columns["answer_start"]
    if starts.dtype.is_integer():
        starts = starts.to_frame("start").select(pl.concat_list("start"))["start"]
    inner_type = starts.dtype.inner if isinstance(starts.dtype, pl.List) else starts.dtype
    if not (inner_type == pl.Null or (isinstance(starts.dtype, pl.List) and inner_type.is_integer())):
        raise wrong_type(view, "answers.answer_start", starts.dtype, "a list of whole numbers")
    starts = starts.cast(pl.List(pl.Int64))
    uneven = answers.list.len() != starts.list.len()
    fail(view, frame, uneven, lambda at: f"{len(answers[at])} answers but {len(starts[at])} offsets")
    return answers, starts


KIND = Kind(
    name="question-answering",
    columns={
        "context": Column("the passage"),
        "question": Column("the question"),
        "answers": Column("{text, answer_start} lists, or a list of texts; empty: unanswerable"),
    },
    inputs=("context", "question"),
    variables={
        "answer": "the first accepted answer; empty if the question has none",
        "answer_starts": "where the answers start in the context, in characters",
    },
    metric="F1",
    head="extractive question answering",
    canonical=canonical,
    fallback=lambda view: "question-answering",
    answer=("answer", "answers"),
    nullable=frozenset(("answer_starts",)),
)

"""Multiple choice: each row has options of its own, one of them right."""

from collections.abc import Collection

import polars as pl

from taskmix.kinds.base import Column, Kind, View, fail, resolve_labels, text, texts, wrong_type
from taskmix.text import quoted


def canonical(frame: pl.DataFrame, view: View, names: Collection[str]) -> pl.DataFrame:
    """Check the options, and find the right one by its index or its key."""
    choices = texts(view, frame, "choices")
    label = _label(frame, view)
    out_of_range = (label < 0) | (label >= choices.list.len().cast(pl.Int64))
    fail(
        view,
        frame,
        out_of_range,
        lambda at: f"`label` is {label[at]}, but there are {len(choices[at])} choices",
    )
    keys = texts(view, frame, "keys") if "keys" in view.columns else pl.lit(None, pl.List(pl.String))
    columns: list[pl.Series | pl.Expr] = [
        choices.alias("choices"),
        keys.alias("keys"),
        label.cast(pl.Int64).alias("label"),
        text(view, frame, "question").alias("question"),
    ]
    for optional in ("context", "rationale"):
        given = optional in view.columns
        column = text(view, frame, optional, nullable=True) if given else pl.lit(None, pl.String)
        columns.append(column.alias(optional))
    return frame.with_columns(columns)


def _label(frame: pl.DataFrame, view: View) -> pl.Series:
    """Return the index of the right option of each row, which may be out of range."""
    label = frame["label"]
    if isinstance(label.dtype, pl.List):
        raise wrong_type(view, "label", label.dtype, "one position or key")
    if "keys" in view.columns:
        return _by_key(frame, view)
    if view.labels is not None:
        return resolve_labels(view, frame, "label")
    if not label.dtype.is_integer():
        raise wrong_type(view, "label", label.dtype, "a position")
    fail(view, frame, label.is_null(), lambda _: "`label` is null", "drop such rows with `where`")
    return label


def _by_key(frame: pl.DataFrame, view: View) -> pl.Series:
    """Return where the label stands among the keys of its row."""
    keys = texts(view, frame, "keys")
    wanted = text(view, frame, "label")
    pairs = zip(keys.to_list(), wanted.to_list(), strict=True)
    found = pl.Series("label", [row.index(key) if key in row else None for row, key in pairs], dtype=pl.Int64)
    fail(
        view,
        frame,
        found.is_null(),
        lambda at: f"`label` is {quoted(wanted[at])}, which is none of the keys {quoted(keys[at].to_list())}",
    )
    return found


KIND = Kind(
    name="multiple-choice",
    columns={
        "question": Column("the question"),
        "choices": Column("a list of options, or a list of columns"),
        "label": Column("the index of the right option, or its key"),
        "keys": Column("the keys of the options, such as A, B, C", required=False),
        "context": Column("a passage", required=False),
        "rationale": Column("why the answer is right", required=False),
    },
    inputs=("context", "question", "choices"),
    variables={},
    metric="accuracy",
    head="multiple choice",
    canonical=canonical,
    fallback=lambda view: "multiple-choice",
    labelled="label",
)

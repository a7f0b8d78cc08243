"""Sentiment, topics, intents; with `text_pair` NLI and paraphrase; with a list of labels multi-label."""

from collections.abc import Collection

import polars as pl

from taskmix.kinds.base import CHOICES, Column, Kind, View, constant, resolve_labels, text


def canonical(frame: pl.DataFrame, view: View, names: Collection[str]) -> pl.DataFrame:
    """Check texts and turn labels into indices."""
    assert view.labels is not None, view
    pair = text(view, frame, "text_pair") if "text_pair" in view.columns else pl.lit(None, pl.String)
    checked = frame.with_columns(
        text(view, frame, "text").alias("text"),
        pair.alias("text_pair"),
        resolve_labels(view, frame, "label").alias("label"),
    )
    return checked.with_columns(choices=constant(view.labels.words)) if "choices" in names else checked


def fallback(view: View) -> str:
    """Return the template file for the shape of the task."""
    if view.multi_label:
        return "text-classification-multi-label"
    return "text-classification-pair" if "text_pair" in view.columns else "text-classification"


KIND = Kind(
    name="text-classification",
    columns={
        "text": Column("the text to classify"),
        "text_pair": Column("a second text, such as a hypothesis", required=False),
        "label": Column("an id, a name, or a list of them"),
    },
    inputs=("text", "text_pair"),
    variables=CHOICES,
    metric="accuracy",
    head="sequence classification",
    canonical=canonical,
    fallback=fallback,
    labelled="label",
    constants=lambda view: {"choices": view.labels.words} if view.labels else {},
)

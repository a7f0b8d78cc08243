"""Free text: translation, summarization, maths, reasoning, code, open questions."""

from collections.abc import Collection

import polars as pl

from taskmix.kinds.base import Column, Kind, View, fail, text, texts


def canonical(frame: pl.DataFrame, view: View, names: Collection[str]) -> pl.DataFrame:
    """Check the texts; a target may be one text or a list of accepted ones."""
    targets = texts(view, frame, "target")
    fail(
        view,
        frame,
        targets.list.len() == 0,
        lambda _: "`target` is an empty list",
        "drop such rows with `where`",
    )
    columns: list[pl.Series | pl.Expr] = [targets.alias("targets"), targets.list.first().alias("target")]
    for optional in ("input", "rationale"):
        given = optional in view.columns
        nullable = optional == "rationale"
        column = text(view, frame, optional, nullable) if given else pl.lit(None, pl.String)
        columns.append(column.alias(optional))
    return frame.with_columns(columns)


KIND = Kind(
    name="text-generation",
    columns={
        "target": Column("the text to write, or a list of accepted texts"),
        "input": Column("what to work on", required=False),
        "rationale": Column("the reasoning that leads to the target", required=False),
    },
    inputs=("input",),
    variables={"targets": "all accepted texts"},
    metric="ROUGE-L",
    head="sequence-to-sequence or causal language model",
    canonical=canonical,
    fallback=lambda view: "text-generation",
    answer=("target", "targets"),
)

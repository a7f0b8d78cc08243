"""Multi-turn chats, passed through to the formats that can hold them."""

from collections.abc import Collection

import polars as pl

from taskmix.errors import RowError
from taskmix.kinds.base import Column, Kind, View, describe, fail
from taskmix.text import quoted

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
_ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}


def canonical(frame: pl.DataFrame, view: View, names: Collection[str]) -> pl.DataFrame:
    """Bring {role, content} or ShareGPT's {from, value} to {role, content}, and check the turns."""
    series = frame["messages"]
    fields = _fields(series.dtype)
    pair = next((pair for pair in (("role", "content"), ("from", "value")) if fields.issuperset(pair)), None)
    if pair is None:
        raise RowError(
            f"`messages` is {describe(series.dtype)}, not a list of {{role, content}}",
            where=f"task {view.task}",
        )
    role, content = (pl.element().struct.field(name) for name in pair)
    roles = series.list.eval(role)
    known = series.list.eval(role.replace_strict(_ROLES, default=None, return_dtype=pl.String))
    fail(
        view,
        frame,
        series.is_null() | known.list.eval(pl.element().is_null()).list.any(),
        lambda at: f"a role of {quoted(roles[at].to_list() if roles[at] is not None else None)} is unknown",
        f"known: {', '.join(sorted(_ROLES))}",
    )
    fail(
        view,
        frame,
        series.list.eval(content.is_null() | (content == "")).list.any() | (known.list.last() != "assistant"),
        lambda _: "a turn is empty, or the last one is not the assistant's",
        "drop such rows with `where`",
    )
    renamed = pl.struct(
        role.replace_strict(_ROLES, default=None, return_dtype=pl.String).alias("role"),
        content.alias("content"),
    )
    return frame.with_columns(series.list.eval(renamed).cast(MESSAGES).alias("messages"))


def _fields(dtype: pl.DataType) -> set[str]:
    """Return the names of the fields of a list of mappings; none for another type."""
    inner = dtype.inner if isinstance(dtype, pl.List) else None
    return {each.name for each in inner.fields} if isinstance(inner, pl.Struct) else set()


KIND = Kind(
    name="conversation",
    columns={"messages": Column("the turns: a list of {role, content} or {from, value}")},
    inputs=("messages",),
    variables={},
    metric="loss",
    head="causal language model",
    canonical=canonical,
    fallback=lambda view: None,
)

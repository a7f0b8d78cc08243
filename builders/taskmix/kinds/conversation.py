"""Multi-turn chats, passed through to the formats that can hold them."""

from collections.abc import Collection, Mapping

import polars as pl

from taskmix.errors import RowError
from taskmix.kinds.base import Column, DataType, Kind, View, describe, fail
from taskmix.text import quoted

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
_ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}


def canonical(frame: pl.DataFrame, view: View, names: Collection[str]) -> pl.DataFrame:
    """Bring {role, content} or ShareGPT's {from, value} to {role, content}, and check the turns."""
    series = frame["messages"]
    fields = _fields(series.dtype)
    pair = next((pair for pair in (("role", "content"), ("from", "value")) if fields.keys() >= set(pair)), None)
    if pair is None or any(fields[name] != pl.String for name in pair):
        raise RowError(
            f"`messages` is {describe(series.dtype)}, not a list of {{role, content}}, both texts",
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
        series.list.eval(content.is_null() | (content == "")).list.any() | known.list.last().ne_missing("assistant"),
        lambda _: "a turn is empty, or there is no last one that is the assistant's",
        "drop such rows with `where`",
    )
    renamed = pl.struct(
        role.replace_strict(_ROLES, default=None, return_dtype=pl.String).alias("role"),
        content.alias("content"),
    )
    return frame.with_columns(series.list.eval(renamed).cast(MESSAGES).alias("messages"))


def _fields(dtype: pl.DataType) -> Mapping[str, DataType]:
    """Return the fields of a list of mappings and their types; none for another type."""
    inner = dtype.inner if isinstance(dtype, pl.List) else None
    return {each.name: each.dtype for each in inner.fields} if isinstance(inner, pl.Struct) else {}


KIND = Kind(
    name="conversation",
    columns={"messages": Column("the turns: a list of {role, content} or {from, value}")},
    inputs=("messages",),
    variables={},
    metric="loss",
    head="causal language model",
    canonical=canonical,
    fallback=lambda view: None,
    nullable=frozenset(("messages",)),
)

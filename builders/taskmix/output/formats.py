"""The five forms in which trainers read examples, and the columns that every form carries."""

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl
import pyarrow as pa

from taskmix import hashing
from taskmix.frames import SOURCE_ROW
from taskmix.mixing.plan import Part
from taskmix.output.shuffle import ORDER, ORIGIN
from taskmix.templates.rowwise import ALTERNATIVES

ID_HEX = 24
_KEYS = ("high", "low")
_IN_COMMON = ("task", "cluster", "template", "style", "source_split")
_DIGITS = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint16)
"""The two digits of each byte."""
_MESSAGE = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
_TURN = pl.List(pl.Struct({"from": pl.String, "value": pl.String}))
_SHAREGPT_ROLES = {"user": "human", "assistant": "gpt", "system": "system"}


def _prompt_completion(_: pl.DataFrame) -> list[pl.Expr]:
    return [pl.col("prompt"), pl.col("output").alias("completion")]


def _text(_: pl.DataFrame) -> list[pl.Expr]:
    return [pl.concat_str("prompt", "output").alias("text")]


def _alpaca(frame: pl.DataFrame) -> list[pl.Expr]:
    # an empty instruction would leave Alpaca's field empty: the input takes its place
    swap = pl.col("instruction") == ""
    return [
        pl.when(swap).then("input").otherwise("instruction").alias("instruction"),
        pl.when(swap).then(pl.lit("")).otherwise("input").alias("input"),
        pl.col("output"),
    ]


def _user_turn() -> pl.Expr:
    return pl.col("prompt").str.head(pl.col("prompt").str.len_chars() - pl.col("ending").str.len_chars())


def _messages(frame: pl.DataFrame) -> list[pl.Expr]:
    if "messages" in frame.columns:
        return [pl.col("messages").cast(_MESSAGE)]
    turns = _pair("role", "content", "user", "assistant")
    return [turns.cast(_MESSAGE).alias("messages")]


def _sharegpt(frame: pl.DataFrame) -> list[pl.Expr]:
    if "messages" in frame.columns:
        turn = pl.struct(
            pl.element().struct.field("role").replace_strict(_SHAREGPT_ROLES).alias("from"),
            pl.element().struct.field("content").alias("value"),
        )
        return [pl.col("messages").list.eval(turn).cast(_TURN).alias("conversations")]
    return [_pair("from", "value", "human", "gpt").cast(_TURN).alias("conversations")]


def _pair(role: str, content: str, asks: str, answers: str) -> pl.Expr:
    return pl.concat_list(
        pl.struct(pl.lit(asks).alias(role), _user_turn().alias(content)),
        pl.struct(pl.lit(answers).alias(role), pl.col("output").alias(content)),
    )


FORMATS: Mapping[str, Callable[[pl.DataFrame], list[pl.Expr]]] = {
    "prompt-completion": _prompt_completion,
    "messages": _messages,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "text": _text,
}


def origins(part: Part) -> pl.DataFrame:
    """Return what the examples of each of a part's templates have in common, and the keys of their ids.

    An id is two hashes of the source row. Under `high` alone no two examples of one origin have the same: it is a
    bijection of the row's number.
    """
    named = [(template.name, template.style) for template in part.templates] or [("conversation", "zero-shot")]
    task, cluster, split = part.task.name, part.task.entry.spec.cluster, part.source.source_split
    rows = []
    for template, style in named:
        keys = [hashing.key("id", task, split, template, style, 0, half) for half in _KEYS]
        rows.append((task, cluster, template, style, split, *keys))
    return pl.DataFrame(rows, {**dict.fromkeys(_IN_COMMON, pl.String), **dict.fromkeys(_KEYS, pl.UInt64)}, orient="row")


def narrow(examples: pl.DataFrame, form: str, number: int, key: int, shuffle_key: int, *, evaluation: bool) -> pa.Table:
    """Return rendered examples of one origin in a format, with what `widen` and the shuffle need.

    `number` is that of the origin, `key` its key `high`.
    """
    high = hashing.draws(key, pl.col(SOURCE_ROW))
    rows = examples.select(
        *FORMATS[form](examples),
        *(_alternative(name, examples) for name in ALTERNATIVES if evaluation),
        SOURCE_ROW,
        pl.lit(number, pl.UInt32).alias(ORIGIN),
        hashing.draws(shuffle_key, high).alias(ORDER),
    )
    # in buffers of their own: a frame may share those of the batch that it was made from
    return rows.to_arrow(compat_level=pl.CompatLevel.oldest())


def widen(rows: pl.DataFrame, table: pl.DataFrame) -> pa.Table:
    """Return rows with all columns of a mixture in their order; `table` has the origins by number.

    As Arrow, whose texts lie one after the other: those of a shuffled frame lie anywhere.
    """
    common = table[rows[ORIGIN]]
    draws = (hashing.draws(pl.col(key), pl.col(SOURCE_ROW)).alias(key) for key in _KEYS)
    hashes = common.with_columns(rows[SOURCE_ROW]).select(draws)
    wide = rows.select(
        pl.all().exclude(*ALTERNATIVES, SOURCE_ROW, ORIGIN, ORDER),
        _hex(*hashes).alias("id"),
        *common.select(_IN_COMMON),
        SOURCE_ROW,
        *(_alternative(name, rows) for name in ALTERNATIVES),
    )
    return wide.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())


def _alternative(name: str, rows: pl.DataFrame) -> pl.Expr:
    return pl.col(name) if name in rows.columns else pl.lit(None, ALTERNATIVES[name]).alias(name)


def _hex(high: pl.Series, low: pl.Series) -> pl.Series:
    """Return 96 bits of two UInt64 series as hexadecimal text."""
    both = np.column_stack([high.to_numpy(), low.to_numpy()]).astype(">u8")
    digits = _DIGITS[both.view(np.uint8)[:, : ID_HEX // 2]]
    offsets = np.arange(0, digits.nbytes + 1, ID_HEX, dtype=np.int64)
    return pl.Series(pa.LargeStringArray.from_buffers(len(high), pa.py_buffer(offsets), pa.py_buffer(digits)))

"""The five forms in which trainers read examples, and the columns that every form carries."""

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl

from taskmix import hashing
from taskmix.frames import SOURCE_ROW
from taskmix.mixing.plan import Part

ID_HEX = 24
ORDER = "order"
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


def format_examples(examples: pl.DataFrame, part: Part, form: str, seed: int) -> pl.DataFrame:
    """Bring rendered examples of a part to the columns of a mixture, with `order`: their place in the shuffle."""
    high, low = _id_halves(examples, part)
    ids = _hex(high, low)
    shuffle = hashing.draws(hashing.key(seed, "shuffle", part.split), pl.col("high"))
    return examples.with_columns(high.alias("high")).select(
        *FORMATS[form](examples),
        ids.alias("id"),
        pl.lit(part.task.name).alias("task"),
        pl.lit(part.task.entry.spec.cluster).alias("cluster"),
        pl.col("template_name").alias("template"),
        pl.col("style"),
        pl.lit(part.source.source_split).alias("source_split"),
        pl.col(SOURCE_ROW),
        pl.col("choices"),
        pl.col("answer"),
        pl.col("references"),
        shuffle.alias(ORDER),
    )


def _id_halves(examples: pl.DataFrame, part: Part) -> tuple[pl.Series, pl.Series]:
    """Return two 64-bit hashes of (task, split, source row, template, style, pass) for every example.

    For one template of one task the first alone tells all rows apart: it is a bijection of the row number.
    """
    style, template = examples["style"][0], examples["template_name"][0]
    assert (examples["template_name"] == template).all(), "examples of several templates"
    named = ("id", part.task.name, part.source.source_split, template, style, 0)
    keys = [hashing.key(*named, half) for half in ("high", "low")]
    frame = examples.select(hashing.draws(key, pl.col(SOURCE_ROW)).alias(str(i)) for i, key in enumerate(keys))
    return frame["0"], frame["1"]


def _hex(high: pl.Series, low: pl.Series) -> pl.Series:
    """Return 96 bits of two UInt64 series as hexadecimal text."""
    both = np.column_stack([high.to_numpy(), low.to_numpy()]).astype(">u8")
    digits = both.tobytes().hex()
    return pl.Series([digits[at : at + ID_HEX] for at in range(0, len(digits), 32)], dtype=pl.String)

"""The five forms in which trainers read examples, and the columns that every form carries."""

from collections.abc import Callable, Mapping
from itertools import product

import numpy as np
import polars as pl
import pyarrow as pa

from taskmix import hashing
from taskmix.frames import SOURCE_ROW
from taskmix.mixing.assignment import PLAIN, SLOT, TEMPLATE, VARIANTS, style_name, variant
from taskmix.mixing.parts import Part
from taskmix.output.content import REPEATED
from taskmix.output.shuffle import ORDER, ORIGIN, arrow
from taskmix.templates.rowwise import ALTERNATIVES

ID_HEX = 24
_KEYS = ("high", "low")
_ALTERNATIVES = {name: arrow(pl.DataFrame(schema={name: kind}))[name].type for name, kind in ALTERNATIVES.items()}
_MESSAGE = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
_TURN = pl.List(pl.Struct({"from": pl.String, "value": pl.String}))
_SHAREGPT_ROLES = {"user": "human", "assistant": "gpt", "system": "system"}


def _copied(name: str) -> pl.Expr:
    """Return texts in buffers of their own, as a concatenation makes them."""
    return pl.concat_str(name, pl.lit("")).alias(name)


def _prompt_completion(_: pl.DataFrame, system: str | None) -> list[pl.Expr]:
    # the prompt was put together just now
    prompt = pl.col("prompt") if system is None else pl.concat_str(_before(system), "prompt").alias("prompt")
    return [prompt, _copied("output").alias("completion")]


def _text(_: pl.DataFrame, system: str | None) -> list[pl.Expr]:
    return [pl.concat_str(_before(system), "prompt", "output").alias("text")]


def _alpaca(_: pl.DataFrame, system: str | None) -> list[pl.Expr]:
    # an empty instruction would leave Alpaca's field empty: the input takes its place
    swap, before = pl.col("instruction") == "", _before(system)
    return [
        pl.concat_str(before, pl.when(swap).then("input").otherwise("instruction")).alias("instruction"),
        pl.when(swap).then(pl.lit("")).otherwise(_copied("input")).alias("input"),
        _copied("output"),
    ]


def _before(system: str | None) -> pl.Expr:
    """Return the system's message as formats without turns have it: before everything else, in a paragraph."""
    return pl.lit("" if system is None else f"{system}\n\n")


def _user_turn() -> pl.Expr:
    return pl.col("prompt").str.head(pl.col("prompt").str.len_chars() - pl.col("ending").str.len_chars())


def _messages(frame: pl.DataFrame, system: str | None) -> list[pl.Expr]:
    turns = pl.col("messages") if "messages" in frame.columns else _turns("role", "content", "user", "assistant")
    return [_with_system(turns, ("role", "system"), ("content", system)).cast(_MESSAGE).alias("messages")]


def _sharegpt(frame: pl.DataFrame, system: str | None) -> list[pl.Expr]:
    if "messages" in frame.columns:
        turn = pl.struct(
            pl.element().struct.field("role").replace_strict(_SHAREGPT_ROLES).alias("from"),
            pl.element().struct.field("content").alias("value"),
        )
        turns = pl.col("messages").list.eval(turn)
    else:
        turns = _turns("from", "value", "human", "gpt")
    return [_with_system(turns, ("from", "system"), ("value", system)).cast(_TURN).alias("conversations")]


def _turns(role: str, content: str, asks: str, answers: str) -> pl.Expr:
    return pl.concat_list(
        pl.struct(pl.lit(asks).alias(role), _user_turn().alias(content)),
        pl.struct(pl.lit(answers).alias(role), _copied("output").alias(content)),
    )


def _with_system(turns: pl.Expr, role: tuple[str, str], content: tuple[str, str | None]) -> pl.Expr:
    """Return turns after that of the system, unless they begin with one of their own."""
    if content[1] is None:
        return turns
    first = pl.concat_list(pl.struct(pl.lit(role[1]).alias(role[0]), pl.lit(content[1]).alias(content[0])), turns)
    return pl.when(turns.list.first().struct.field(role[0]) == role[1]).then(turns).otherwise(first)


FORMATS: Mapping[str, Callable[[pl.DataFrame, str | None], list[pl.Expr]]] = {
    "prompt-completion": _prompt_completion,
    "messages": _messages,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "text": _text,
}


def origins(part: Part) -> pl.DataFrame:
    """Return what the examples of each origin of a part have in common, and the keys of their ids.

    An origin is a slot, a template and a style: the numbers that `origin` gives. An id is two hashes of the source row.
    Under `high` alone no two examples of one origin have the same: it is a bijection of the row's number.
    """
    named = [(template.name, template.style) for template in part.templates] or [("conversation", PLAIN)]
    task, cluster, split = part.task.name, part.task.entry.spec.cluster, part.source.source_split
    rows = []
    passes = range(part.posing.assignment.passes)
    for number, (template, base), wrapped in product(passes, named, range(VARIANTS)):
        style = style_name(base, wrapped)
        keys = [hashing.key("id", task, split, template, style, number, half) for half in _KEYS]
        rows.append((task, cluster, template, style, split, *keys))
    return pl.DataFrame(rows, {**dict.fromkeys(REPEATED, pl.String), **dict.fromkeys(_KEYS, pl.UInt64)}, orient="row")


def origin(templates: int) -> pl.Expr:
    """Return the expression of the number of examples' origin in what `origins` gives of a part with so many templates.

    It is a UInt32.
    """
    number = pl.col(SLOT) * max(1, templates) + pl.col(TEMPLATE)
    return number * VARIANTS + variant()


def narrow(
    examples: pl.DataFrame,
    form: str,
    system: str | None,
    numbers: pl.Series,
    keys: pl.Series,
    shuffle_key: int,
    *,
    evaluation: bool,
) -> pl.DataFrame:
    """Return rendered examples in a format, with what `widen` and the shuffle need.

    Args:
        examples: rendered, with alternatives in evaluation.
        form: the format.
        system: a message before every example.
        numbers: the numbers of their origins in the split's table (UInt32).
        keys: the keys `high` of the origins in that table (UInt64).
        shuffle_key: the key of the split's order.
        evaluation: whether the split is one to evaluate on.

    The rows keep nothing else alive: texts that are another frame's are copied, since one of them would keep those of
    the whole batch that it was read with.
    """
    high = hashing.draw(keys.gather(numbers).to_numpy(), examples[SOURCE_ROW].to_numpy())
    rows = examples.select(
        *FORMATS[form](examples, system),
        *(_alternative(name, examples) for name in ALTERNATIVES if evaluation),
        SOURCE_ROW,
        numbers.alias(ORIGIN),
        pl.Series(ORDER, hashing.draw(np.uint64(shuffle_key), high)),
    )
    return pl.DataFrame(arrow(rows)) if evaluation or "messages" in examples.columns else rows


def _alternative(name: str, rows: pl.DataFrame) -> pl.Expr:
    return pl.col(name) if name in rows.columns else pl.lit(None, ALTERNATIVES[name]).alias(name)


def widen(rows: pl.DataFrame, table: pl.DataFrame) -> pa.Table:
    """Return rows with all columns of a mixture in their order; `table` has the origins by number.

    What the rows of an origin have in common are Arrow dictionaries, with the words in the order in which they come.
    """
    given = arrow(rows.drop(ORDER))
    own = [name for name in given.column_names if name not in (*ALTERNATIVES, SOURCE_ROW, ORIGIN)]
    columns = {name: given[name] for name in own} | {"id": _ids(rows, table)} | _repeated(given[ORIGIN].chunk(0), table)
    columns[SOURCE_ROW] = given[SOURCE_ROW]
    for name, kind in _ALTERNATIVES.items():
        columns[name] = given[name] if name in rows.columns else pa.nulls(len(rows), kind)
    return pa.table(columns)


def _repeated(origins: pa.Array, table: pl.DataFrame) -> dict[str, pa.Array]:
    """Return what the origins of rows say of them."""
    found = origins.dictionary_encode()
    common = arrow(table.select(REPEATED)).take(found.dictionary)
    columns = {}
    for name in REPEATED:
        words = common[name].combine_chunks().dictionary_encode()
        columns[name] = pa.DictionaryArray.from_arrays(words.indices.take(found.indices), words.dictionary)
    return columns


def _ids(rows: pl.DataFrame, table: pl.DataFrame) -> pa.Array:
    """Return the ids of rows: the first bytes of two hashes of the source row, in hexadecimal."""
    numbers, origins = rows[SOURCE_ROW].to_numpy(), rows[ORIGIN].to_numpy()
    hashes = np.column_stack([hashing.draw(table[key].to_numpy()[origins], numbers) for key in _KEYS])
    digits = hashes.astype(">u8").view(np.uint8)[:, : ID_HEX // 2].tobytes().hex().encode()
    offsets = np.arange(0, len(digits) + 1, ID_HEX, dtype=np.int64)
    return pa.LargeStringArray.from_buffers(len(rows), pa.py_buffer(offsets), pa.py_buffer(digits))

"""What becomes text, what is true, and what a null becomes: the one place for each.

`strict` is that of the template: there a null, an undefined name and a number that is not finite have no text.
"""

import functools
import json
import sys
from dataclasses import replace

import polars as pl

from taskmix.compiler import python
from taskmix.compiler.values import (
    BOOL,
    FLOAT,
    INT,
    NOTHING,
    RANGE,
    TEXT,
    Any_,
    Either,
    Fixed,
    FixedMapping,
    ListOf,
    StructOf,
    Type,
    Value,
    column,
    is_constant,
    list_of,
    merge,
    refuse,
    spread,
)

_LAST_WHITESPACE = 0x3000
WHITESPACE = "".join(chr(code) for code in range(_LAST_WHITESPACE + 1) if chr(code).isspace())
"""What `str.isspace` holds for, which is more than Polars' own idea of it."""


def text(value: Any_, strict: bool) -> Value:
    """Return what `str` gives, as `{{ … }}` prints it; unknown where Jinja would refuse to print it."""
    if isinstance(value, Either):
        return column(merge(value.condition, text(value.then, strict), text(value.otherwise, strict)))
    if isinstance(value, Fixed | FixedMapping):
        return _display(value, strict)
    found = column(value)
    if found.soft:
        return Value(pl.lit(""), TEXT, constant="")
    if found.type == TEXT and not found.may_be_null:
        return found
    if found.lazy or found.type == RANGE:
        refuse("printing an iterator")
    plain = Value(_plain_text(found.expr, found.type, strict), TEXT, found.none, found.undefined, found.unknown)
    if found.type == FLOAT and strict:
        finite = found.expr.is_finite() | found.expr.is_null()
        plain = Value(pl.when(finite).then(plain.expr), TEXT, found.none, found.undefined, True)
    elif isinstance(found.type, ListOf | StructOf):
        plain = Value(plain.expr, TEXT, found.none, found.undefined, True)
    return _nulls_as_text(plain, found, strict)


def _nulls_as_text(plain: Value, value: Value, strict: bool) -> Value:
    if strict:
        return plain.known
    expr = plain.expr
    if value.none is not False:
        expr = pl.when(value.is_none()).then(pl.lit("None")).otherwise(expr)
    if value.undefined is not False:
        expr = pl.when(value.is_undefined()).then(pl.lit("")).otherwise(expr)
    return Value(expr, TEXT, unknown=plain.unknown)


def _plain_text(expr: pl.Expr, kind: Type, strict: bool) -> pl.Expr:
    if kind == TEXT:
        return expr
    if kind == INT:
        return expr.cast(pl.String)
    if kind == BOOL:
        return pl.when(expr).then(pl.lit("True")).when(~expr).then(pl.lit("False"))
    if kind == FLOAT:
        return python.call(python.float_text, expr)
    if kind == NOTHING:
        return pl.lit(None, dtype=pl.String)
    return display(expr, kind, strict)


def display(expr: pl.Expr, kind: Type, strict: bool) -> pl.Expr:
    """Return what `repr` gives, as Python shows the items of a list; null where that is unknown.

    A null of the expression itself gives null. A null inside is `None`, or unknown in a strict template.
    """
    if kind == TEXT:
        return _quoted(expr)
    if isinstance(kind, ListOf):
        items = _or_none(display(pl.element(), kind.item, strict), pl.element(), strict)
        return pl.concat_str(pl.lit("["), expr.list.eval(items).list.join(", ", ignore_nulls=False), pl.lit("]"))
    if isinstance(kind, StructOf):
        pieces: list[pl.Expr] = []
        for position, (name, each) in enumerate(kind.fields):
            field = expr.struct.field(name)
            pieces += [
                pl.lit(f"{', ' if position else ''}{name!r}: "),
                _or_none(display(field, each, strict), field, strict),
            ]
        whole = pl.concat_str(pl.lit("{"), *pieces, pl.lit("}"))
        return pl.when(expr.is_not_null()).then(whole)
    shown = _plain_text(expr, kind, strict)
    return pl.when(expr.is_finite()).then(shown) if strict and kind == FLOAT else shown


def _or_none(shown: pl.Expr, value: pl.Expr, strict: bool) -> pl.Expr:
    return shown if strict else pl.when(value.is_null()).then(pl.lit("None")).otherwise(shown)


def _display(value: Fixed | FixedMapping, strict: bool) -> Value:
    """Return what a list or mapping written in the template prints."""
    if isinstance(value, Fixed):
        if value.is_range:
            refuse("printing a range")
        items = [_item_display(each, strict) for each in value.items]
        comma = pl.lit(", ")
        pieces = [piece for item in items for piece in (item.expr, comma)][:-1]
        ends = ("(", ",)" if len(items) == 1 else ")") if value.is_tuple else ("[", "]")
    else:
        items = [_item_display(each, strict) for each in value.items.values()]
        pieces = []
        for position, (key, item) in enumerate(zip(value.items, items, strict=True)):
            pieces += [pl.lit(f"{', ' if position else ''}{key!r}: "), item.expr]
        ends = ("{", "}")
    return Value(
        pl.concat_str(pl.lit(ends[0]), *pieces, pl.lit(ends[1])), TEXT, unknown=any(item.unknown for item in items)
    )


def _item_display(value: Any_, strict: bool) -> Value:
    if isinstance(value, Fixed | FixedMapping):
        return _display(value, strict)
    if isinstance(value, Either):
        return column(merge(value.condition, _item_display(value.then, strict), _item_display(value.otherwise, strict)))
    found = column(value)
    if found.undefined is not False or found.lazy or found.type == RANGE:
        refuse("printing a list with an undefined item")
    nested = isinstance(found.type, ListOf | StructOf) or found.type in (TEXT, FLOAT)
    shown = Value(display(found.expr, found.type, strict), TEXT, found.none, unknown=found.unknown or nested)
    return _nulls_as_text(shown, found, strict)


@functools.cache
def _not_printable() -> str:
    """Return a pattern of the characters that `repr` writes as escapes, apart from those handled one by one."""
    ranges, start = [], None
    for code in range(sys.maxunicode + 2):
        bad = code <= sys.maxunicode and not chr(code).isprintable() and not 0xD800 <= code <= 0xDFFF
        if bad and start is None:
            start = code
        elif not bad and start is not None:
            ranges.append(f"\\x{{{start:x}}}-\\x{{{code - 1:x}}}")
            start = None
    return "[" + "".join(ranges) + "]"


def _quoted(expr: pl.Expr) -> pl.Expr:
    """Return text in quotes as `repr` writes it; unknown where a rare character needs an escape."""
    body = expr
    for plain, escaped in (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        body = body.str.replace_all(plain, escaped, literal=True)
    single, double = expr.str.contains("'", literal=True), expr.str.contains('"', literal=True)
    quoted = (
        pl.when(single & ~double)
        .then(pl.concat_str(pl.lit('"'), body, pl.lit('"')))
        .otherwise(pl.concat_str(pl.lit("'"), body.str.replace_all("'", "\\'", literal=True), pl.lit("'")))
    )
    return pl.when(~body.str.contains(_not_printable())).then(quoted)


_JSON_ESCAPES = {
    **{chr(code): f"\\u{code:04x}" for code in range(32)},
    '"': '\\"',
    "\\": "\\\\",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\b": "\\b",
    "\f": "\\f",
}


def json_text(value: Any_) -> Value:
    """Return a value as plain JSON, as the filter `tojson` writes it; unknown where it has none."""
    if isinstance(value, Either):
        return column(merge(value.condition, json_text(value.then), json_text(value.otherwise)))
    if isinstance(value, Fixed | FixedMapping):
        return _json_of_fixed(value)
    found = column(value)
    if found.lazy or found.type == RANGE:
        refuse("`tojson` of an iterator")
    expr = _json(found.expr, found.type)
    if found.none is not False:
        expr = pl.when(found.is_none()).then(pl.lit("null")).otherwise(expr)
    return Value(expr, TEXT, unknown=found.unknown or found.undefined is not False or _has_floats(found.type))


def _json_of_fixed(value: Fixed | FixedMapping) -> Value:
    if isinstance(value, Fixed):
        if value.is_range:
            refuse("`tojson` of a range")
        items, heads, ends = [json_text(each) for each in value.items], [""] * len(value.items), "[]"
    else:
        if not all(isinstance(key, str) for key in value.items):
            refuse("`tojson` of a mapping whose keys are no texts")
        items, ends = [json_text(each) for each in value.items.values()], "{}"
        heads = [f"{json.dumps(key, ensure_ascii=False)}: " for key in value.items]
    pieces: list[pl.Expr] = [pl.lit(ends[0])]
    for position, (head, item) in enumerate(zip(heads, items, strict=True)):
        pieces += [pl.lit((", " if position else "") + head), item.expr]
    return Value(pl.concat_str(*pieces, pl.lit(ends[1])), TEXT, unknown=any(item.unknown for item in items))


def _json(expr: pl.Expr, kind: Type) -> pl.Expr:
    """Return JSON; null for a null and where there is none."""
    if kind == TEXT:
        body = expr.str.replace_many(list(_JSON_ESCAPES), list(_JSON_ESCAPES.values()))
        return pl.concat_str(pl.lit('"'), body, pl.lit('"'))
    if kind == BOOL:
        return pl.when(expr).then(pl.lit("true")).when(~expr).then(pl.lit("false"))
    if kind == FLOAT:
        return pl.when(expr.is_finite()).then(_plain_text(expr, kind, True))
    if isinstance(kind, ListOf):
        item = pl.when(pl.element().is_null()).then(pl.lit("null")).otherwise(_json(pl.element(), kind.item))
        return pl.concat_str(pl.lit("["), expr.list.eval(item).list.join(", ", ignore_nulls=False), pl.lit("]"))
    if isinstance(kind, StructOf):
        pieces: list[pl.Expr] = [pl.lit("{")]
        for position, (name, each) in enumerate(kind.fields):
            field = expr.struct.field(name)
            value = pl.when(field.is_null()).then(pl.lit("null")).otherwise(_json(field, each))
            pieces += [pl.lit(f"{', ' if position else ''}{json.dumps(name, ensure_ascii=False)}: "), value]
        return pl.when(expr.is_not_null()).then(pl.concat_str(*pieces, pl.lit("}")))
    return _plain_text(expr, kind, True)


def _has_floats(kind: Type) -> bool:
    if isinstance(kind, ListOf):
        return _has_floats(kind.item)
    if isinstance(kind, StructOf):
        return any(_has_floats(each) for _, each in kind.fields)
    return kind == FLOAT


def truth(value: Any_, strict: bool) -> Value:
    """Return whether a value counts as true (Boolean); unknown where Jinja would raise."""
    if isinstance(value, Either):
        return column(merge(value.condition, truth(value.then, strict), truth(value.otherwise, strict)))
    if isinstance(value, Fixed | FixedMapping):
        return _bool(bool(value.items))
    found = column(value)
    if is_constant(found) or found.soft:
        return _bool(bool(found.constant) and not found.soft)
    if found.lazy:
        return Value(pl.when(found.expr.is_not_null()).then(pl.lit(True)), BOOL, unknown=found.may_be_null)
    expr = _is_true(found.expr, found.type)
    if found.none is not False:
        expr = pl.when(found.is_none()).then(pl.lit(False)).otherwise(expr)
    if found.undefined is not False and not strict:
        expr = pl.when(found.is_undefined()).then(pl.lit(False)).otherwise(expr)
    return Value(expr, BOOL, unknown=found.unknown or (strict and found.undefined is not False))


def _bool(value: bool) -> Value:
    return Value(pl.lit(value), BOOL, constant=value)


def _is_true(expr: pl.Expr, kind: Type) -> pl.Expr:
    if kind == TEXT:
        return expr != ""
    if kind == BOOL:
        return expr
    if kind in (INT, FLOAT):
        return expr != 0
    if isinstance(kind, ListOf):
        return expr.list.len() > 0
    if isinstance(kind, StructOf):
        return pl.when(expr.is_not_null()).then(pl.lit(bool(kind.fields)))
    return pl.lit(None, dtype=pl.Boolean)


def items_of(value: Any_) -> Value:
    """Return what going over a value gives, as a list: its items, characters or keys; unknown where Jinja raises.

    Of an undefined value there are none; a strict template must have refused it before.
    """
    return column(spread(_items, value))


def _items(value: Any_) -> Value:
    if isinstance(value, FixedMapping):
        return column(Fixed(tuple(_constant_text(key) for key in value.items)))
    found = column(value)
    if found.type == TEXT:
        return _going_over(found, found.expr.str.split(""), _TEXTS)
    if isinstance(found.type, StructOf):
        keys = column(Fixed(tuple(_constant_text(name) for name, _ in found.type.fields)))
        return _going_over(found, pl.when(found.expr.is_not_null()).then(keys.expr), keys.type)
    if found.type == RANGE:
        return replace(found, type=list_of(INT))
    if isinstance(found.type, ListOf) or found.type == NOTHING:
        return found
    return refuse(f"going over a value of type {found.type}")


def _going_over(value: Value, items: pl.Expr, kind: Type) -> Value:
    return Value(items, kind, value.none, value.undefined, value.unknown)


def _constant_text(name: str | int) -> Value:
    if not isinstance(name, str):
        refuse("a mapping whose keys are no texts")
    return Value(pl.lit(name), TEXT, constant=name)


_TEXTS = ListOf("list of text", pl.List(pl.String), TEXT, False)

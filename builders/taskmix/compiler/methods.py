"""Methods of texts, lists and mappings that compile, and the functions that templates may call."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import polars as pl

from taskmix.compiler import filters, operators, python
from taskmix.compiler.filters import Context
from taskmix.compiler.rules import WHITESPACE
from taskmix.compiler.values import (
    BOOL,
    FAILS,
    INT,
    NOTHING,
    RANGE,
    TEXT,
    Any_,
    Fixed,
    FixedMapping,
    ListOf,
    StructOf,
    Value,
    column,
    constant,
    constant_of,
    is_constant,
    list_of,
    merge,
    refuse,
    text_of,
)

_NONE = constant(None)
_ALL = constant(-1)
_MOST_RANGE = 100_000
_MOST_CONSTANT = 100
TextRule = Callable[..., Any_]


def _text(value: Any_) -> Value | None:
    """Return an argument that has to be text; None if it never is."""
    found = column(value)
    return found.known if found.type == TEXT else None


def _case(function: Callable[[pl.Series], pl.Series]) -> TextRule:
    return lambda c, text: text_of(python.call(function, text.expr), text)


def _strip(side: str) -> TextRule:
    return lambda c, text, chars=_NONE: filters.stripped(text, chars, side)


def split(c: Context, text: Value, sep: Any_ = _NONE, maxsplit: Any_ = _ALL) -> Any_:
    """Cut a text at every separator, or at whitespace."""
    most = constant_of(maxsplit, "a number of splits")
    between = column(sep)
    if between.type == NOTHING and between.none is True:
        if most != -1:
            refuse("`split` at whitespace so many times")
        words = text.expr.str.extract_all(f"[^{_escaped(WHITESPACE)}]+")
        return Value(words, list_of(TEXT), unknown=text.may_be_null)
    if between.type != TEXT:
        return FAILS
    if most == -1:
        if is_constant(between):
            return FAILS if between.constant == "" else _list(text.expr.str.split(between.expr), text)
        cut = pl.when(between.expr != "").then(between.expr)
        return Value(pl.when(cut.is_not_null()).then(text.expr.str.split(cut)), list_of(TEXT), unknown=True)
    if not is_constant(between) or between.constant == "" or not isinstance(most, int) or not 0 <= most <= 20:
        refuse("`split` so many times")
    fields = text.expr.str.splitn(str(between.constant), most + 1)
    parts = pl.concat_list([fields.struct.field(f"field_{i}") for i in range(most + 1)]).list.drop_nulls()
    return _list(pl.when(text.expr.is_not_null()).then(parts), text)


def _escaped(chars: str) -> str:
    return "".join(f"\\x{{{ord(char):x}}}" for char in chars)


def _list(expr: pl.Expr, *sources: Value) -> Value:
    return Value(expr, list_of(TEXT), unknown=any(each.may_be_null for each in sources))


def splitlines(c: Context, text: Value) -> Any_:
    """Cut a text at its line ends, which for Python are more than a line feed."""
    ends = text.expr.str.replace_all(r"\r\n|[\r\x0b\x0c\x1c-\x1e\x{85}\x{2028}\x{2029}]", "\n")
    lines = ends.str.strip_suffix("\n").str.split("\n")
    none = column(Fixed(())).expr.cast(pl.List(pl.String))
    return _list(pl.when(text.expr == "").then(none).when(text.expr.is_not_null()).then(lines), text)


def replace_(c: Context, text: Value, old: Any_, new: Any_, count: Any_ = _ALL) -> Any_:
    """Replace one text by another."""
    before, after = _text(old), _text(new)
    if before is None or after is None:
        return FAILS
    if constant_of(count, "a count") != -1:
        refuse("`replace` with a count")
    return filters.replaced(c, text, before, after)


def join(c: Context, text: Value, iterable: Any_) -> Any_:
    """Return the items of a list of texts with this text between them."""
    if isinstance(iterable, Fixed):
        texts = [_text(each) for each in iterable.items]
        known = [each for each in texts if each is not None]
        return FAILS if len(known) < len(texts) else filters.joined_values(known, text)
    items = c.items(iterable)
    assert isinstance(items.type, ListOf)
    if items.type.item == NOTHING:
        return filters.joined(c, items, text)
    if items.type.item != TEXT:
        empty = (items.expr.list.len() == 0) & text.expr.is_not_null()
        return Value(pl.when(empty).then(pl.lit("")), TEXT, unknown=True)
    clean = filters.all_texts(items)
    return filters.joined(c, clean, text)


def _edge(which: str) -> TextRule:
    def rule(c: Context, text: Value, part: Any_) -> Any_:
        if isinstance(part, Fixed):
            refuse("several texts at once")
        other = _text(part)
        if other is None:
            return FAILS
        held = text.expr.str.starts_with(other.expr) if which == "start" else text.expr.str.ends_with(other.expr)
        return Value(held, BOOL, unknown=text.may_be_null or other.may_be_null)

    return rule


def _position(text: Value, part: Value) -> pl.Expr:
    """Return where a part first stands in a text, in characters; null where it does not."""
    before = text.expr.str.split(pl.when(part.expr != "").then(part.expr)).list.first().str.len_chars()
    return pl.when(text.expr.str.contains(part.expr, literal=True)).then(
        pl.when(part.expr == "").then(pl.lit(0)).otherwise(before).cast(pl.Int64)
    )


def find(c: Context, text: Value, sub: Any_) -> Any_:
    """Return where a part first stands, or -1."""
    part = _text(sub)
    if part is None:
        return FAILS
    known = text.expr.is_not_null() & part.expr.is_not_null()
    return Value(pl.when(known).then(_position(text, part).fill_null(-1)), INT, unknown=True)


def text_index(c: Context, text: Value, sub: Any_) -> Any_:
    """Return where a part first stands; unknown if it does not."""
    part = _text(sub)
    return FAILS if part is None else Value(_position(text, part), INT, unknown=True)


def text_count(c: Context, text: Value, sub: Any_) -> Any_:
    """Count a part's occurrences."""
    part = _text(sub)
    if part is None:
        return FAILS
    pieces = text.expr.str.split(pl.when(part.expr != "").then(part.expr)).list.len().cast(pl.Int64) - 1
    return Value(pl.when(part.expr != "").then(pieces), INT, unknown=True)


def _without(which: str) -> TextRule:
    def rule(c: Context, text: Value, affix: Any_) -> Any_:
        part = _text(affix)
        if part is None:
            return FAILS
        cut = text.expr.str.strip_prefix if which == "prefix" else text.expr.str.strip_suffix
        return text_of(cut(part.expr), text, part)

    return rule


def _ascii_test(pattern: str) -> TextRule:
    """Return a test of all characters; of text that is not ASCII the answer is left to Python."""

    def rule(c: Context, text: Value) -> Any_:
        plain = text.expr.str.len_bytes() == text.expr.str.len_chars()
        return Value(pl.when(plain).then(text.expr.str.contains(pattern)), BOOL, unknown=True)

    return rule


TEXT_METHODS: Mapping[str, TextRule] = {
    "capitalize": _case(python.capitalize),
    "count": text_count,
    "endswith": _edge("end"),
    "find": find,
    "index": text_index,
    "isalnum": _ascii_test("^[A-Za-z0-9]+$"),
    "isalpha": _ascii_test("^[A-Za-z]+$"),
    "isdigit": _ascii_test("^[0-9]+$"),
    "isnumeric": _ascii_test("^[0-9]+$"),
    "isdecimal": _ascii_test("^[0-9]+$"),
    "islower": _ascii_test("^[^A-Z]*[a-z][^A-Z]*$"),
    "isupper": _ascii_test("^[^a-z]*[A-Z][^a-z]*$"),
    "isspace": _ascii_test("^[\\t-\\r\\x1c-\\x20]+$"),
    "join": join,
    "lower": _case(python.lower),
    "lstrip": _strip("left"),
    "removeprefix": _without("prefix"),
    "removesuffix": _without("suffix"),
    "replace": replace_,
    "rstrip": _strip("right"),
    "split": split,
    "splitlines": splitlines,
    "startswith": _edge("start"),
    "strip": _strip("both"),
    "title": _case(python.title),
    "upper": _case(python.upper),
}


def _hits(c: Context, items: Value, wanted: Value) -> pl.Expr:
    """Return which items of a list equal a value of the same type, None included; null where that is unknown."""
    found = c.each(items, [wanted.known], lambda item, other: Value(item.expr.eq_missing(other.expr), BOOL))
    return pl.when(wanted.expr.is_not_null() | wanted.is_none()).then(found.expr)


def list_index(c: Context, items: Value, value: Any_) -> Any_:
    """Return the position of the first item that equals a value; unknown if none does."""
    assert isinstance(items.type, ListOf)
    wanted, kind = column(value), items.type.item
    if wanted.type != kind or kind not in (TEXT, INT, BOOL):
        refuse("`index` of a value of another type")
    if is_constant(wanted):
        at = items.expr.list.eval((pl.element() == wanted.expr).fill_null(False).arg_max()).list.first()
        held = items.expr.list.contains(wanted.expr)
        return Value(pl.when(held).then(at.cast(pl.Int64)), INT, unknown=True)
    hits = _hits(c, items, wanted)
    at = hits.list.eval(pl.element().arg_max()).list.first().cast(pl.Int64)
    return Value(pl.when(hits.list.any()).then(at), INT, unknown=True)


def list_count(c: Context, items: Value, value: Any_) -> Any_:
    """Count the items that equal a value."""
    assert isinstance(items.type, ListOf)
    wanted = column(value)
    if wanted.type != items.type.item or wanted.type not in (TEXT, INT, BOOL):
        refuse("`count` of a value of another type")
    if is_constant(wanted):
        return Value(items.expr.list.count_matches(wanted.expr).cast(pl.Int64), INT, unknown=True)
    return Value(_hits(c, items, wanted).list.eval(pl.element().cast(pl.Int64)).list.sum(), INT, unknown=True)


def copy(c: Context, items: Value) -> Any_:
    """Return the same list."""
    return items


LIST_METHODS: Mapping[str, TextRule] = {"copy": copy, "count": list_count, "index": list_index}


def get(c: Context, mapping: Any_, key: Any_, default: Any_ = _NONE) -> Any_:
    """Return the item of a key, or a default."""
    if isinstance(key, Fixed):
        return FAILS if not key.is_tuple else refuse("a key that is a tuple")
    if isinstance(mapping, FixedMapping):
        name = constant_of(key, "a key")
        return next((item for own, item in mapping.items.items() if own == name), default)
    found = column(mapping)
    assert isinstance(found.type, StructOf)
    item = operators.field(found, constant_of(key, "a key"))
    if item.type == NOTHING:
        return merge(Value(found.expr.is_not_null(), BOOL), default, FAILS) if found.may_be_null else default
    return Value(item.expr, item.type, none=item.none, unknown=found.may_be_null)


def keys(c: Context, mapping: Any_) -> Any_:
    """Return the keys, which are the same in every row."""
    if isinstance(mapping, FixedMapping):
        return replace(column(Fixed(tuple(constant(key) for key in mapping.items))), lazy=True)
    found = column(mapping)
    assert isinstance(found.type, StructOf)
    names = column(Fixed(tuple(constant(name) for name, _ in found.type.fields)))
    return Value(pl.when(found.expr.is_not_null()).then(names.expr), names.type, unknown=found.may_be_null, lazy=True)


def values(c: Context, mapping: Any_) -> Any_:
    """Return the values, if they are of one type."""
    items = mapping.items.values() if isinstance(mapping, FixedMapping) else _fields(column(mapping)).values()
    return replace(column(Fixed(tuple(items))), lazy=True)


def pairs(c: Context, mapping: Any_) -> Any_:
    """Return the pairs of key and value."""
    items = mapping.items if isinstance(mapping, FixedMapping) else _fields(column(mapping))
    return Fixed(tuple(Fixed((constant(key), value), is_tuple=True) for key, value in items.items()), is_tuple=True)


def _fields(value: Value) -> "Mapping[str | int, Any_]":
    assert isinstance(value.type, StructOf)
    if value.may_be_null:
        refuse("the values of a mapping that may be None")
    return {name: operators.field(value, name) for name, _ in value.type.fields}


MAPPING_METHODS: Mapping[str, TextRule] = {"get": get, "items": pairs, "keys": keys, "values": values}


def call(c: Context, value: Any_, name: str, args: tuple[Any_, ...], options: Mapping[str, Any_]) -> Any_:
    """Return ``value.name(…)`` of one value. Raises RefusedError for a method that does not compile."""
    if isinstance(value, FixedMapping) or (isinstance(value, Value) and isinstance(value.type, StructOf)):
        table, subject = MAPPING_METHODS, value
    elif isinstance(value, Fixed):
        if value.is_range or (value.is_tuple and name == "copy"):
            return FAILS
        if name not in LIST_METHODS:
            refuse(f"the method `{name}` of a list")
        table, subject = LIST_METHODS, column(value).known
    else:
        found = column(value)
        if found.type == TEXT:
            table, subject = TEXT_METHODS, found.known
        elif found.lazy or found.type == RANGE:
            return FAILS
        elif isinstance(found.type, ListOf):
            table, subject = LIST_METHODS, found.known
        elif found.type == NOTHING or found.type in (INT, BOOL):
            return FAILS
        else:
            refuse(f"the method `{name}` of a {found.type}")
    if table is MAPPING_METHODS and _has_key(subject, name):
        # data before methods: what is called is the item
        return FAILS
    if name not in table:
        refuse(f"the method `{name}`")
    filters.check_arguments(table[name], f"the method `{name}`", c, subject, *args, **options)
    return table[name](c, subject, *args, **options)


def _has_key(mapping: Any_, name: str) -> bool:
    if isinstance(mapping, FixedMapping):
        return name in mapping.items
    return isinstance(mapping, Value) and isinstance(mapping.type, StructOf) and mapping.type.field(name) is not None


# -- functions


def range_(c: Context, *args: Any_) -> Any_:
    """Return the integers from a start to an end, by a step."""
    bounds = [column(each) for each in args]
    if not 1 <= len(bounds) <= 3 or any(each.type not in (INT, BOOL) for each in bounds):
        return FAILS
    numbers = [each.expr.cast(pl.Int64) for each in bounds]
    start, end = (pl.lit(0, dtype=pl.Int64), numbers[0]) if len(bounds) == 1 else numbers[:2]
    step = constant_of(bounds[2], "a step") if len(bounds) == 3 else 1
    if not isinstance(step, int) or step == 0:
        return FAILS
    if all(is_constant(each) for each in bounds):
        found = range(*(int(str(constant_of(each, "a bound"))) for each in bounds))
        if len(found) <= _MOST_CONSTANT:
            return Fixed(tuple(constant(each) for each in found), is_range=True)
    c.reserve((end - start).abs().clip(None, _MOST_RANGE) * 8)
    return _numbers(start, end, step)


def _numbers(start: pl.Expr, end: pl.Expr, step: int) -> Value:
    # the magnitude of -(2**63) would not fit
    bounded = start.is_between(-(2**62), 2**62) & end.is_between(-(2**62), 2**62)
    fits = bounded & ((end - start).abs() <= _MOST_RANGE)
    known_start, known_end = pl.when(fits).then(start), pl.when(fits).then(end)
    numbers = pl.int_ranges(known_start, known_end, step, dtype=pl.Int64)
    return Value(numbers, RANGE, unknown=True)


def zip_(c: Context, *args: Any_) -> Any_:
    """Return tuples of the lists' items: for a loop alone, which takes them apart."""
    return refuse("`zip` outside of a loop")


FUNCTIONS: Mapping[str, TextRule] = {"range": range_, "zip": zip_}

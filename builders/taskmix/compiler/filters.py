"""Jinja's filters that compile: a function each, with Jinja's own parameter names, and one table of them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from taskmix import hashing
from taskmix.compiler import operators, python, rules
from taskmix.compiler.scopes import ROW
from taskmix.compiler.values import (
    BOOL,
    FAILS,
    FLOAT,
    INT,
    NOTHING,
    NUMBERS,
    RANGE,
    TEXT,
    UNDEFINED,
    Any_,
    Clash,
    Either,
    Fixed,
    FixedMapping,
    ListOf,
    Mapped,
    StructOf,
    Type,
    Value,
    column,
    constant,
    constant_of,
    element,
    in_rows,
    is_constant,
    list_of,
    mapped,
    merge,
    refuse,
    spread,
    text_of,
    when_known,
)
from taskmix.templates.filters import MAX_COUNT

_MOST_BYTES = 1_000_000
_MOST_COUNTED = 2**32
# what C's `isspace` holds for is stripped from a number; of other whitespace it depends on the rest of the text
_SPACE = " \t\n\r\x0b\x0c"
_OTHER_SPACE = r"\x1c-\x1f\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
_NOT_IN_NUMBERS = rf"[^\p{{Nd}}+\-._eEinfatyINFATY{_OTHER_SPACE}]"
_NULL = "\x00null\x00"
_NONE = constant(None)
_ZERO = constant(0)
_TEN = constant(10)
_ZERO_FLOAT = constant(0.0)
_COMMON = constant("common")
_EMPTY_TEXT = Value(pl.lit(""), TEXT, constant="")
_EMPTY: Any_ = _EMPTY_TEXT
_FALSE = constant(False)


@dataclass(frozen=True)
class Context:
    """What a rule may ask of the template around it: strictness, the row's draw, tests, and loops over a list.

    `each(items, others, rule)` gives what a rule makes of every item of a list and of other values of the row, and
    `only(items, others, rule)` the items for which a rule holds. `reserve(bytes)` bounds what the next steps make of
    all rows, given a bound for each.
    """

    strict: bool
    draw: Callable[[], pl.Expr]
    test: "Callable[[str, Any_, tuple[Any_, ...]], Value]"
    each: "Callable[[Value, Sequence[Value], Callable[..., Value]], Value]"
    only: "Callable[[Value, Sequence[Value], Callable[..., Value]], Value]"
    reserve: Callable[[pl.Expr], None]

    def text(self, value: Any_) -> Value:
        """Return the value as text."""
        return rules.text(value, self.strict)

    def truth(self, value: Any_) -> Value:
        """Return whether the value counts as true."""
        return rules.truth(value, self.strict)

    def items(self, value: Any_, if_true: bool = False) -> Value:
        """Return what going over the value gives, as a list that is unknown where Jinja raises.

        With `if_true` Jinja asks first whether the value is true: of a None there is nothing then, and no error.
        """
        found = rules.items_of(value)
        empty = _nothing_in(found, undefined=not self.strict, none=if_true)
        if found.type == NOTHING:
            if empty and (found.none is True or found.undefined is True):
                return column(Fixed(()))
            return Value(pl.lit(None, dtype=pl.List(pl.Null)), list_of(NOTHING), unknown=True)
        if not empty:
            return found.known
        none = column(Fixed(())).expr.cast(found.type.dtype)
        settled = (found.none is False or if_true) and (found.undefined is False or not self.strict)
        expr = pl.when(pl.any_horizontal(empty)).then(none).otherwise(found.expr)
        return Value(expr, found.type, unknown=found.unknown or not settled)


Rule = Callable[..., Any_ | Mapped]


def _nothing_in(found: Value, undefined: bool, none: bool) -> list[pl.Expr]:
    """Return conditions of the rows in which there is nothing to go over."""
    flags = [(found.is_undefined(), found.undefined, undefined), (found.is_none(), found.none, none)]
    return [rows for rows, flag, wanted in flags if wanted and flag is not False]


def _item(kind: Type) -> ListOf:
    assert isinstance(kind, ListOf), kind
    return kind


# -- text


def _mapped(function: Callable[[pl.Series], pl.Series]) -> Rule:
    def rule(c: Context, s: Any_) -> Any_:
        found = c.text(s)
        return text_of(python.call(function, found.expr), found)

    return rule


def trim(c: Context, value: Any_, chars: Any_ | None = None) -> Any_:
    """Strip whitespace, or the given characters."""
    found = c.text(value)
    if c.strict and chars is not None and constant_of(chars, "characters to strip") is None:
        return FAILS
    return stripped(found, _NONE if chars is None else chars, "both")


def stripped(text: Value, chars: Any_, side: str) -> Value:
    """Return text without whitespace, or other characters, on one side or both."""
    which = constant_of(chars, "characters to strip")
    if not isinstance(which, str | None):
        return FAILS
    strip = {
        "both": text.expr.str.strip_chars,
        "left": text.expr.str.strip_chars_start,
        "right": text.expr.str.strip_chars_end,
    }[side]
    # no characters at all strip nothing, but mean whitespace to Polars
    return text if which == "" else text_of(strip(rules.WHITESPACE if which is None else which), text)


def replace_(c: Context, s: Any_, old: Any_, new: Any_, count: Any_ | None = None) -> Any_:
    """Replace one text by another."""
    if count is not None:
        refuse("`replace` with a count")
    return replaced(c, c.text(s), _not_counted(c, old), _not_counted(c, new))


def _not_counted(c: Context, value: Any_) -> Value:
    """Return an argument as text, unknown where it is a number that the sandbox would take for a count, and refuse."""
    text = c.text(value)
    if not isinstance(value, Value) or value.type not in (INT, FLOAT):
        return text
    return when_known(value.expr.is_between(-MAX_COUNT, MAX_COUNT) | value.expr.is_null(), text)


def replaced(c: Context, text: Value, old: Value, new: Value) -> Value:
    """Return text with every occurrence of another replaced; unknown where that makes too much."""
    if is_constant(old) and is_constant(new) and old.constant != "":
        growth = -(-len(str(new.constant).encode()) // len(str(old.constant).encode()))
        if growth > 1:
            c.reserve(text.expr.str.len_bytes().cast(pl.Float64) * growth)
        return text_of(text.expr.str.replace_all(old.expr, new.expr, literal=True), text)
    # a pattern that is a column goes by `split`, which takes one
    size = (text.expr.str.len_bytes().cast(pl.Int64) + 1) * new.expr.str.len_bytes()
    fits = size < _MOST_BYTES
    c.reserve(pl.when(fits).then(size))
    pieces = pl.when(fits).then(text.expr.str.split(pl.when(old.expr != "").then(old.expr)))
    joined = pieces.list.join(new.expr, ignore_nulls=False)
    # split into characters only where that is asked for
    spread_out = _spread(pl.when(fits & (old.expr == "")).then(text.expr), new.expr)
    return Value(pl.when(old.expr == "").then(spread_out).otherwise(joined), TEXT, unknown=True)


def _spread(text: pl.Expr, between: pl.Expr) -> pl.Expr:
    """Return a text with another before, between and after all its characters."""
    inside = text.str.split("").list.join(between, ignore_nulls=False)
    return pl.when(text == "").then(between).otherwise(pl.concat_str(between, inside, between))


def string(c: Context, value: Any_) -> Any_:
    """Return the value as text."""
    return c.text(value)


def length(c: Context, value: Any_) -> Any_:
    """Count items or characters."""
    if isinstance(value, Fixed | FixedMapping):
        return constant(len(value.items))
    found = column(value)
    if found.lazy:
        refuse("the length of an iterator")
    if found.type == TEXT:
        size = found.expr.str.len_chars()
    elif isinstance(found.type, ListOf):
        size = found.expr.list.len()
    elif isinstance(found.type, StructOf):
        size = pl.when(found.expr.is_not_null()).then(pl.lit(len(found.type.fields)))
    elif found.type == NOTHING and found.undefined is True and not c.strict:
        return constant(0)
    elif found.undefined is not False and not c.strict:
        # nothing else of these types has a length
        size = pl.when(found.is_undefined()).then(pl.lit(0, dtype=pl.Int64))
        return Value(size, INT, unknown=True)
    else:
        return FAILS
    if found.undefined is not False and not c.strict:
        size = pl.when(found.is_undefined()).then(pl.lit(0)).otherwise(size)
    return Value(size.cast(pl.Int64), INT, unknown=found.may_be_null, bounds=(0, _MOST_COUNTED))


def tojson(c: Context, value: Any_, indent: Any_ = _NONE) -> Any_:
    """Return the value as plain JSON."""
    if constant_of(indent, "an indentation") is not None:
        refuse("`tojson` with an indentation")
    return rules.json_text(value)


def without(c: Context, text: Any_, start: Any_, end: Any_) -> Any_:
    """Return text without the spans from one mark to the next other one."""
    first, last = constant_of(start, "a mark"), constant_of(end, "a mark")
    found = column(text)
    if not isinstance(first, str) or not isinstance(last, str) or not first or not last or found.type != TEXT:
        refuse("`without` of such marks")
    pieces = found.expr.str.split(first)
    # what follows a start mark is kept from the next end mark on; without one it stays as it is
    rest = pl.element().str.splitn(last, 2)
    after = rest.struct.field("field_1")
    kept = pl.when(after.is_null()).then(pl.concat_str(pl.lit(first), pl.element())).otherwise(after)
    tail = pieces.list.slice(1).list.eval(kept).list.join("")
    return text_of(pl.concat_str(pieces.list.first(), tail), found)


# -- numbers


def abs_(c: Context, x: Any_) -> Any_:
    """Return the magnitude of a number."""
    found = column(x)
    if found.type not in NUMBERS:
        return FAILS
    number = found.expr.cast(pl.Int64) if found.type == BOOL else found.expr
    kept = pl.when(number != -(2**63)).then(number.abs()) if found.type != FLOAT else number.abs()
    return Value(kept, FLOAT if found.type == FLOAT else INT, unknown=True)


def int_(c: Context, value: Any_, default: Any_ = _ZERO, base: Any_ = _TEN) -> Any_:
    """Return the value as an integer, or the default."""
    if not is_constant(base) or column(base).constant != 10:
        refuse("`int` with a base")
    found, other = column(value), column(default)
    if found.type in (INT, BOOL):
        expr, certain = found.expr.cast(pl.Int64), found.expr.is_not_null()
    elif found.type == FLOAT:
        expr = pl.when(found.expr.is_finite() & (found.expr.abs() < 2.0**62)).then(found.expr).cast(pl.Int64)
        certain = expr.is_not_null()
        # int(nan) gives the default, an infinity an error
        return _or_default(found, expr, certain, found.expr.is_nan(), other)
    elif found.type == TEXT:
        return _int_of_text(found, other)
    elif found.type == NOTHING:
        return other if found.none is True else FAILS
    else:
        return other if not found.may_be_null else refuse("`int` of a list")
    return _or_default(found, expr, certain, pl.lit(False), other)


def _int_of_text(found: Value, default: Value) -> Any_:
    plain = found.expr.str.strip_chars(_SPACE)
    whole = plain.str.contains(r"^[+-]?[0-9]{1,17}$")
    decimal = plain.str.contains(r"^[+-]?[0-9]{1,15}\.[0-9]{0,15}$")
    number = pl.when(whole).then(plain).when(decimal).then(plain.str.split(".").list.first())
    expr = number.str.strip_prefix("+").cast(pl.Int64, strict=False)
    hopeless = _no_number(found.expr)
    return _or_default(found, expr, expr.is_not_null(), hopeless, default)


def _no_number(text: pl.Expr) -> pl.Expr:
    """Return whether Python surely reads no number from a text; what is left in doubt goes to Jinja."""
    no_digit = ~text.str.contains(r"(?i)\p{Nd}|inf|nan")
    # beside other whitespace, that of C may be left
    return no_digit | text.str.strip_chars(rules.WHITESPACE).str.contains(_NOT_IN_NUMBERS)


def _or_default(found: Value, expr: pl.Expr, certain: pl.Expr, failed: pl.Expr, default: Value) -> Any_:
    """Return a number where it is certain, the default where none can be made, else unknown."""
    none = found.is_none() if found.none is not False else pl.lit(False)
    if default.type != INT or default.may_be_null:
        if isinstance(failed, pl.Expr) and found.type in (INT, BOOL) and found.none is False:
            return Value(expr, INT, unknown=found.may_be_null)
        refuse("`int` with a default that is no integer")
    chosen = pl.when(certain).then(expr).when(failed.fill_null(False) | none).then(default.expr)
    return Value(chosen, INT, unknown=True)


def float_(c: Context, value: Any_, default: Any_ = _ZERO_FLOAT) -> Any_:
    """Return the value as a float, or the default."""
    found, other = column(value), column(default)
    if other.type != FLOAT or other.may_be_null:
        refuse("`float` with a default that is no float")
    if found.type == FLOAT:
        expr, hopeless = found.expr, pl.lit(False)
    elif found.type in (INT, BOOL):
        exact = found.expr.cast(pl.Float64)
        expr, hopeless = pl.when(exact.abs() < 2.0**53).then(exact), pl.lit(False)
    elif found.type == TEXT:
        plain = found.expr.str.strip_chars(_SPACE)
        simple = plain.str.contains(r"^[+-]?[0-9]{1,15}(\.[0-9]{0,15})?$")
        expr = pl.when(simple).then(plain.str.strip_prefix("+")).cast(pl.Float64, strict=False)
        hopeless = _no_number(found.expr)
    elif found.type == NOTHING:
        return other if found.none is True else FAILS
    else:
        return refuse("`float` of a list")
    none = found.is_none() if found.none is not False else pl.lit(False)
    chosen = pl.when(expr.is_not_null()).then(expr).when(hopeless.fill_null(False) | none).then(other.expr)
    return Value(chosen, FLOAT, unknown=True)


def round_(c: Context, value: Any_, precision: Any_ = _ZERO, method: Any_ = _COMMON) -> Any_:
    """Round as Python does, to a number of decimals."""
    found = column(value)
    digits, how = constant_of(precision, "a precision"), constant_of(method, "a method of rounding")
    if found.type not in NUMBERS:
        return FAILS
    if how != "common" or not isinstance(digits, int) or not 0 <= digits <= 15:
        refuse("`round` up or down, or to such a precision")
    if found.type != FLOAT:
        return Value(found.expr.cast(pl.Int64), INT, unknown=found.may_be_null)
    if digits == 0:
        return Value(found.expr.round(0, mode="half_to_even"), FLOAT, unknown=found.may_be_null)
    return Value(_rounded(found.expr, digits), FLOAT, unknown=True)


def _rounded(number: pl.Expr, digits: int) -> pl.Expr:
    """Return a number rounded half to even by its exact binary value, as Python does.

    The product of number and power of ten is split into what a float holds and the exact rest (Dekker 1971,
    "A floating-point technique for extending the available precision"), which settles what is near a half.
    """
    power = 10.0**digits
    scaled = number * power
    split = 2.0**27 + 1
    high = number * split - (number * split - number)
    low = number - high
    p_high = power * split - (power * split - power)
    p_low = power - p_high
    rest = ((high * p_high - scaled) + high * p_low + low * p_high) + low * p_low
    floor = scaled.floor()
    above = (scaled - floor - 0.5) + rest
    even = (floor / 2.0).floor() * 2.0 == floor
    up = (above > 0) | ((above == 0) & ~even)
    whole = pl.when(up).then(floor + 1.0).otherwise(floor)
    # a column, see `operators.divide`
    divisor = number.is_nan().cast(pl.Float64) + power
    small = (number.abs() < 1e15 / power) & number.is_finite()
    # the sign of a zero
    signed = pl.when((whole == 0) & (number < 0)).then(pl.lit(-0.0)).otherwise(whole / divisor)
    # a float of this size has no decimals, NaN and infinity have none either
    return pl.when(small).then(signed).when((number.abs() >= 2.0**52) | ~number.is_finite()).then(number)


# -- lists


def join(c: Context, value: Any_ | Mapped, d: Any_ = _EMPTY, attribute: Any_ = _NONE) -> Any_:
    """Return the items' texts with another between them."""
    name = constant_of(attribute, "an attribute")
    if isinstance(value, Fixed) and name is None:
        return _join_fixed(c, value, c.text(d))
    items = value if name is None else by_attribute(c.items(plain(value)), name)
    if isinstance(items, Mapped):
        items = items.then(c.text)
    return joined(c, c.items(plain(items)), c.text(d))


def joined(c: Context, items: Value, between: Value) -> Value:
    """Return the texts of a list's items as one."""
    kind = _item(items.type)
    texts = items.expr
    if kind.item != TEXT or kind.nullable:
        texts = items.expr.list.eval(c.text(Value(pl.element(), kind.item, none=kind.nullable)).expr)
    if kind.item == NOTHING:
        texts = texts.cast(pl.List(pl.String))
    unknown = items.may_be_null or kind.nullable or kind.item in (FLOAT,) or isinstance(kind.item, ListOf | StructOf)
    if is_constant(between):
        return Value(texts.list.join(str(between.constant), ignore_nulls=False), TEXT, unknown=unknown)
    size = texts.list.len().cast(pl.Int64) * between.expr.str.len_bytes()
    each = in_rows(texts, pl.when(size < _MOST_BYTES).then(size))
    return Value(each.list.join(between.expr, ignore_nulls=False), TEXT, unknown=True)


def _join_fixed(c: Context, value: Fixed, between: Value) -> Any_:
    return joined_values([c.text(each) for each in value.items], between)


def joined_values(texts: Sequence[Value], between: Value) -> Any_:
    """Return texts with another between them."""
    pieces = [piece for each in texts for piece in (between, each)][1:]
    joined = text_of(pl.concat_str([each.expr for each in pieces]), *pieces) if pieces else _EMPTY_TEXT
    # where nothing stands between texts, what should have may still fail
    return when_known(between.expr.is_not_null(), joined) if between.may_be_null else joined


def first(c: Context, seq: Any_) -> Any_:
    """Return the first item; undefined if there is none."""
    return _end(c, seq, 0)


def last(c: Context, seq: Any_) -> Any_:
    """Return the last item; undefined if there is none."""
    return _end(c, seq, -1)


def _end(c: Context, value: Any_, at: int) -> Any_:
    if isinstance(value, Fixed):
        return value.items[at] if value.items else UNDEFINED
    if isinstance(value, Value) and value.lazy and at == -1:
        return FAILS
    items = c.items(value)
    return operators.index(replace(items, lazy=False), constant(at), c.strict)


def list_(c: Context, value: Any_ | Mapped) -> Any_ | Mapped:
    """Return the items as a list."""
    if isinstance(value, Mapped):
        return replace(value, lazy=False)
    if isinstance(value, Fixed):
        return Fixed(value.items)
    return replace(c.items(value), lazy=False)


def reverse(c: Context, value: Any_) -> Any_:
    """Return a text reversed, or a list gone through from its end."""
    if isinstance(value, Fixed):
        return replace(column(Fixed(tuple(reversed(value.items)))), lazy=True)
    found = column(value)
    if found.type == TEXT:
        return text_of(found.expr.str.split("").list.reverse().list.join(""), found)
    if found.type == RANGE:
        found = replace(found, type=list_of(INT))
    if not isinstance(found.type, ListOf) or found.lazy:
        refuse("`reverse` of this")
    return Value(found.expr.list.reverse(), found.type, unknown=found.may_be_null, lazy=True)


def _folded(kind: Type, case_sensitive: Any_, item: pl.Expr) -> pl.Expr:
    """Return what items are compared by: texts in lower case unless case matters."""
    if constant_of(case_sensitive, "case_sensitive") or kind != TEXT:
        return item
    return python.call(python.lower, item)


def _comparable(items: Value, what: str) -> Value:
    """Return a list of texts or numbers, unknown where it holds a None or NaN."""
    kind = _item(items.type)
    if kind.item not in (TEXT, INT, FLOAT, BOOL):
        refuse(f"`{what}` of a list of {kind.item}")
    bad = pl.element().is_null() | (pl.element().is_nan() if kind.item == FLOAT else pl.lit(False))
    clean = ~items.expr.list.eval(bad).list.any()
    return replace(when_known(clean, items), type=list_of(kind.item))


def unique(c: Context, value: Any_, case_sensitive: Any_ = _FALSE, attribute: Any_ = _NONE) -> Any_:
    """Return the first of every set of equal items."""
    _no_attribute(attribute)
    items = c.items(value)
    kind = _item(items.type)
    if kind.item == FLOAT:
        items = _comparable(items, "unique")
    elif kind.item not in (TEXT, INT, BOOL):
        refuse(f"`unique` of a list of {kind.item}")

    def is_first(item: Value) -> Value:
        key = _folded(kind.item, case_sensitive, item.expr)
        return Value(pl.struct(pl.col(ROW), key.alias("key")).is_first_distinct(), BOOL)

    return replace(c.only(items, [], is_first), lazy=True)


def sort(
    c: Context, value: Any_, reverse: Any_ = _FALSE, case_sensitive: Any_ = _FALSE, attribute: Any_ = _NONE
) -> Any_:
    """Return the items in order."""
    _no_attribute(attribute)
    items = _comparable(c.items(value), "sort")
    down = constant_of(reverse, "reverse")
    if not isinstance(down, int):
        return FAILS
    key = _folded(_item(items.type).item, case_sensitive, pl.element())
    found = items.expr.list.eval(pl.element().sort_by(key, descending=bool(down), maintain_order=True))
    return Value(found, items.type, unknown=items.may_be_null)


def _extreme(descending: bool) -> Rule:
    def rule(c: Context, value: Any_, case_sensitive: Any_ = _FALSE, attribute: Any_ = _NONE) -> Any_:
        ordered = sort(c, value, constant(descending), case_sensitive, attribute)
        return operators.index(ordered, constant(0), c.strict)

    return rule


def sum_(c: Context, iterable: Any_, attribute: Any_ = _NONE, start: Any_ = _ZERO) -> Any_:
    """Return the sum of integers."""
    _no_attribute(attribute)
    items = c.items(iterable)
    if _item(items.type).item != INT or column(start).constant != 0:
        refuse("`sum` of other than integers")
    clean = _comparable(items, "sum")
    size = clean.expr.list.eval(pl.element().cast(pl.Float64).abs()).list.sum()
    return Value(pl.when(size < 2.0**62).then(clean.expr.list.sum()), INT, unknown=True)


def most_frequent(c: Context, values: Any_) -> Any_:
    """Return the most frequent items, in order of appearance."""
    if isinstance(values, FixedMapping) or (isinstance(values, Value) and isinstance(values.type, StructOf)):
        refuse("`most_frequent` of a mapping, whose values count as counts")
    items = c.items(values)
    kind = _item(items.type)
    if kind.item not in (TEXT, INT, BOOL):
        refuse("`most_frequent` of this")
    if kind.item != TEXT or not kind.nullable:
        clean = _comparable(items, "most_frequent")
        return Value(clean.expr.list.eval(pl.element().mode(maintain_order=True)), clean.type, unknown=True)
    # `mode` leaves nulls out: count them as a text that no item is
    without = ~items.expr.list.contains(_NULL)
    counted = pl.element().fill_null(_NULL).mode(maintain_order=True)
    found = items.expr.list.eval(pl.when(counted != _NULL).then(counted))
    return Value(pl.when(without).then(found), items.type, unknown=True)


def choice(c: Context, values: Any_ | Mapped, place: Any_) -> Any_:
    """Pick an item by the row's draw and the filter's place."""
    items = values.items if isinstance(values, Mapped) else c.items(values)
    key = constant_of(place, "a place")
    assert isinstance(key, int), key
    draw = hashing.draws(key, c.draw())
    found = in_rows(items.expr, draw)
    size = found.list.len().cast(pl.UInt64)
    at = (draw % pl.when(size > 0).then(size)).cast(pl.Int64)
    if isinstance(values, Mapped):
        return _picked(values, at)
    kind = _item(items.type)
    item = found.list.get(at, null_on_oob=True)
    if not kind.nullable:
        return Value(item, kind.item, unknown=True)
    return Value(item, kind.item, none=item.is_null() & (size > 0).fill_null(False), unknown=True)


def _picked(values: Mapped, at: pl.Expr) -> Value:
    """Return the result at a position of each row, null for none."""
    item = values.rule(element(values.items))

    def pick(part: pl.Expr) -> pl.Expr:
        return in_rows(values.items.expr.list.eval(part), at).list.get(at, null_on_oob=True)

    none = pick(item.is_none()).fill_null(False) if item.none is not False else False
    undefined = pick(item.is_undefined()).fill_null(False)
    return Value(pick(item.expr), item.type, none, undefined, unknown=True)


def _no_attribute(attribute: Any_) -> None:
    if constant_of(attribute, "an attribute") is not None:
        refuse("an `attribute`")


def by_attribute(items: Value, name: object, lazy: bool = False) -> Value | Mapped:
    """Return a field of every item of a list."""
    kind = _item(items.type)
    if not isinstance(name, str) or "." in name or name.isdigit():
        refuse("such an attribute")
    if not isinstance(kind.item, StructOf) or kind.item.field(name) is None:
        refuse(f"the attribute `{name}` of a list of {kind.item}")
    return mapped(items, lambda item: operators.field(item, name), lazy)


def map_(c: Context, value: Any_ | Mapped, *args: Any_, **options: Any_) -> Any_ | Mapped:
    """Apply a filter to every item, or take an attribute of each."""
    if "attribute" in options and not args:
        if len(options) > 1:
            refuse("`map` with a default")
        items = c.items(plain(value), if_true=True)
        return by_attribute(items, constant_of(options["attribute"], "an attribute"), lazy=True)
    if not args:
        return FAILS
    rule = _of_each(c, *args, **options)
    if isinstance(value, Mapped):
        return replace(value, lazy=True).then(rule)
    return mapped(c.items(value, if_true=True), rule, lazy=True)


def _of_each(c: Context, *args: Any_, **options: Any_) -> Callable[[Value], Value]:
    """Return what `map` does to an item: a filter by its name, with constant arguments."""
    name = constant_of(args[0], "the name of a filter")
    if not isinstance(name, str) or name not in _MAPPABLE:
        refuse(f"`map` of the filter {name}")
    for each in (*args[1:], *options.values()):
        constant_of(each, "an argument of `map`")
    inside = replace(c, reserve=lambda size: refuse("such a replacement in `map`"))
    return lambda item: column(call(name, inside, item, args[1:], options))


def all_texts(items: Value) -> Value:
    """Return a list of texts, unknown where one of them is None."""
    return _comparable(items, "join") if _item(items.type).nullable else items


def _select(keep: bool, by_attribute_: bool) -> Rule:
    def rule(c: Context, value: Any_, *args: Any_, **options: Any_) -> Any_:
        if options:
            refuse("options of `select`")
        if by_attribute_ and not args:
            return FAILS
        field = constant_of(args[0], "an attribute") if by_attribute_ else None
        items, rest = c.items(value, if_true=True), args[1:] if by_attribute_ else args
        name = str(constant_of(rest[0], "the name of a test")) if rest else None

        def holds(item: Value, *others: Value) -> Value:
            tested = _attribute(item, field) if by_attribute_ else item
            held = c.truth(tested) if name is None else c.test(name, tested, others)
            return held if keep else operators.negated(held)

        return replace(c.only(items, [column(each) for each in rest[1:]], holds), lazy=True)

    return rule


def _attribute(item: Value, name: object) -> Value:
    if not isinstance(item.type, StructOf) or not isinstance(name, str) or "." in name or name.isdigit():
        refuse("an attribute of what has none")
    return operators.field(item, name)


def default(c: Context, value: Any_, default_value: Any_ = _EMPTY, boolean: Any_ = _FALSE) -> Any_:
    """Return another value for what is undefined, or false."""
    if constant_of(boolean, "a truth value"):
        if isinstance(value, Value) and value.undefined is not False and c.strict:
            held = rules.truth(value, strict=False)
        else:
            held = c.truth(value)
        return merge(held, value, default_value)
    if not isinstance(value, Value) or value.undefined is False:
        return value
    if value.undefined is True and value.type == NOTHING:
        return default_value
    defined = Value(
        pl.when(~value.is_undefined()).then(value.expr), value.type, value.none, False, value.unknown, lazy=value.lazy
    )
    return merge(Value(~value.is_undefined(), BOOL), defined, default_value)


FILTERS: Mapping[str, Rule] = {
    "abs": abs_,
    "capitalize": _mapped(python.capitalize),
    "choice": choice,
    "count": length,
    "d": default,
    "default": default,
    "first": first,
    "float": float_,
    "int": int_,
    "join": join,
    "last": last,
    "length": length,
    "list": list_,
    "lower": _mapped(python.lower),
    "map": map_,
    "max": _extreme(descending=True),
    "min": _extreme(descending=False),
    "most_frequent": most_frequent,
    "reject": _select(keep=False, by_attribute_=False),
    "rejectattr": _select(keep=False, by_attribute_=True),
    "replace": replace_,
    "reverse": reverse,
    "round": round_,
    "select": _select(keep=True, by_attribute_=False),
    "selectattr": _select(keep=True, by_attribute_=True),
    "sort": sort,
    "string": string,
    "sum": sum_,
    "title": _mapped(python.headline),
    "tojson": tojson,
    "trim": trim,
    "unique": unique,
    "upper": _mapped(python.upper),
    "without": without,
}
_MAPPABLE = frozenset("abs capitalize float int length count lower replace round string title trim upper".split())


_OVER_MAPPED = frozenset(("choice", "join", "list", "map"))
"""Filters that go over items of which some are undefined."""


def call(
    name: str, c: Context, value: Any_ | Mapped, args: tuple[Any_, ...], options: Mapping[str, Any_]
) -> Any_ | Mapped:
    """Return what a filter makes of a value. Raises RefusedError for one that does not compile."""
    if name not in FILTERS:
        refuse(f"the filter `{name}`")
    rule = FILTERS[name]
    check_arguments(rule, f"the filter `{name}`", c, value, *args, **options)
    if isinstance(value, Mapped) and name in _OVER_MAPPED:
        return rule(c, value, *args, **options)
    subject = plain(value)
    if isinstance(subject, Either | Clash):
        return spread(lambda each: plain(rule(c, each, *args, **options)), subject)
    return rule(c, subject, *args, **options)


def plain(value: Any_ | Mapped) -> Any_:
    """Return a value that is no `Mapped`."""
    return column(value) if isinstance(value, Mapped) else value


def check_arguments(rule: Callable[..., object], what: str, *args: object, **options: object) -> None:
    """Raise RefusedError unless a rule takes these arguments."""
    try:
        inspect.signature(rule).bind(*args, **options)
    except TypeError:
        refuse(f"these arguments of {what}")

"""Jinja's operators: one table of the binary ones, one of comparisons."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from taskmix.compiler.values import (
    BOOL,
    FAILS,
    FLOAT,
    INT,
    NOTHING,
    NUMBERS,
    RANGE,
    TEXT,
    Any_,
    Clash,
    Either,
    Fixed,
    FixedMapping,
    Flag,
    ListOf,
    RefusedError,
    StructOf,
    Value,
    column,
    constant,
    constant_of,
    in_rows,
    is_constant,
    list_of,
    merge,
    refuse,
    spread,
    unify,
)

_EXACT = 2**53
_WIDE = 2.0**62
_LONGEST = 2_000


def _number(value: Any_) -> Value | None:
    """Return a number, true and false as 1 and 0; None for what is none."""
    if not isinstance(value, Value):
        return None
    if value.type == BOOL:
        return Value(value.expr.cast(pl.Int64), INT, unknown=value.may_be_null, bounds=(0, 1))
    return value.known if value.type in NUMBERS else None


def _both_numbers(a: Any_, b: Any_) -> tuple[Value, Value] | None:
    left, right = _number(a), _number(b)
    return (left, right) if left and right else None


def _float(value: Value) -> pl.Expr:
    return value.expr.cast(pl.Float64)


def _whole(expr: pl.Expr, size: pl.Expr) -> Value:
    """Return an integer, unknown where it would need more than 62 bits."""
    return Value(pl.when(size.abs() < _WIDE).then(expr), INT, unknown=True)


def _arithmetic(a: Any_, b: Any_, compute: Callable[[Any, Any], Any]) -> Any_:
    numbers = _both_numbers(a, b)
    if numbers is None:
        return FAILS
    left, right = numbers
    if is_constant(left) and is_constant(right):
        return constant(compute(left.constant, right.constant))
    if left.type == right.type == INT:
        bounds = _bounds(left, right, compute)
        if bounds is not None:
            return Value(compute(left.expr, right.expr), INT, unknown=left.unknown or right.unknown, bounds=bounds)
        return _whole(compute(left.expr, right.expr), compute(_float(left), _float(right)))
    return Value(compute(*_columns(left, right)), FLOAT, unknown=True)


def _bounds(a: Value, b: Value, compute: Callable[[Any, Any], Any]) -> tuple[int, int] | None:
    """Return the least and the greatest that a sum, difference or product can be; None if that may not fit."""
    if a.bounds is None or b.bounds is None:
        return None
    ends = [compute(left, right) for left in a.bounds for right in b.bounds]
    return (min(ends), max(ends)) if max(map(abs, ends)) < _WIDE else None


def _columns(a: Value, b: Value) -> tuple[pl.Expr, pl.Expr]:
    """Return two numbers as floats, neither a literal.

    With one Polars would simplify: multiply with the reciprocal of a divisor, which rounds twice, and leave out the
    addition of 0, which makes -0.0 into 0.0.
    """
    left, right = _exact_float(a), _exact_float(b)
    if is_constant(a):
        return left * _ones(right), right
    if is_constant(b):
        return left, right * _ones(left)
    return left, right


def _ones(like: pl.Expr) -> pl.Expr:
    """Return 1 in every row, and something else where it does not matter."""
    return like.is_nan().cast(pl.Float64) + 1.0


def _exact_float(value: Value) -> pl.Expr:
    """Return a number as a float; null where that would round an integer."""
    if isinstance(value.constant, int | float):
        # a literal, which Polars takes for one value of all rows
        exact = value.type == FLOAT or abs(value.constant) <= _EXACT
        return pl.lit(float(value.constant) if exact else None, dtype=pl.Float64)
    if value.type == FLOAT:
        return value.expr
    return pl.when(value.expr.is_between(-_EXACT, _EXACT)).then(_float(value))


def add(a: Any_, b: Any_) -> Any_:
    """Return ``a + b``: numbers, texts, or lists."""
    if isinstance(a, Fixed) and isinstance(b, Fixed):
        alike = a.is_tuple == b.is_tuple and not (a.is_range or b.is_range)
        return Fixed(a.items + b.items, a.is_tuple) if alike else FAILS
    if _is_text(a) and _is_text(b):
        left, right = column(a), column(b)
        return Value(pl.concat_str(left.expr, right.expr), TEXT, unknown=left.may_be_null or right.may_be_null)
    if _is_list(a) and _is_list(b):
        if any(isinstance(each, Fixed) and (each.is_tuple or each.is_range) for each in (a, b)):
            return FAILS
        return joined_lists(column(a), column(b))
    return _arithmetic(a, b, lambda left, right: left + right)


def joined_lists(a: Value, b: Value) -> Value:
    """Return one list after the other; unknown where either is null. Raises RefusedError for items of two types."""
    if a.lazy or b.lazy or RANGE in (a.type, b.type):
        refuse("adding to an iterator")
    kind = unify(a.type, b.type)
    if not isinstance(kind, ListOf):
        refuse("lists of items of different types")
    # `concat_list` takes a null list for an empty one
    both = pl.concat_list(a.expr.cast(kind.dtype), b.expr.cast(kind.dtype))
    if not (a.may_be_null or b.may_be_null):
        return Value(both, kind)
    return Value(pl.when(a.expr.is_not_null() & b.expr.is_not_null()).then(both), kind, unknown=True)


def _is_text(value: Any_) -> bool:
    return isinstance(value, Value) and value.type == TEXT


def _is_list(value: Any_) -> bool:
    return isinstance(value, Fixed) or (isinstance(value, Value) and isinstance(value.type, ListOf))


def subtract(a: Any_, b: Any_) -> Any_:
    """Return ``a - b``."""
    return _arithmetic(a, b, lambda left, right: left - right)


def multiply(a: Any_, b: Any_) -> Any_:
    """Return ``a * b``: numbers, or a text or list so many times."""
    if _is_text(b) or _is_list(b):
        a, b = b, a
    times = _number(b)
    if _is_text(a) and times and times.type == INT:
        text, count = constant_of(a, "a text times a number,"), constant_of(b, "a text times a number,")
        assert isinstance(text, str), text
        assert isinstance(count, int), count
        return constant(text * count) if len(text) * count <= _LONGEST else refuse("a text times a large number")
    if isinstance(a, Fixed) and times and is_constant(b) and not a.is_range:
        count = constant_of(b, "a count")
        assert isinstance(count, int)
        return (
            Fixed(a.items * count, a.is_tuple) if len(a.items) * count <= 1000 else refuse("a list of over 1,000 items")
        )
    if _is_list(a):
        refuse("a list times a number")
    return _arithmetic(a, b, lambda left, right: left * right)


def divide(a: Any_, b: Any_) -> Any_:
    """Return ``a / b`` as Python divides: correctly rounded, unknown for a divisor of 0."""
    numbers = _both_numbers(a, b)
    if numbers is None:
        return FAILS
    if is_constant(numbers[0]) and is_constant(numbers[1]):
        return _quotient(numbers[0].constant, numbers[1].constant)
    left, right = _columns(*numbers)
    return Value(pl.when(right != 0).then(left / right), FLOAT, unknown=True)


def _quotient(a: object, b: object) -> Any_:
    assert isinstance(a, int | float), a
    assert isinstance(b, int | float), b
    try:
        return constant(a / b)
    except (ZeroDivisionError, OverflowError):
        return FAILS


def _whole_numbers(a: Any_, b: Any_, compute: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> Any_:
    numbers = _both_numbers(a, b)
    if numbers is None:
        return FAILS if not _is_text(a) else refuse("`%` on a text")
    left, right = numbers
    if FLOAT in (left.type, right.type):
        refuse("`//` or `%` of floats")
    if left.bounds is not None and isinstance(right.constant, int) and right.constant != 0:
        return Value(compute(left.expr, right.expr), INT, unknown=left.unknown)
    nonzero = pl.when((right.expr != 0) & (_float(left).abs() < _WIDE)).then(right.expr)
    return Value(compute(left.expr, nonzero), INT, unknown=True)


def floor_divide(a: Any_, b: Any_) -> Any_:
    """Return ``a // b`` of integers."""
    return _whole_numbers(a, b, lambda left, right: left // right)


def modulo(a: Any_, b: Any_) -> Any_:
    """Return ``a % b`` of integers, with the sign of b."""
    return _whole_numbers(a, b, lambda left, right: left % right)


def power(a: Any_, b: Any_) -> Any_:
    """Refuse ``a ** b``."""
    return refuse("`**`")


def negative(value: Any_) -> Any_:
    """Return ``-value``."""
    number = _number(value)
    if number is None:
        return FAILS
    if isinstance(value, Value) and isinstance(value.constant, int | float):
        return constant(-value.constant)
    # -(-2**63) does not fit
    return Value(
        pl.when(number.expr != -(2**63)).then(-number.expr) if number.type == INT else -number.expr,
        number.type,
        unknown=True,
    )


def positive(value: Any_) -> Any_:
    """Return ``+value``."""
    return _number(value) or FAILS


BINARY: Mapping[str, Callable[[Any_, Any_], Any_]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "//": floor_divide,
    "%": modulo,
    "**": power,
}


def compute(operator: str, a: Any_, b: Any_) -> Any_:
    """Return a binary operation, on every pair of types that its operands may have."""
    return spread(lambda left: spread(lambda right: BINARY[operator](left, right), b), a)


# -- comparisons: each gives a Boolean, unknown where Jinja raises

FAILING = Value(pl.lit(None, dtype=pl.Boolean), BOOL, unknown=True)
"""The answer where Jinja raises an error, whatever the row."""


def _answer(expr: pl.Expr, *sources: Value) -> Value:
    return Value(expr, BOOL, unknown=any(each.may_be_null for each in sources))


def _truth(value: bool) -> Value:
    return Value(pl.lit(value), BOOL, constant=value)


def equal(a: Any_, b: Any_, strict: bool) -> Value:
    """Return ``a == b``; None equals None alone, and undefined only undefined."""
    if isinstance(a, Either | Clash) or isinstance(b, Either | Clash):
        return column(spread(lambda left: spread(lambda right: equal(left, right, strict), b), a))
    if isinstance(a, Fixed) and isinstance(b, Fixed):
        return _equal_fixed(a, b, strict)
    if isinstance(a, FixedMapping) or isinstance(b, FixedMapping):
        refuse("comparing mappings")
    if any(isinstance(each, Fixed) and each.is_tuple for each in (a, b)):
        refuse("comparing a tuple")
    left, right = column(a), column(b)
    if is_constant(left) and is_constant(right):
        return _truth(left.constant == right.constant)
    if strict:
        left, right = _defined(left), _defined(right)
    if left.lazy or right.lazy:
        refuse("comparing iterators")
    same = _same(left, right)
    for one, other in ((left, right), (right, left)):
        same = _nulls_differ(same, one, other)
    expr: pl.Expr = same
    both_none = left.none is not False and right.none is not False
    if both_none:
        expr = pl.when(left.is_none() & right.is_none()).then(pl.lit(True)).otherwise(expr)
    unknown = left.unknown or right.unknown
    if left.undefined is not False and right.undefined is not False:
        expr = pl.when(left.is_undefined() & right.is_undefined()).then(pl.lit(True)).otherwise(expr)
    # an integer may be too large to be compared as a float
    inexact = {left.type, right.type} == {INT, FLOAT}
    return Value(expr, BOOL, unknown=unknown or inexact or isinstance(left.type, ListOf | StructOf))


def _defined(value: Value) -> Value:
    """Return a value of a strict template, unknown where it is undefined: an error."""
    return value if value.undefined is False else replace(value, undefined=False, unknown=True)


def _nulls_differ(same: pl.Expr, one: Value, other: Value) -> pl.Expr:
    """Return `same`, false where one side is null (not unknown) and the other is not unknown."""
    if one.none is False and one.undefined is False:
        return same
    empty = one.is_none() | one.is_undefined()
    if other.unknown:
        empty = empty & ~other.is_unknown()
    return pl.when(empty).then(pl.lit(False)).otherwise(same)


def _same(a: Value, b: Value) -> pl.Expr:
    """Return whether two values that are not null are equal; false for types that never are."""
    if a.type == b.type and a.type in (TEXT, INT, BOOL):
        return a.expr == b.expr
    if a.type in NUMBERS and b.type in NUMBERS:
        return _compared(a, b, lambda left, right: left == right)
    if isinstance(a.type, ListOf) and isinstance(b.type, ListOf):
        return _same_lists(a, b)
    if isinstance(a.type, StructOf) and isinstance(b.type, StructOf):
        refuse("comparing mappings")
    known = a.expr.is_not_null() & b.expr.is_not_null()
    return pl.when(known).then(pl.lit(False))


def _same_lists(a: Value, b: Value) -> pl.Expr:
    kind = unify(a.type, b.type)
    if isinstance(kind, ListOf) and kind.item in (TEXT, INT, BOOL, NOTHING) and NOTHING not in (a.type, b.type):
        return a.expr.cast(kind.dtype) == b.expr.cast(kind.dtype)
    return refuse("comparing lists of these types")


def _equal_fixed(a: Fixed, b: Fixed, strict: bool) -> Value:
    if a.is_range or b.is_range:
        refuse("comparing a range")
    if a.is_tuple != b.is_tuple or len(a.items) != len(b.items):
        return _truth(False)
    return every([equal(left, right, strict) for left, right in zip(a.items, b.items, strict=True)])


def every(conditions: list[Value]) -> Value:
    """Return whether all conditions hold."""
    if all(is_constant(each) for each in conditions):
        return _truth(all(each.constant for each in conditions))
    return _answer(pl.all_horizontal([each.expr for each in conditions]), *conditions)


def _compared(a: Value, b: Value, compare: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> pl.Expr:
    """Return a comparison of numbers; Polars takes NaN for equal to itself and above all, Python for neither."""
    if FLOAT not in (a.type, b.type):
        left, right = (each.expr if each.type == INT else each.expr.cast(pl.Int64) for each in (a, b))
        return compare(left, right)
    left, right = (_exact_float(_number(each) or each) for each in (a, b))
    # a null and a NaN would make false, not null
    return pl.when(left.is_not_null() & right.is_not_null()).then(
        compare(left, right) & ~left.is_nan() & ~right.is_nan()
    )


def _ordered(compare: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> Callable[[Any_, Any_, bool], Value]:
    def rule(a: Any_, b: Any_, strict: bool) -> Value:
        if isinstance(a, Fixed | FixedMapping) or isinstance(b, Fixed | FixedMapping):
            refuse("ordering lists")
        left, right = column(a), column(b)
        if left.type == right.type == TEXT:
            return _answer(compare(left.expr, right.expr), left, right)
        if left.type in NUMBERS and right.type in NUMBERS:
            unknown = FLOAT in (left.type, right.type) or left.may_be_null or right.may_be_null
            return Value(_compared(left, right, compare), BOOL, unknown=unknown)
        if isinstance(left.type, ListOf) and isinstance(right.type, ListOf):
            refuse("ordering lists")
        return FAILING

    return rule


def contains(item: Any_, inside: Any_, strict: bool) -> Value:
    """Return ``item in inside``: part of a text, item of a list, key of a mapping."""
    if isinstance(inside, Either | Clash):
        return column(spread(lambda each: contains(item, each, strict), inside))
    if isinstance(inside, Fixed):
        among = _any([equal(item, each, strict) for each in inside.items])
        return among if inside.items else _unless_unknown(among, item)
    if isinstance(inside, FixedMapping):
        return _is_key(item, tuple(inside.items), strict)
    found = column(inside)
    if found.type == NOTHING and found.undefined is True and not strict:
        return _unless_unknown(_truth(False), item)
    if isinstance(found.type, StructOf):
        return _where_known(_is_key(item, tuple(name for name, _ in found.type.fields), strict), found)
    if found.type == TEXT:
        part = column(item)
        return _answer(found.expr.str.contains(part.expr, literal=True), found, part) if part.type == TEXT else FAILING
    if isinstance(found.type, ListOf):
        return _in_list(item, found, strict)
    return FAILING


def _is_key(item: Any_, keys: tuple[str | int, ...], strict: bool) -> Value:
    """Return whether a value is one of a mapping's keys, which a list or mapping cannot be asked for."""
    plain = not isinstance(item, Fixed | FixedMapping) and not isinstance(column(item).type, ListOf | StructOf)
    if not plain:
        return FAILING
    found = _any([equal(item, constant(key), strict) for key in keys])
    return found if keys else _unless_unknown(found, item)


def _unless_unknown(answer: Value, item: Any_) -> Value:
    """Return an answer that does not depend on an item, unknown where the item is."""
    if not isinstance(item, Value) or not item.unknown:
        return answer
    return Value(pl.when(~item.is_unknown()).then(answer.expr), BOOL, unknown=True)


def _where_known(answer: Value, value: Value) -> Value:
    return (
        Value(pl.when(value.expr.is_not_null()).then(answer.expr), BOOL, unknown=True) if value.may_be_null else answer
    )


def _any(conditions: list[Value]) -> Value:
    if all(is_constant(each) for each in conditions):
        return _truth(any(each.constant for each in conditions))
    unknown = [each for each in conditions if each.unknown]
    found = pl.any_horizontal([each.expr.fill_null(False) for each in conditions])
    if not unknown:
        return Value(found, BOOL)
    return Value(pl.when(~pl.any_horizontal([each.expr.is_null() for each in unknown])).then(found), BOOL, unknown=True)


def _in_list(item: Any_, inside: Value, strict: bool) -> Value:
    assert isinstance(inside.type, ListOf)
    wanted = column(item)
    kind = inside.type.item
    same: pl.Expr
    if wanted.undefined is not False:
        wanted = Value(wanted.expr, wanted.type, none=False, unknown=True)
    if kind == NOTHING:
        same = pl.when(inside.expr.is_not_null()).then(
            (inside.expr.list.len() > 0) & wanted.is_none() if wanted.none is not False else pl.lit(False)
        )
    elif wanted.type == NOTHING:
        if wanted.none is not True:
            return FAILING
        same = inside.expr.list.eval(pl.element().is_null()).list.any()
    elif wanted.type in (TEXT, INT, BOOL) and kind == wanted.type:
        same = inside.expr.list.contains(wanted.expr, nulls_equal=True)
    elif kind in NUMBERS and wanted.type in NUMBERS:
        refuse("looking for a number among numbers of another type")
    elif isinstance(kind, ListOf | StructOf):
        refuse("looking for an item in a list of lists or mappings")
    else:
        return _where_known(_where_known(_truth(False), wanted.known), inside)
    sure = inside.expr.is_not_null()
    if wanted.unknown:
        sure = sure & ~wanted.is_unknown()
    known = pl.when(sure).then(same)
    return Value(known, BOOL, unknown=inside.may_be_null or wanted.unknown)


def negated(value: Value) -> Value:
    """Return ``not value`` of a Boolean."""
    return _truth(not value.constant) if is_constant(value) else Value(~value.expr, BOOL, unknown=value.unknown)


Comparison = Callable[[Any_, Any_, bool], Value]
COMPARISONS: Mapping[str, Comparison] = {
    "eq": equal,
    "ne": lambda a, b, strict: negated(equal(a, b, strict)),
    "lt": _ordered(lambda left, right: left < right),
    "lteq": _ordered(lambda left, right: left <= right),
    "gt": _ordered(lambda left, right: left > right),
    "gteq": _ordered(lambda left, right: left >= right),
    "in": contains,
    "notin": lambda a, b, strict: negated(contains(a, b, strict)),
}


def index(value: Any_, at: Any_, strict: bool) -> Any_:
    """Return ``value[at]``: an item, a character or a field; undefined where there is none."""
    return spread(lambda one: spread(lambda other: _index(one, other, strict), at), value)


def _index(value: Any_, at: Any_, strict: bool) -> Any_:
    mapping = isinstance(value, FixedMapping) or (isinstance(value, Value) and isinstance(value.type, StructOf))
    if mapping and strict:
        # an undefined key cannot be looked up, an undefined position is none
        at = column(at)
        at = Value(at.expr, at.type, at.none, False, at.unknown or at.undefined is not False, at.constant)
    if isinstance(value, FixedMapping):
        return _field_of_fixed(value, at)
    where = column(at)
    if isinstance(value, Fixed):
        picked = _item_of_fixed(value, where)
        if picked is not None:
            return picked
    found = column(value)
    if found.type == NOTHING:
        return _nowhere(found, where)
    if found.lazy:
        refuse("an item of an iterator")
    if isinstance(found.type, StructOf):
        return _field(found, where)
    number = (
        Value(
            where.expr.cast(pl.Int64),
            INT,
            where.none,
            where.undefined,
            where.unknown,
            where.constant,
            bounds=where.bounds,
        )
        if where.type in (INT, BOOL)
        else None
    )
    if number is None:
        return _nowhere(found, where)
    if is_constant(value) and (found.type == TEXT or isinstance(found.type, ListOf)) and number.expr.meta.root_names():
        return _looked_up_in_constant(value, found, number)
    if not found.expr.meta.root_names():
        found = replace(found, expr=in_rows(found.expr, number.expr))
    if found.type == TEXT:
        picked_text = found.expr.str.slice(number.expr, 1)
        # the first or the last character is there if any is
        there = found.expr if number.constant in (0, -1) else picked_text
        picked_text = pl.when(there != "").then(picked_text)
        return _picked(found, number, Value(picked_text, TEXT), found.expr.str.len_chars())
    if isinstance(found.type, ListOf):
        item = found.expr.list.get(number.expr, null_on_oob=True)
        return _picked(found, number, Value(item, found.type.item, none=found.type.nullable), found.expr.list.len())
    return _nowhere(found, where)


UNDEFINED_ITEM = Value(pl.lit(None), NOTHING, undefined=True)


def looked_up(found: Value, at: Value, items: Callable[[pl.Expr], pl.Expr]) -> Value:
    """Return an item of a list by a function that finds items by position.

    `found` stands for the list: the expression is its length.
    """
    assert isinstance(found.type, ListOf)
    number = at.expr.cast(pl.Int64) if at.type == BOOL else at.expr
    if at.bounds is not None and at.bounds[0] >= 0:
        position = pl.when(number < found.expr).then(number)
    else:
        inside = (number < found.expr) & (number >= -found.expr)
        position = pl.when(inside).then(pl.when(number < 0).then(found.expr + number).otherwise(number))
    item = Value(items(position), found.type.item, none=found.type.nullable)
    where = Value(number, INT, at.none, at.undefined, at.unknown)
    return _picked(found, where, item, found.expr)


def _looked_up_in_constant(value: Any_, found: Value, at: Value) -> Value:
    """Return an item or a character of what is the same in every row, which is held once."""
    kind = found.type if isinstance(found.type, ListOf) else list_of(TEXT)
    there = constant_of(value, "a list")
    assert isinstance(there, str | list), there
    items = pl.Series(list(there), dtype=kind.item.dtype)
    size = Value(pl.lit(len(items), dtype=pl.Int64), kind)
    return looked_up(size, at, lambda position: pl.lit(items).gather(position))


def _nowhere(found: Value, at: Value) -> Value:
    """Return what a position that is no number finds: undefined, unknown where the list or the position is."""
    fails = [found.is_undefined()] if found.undefined is not False else []
    fails += [each.is_unknown() for each in (found, at) if each.unknown]
    if not fails:
        return UNDEFINED_ITEM
    return Value(pl.lit(None), NOTHING, undefined=~pl.any_horizontal(fails), unknown=True)


def _picked(found: Value, at: Value, item: Value, length: pl.Expr) -> Value:
    """Return an item: undefined out of range, of a None or at None; unknown of what is undefined or unknown."""
    fails = [found.is_undefined()] if found.undefined is not False else []
    fails += [each.is_unknown() for each in (found, at) if each.unknown]
    if item.none is False:
        if not fails:
            return Value(item.expr, item.type, undefined=True)
        failed = pl.any_horizontal(fails)
        return Value(item.expr, item.type, undefined=item.expr.is_null() & ~failed, unknown=True)
    size = length.cast(pl.Int64)
    inside = ((at.expr < size) & (at.expr >= -size)).fill_null(False)
    none = item.expr.is_null() & inside
    if not fails:
        return Value(item.expr, item.type, none=none, undefined=~inside)
    return Value(item.expr, item.type, none=none, undefined=~inside & ~pl.any_horizontal(fails), unknown=True)


def _item_of_fixed(value: Fixed, at: Value) -> Any_ | None:
    """Return an item of a list written in the template: the item itself, or a choice among them."""
    if is_constant(at):
        if not isinstance(at.constant, int):
            return UNDEFINED_ITEM
        return value.items[at.constant] if -len(value.items) <= at.constant < len(value.items) else UNDEFINED_ITEM
    if is_constant(value) and _has_one_type(value):
        return None
    if at.type not in (INT, BOOL) or len(value.items) > 32:
        return None
    number = at.expr.cast(pl.Int64)
    picked: Any_ = UNDEFINED_ITEM
    for position, item in enumerate(value.items):
        hit = (number == position) | (number == position - len(value.items))
        picked = merge(Value(hit.fill_null(False), BOOL), item, picked)
    return _unless(at, picked)


def _has_one_type(value: Fixed) -> bool:
    try:
        column(value)
    except RefusedError:
        return False
    return True


def _unless(at: Value, picked: Any_) -> Any_:
    """Return what was picked, unknown where the position or key is."""
    if not at.unknown:
        return picked
    if not isinstance(picked, Value):
        refuse("an item of a list of different types, at a position that may fail")
    return _unknown_where(at.is_unknown(), picked)


def _unknown_where(bad: pl.Expr, value: Value) -> Value:
    none: Flag = value.is_none() & ~bad if value.none is not False else False
    undefined: Flag = value.is_undefined() & ~bad if value.undefined is not False else False
    return Value(pl.when(~bad).then(value.expr), value.type, none, undefined, True)


def _field_of_fixed(value: FixedMapping, at: Any_) -> Any_:
    where = column(at)
    if is_constant(where):
        if not isinstance(where.constant, str | int):
            return UNDEFINED_ITEM
        return value.items.get(where.constant, UNDEFINED_ITEM)
    picked: Any_ = UNDEFINED_ITEM
    for key, item in value.items.items():
        hit = equal(constant(key), Value(where.expr, where.type, none=where.may_be_null), False)
        picked = merge(Value(hit.expr.fill_null(False), BOOL), item, picked)
    return _unless(where, picked)


def _field(value: Value, at: Value) -> Any_:
    assert isinstance(value.type, StructOf)
    if is_constant(at):
        return field(value, at.constant)
    if at.type != TEXT:
        return _nowhere(value, at)
    whole: dict[str | int, Any_] = {name: field(value, name) for name, _ in value.type.fields}
    return _field_of_fixed(FixedMapping(whole), at)


def field(value: Value, name: object) -> Value:
    """Return a field of a mapping: undefined if it has none of that name, or is None itself."""
    assert isinstance(value.type, StructOf)
    kind = value.type.field(name)
    fails = value.is_undefined() | value.is_unknown() if value.unknown or value.undefined is not False else None
    if kind is None:
        if fails is None:
            return UNDEFINED_ITEM
        return Value(pl.lit(None), NOTHING, undefined=~fails, unknown=True)
    assert isinstance(name, str)
    inner = value.expr.struct.field(name)
    present = value.expr.is_not_null()
    if not value.may_be_null:
        return Value(inner, kind, none=value.type.nullable)
    none = inner.is_null() & present if value.type.nullable else False
    missing = ~present if fails is None else ~present & ~fails
    return Value(inner, kind, none=none, undefined=missing, unknown=fails is not None)


def slice_of(value: Any_, start: Any_, stop: Any_, step: Any_) -> Any_:
    """Return ``value[start:stop:step]`` of a text or list, for a step of 1."""
    return spread(lambda each: _slice(each, start, stop, step), value)


def _slice(value: Any_, start: Any_, stop: Any_, step: Any_) -> Any_:
    if not is_constant(step) or column(step).constant not in (None, 1):
        refuse("a slice with a step")
    if isinstance(value, Fixed) and is_constant(start) and is_constant(stop):
        low, high = column(start).constant, column(stop).constant
        if not (isinstance(low, int | None) and isinstance(high, int | None)):
            return UNDEFINED_ITEM
        return replace(value, items=value.items[low:high])
    if isinstance(value, Fixed) and (value.is_tuple or value.is_range):
        refuse("a slice of a tuple or range")
    found = column(value)
    if found.lazy:
        refuse("a slice of an iterator")
    if found.type == TEXT:
        size, cut = found.expr.str.len_chars(), _cut_text
    elif isinstance(found.type, ListOf):
        size, cut = found.expr.list.len(), _cut_list
    else:
        return FAILS
    low_at, high_at = (_bound(each) for each in (start, stop))
    if low_at is None and high_at is None:
        expr = found.expr
    elif high_at is None and isinstance(low_at, int) and low_at >= 0:
        expr = cut(found.expr, low_at, None)
    elif isinstance(high_at, int) and high_at >= 0 and (low_at is None or (isinstance(low_at, int) and low_at == 0)):
        expr = cut(found.expr, 0, high_at)
    else:
        length = size.cast(pl.Int64)
        first = _clamped(low_at, length, pl.lit(0, dtype=pl.Int64))
        last = _clamped(high_at, length, length)
        expr = cut(in_rows(found.expr, first + last), first, (last - first).clip(0))
    fails = [each for each in map(column, (start, stop)) if each.undefined is not False or each.unknown]
    if fails:
        sure = ~pl.any_horizontal([each.is_undefined() | each.is_unknown() for each in fails])
        return Value(pl.when(sure).then(expr), found.type, unknown=True)
    # Jinja takes slices without its rules for items: of a None one fails
    return Value(expr, found.type, unknown=found.may_be_null)


def _cut_text(expr: pl.Expr, start: int | pl.Expr, length: int | pl.Expr | None) -> pl.Expr:
    return expr.str.slice(start, length)


def _cut_list(expr: pl.Expr, start: int | pl.Expr, length: int | pl.Expr | None) -> pl.Expr:
    return expr.list.slice(start, length)


def _bound(value: Any_) -> int | pl.Expr | None:
    found = column(value)
    if found.type == NOTHING and found.none is True:
        return None
    if found.type not in (INT, BOOL):
        refuse("a slice whose bounds are no numbers")
    return int(found.constant) if isinstance(found.constant, int) else found.expr.cast(pl.Int64)


def _clamped(at: int | pl.Expr | None, length: pl.Expr, default: pl.Expr) -> pl.Expr:
    if at is None:
        return default
    where = pl.lit(at, dtype=pl.Int64) if isinstance(at, int) else at
    from_end = pl.when(where < 0).then((length + where).clip(0)).otherwise(where)
    # a bound that is None is none at all
    return pl.when(where.is_null()).then(default).otherwise(pl.min_horizontal(from_end, length))

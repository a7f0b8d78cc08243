"""Jinja's tests, after ``is``: a function each, and one table of them."""

from collections.abc import Callable, Mapping

import polars as pl

from taskmix.compiler import operators, python
from taskmix.compiler.filters import Context, check_arguments
from taskmix.compiler.values import (
    BOOL,
    FLOAT,
    INT,
    NUMBERS,
    TEXT,
    Any_,
    Fixed,
    FixedMapping,
    ListOf,
    StructOf,
    Type,
    Value,
    column,
    constant,
    refuse,
    spread,
)

Rule = Callable[..., Value]


def _bool(value: bool) -> Value:
    found = constant(value)
    assert isinstance(found, Value)
    return found


def defined(c: Context, value: Any_) -> Value:
    """Return whether the value is not undefined."""
    if not isinstance(value, Value) or value.undefined is False:
        return _bool(True) if not isinstance(value, Value) or not value.unknown else _known(value, pl.lit(True))
    if value.undefined is True and value.type.dtype == pl.Null:
        return _bool(False)
    return _known(value, ~value.is_undefined())


def _known(value: Value, answer: pl.Expr) -> Value:
    return (
        Value(pl.when(~value.is_unknown()).then(answer), BOOL, unknown=True) if value.unknown else Value(answer, BOOL)
    )


def none(c: Context, value: Any_) -> Value:
    """Return whether the value is None."""
    if not isinstance(value, Value):
        return _bool(False)
    if value.none is False and not value.unknown:
        return _bool(False)
    return _known(value, value.is_none())


def _is_type(holds: Callable[[Type], bool], fixed: bool = False) -> Rule:
    """Return a test of a value's type, which a null does not have."""

    def rule(c: Context, value: Any_) -> Value:
        if isinstance(value, Fixed | FixedMapping):
            return _bool(fixed)
        found = column(value)
        if found.lazy:
            refuse("the type of an iterator")
        held = holds(found.type)
        if not found.may_be_null:
            return _bool(held)
        return _known(found, found.expr.is_not_null() & pl.lit(held))

    return rule


def _mapping(c: Context, value: Any_) -> Value:
    if isinstance(value, FixedMapping):
        return _bool(True)
    return _bool(False) if isinstance(value, Fixed) else _is_type(lambda kind: isinstance(kind, StructOf))(c, value)


def _several(kind: Type) -> bool:
    return kind == TEXT or isinstance(kind, ListOf | StructOf)


def iterable(c: Context, value: Any_) -> Value:
    """Return whether one can go over the value; an undefined one is empty."""
    if isinstance(value, Fixed | FixedMapping):
        return _bool(True)
    found = column(value)
    held = found.expr.is_not_null() & pl.lit(_several(found.type))
    if found.undefined is not False:
        if c.strict:
            refuse("`is iterable` of what may be undefined")
        held = held | found.is_undefined()
    return _known(found, held)


def sequence(c: Context, value: Any_) -> Value:
    """Return whether the value has a length and items; an undefined one that may be used has."""
    held = _is_type(_several, fixed=True)(c, value)
    if not isinstance(value, Value) or value.undefined is False or c.strict:
        return held
    return _known(value, held.expr | value.is_undefined())


def _divides(value: Value, by: Any_, wanted: int) -> Value:
    if value.type not in NUMBERS:
        return operators.FAILING
    rest = column(operators.modulo(value, by))
    return operators.equal(rest, constant(wanted), strict=False)


def _cased(function: Callable[[pl.Series], pl.Series], pattern: str) -> Rule:
    def rule(c: Context, value: Any_) -> Value:
        text = c.text(value)
        plain = text.expr.str.len_bytes() == text.expr.str.len_chars()
        return Value(pl.when(plain).then(text.expr.str.contains(pattern)), BOOL, unknown=True)

    return rule


def _compare(name: str) -> Rule:
    return lambda c, value, other: operators.COMPARISONS[name](value, other, c.strict)


def _exactly(value: bool) -> Rule:
    """Return a test for true or false itself."""

    def rule(c: Context, found: Any_) -> Value:
        if not isinstance(found, Value) or found.type != BOOL:
            return _is_type(lambda kind: False)(c, found)
        return _known(found, (found.expr == value).fill_null(False))

    return rule


TESTS: Mapping[str, Rule] = {
    "boolean": _is_type(lambda kind: kind == BOOL),
    "defined": defined,
    "divisibleby": lambda c, value, num: _divides(column(value), num, 0),
    "even": lambda c, value: _divides(column(value), constant(2), 0),
    "false": _exactly(False),
    "float": _is_type(lambda kind: kind == FLOAT),
    "in": lambda c, value, seq: operators.contains(value, seq, c.strict),
    "integer": _is_type(lambda kind: kind == INT),
    "iterable": iterable,
    "lower": _cased(python.lower, "^[^A-Z]*[a-z][^A-Z]*$"),
    "mapping": _mapping,
    "none": none,
    "number": _is_type(lambda kind: kind in NUMBERS),
    "odd": lambda c, value: _divides(column(value), constant(2), 1),
    "sequence": sequence,
    "string": _is_type(lambda kind: kind == TEXT),
    "true": _exactly(True),
    "undefined": lambda c, value: operators.negated(defined(c, value)),
    "upper": _cased(python.upper, "^[^a-z]*[A-Z][^a-z]*$"),
    **{name: _compare("eq") for name in ("eq", "equalto", "==")},
    **{name: _compare("ne") for name in ("ne", "!=")},
    **{name: _compare("lt") for name in ("lt", "lessthan", "<")},
    **{name: _compare("lteq") for name in ("le", "<=")},
    **{name: _compare("gt") for name in ("gt", "greaterthan", ">")},
    **{name: _compare("gteq") for name in ("ge", ">=")},
}


def call(name: str, c: Context, value: Any_, args: tuple[Any_, ...]) -> Value:
    """Return what a test says of a value. Raises RefusedError for one that does not compile."""
    if name not in TESTS:
        refuse(f"the test `{name}`")
    check_arguments(TESTS[name], f"the test `{name}`", c, value, *args)
    return column(spread(lambda each: TESTS[name](c, each, *args), value))

"""What an expression of a template is worth, as far as it is known before any row is read.

A `Value` is a Polars expression with the Python type that Jinja would see. Its null stands for what a row cannot say
otherwise: Python's `None`, Jinja's undefined, or *unknown*: only Jinja can tell, because it raises there or because
the row is one that Polars would treat differently. A row whose text comes out unknown is rendered by Jinja instead.

Every expression is total: on no row does Polars itself raise.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Never

import polars as pl
from polars.datatypes import DataTypeClass

DataType = pl.DataType | DataTypeClass


class RefusedError(Exception):
    """A template cannot be compiled: the reason. The line is added where the node is at hand."""


def refuse(reason: str) -> Never:
    """Raise RefusedError."""
    raise RefusedError(reason)


@dataclass(frozen=True)
class Type:
    """A Python type: its name, and the Polars type that holds its values."""

    name: str
    dtype: DataType

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class ListOf(Type):
    """A list of one type; `nullable` if an item may be `None`."""

    item: Type
    nullable: bool


@dataclass(frozen=True)
class StructOf(Type):
    """A mapping with fields known by name, each of which may be `None` if it is `nullable`."""

    fields: tuple[tuple[str, Type], ...]
    nullable: bool = True

    def field(self, name: object) -> Type | None:
        """Return the type of a field, if there is one."""
        return next((each for own, each in self.fields if own == name), None)


TEXT = Type("text", pl.String)
INT = Type("int", pl.Int64)
FLOAT = Type("float", pl.Float64)
BOOL = Type("bool", pl.Boolean)
NOTHING = Type("nothing", pl.Null)
NUMBERS = (INT, FLOAT, BOOL)


RANGE = ListOf("range", pl.List(pl.Int64), INT, False)
"""What `range` gives: a list in all but its text, its methods, and what it equals."""


def list_of(item: Type, nullable: bool = False) -> ListOf:
    """Return the type of a list of items."""
    return ListOf(f"list of {item}", pl.List(item.dtype), item, nullable)


def type_of(dtype: DataType, nullable: bool = True) -> Type:
    """Return the Python type of a column's values, in which no null is unless it is nullable.

    Raises:
        RefusedError: templates cannot take apart what the column holds.
    """
    if dtype in _PLAIN_TYPES:
        return _PLAIN_TYPES[dtype]
    if dtype in (pl.Categorical, pl.Enum):
        return TEXT
    if isinstance(dtype, pl.List | pl.Array):
        return list_of(type_of(dtype.inner, nullable), nullable)
    if isinstance(dtype, pl.Struct):
        fields = tuple((each.name, type_of(each.dtype, nullable)) for each in dtype.fields)
        return StructOf("mapping", pl.Struct({name: each.dtype for name, each in fields}), fields, nullable)
    return refuse(f"a column of type {dtype}")


_PLAIN_TYPES: Mapping[DataType, Type] = {
    pl.String: TEXT,
    pl.Boolean: BOOL,
    pl.Float32: FLOAT,
    pl.Float64: FLOAT,
    pl.Null: NOTHING,
    **dict.fromkeys((pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32), INT),
}


class _Unset:
    """The constant of a value that is not known before rows are read."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = _Unset()
Flag = bool | pl.Expr


@dataclass(frozen=True)
class Value:
    """An expression, its type, and what its nulls mean.

    `none` and `undefined`: False if no null means that, True if every null does, else a Boolean expression (never
    null) of the rows whose null does. `unknown`: whether a null that is neither may occur. `constant` is the Python
    value where it is known. `lazy`: an iterator in Jinja, which can be gone through once and has neither length
    nor text. `soft`: an undefined value that prints as nothing in a strict template too. `bounds`: the least and the
    greatest that an integer can be, where that is known. `choice`: of a text that is one of two constants, by what
    condition, and the two. `shown`: the rows in which a text may be other than empty, null where that is unknown.
    """

    expr: pl.Expr
    type: Type
    none: Flag = False
    undefined: Flag = False
    unknown: bool = False
    constant: object = UNSET
    lazy: bool = False
    soft: bool = False
    bounds: tuple[int, int] | None = None
    choice: tuple[pl.Expr, str, str] | None = None
    shown: pl.Expr | None = None

    @property
    def may_be_null(self) -> bool:
        """Whether the expression may be null in a row."""
        return self.none is not False or self.undefined is not False or self.unknown

    @property
    def known(self) -> "Value":
        """Return the value with every null unknown: Jinja would raise, or its meaning does not matter."""
        return Value(self.expr, self.type, unknown=self.may_be_null, constant=self.constant, bounds=self.bounds)

    def is_none(self) -> pl.Expr:
        """Return which rows are `None`."""
        return _rows(self.none, self.expr)

    def is_undefined(self) -> pl.Expr:
        """Return which rows are undefined."""
        return _rows(self.undefined, self.expr)

    def is_unknown(self) -> pl.Expr:
        """Return which rows are unknown."""
        found = self.expr.is_null()
        for flag in (self.none, self.undefined):
            if isinstance(flag, pl.Expr):
                found = found & ~flag
        return found if self.unknown else pl.lit(False)


def _rows(flag: Flag, expr: pl.Expr) -> pl.Expr:
    if isinstance(flag, pl.Expr):
        return flag
    return expr.is_null() if flag else pl.lit(False)


@dataclass(frozen=True)
class Fixed:
    """A list, tuple or range whose length is known: one value for each item."""

    items: "tuple[Any_, ...]"
    is_tuple: bool = False
    is_range: bool = False
    size: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _bounded(self.items))


@dataclass(frozen=True)
class FixedMapping:
    """A mapping whose keys are known."""

    items: "Mapping[str | int, Any_]"
    size: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _bounded(self.items.values()))


@dataclass(frozen=True)
class Either:
    """One of two values that have no type in common, by a condition on the row."""

    condition: Value
    then: "Any_"
    otherwise: "Any_"
    size: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _bounded((self.then, self.otherwise)))


@dataclass(frozen=True)
class Clash:
    """A variable whose type depends on the row in a way that cannot be compiled; an error only where it is used."""

    reason: str


_MOST_SIZE = 5_000


def _bounded(items: "Iterable[Any_]") -> int:
    """Return how many values there are inside, each counted as often as it stands there; refuse too many.

    A list that holds itself twice, again and again, is small here and endless for whoever goes through it.
    """
    size = 1 + sum(1 if isinstance(each, Value | Clash) else each.size for each in items)
    return size if size <= _MOST_SIZE else refuse(f"a list or mapping of more than {_MOST_SIZE:,} values")


Any_ = Value | Fixed | FixedMapping | Either | Clash


@dataclass(frozen=True)
class Mapped:
    """What a rule makes of every item of a list, some of it undefined, which no list that Polars holds can say.

    It goes from filter to filter and nowhere else: `column` makes it a list that is unknown where an item is undefined.
    The rule names nothing of the row but the item that it is given.
    """

    items: Value
    rule: Callable[[Value], Value]
    lazy: bool = False

    def then(self, rule: Callable[[Value], Any_]) -> "Any_ | Mapped":
        """Return what another rule makes of each of the results."""
        return mapped(self.items, lambda item: column(rule(self.rule(item))), self.lazy)


NONE = Value(pl.lit(None), NOTHING, none=True, constant=None)
UNDEFINED = Value(pl.lit(None), NOTHING, undefined=True)
SOFT = Value(pl.lit(None), NOTHING, undefined=True, soft=True)
"""What an inline `if` without `else` gives where it does not hold."""
FAILS = Value(pl.lit(None), NOTHING, unknown=True)
"""What Jinja raises an error for, whatever the row."""


def constant(value: object) -> Any_:
    """Return the value of a Python constant. Raises RefusedError if it is of no type that can be compiled."""
    if value is None:
        return NONE
    if isinstance(value, list | tuple):
        return Fixed(tuple(constant(each) for each in value), isinstance(value, tuple))
    if isinstance(value, bool):
        return Value(pl.lit(value), BOOL, constant=value)
    if isinstance(value, int):
        if not -(2**62) < value < 2**62:
            return Value(pl.lit(None, dtype=pl.Int64), INT, unknown=True, constant=value)
        return Value(pl.lit(value, dtype=pl.Int64), INT, constant=value, bounds=(value, value))
    if isinstance(value, float):
        return Value(pl.lit(value, dtype=pl.Float64), FLOAT, constant=value)
    if isinstance(value, str):
        return Value(pl.lit(value, dtype=pl.String), TEXT, constant=value)
    return refuse(f"a constant of type {type(value).__name__}")


def text_of(expr: pl.Expr, *sources: Any_) -> Value:
    """Return text that is unknown where one of its sources may be."""
    return Value(expr, TEXT, unknown=may_fail(*sources))


def may_fail(*sources: Any_) -> bool:
    """Whether any of the values may be null."""
    return any(not isinstance(each, Value) or each.may_be_null for each in sources)


def unknown_rows(value: Any_) -> list[pl.Expr]:
    """Return conditions, in each of which a row's value is unknown, items and branches included."""
    if isinstance(value, Value):
        return [value.is_unknown()] if value.unknown and isinstance(value.constant, _Unset) else []
    if isinstance(value, Fixed | FixedMapping):
        items = value.items if isinstance(value, Fixed) else value.items.values()
        return [each for item in items for each in unknown_rows(item)]
    if isinstance(value, Either):
        holds = value.condition.expr
        then = [each & holds for each in unknown_rows(value.then)]
        return [*unknown_rows(value.condition), *then, *(each & ~holds for each in unknown_rows(value.otherwise))]
    return []


def has_iterator(value: Any_) -> bool:
    """Whether a value is an iterator, or holds one."""
    if isinstance(value, Either):
        return has_iterator(value.then) or has_iterator(value.otherwise)
    if isinstance(value, Fixed | FixedMapping):
        items = value.items if isinstance(value, Fixed) else value.items.values()
        return any(map(has_iterator, items))
    return isinstance(value, Value) and value.lazy


def when_known(condition: pl.Expr, value: Value) -> Value:
    """Return the value, unknown in the rows where a condition is not true."""
    return Value(
        expr=pl.when(condition).then(value.expr),
        type=value.type,
        none=value.is_none() & condition.fill_null(False) if value.none is not False else False,
        undefined=value.is_undefined() & condition.fill_null(False) if value.undefined is not False else False,
        unknown=True,
        lazy=value.lazy,
        soft=value.soft,
        bounds=value.bounds,
    )


def in_rows(constant: pl.Expr, row: pl.Expr) -> pl.Expr:
    """Return a constant as a value of each row in which another is not null.

    Where Polars takes a second argument a row, it fails on a first that is one for all, or takes the first row's.
    """
    return pl.when(row.is_not_null()).then(constant)


def is_constant(value: Any_) -> bool:
    """Whether the value is known before any row is read."""
    if isinstance(value, Fixed):
        return all(is_constant(each) for each in value.items)
    return isinstance(value, Value) and not isinstance(value.constant, _Unset)


def constant_of(value: Any_, what: str) -> object:
    """Return the Python value of a constant. Raises RefusedError, saying what has to be one."""
    if isinstance(value, Fixed) and is_constant(value):
        return [constant_of(each, what) for each in value.items]
    if not isinstance(value, Value) or isinstance(value.constant, _Unset):
        refuse(f"{what} that depends on the row")
    return value.constant


def unify(a: Type, b: Type) -> Type | None:
    """Return the type that holds the values of both, if there is one."""
    if a == b:
        return a
    if NOTHING in (a, b):
        return b if a == NOTHING else a
    if RANGE in (a, b):
        return None
    if isinstance(a, ListOf) and isinstance(b, ListOf) and (item := unify(a.item, b.item)):
        return list_of(item, a.nullable or b.nullable or NOTHING in (a.item, b.item))
    if isinstance(a, StructOf) and isinstance(b, StructOf) and [n for n, _ in a.fields] == [n for n, _ in b.fields]:
        found = [(name, unify(own, other)) for (name, own), (_, other) in zip(a.fields, b.fields, strict=True)]
        fields = tuple((name, each) for name, each in found if each)
        if len(fields) == len(found):
            nullable = a.nullable or b.nullable
            return StructOf("mapping", pl.Struct({name: each.dtype for name, each in fields}), fields, nullable)
    return None


def mapped(items: Value, rule: Callable[[Value], Value], lazy: bool = False) -> Value | Mapped:
    """Return what a rule, which names nothing else of the row, makes of every item of a list."""
    made = Mapped(items, rule, lazy)
    return made if rule(element(items)).undefined is not False else column(made)


def element(items: Value) -> Value:
    """Return any item of a list, in an expression for `list.eval`."""
    assert isinstance(items.type, ListOf), items
    return Value(pl.element(), items.type.item, none=items.type.nullable)


def column(value: Any_ | Mapped) -> Value:
    """Return the value as one expression. Raises RefusedError if its items or branches have no type in common."""
    if isinstance(value, Value):
        return value
    if isinstance(value, Fixed):
        return _list(value)
    if isinstance(value, Mapped):
        return _items_of(value)
    if isinstance(value, Clash):
        refuse(value.reason)
    if isinstance(value, Either):
        refuse("a value of more than one type")
    return refuse("a mapping written in the template, used as a whole")


def _items_of(value: Mapped) -> Value:
    item = value.rule(element(value.items))
    kind = list_of(item.type, nullable=item.none is not False)
    made = Value(value.items.expr.list.eval(item.expr), kind, unknown=value.items.may_be_null, lazy=value.lazy)
    bad = ([item.is_undefined()] if item.undefined is not False else []) + ([item.is_unknown()] if item.unknown else [])
    if not bad:
        return made
    return when_known(~value.items.expr.list.eval(pl.any_horizontal(bad)).list.any(), made)


def _list(value: Fixed) -> Value:
    if any(isinstance(each, Fixed) and (each.is_tuple or each.is_range) for each in value.items):
        refuse("a list of tuples or ranges, used as a whole")
    items = [column(each) for each in value.items]
    item: Type | None = NOTHING
    for each in items:
        item = unify(item, each.type) if item else None
    if item is None or any(each.undefined is not False for each in items):
        refuse("a list of values of different types")
    kind = list_of(item, nullable=any(each.none is not False for each in items))
    if not items or all(is_constant(each) for each in items):
        found = pl.Series([[each.constant for each in items]], dtype=kind.dtype)
        return Value(pl.lit(found).first(), kind)
    # `concat_list` would join items that are lists themselves
    nested = isinstance(item, ListOf)
    expr = _nested(items, item) if nested else pl.concat_list([each.expr.cast(item.dtype) for each in items])
    unknown = [each.is_unknown() for each in items if each.unknown]
    made = Value(expr, kind)
    return when_known(~pl.any_horizontal(unknown), made) if unknown else made


def _nested(items: Iterable[Value], item: Type) -> pl.Expr:
    """Return a list of lists: each wrapped in a struct, so that `concat_list` takes it as one item."""
    wrapped = pl.concat_list([pl.struct(each.expr.cast(item.dtype).alias("_")) for each in items])
    return wrapped.list.eval(pl.element().struct.field("_"))


def merge(condition: Value, then: Any_, otherwise: Any_) -> Any_:
    """Return one value or the other, by a condition (Boolean; unknown rows stay unknown)."""
    if is_constant(condition):
        return then if condition.constant else otherwise
    if not condition.expr.meta.root_names():
        return _settled(pl.select(condition.expr).item(), then, otherwise)
    if then is otherwise:
        return then if not condition.unknown else _known_if(condition, then)
    if any(isinstance(each, Value) and each.soft for each in (then, otherwise)):
        return Either(condition, then, otherwise)
    if any(isinstance(each, Fixed) and (each.is_tuple or each.is_range) for each in (then, otherwise)):
        return Either(condition, then, otherwise)
    if isinstance(then, FixedMapping | Clash) or isinstance(otherwise, FixedMapping | Clash):
        return Clash("a variable whose type depends on a condition")
    try:
        return _merge(condition, column(then), column(otherwise))
    except RefusedError:
        return Either(condition, then, otherwise)


def _settled(condition: bool | None, then: Any_, otherwise: Any_) -> Any_:
    """Return what a condition that is the same in all rows picks.

    Polars' `when` would give one value for all rows that it does not take for one.
    """
    if condition is not None:
        return then if condition else otherwise
    kind = then.type if isinstance(then, Value) else NOTHING
    return Value(pl.lit(None, dtype=kind.dtype), kind, unknown=True)


def _known_if(condition: Value, value: Any_) -> Any_:
    if isinstance(value, Value):
        return when_known(condition.expr.is_not_null(), value)
    return Either(condition, value, value)


def _merge(condition: Value, a: Value, b: Value) -> Value:
    kind = unify(a.type, b.type)
    if kind is None or a.lazy != b.lazy:
        refuse("a value of more than one type")

    if a.type == b.type == BOOL and (joined := _joined_truths(condition, a, b)) is not None:
        return joined

    def pick(left: pl.Expr, right: pl.Expr) -> pl.Expr:
        chosen = pl.when(condition.expr).then(left)
        if not condition.unknown:
            return chosen.otherwise(right)
        return chosen.when(~condition.expr).then(right)

    # a null type has no field or item to cast to
    parts = [each.expr if each.type == kind else each.expr.cast(kind.dtype) for each in (a, b)]
    both = (a.none, b.none), (a.undefined, b.undefined)
    unknown = a.unknown or b.unknown or condition.unknown
    flags: list[Flag] = []
    for left, right in both:
        if left is False and right is False:
            flags.append(False)
        else:
            flags.append(pick(_rows(left, a.expr), _rows(right, b.expr)).fill_null(False))
    none, undefined = flags
    if none is not False and undefined is False and not unknown:
        none = True
    if undefined is not False and none is False and not unknown:
        undefined = True
    choice = None
    if isinstance(a.constant, str) and isinstance(b.constant, str) and not unknown:
        choice = (condition.expr, a.constant, b.constant)
    shown = condition.expr if b.constant == "" else ~condition.expr if a.constant == "" else None
    return Value(pick(*parts), kind, none, undefined, unknown, lazy=a.lazy, choice=choice, shown=shown)


def _joined_truths(condition: Value, a: Value, b: Value) -> Value | None:
    """Return `and` or `or` of a condition and another truth, if that is what picking one of two truths comes to."""
    if any(flag is not False for each in (a, b) for flag in (each.none, each.undefined)):
        return None
    held, unknown = condition.expr, condition.unknown
    if b.constant is False or b.expr.meta.eq(held):
        # an unknown condition stays unknown, whatever the other side
        expr = pl.when(held).then(a.expr).otherwise(held) if unknown else held & a.expr
    elif a.constant is True or a.expr.meta.eq(held):
        expr = pl.when(~held).then(b.expr).otherwise(held) if unknown else held | b.expr
    else:
        return None
    return Value(expr, BOOL, unknown=a.unknown or b.unknown or unknown)


def spread(rule: Callable[[Any_], Any_], value: Any_) -> Any_:
    """Apply a rule to a value, or to each side of one that has no type of its own."""
    if isinstance(value, Either):
        return merge(value.condition, spread(rule, value.then), spread(rule, value.otherwise))
    if isinstance(value, Clash):
        refuse(value.reason)
    return rule(value)

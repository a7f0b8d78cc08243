"""The state of a walk through a template's tree, as Jinja would run it.

It is what Jinja's would be: the variables in force, the text so far, and the scope (a frame of rows, or of a loop's
items) in which expressions stand. The rules of `expressions` and `statements` say what each node makes of it.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl
from jinja2 import nodes

from taskmix.compiler import filters, operators, rules, tests
from taskmix.compiler.scopes import Reserve, Scope
from taskmix.compiler.values import (
    BOOL,
    INT,
    TEXT,
    UNDEFINED,
    Any_,
    Clash,
    Fixed,
    ListOf,
    Mapped,
    RefusedError,
    Value,
    column,
    constant,
    has_iterator,
    in_rows,
    is_constant,
    list_of,
    merge,
    refuse,
    type_of,
    unknown_rows,
)
from taskmix.frames import DRAW


class RefusedAtError(RefusedError):
    """A template cannot be compiled: the reason, and the line of its tree."""

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(reason)
        self.line = line


@dataclass(frozen=True)
class LoopFields:
    """The variable `loop`: its fields by name."""

    fields: Mapping[str, Any_]


@dataclass(frozen=True)
class Appending:
    """A list from outside a loop, while the loop's body appends to it: what this turn has appended so far."""

    items: Any_


_MOST_LEVELS = 6
_MOST_PIECES = 4
Bindable = Any_ | LoopFields | Appending


@dataclass(frozen=True)
class Bound:
    """A variable's value, and the scope that its expressions stand in."""

    value: Bindable
    home: Scope


@dataclass(frozen=True)
class Facts:
    """What is known of the columns of all rows, whatever they are.

    `constants` are lists of words that are the same in every row, `never_null` the columns in which there is no null,
    not inside lists and mappings either.
    """

    constants: tuple[tuple[str, tuple[str, ...]], ...] = ()
    never_null: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Rules:
    """What each node of the tree becomes; a node that is not here is refused."""

    expressions: "Mapping[type[nodes.Node], Callable[[Translator, Any], Any_ | Mapped]]"
    statements: "Mapping[type[nodes.Node], Callable[[Translator, Any], None]]"


@dataclass
class Translator:
    """Walks a template. `schema` are the columns of its rows; `mutated` the names of lists that it changes."""

    schema: Mapping[str, pl.DataType]
    facts: Facts
    strict: bool
    root: Scope
    scope: Scope
    mutated: frozenset[str]
    rules: Rules
    names: dict[str, Bound] = field(default_factory=dict)
    pieces: list[str | Value] = field(default_factory=list)
    unrolled: list[int] = field(default_factory=lambda: [0])

    # -- what rules ask for

    @property
    def context(self) -> filters.Context:
        """Return what the rules of filters, tests and methods see."""
        return filters.Context(self.strict, self.draw, self._test, self._each, self._only, self._reserve)

    def draw(self) -> pl.Expr:
        """Return the row's draw, here."""
        found = self.scope.bring(Value(pl.col(DRAW), INT), self.root)
        assert isinstance(found, Value)
        return found.expr

    def _test(self, name: str, value: Any_, args: tuple[Any_, ...]) -> Value:
        return tests.call(name, self.context, value, args)

    def _each(self, items: Value, others: Sequence[Value], rule: Callable[..., Value]) -> Value:
        """Return what a rule makes of every item of a list and of other values of the row, as a list."""
        stored = [self.scope.store(each) for each in others]

        def with_others(inside: "Translator", item: Value) -> Value:
            return rule(item, *(column(inside.scope.bring(each, self.scope)) for each in stored))

        return self.each_in_scope(items, with_others)

    def _reserve(self, size: pl.Expr) -> None:
        """Bound what the next steps make of all rows together."""
        self.scope.steps.append(Reserve(size))

    def _only(self, items: Value, others: Sequence[Value], rule: Callable[..., Value]) -> Value:
        """Return the items of a list for which a rule holds, given them and other values of the row."""
        kind, ((lists,), _) = items.type, aligned(self, [items])
        assert isinstance(kind, ListOf), kind
        name, made, doubts = self.scope.fresh(), self.scope.fresh(), self.scope.fresh()
        loop = self.scope.loop({name: self.scope.keep(lists)})
        around = [column(loop.before.bring(self.scope.store(each), self.scope)) for each in others]
        held = rule(Value(pl.col(name), kind.item, none=kind.nullable), *around)
        loop.keep = loop.before.keep(held.expr.fill_null(True).alias(self.scope.fresh()))
        loop.nested[made] = name
        known = items.expr.is_not_null()
        if held.unknown:
            loop.nested[doubts] = loop.before.keep(held.expr.is_null().alias(self.scope.fresh()))
            known = known & ~pl.col(doubts).list.any()
        self.scope.steps.append(loop)
        if not (items.may_be_null or held.unknown):
            return Value(pl.col(made), kind)
        return Value(pl.when(known).then(pl.col(made)), kind, unknown=True)

    def each_in_scope(self, items: Value, rule: "Callable[[Translator, Value], Value]") -> Value:
        """Return what a rule makes of every item of a list, as a list; it is given a translator of the loop's scope."""
        kind, ((lists,), _) = items.type, aligned(self, [items])
        assert isinstance(kind, ListOf), kind
        name, made = self.scope.fresh(), self.scope.fresh()
        loop = self.scope.loop({name: self.scope.keep(lists)})
        inside = replace(self, scope=loop.body, names=dict(self.names), pieces=[])
        found = rule(inside, Value(pl.col(name), kind.item, none=kind.nullable))
        loop.nested[made] = loop.body.keep(found.expr.alias(self.scope.fresh()))
        self.scope.steps.append(loop)
        whole = Value(pl.col(made), list_of(found.type, found.none is not False), lazy=items.lazy)
        if not (items.may_be_null or found.unknown):
            return whole
        known = items.expr.is_not_null()
        if found.unknown:
            known = known & ~pl.col(made).list.eval(pl.element().is_null()).list.any()
        return Value(pl.when(known).then(whole.expr), whole.type, unknown=True, lazy=items.lazy)

    def value(self, node: nodes.Node) -> Any_:
        """Return what an expression is worth."""
        found = self.subject(node)
        return column(found) if isinstance(found, Mapped) else found

    def subject(self, node: nodes.Node) -> Any_ | Mapped:
        """Return what an expression is worth to a filter."""
        rule = self.rules.expressions.get(type(node))
        try:
            if rule is None:
                refuse(f"`{type(node).__name__.lower()}`")
            found = rule(self, node)
        except RefusedAtError:
            raise
        except RefusedError as refused:
            raise RefusedAtError(str(refused), node.lineno or 1) from None
        store = self.scope.store if is_deep(node) else self.scope.store_large
        return replace(found, items=column(store(found.items))) if isinstance(found, Mapped) else store(found)

    def values(self, found: Sequence[nodes.Node]) -> tuple[Any_, ...]:
        """Return what several expressions are worth."""
        return tuple(self.value(each) for each in found)

    def truth(self, node: nodes.Node) -> Value:
        """Return whether an expression counts as true."""
        return rules.truth(self.value(node), self.strict)

    def run(self, body: Sequence[nodes.Node]) -> None:
        """Translate statements."""
        for node in body:
            rule = self.rules.statements.get(type(node))
            try:
                if rule is None:
                    refuse(f"`{type(node).__name__.lower()}`")
                rule(self, node)
            except RefusedAtError:
                raise
            except RefusedError as refused:
                raise RefusedAtError(str(refused), node.lineno or 1) from None

    def bind(self, name: str, value: Any_) -> None:
        """Set a variable, computing it once; a row in which that fails is unknown."""
        if has_iterator(value):
            refuse("an iterator in a variable, which could be gone through once only")
        self.check(value)
        self.names[name] = Bound(self.scope.store(value), self.scope)

    def check(self, *values: Any_) -> None:
        """Make the row unknown where a value that is computed is unknown, whether or not it is used."""
        unknown = [each for value in values for each in unknown_rows(value)]
        if unknown:
            sure = pl.when(~pl.any_horizontal(unknown)).then(pl.lit(""))
            self.pieces.append(Value(sure, TEXT, unknown=True))

    def fork(self) -> "Translator":
        """Return a translator that starts from here, with text and variables of its own."""
        return replace(self, names=dict(self.names), pieces=[])

    def merged(self) -> list[str | Value]:
        """Return the pieces of the text so far, no two of them constants in a row."""
        merged: list[str | Value] = []
        for piece in self.pieces:
            if isinstance(piece, str) and merged and isinstance(merged[-1], str):
                merged[-1] += piece
            else:
                merged.append(piece)
        return merged

    def text(self) -> Value:
        """Return the text so far as one value."""
        return together(self.merged())

    def join(
        self, condition: Value, then: "Translator", otherwise: "Translator", deep: bool = False, told: bool = False
    ) -> None:
        """Go on after two branches: with the text and the variables of the one that the condition takes.

        `told`: whether something else tells that a row is unknown because the condition is.
        """
        if is_constant(condition):
            taken = then if condition.constant else otherwise
            self.names = taken.names
            self.pieces += taken.pieces
            return
        if then.pieces or otherwise.pieces or (condition.unknown and not told):
            self.pieces += self._picked(condition, then.merged(), otherwise.merged(), deep)
        for name in then.names.keys() | otherwise.names.keys():
            if then.names.get(name) is not otherwise.names.get(name):
                self.names[name] = Bound(self._merged(name, condition, then, otherwise), self.scope)

    def _picked(
        self, condition: Value, then: list[str | Value], otherwise: list[str | Value], deep: bool
    ) -> list[Value]:
        """Return the pieces of one branch's text or the other's, piece by piece: none is copied to be put together."""
        if max(len(then), len(otherwise)) > _MOST_PIECES:
            then, otherwise = [together(then)], [together(otherwise)]
        pairs = list(itertools.zip_longest(then or [""], otherwise, fillvalue=""))
        first = column(self.scope.store(condition)) if len(pairs) > 1 else condition
        # where the condition is unknown, one piece without text is enough
        conditions = itertools.chain([first], itertools.repeat(replace(first, unknown=False)))
        picked = [
            merge(held, together([left]), together([right]))
            for held, (left, right) in zip(conditions, pairs, strict=False)
        ]
        return [column(self.scope.store(piece) if deep else piece) for piece in picked]

    def _merged(self, name: str, condition: Value, then: "Translator", otherwise: "Translator") -> Bindable:
        sides = [each.load(name) for each in (then, otherwise)]
        if any(isinstance(each, Appending) for each in sides):
            items = [each.items for each in sides if isinstance(each, Appending)]
            if len(items) == 1:
                return Clash(f"`{name}` is a new list in one branch only")
            return Appending(self.scope.store(merge_lists(condition, *items)))
        first, second = (
            Clash("`loop` as a value") if isinstance(each, LoopFields | Appending) else each for each in sides
        )
        together = merge_lists if name in self.mutated else merge
        return self.scope.store(together(condition, first, second))

    def load(self, name: str) -> Bindable:
        """Return a variable as a value in this scope: set in the template, a column of the row, or undefined."""
        bound = self.names.get(name)
        if bound is None:
            return self._column(name)
        if isinstance(bound.value, LoopFields):
            return LoopFields({key: self.scope.bring(each, bound.home) for key, each in bound.value.fields.items()})
        if isinstance(bound.value, Appending):
            return Appending(self.scope.bring(bound.value.items, bound.home))
        return self.scope.bring(bound.value, bound.home)

    def outer_list(self, name: str) -> tuple[Value, Scope] | None:
        """Return a list from a scope around this one, as it is there; None for anything else."""
        bound = self.names.get(name) or Bound(self._at_root(name), self.root)
        value, home = bound.value, bound.home
        if home is self.scope or not isinstance(value, Value) or not isinstance(value.type, ListOf) or value.lazy:
            return None
        return value, home

    def item_of(self, value: Value, home: Scope, at: Any_) -> Any_:
        """Return an item of a list from a scope around this one, without a copy of the list for every turn here."""
        where = column(at)
        if is_constant(where):
            stored = home.store(operators.index(value, where, self.strict))
            return self.scope.bring(stored, home)
        if where.type not in (INT, BOOL):
            return operators.index(self.scope.bring(value, home), where, self.strict)
        where = column(self.scope.store(where))
        lists = home.keep(value.expr)
        size = home.store(replace(value, expr=pl.col(lists).list.len().cast(pl.Int64)))
        stand_in = column(self.scope.bring(size, home))
        return operators.looked_up(stand_in, where, lambda position: self.scope.look_up(lists, home, position))

    def _column(self, name: str) -> Any_:
        return self.scope.bring(self._at_root(name), self.root)

    def _at_root(self, name: str) -> Any_:
        """Return a column of the row as a value of the root's scope."""
        if name not in self.schema:
            return UNDEFINED
        for known, words in self.facts.constants:
            if known == name:
                self.scope.constants += sum(map(len, words))
                return constant(list(words))
        nullable = name not in self.facts.never_null
        kind = type_of(self.schema[name], nullable)
        expr = pl.col(name) if self.schema[name] == kind.dtype else pl.col(name).cast(kind.dtype)
        value = Value(expr, kind, none=nullable)
        return self.root.store(value)


def is_deep(node: nodes.Node) -> bool:
    """Whether to compute a node once, as a column: a rule may name an operand several times, level upon level."""
    height, level = 0, [node]
    while level:
        height, level = height + 1, [child for each in level for child in each.iter_child_nodes()]
    return height % _MOST_LEVELS == 0


def together(pieces: list[str | Value]) -> Value:
    """Return pieces of text as one value."""
    values = [Value(pl.lit(each), TEXT, constant=each) if isinstance(each, str) else each for each in pieces or [""]]
    if len(values) == 1:
        return values[0]
    return Value(pl.concat_str([each.expr for each in values]), TEXT, unknown=any(each.unknown for each in values))


def merge_lists(condition: Value, then: Any_, otherwise: Any_) -> Any_:
    """Return one list or the other; an empty one takes the other's type."""
    if then is otherwise:
        return then
    return merge(condition, column(then), column(otherwise))


def aligned(t: Translator, lists: list[Value]) -> tuple[list[pl.Expr], pl.Expr]:
    """Return list columns without nulls and of equal length in each row, and that length."""
    for each in lists:
        assert isinstance(each.type, ListOf), each
    kept = [column(t.scope.store(each)) for each in lists]
    empties = [column(Fixed(())).expr.cast(each.type.dtype) for each in kept]
    full = [
        pl.when(each.expr.is_null()).then(empty).otherwise(each.expr) if each.may_be_null else each.expr
        for each, empty in zip(kept, empties, strict=True)
    ]
    sizes = [each.list.len().cast(pl.Int64) for each in full]
    if len(full) == 1:
        return full, sizes[0]
    shortest = pl.min_horizontal(sizes)
    return [in_rows(each, shortest).list.slice(0, shortest) for each in full], shortest

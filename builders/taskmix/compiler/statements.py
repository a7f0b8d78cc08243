"""The rules of statements: what each of Jinja's nodes adds to the text, the variables and the steps."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import polars as pl
from jinja2 import nodes

from taskmix.compiler import operators, rules
from taskmix.compiler.expressions import data_of, is_new, no_alias
from taskmix.compiler.scopes import MOST_ITEMS, Loop, Scope
from taskmix.compiler.translator import Appending, Bound, LoopFields, Translator, aligned, is_deep, together
from taskmix.compiler.values import (
    BOOL,
    FAILS,
    INT,
    NONE,
    TEXT,
    Any_,
    Fixed,
    ListOf,
    Value,
    column,
    constant,
    is_constant,
    refuse,
)
from taskmix.templates import sandbox

_MOST_UNROLLED = 200
_ZERO, _ONE = constant(0), constant(1)


def _output(t: Translator, node: nodes.Output) -> None:
    for each in node.nodes:
        if isinstance(each, nodes.TemplateData):
            t.pieces.append(each.data)
            t.scope.constants += len(each.data)
            continue
        found = rules.text(t.value(each), t.strict)
        t.pieces.append(found.constant if isinstance(found.constant, str) else found)


def _if(t: Translator, node: nodes.If) -> None:
    condition = t.truth(node.test)
    then, otherwise = t.fork(), t.fork()
    if not (is_constant(condition) and not condition.constant):
        then.run(node.body)
    if not (is_constant(condition) and condition.constant):
        if node.elif_:
            first, *rest = node.elif_
            nested = nodes.If(first.test, first.body, rest, node.else_, lineno=first.lineno)
            otherwise.run([nested])
        else:
            otherwise.run(node.else_)
    t.join(condition, then, otherwise, is_deep(node))


def _set(t: Translator, node: nodes.Assign) -> None:
    if isinstance(node.node, nodes.Name) and isinstance(node.target, nodes.Name):
        loop = t.load(node.node.name)
        if isinstance(loop, LoopFields):
            t.names[node.target.name] = Bound(loop, t.scope)
            return
    no_alias(t, node.node)
    value = t.value(node.node)
    _assign(t, node.target, value, is_new(node.node))


def _assign(t: Translator, target: nodes.Node, value: Any_, new: bool = False) -> None:
    """Set names. `new`: whether the value is surely no part of another."""
    if isinstance(target, nodes.Name):
        if target.name in t.mutated and not isinstance(value, Fixed) and not isinstance(value, Value):
            refuse(f"`{target.name}`, which is changed, as another value than a list")
        if target.name in t.mutated and not new:
            refuse(f"`{target.name}`, which is changed, as another name for a value")
        if isinstance(t.names.get(target.name, Bound(NONE, t.scope)).value, Appending):
            refuse(f"`{target.name}` as a new list in a loop, beside the one outside")
        t.bind(target.name, value)
    elif isinstance(target, nodes.Tuple):
        for each, item in zip(target.items, _unpacked(t, value, len(target.items)), strict=True):
            _assign(t, each, item)
    else:
        refuse("`namespace`")


def _unpacked(t: Translator, value: Any_, count: int) -> list[Any_]:
    """Return the items of a value of so many, for as many names; unknown where there are more or fewer."""
    if isinstance(value, Fixed):
        return list(value.items) if len(value.items) == count else [FAILS] * count
    items = t.context.items(value)
    kept = t.scope.store(Value(pl.when(items.expr.list.len() == count).then(items.expr), items.type, unknown=True))
    t.check(kept)
    found = column(kept)
    assert isinstance(found.type, ListOf)
    nullable = found.type.nullable
    return [
        Value(
            item, found.type.item, none=item.is_null() & found.expr.is_not_null() if nullable else False, unknown=True
        )
        for item in (found.expr.list.get(at, null_on_oob=True) for at in range(count))
    ]


def _set_block(t: Translator, node: nodes.AssignBlock) -> None:
    inner = t.fork()
    inner.run(node.body)
    _keep_lists(t, inner)
    text: Any_ = inner.text()
    if node.filter is not None:
        refuse("a filter of a `set` block")
    _assign(t, node.target, text, new=True)


def _keep_lists(t: Translator, inner: Translator) -> None:
    """Take over the lists that an inner block appended to; what it set is gone."""
    for name in t.mutated & t.names.keys():
        if inner.names[name] is not t.names[name]:
            t.names[name] = inner.names[name]


def _with(t: Translator, node: nodes.With) -> None:
    values = t.values(node.values)
    inner = t.fork()
    for target, value in zip(node.targets, values, strict=True):
        if isinstance(target, nodes.Name) and target.name in t.mutated:
            refuse("a list that is changed, in `with`")
        _assign(inner, target, value)
    inner.run(node.body)
    _keep_lists(t, inner)
    t.pieces += inner.pieces


def _statement(t: Translator, node: nodes.ExprStmt) -> None:
    t.check(t.value(node.node))


def _for(t: Translator, node: nodes.For) -> None:
    if node.recursive:
        refuse("a recursive loop")
    lists = _loop_lists(t, node.iter)
    if isinstance(lists, Fixed):
        if _is_short(t, node, lists):
            _unrolled(t, node, lists)
            return
        lists = [t.context.items(lists)]
    lists = [column(t.scope.store(each)) for each in lists]
    t.check(*lists)
    _loop(t, node, lists)


def _loop_lists(t: Translator, node: nodes.Node) -> Fixed | list[Value]:
    """Return the list that a loop goes through, or the lists of a `zip`; a Fixed one if its items are known."""
    if isinstance(node, nodes.Call) and _is_zip(t, node):
        return [t.context.items(each) for each in t.values(node.args)]
    if isinstance(node, nodes.Name) and isinstance(t.load(node.name), Appending):
        refuse("reading a list in the loop that appends to it")
    value = t.value(node)
    return value if isinstance(value, Fixed) else [t.context.items(value)]


def _is_short(t: Translator, node: nodes.For, items: Fixed) -> bool:
    """Whether to translate a loop's body once for each item: it then needs no frame of its own."""
    size = len(items.items)
    if node.test is not None or t.unrolled[0] + size > _MOST_UNROLLED:
        return False
    t.unrolled[0] += size
    return True


def _is_zip(t: Translator, node: nodes.Call) -> bool:
    named = isinstance(node.node, nodes.Name) and node.node.name == "zip"
    return named and "zip" not in t.names and "zip" not in t.schema and not node.kwargs


def _unrolled(t: Translator, node: nodes.For, items: Fixed) -> None:
    """Go through items that are known: the body once for each."""
    size = len(items.items)
    if not items.items:
        inner = t.fork()
        inner.run(node.else_)
        _keep_lists(t, inner)
        t.pieces += inner.pieces
    for position, item in enumerate(items.items):
        inner = t.fork()
        inner.names["loop"] = Bound(LoopFields(_fields(constant(position), constant(size), {})), t.scope)
        _assign(inner, node.target, item)
        inner.run(node.body)
        _keep_lists(t, inner)
        t.pieces += inner.pieces


def _fields(index: Any_, size: Any_, neighbours: Mapping[str, Any_]) -> Mapping[str, Any_]:
    """Return the fields of `loop` from the position and the number of items."""
    left = operators.subtract(size, index)
    return {
        "index0": index,
        "index": operators.add(index, _ONE),
        "length": size,
        "first": operators.equal(index, _ZERO, strict=False),
        "last": operators.equal(left, _ONE, strict=False),
        "revindex": left,
        "revindex0": operators.subtract(left, _ONE),
        "depth": constant(1),
        "depth0": constant(0),
        **neighbours,
    }


def _loop(t: Translator, node: nodes.For, lists: list[Value]) -> None:
    columns, size = aligned(t, lists)
    names = {t.scope.fresh(): each for each in columns}
    items = [
        Value(pl.col(name), each.type.item, none=each.type.nullable)
        for name, each in zip(names, lists, strict=True)
        if isinstance(each.type, ListOf)
    ]
    loop = t.scope.loop({name: t.scope.keep(each) for name, each in names.items()})
    index, length = pl.col(loop.index), pl.col(loop.length)
    item: Any_ = items[0] if len(items) == 1 else Fixed(tuple(items), is_tuple=True)
    if node.test is not None:
        _loop_filter(t, node, loop, item)
    inner = replace(t, scope=loop.body, names=_outside(t, node), pieces=[])
    neighbours: dict[str, Any_] = {}
    if len(items) == 1:
        neighbours["previtem"] = _neighbour(items[0], items[0].expr.shift(1), index > 0)
        neighbours["nextitem"] = _neighbour(items[0], items[0].expr.shift(-1), index < length - 1)
    at, size_here = (Value(each, INT, bounds=(0, MOST_ITEMS)) for each in (index, length))
    fields = {name: loop.body.store(each) for name, each in _fields(at, size_here, neighbours).items()}
    inner.names["loop"] = Bound(LoopFields(fields), loop.body)
    _assign(inner, node.target, item)
    inner.run(node.body)
    _finish_loop(t, node, loop, inner, size)


def _neighbour(item: Value, shifted: pl.Expr, inside: pl.Expr) -> Value:
    expr = pl.when(inside).then(shifted)
    if item.none is False:
        return Value(expr, item.type, undefined=True)
    return Value(expr, item.type, none=inside & shifted.is_null(), undefined=~inside)


def _outside(t: Translator, node: nodes.For) -> dict[str, Bound]:
    """Return the variables as the body sees them: a list that it appends to can be appended to alone."""
    changed = {
        call.node.node.name
        for statement in node.body
        for call in statement.find_all(nodes.Call)
        if isinstance(call.node, nodes.Getattr)
        and call.node.attr in sandbox.MUTATING
        and isinstance(call.node.node, nodes.Name)
    }
    names = dict(t.names)
    for name in changed & names.keys():
        names[name] = Bound(Appending(Fixed(())), t.scope)
    return names


def _loop_filter(t: Translator, node: nodes.For, loop: Loop, item: Any_) -> None:
    """Let a loop go only through the items that its `if` holds for; where that is unknown the row is."""
    assert node.test is not None
    inner = replace(t, scope=loop.before, names=dict(t.names), pieces=[])
    _assign(inner, node.target, item)
    held = inner.truth(node.test)
    loop.keep = loop.before.keep(held.expr.fill_null(True) if held.unknown else held.expr)
    if held.unknown or inner.pieces:
        # an item whose condition is unknown makes the row unknown: a loop of its own tells
        inner.check(held)
        probe = t.scope.loop(loop.lists)
        sure = probe.body
        again = replace(t, scope=sure, names=dict(t.names), pieces=[])
        _assign(again, node.target, item)
        again.check(again.truth(node.test))
        made, name = t.scope.fresh(), sure.keep(again.text().expr.alias(t.scope.fresh()))
        probe.texts[made] = name
        t.scope.steps.append(probe)
        t.pieces.append(Value(pl.col(made), TEXT, unknown=True))


def _finish_loop(t: Translator, node: nodes.For, loop: Loop, inner: Translator, size: pl.Expr) -> None:
    """Add the loop's step, then its text and what it appended."""
    pieces, loop.between = _between(inner)
    text = together(pieces)
    appended: dict[str, tuple[str, ListOf]] = {}
    failing: set[str] = set()
    made: str | None = None
    if text.constant != "" or loop.between:
        made = t.scope.fresh()
        loop.texts[made] = _text_column(loop.body, pieces)
    for name, bound in inner.names.items():
        if isinstance(bound.value, Appending) and bound.home is loop.body:
            lists = column(bound.value.items)
            assert isinstance(lists.type, ListOf)
            column_name = t.scope.fresh()
            loop.nested[column_name] = loop.body.keep(lists.expr.alias(t.scope.fresh()))
            appended[name] = (column_name, lists.type)
            failing |= {column_name} if lists.unknown else set()
    counted: str | None = None
    if node.else_ and loop.keep is not None:
        counted = t.scope.fresh()
        loop.nested[counted] = loop.body.keep(pl.col(loop.index).alias(t.scope.fresh()))
    if not loop.texts and not loop.nested:
        loop.texts[t.scope.fresh()] = loop.body.keep(pl.lit("").alias(t.scope.fresh()))
    t.scope.steps.append(loop)
    if made is not None:
        t.pieces.append(Value(pl.col(made), TEXT, unknown=text.unknown))
    for name, (column_name, kind) in appended.items():
        if column_name in failing:
            sure = ~pl.col(column_name).list.eval(pl.element().is_null()).list.any()
            t.pieces.append(Value(pl.when(sure).then(pl.lit("")), TEXT, unknown=True))
        flat = Value(pl.col(column_name).list.eval(pl.element().explode()), kind)
        _extend(t, name, flat)
    if node.else_:
        turns = size if counted is None else pl.col(counted).list.len()
        otherwise = t.fork()
        otherwise.run(node.else_)
        t.join(Value(turns == 0, BOOL), otherwise, t.fork())


def _text_column(body: Scope, pieces: list[str | Value]) -> str:
    """Return the column of a turn's text; if but one piece is in every turn, the others are added where they are."""
    always = [each for each in pieces if isinstance(each, str) or each.shown is None]
    shown = [each.shown for each in pieces if isinstance(each, Value) and each.shown is not None]
    text = together(pieces).expr.alias(body.fresh())
    if len(pieces) <= 1 or len(always) > 1:
        return body.keep(text)
    added = pl.any_horizontal([each.fill_null(True) for each in shown])
    return body.keep_sparse(text, together(always).expr, added)


def _between(turn: Translator) -> tuple[list[str | Value], str]:
    """Return the text of a loop's turn, and what of it stands only between two turns: that is put there by joining."""
    loop, pieces = turn.names["loop"].value, turn.merged()
    if not isinstance(loop, LoopFields):
        return pieces, ""
    after = _unless(loop.fields["last"], pieces[-1]) if pieces else ""
    pieces = pieces[:-1] if after else pieces
    before = _unless(loop.fields["first"], pieces[0]) if pieces else ""
    return pieces[1:] if before else pieces, after + before


def _unless(condition: Any_, text: str | Value) -> str:
    """Return the constant that a text is where a condition does not hold, if it is nothing where the condition does."""
    if isinstance(text, str) or text.choice is None:
        return ""
    held, then, otherwise = text.choice
    expr = column(condition).expr
    if otherwise == "" and held.meta.eq(~expr):
        return then
    return otherwise if then == "" and held.meta.eq(expr) else ""


def _extend(t: Translator, name: str, items: Value) -> None:
    """Add items to a list from outside a loop: to the list itself, or to what an outer loop's turn appends."""
    target = t.load(name)
    whole = target.items if isinstance(target, Appending) else data_of(target)
    if isinstance(whole, Fixed) and not whole.items:
        joined: Any_ = items
    else:
        joined = operators.joined_lists(column(whole), items)
    t.check(joined)
    stored = t.scope.store(joined)
    t.names[name] = Bound(Appending(stored) if isinstance(target, Appending) else stored, t.scope)


STATEMENTS: Mapping[type[nodes.Node], Callable[[Translator, Any], None]] = {
    nodes.Output: _output,
    nodes.If: _if,
    nodes.Assign: _set,
    nodes.AssignBlock: _set_block,
    nodes.With: _with,
    nodes.ExprStmt: _statement,
    nodes.For: _for,
}

"""The rules of expressions: what each of Jinja's nodes is worth."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl
from jinja2 import nodes

from taskmix.compiler import filters, methods, operators, rules, tests
from taskmix.compiler.translator import Appending, Bindable, Bound, LoopFields, Translator
from taskmix.compiler.values import (
    BOOL,
    FAILS,
    FLOAT,
    INT,
    NONE,
    NOTHING,
    RANGE,
    SOFT,
    TEXT,
    UNDEFINED,
    Any_,
    Clash,
    Fixed,
    FixedMapping,
    ListOf,
    Mapped,
    StructOf,
    Type,
    Value,
    column,
    constant,
    is_constant,
    merge,
    refuse,
    spread,
)
from taskmix.templates import sandbox

_LONGEST = 100_000


def data_of(value: Bindable) -> Any_:
    """Return a variable's value. Raises RefusedError for `loop`, and for a list that is being appended to."""
    if isinstance(value, LoopFields):
        refuse("`loop` as a value")
    if isinstance(value, Appending):
        refuse("reading a list in the loop that appends to it")
    return value


def _name(t: Translator, node: nodes.Name) -> Any_:
    if node.name not in t.names and node.name not in t.schema and node.name in GLOBALS:
        refuse(f"the function `{node.name}` as a value")
    return data_of(t.load(node.name))


def _const(t: Translator, node: nodes.Const) -> Any_:
    if isinstance(node.value, str):
        t.scope.constants += len(node.value)
    return constant(node.value)


def _list_literal(t: Translator, node: nodes.List | nodes.Tuple) -> Any_:
    for item in node.items:
        no_alias(t, item)
    items = t.values(node.items)
    t.check(*items)
    return Fixed(items, isinstance(node, nodes.Tuple))


def _dict(t: Translator, node: nodes.Dict) -> Any_:
    items: dict[str | int, Any_] = {}
    for pair in node.items:
        key = t.value(pair.key)
        if not is_constant(key) or not isinstance(column(key).constant, str | int):
            refuse("a mapping whose keys depend on the row")
        name = column(key).constant
        assert isinstance(name, str | int)
        no_alias(t, pair.value)
        items[name] = t.value(pair.value)
        t.check(items[name])
    return FixedMapping(items)


def no_alias(t: Translator, node: nodes.Node) -> None:
    """Refuse another name for a list that is appended to: both would change."""
    if isinstance(node, nodes.Name) and node.name in t.mutated:
        refuse(f"another name for `{node.name}`, which is changed")
    if isinstance(node, nodes.CondExpr):
        no_alias(t, node.expr1)
        if node.expr2 is not None:
            no_alias(t, node.expr2)
    if isinstance(node, nodes.And | nodes.Or):
        no_alias(t, node.left)
        no_alias(t, node.right)
    if isinstance(node, nodes.Filter) and node.node is not None and node.name in ("default", "d", "first", "last"):
        no_alias(t, node.node)


_MAKING_LISTS = frozenset(("list", "sort", "most_frequent", "split", "splitlines", "copy"))
"""Filters and methods whose list nobody else has."""


def is_new(node: nodes.Node) -> bool:
    """Whether a list is surely one of its own, so that appending to it changes nothing else."""
    if isinstance(node, nodes.CondExpr):
        return is_new(node.expr1) and (node.expr2 is None or is_new(node.expr2))
    if isinstance(node, nodes.Filter):
        return node.name in _MAKING_LISTS
    if isinstance(node, nodes.Call):
        return isinstance(node.node, nodes.Getattr) and node.node.attr in _MAKING_LISTS
    if isinstance(node, nodes.Getitem):
        return isinstance(node.arg, nodes.Slice)
    return isinstance(node, nodes.List | nodes.Const | nodes.Concat | nodes.Add | nodes.Mul)


def _branches(
    t: Translator, condition: Value, then: Callable[[Translator], Any_], otherwise: Callable[[Translator], Any_]
) -> Any_:
    """Return one of two expressions, each evaluated in its branch alone."""
    if is_constant(condition):
        return then(t) if condition.constant else otherwise(t)
    one, other = t.fork(), t.fork()
    first, second = then(one), otherwise(other)
    picked = merge(condition, first, second)
    # most values tell themselves where the condition or a side is unknown
    if isinstance(picked, Clash):
        one.check(first)
        other.check(second)
    t.join(condition, one, other, told=not isinstance(picked, Clash))
    return picked


def _conditional(t: Translator, node: nodes.CondExpr) -> Any_:
    expr2 = node.expr2
    return _branches(
        t,
        t.truth(node.test),
        lambda branch: branch.value(node.expr1),
        lambda branch: (SOFT if t.strict else UNDEFINED) if expr2 is None else branch.value(expr2),
    )


def _condition(t: Translator, node: nodes.Node) -> Any_:
    """Return the left side of `and` or `or`, computed once: where it may be unknown it stands there twice."""
    value = t.value(node)
    return t.scope.store(value) if isinstance(value, Value) and value.type == BOOL and value.unknown else value


def _and(t: Translator, node: nodes.And) -> Any_:
    left = _condition(t, node.left)
    return _branches(t, rules.truth(left, t.strict), lambda branch: branch.value(node.right), lambda branch: left)


def _or(t: Translator, node: nodes.Or) -> Any_:
    left = _condition(t, node.left)
    return _branches(t, rules.truth(left, t.strict), lambda branch: left, lambda branch: branch.value(node.right))


def _not(t: Translator, node: nodes.Not) -> Any_:
    return operators.negated(t.truth(node.node))


def _binary(t: Translator, node: nodes.BinExpr) -> Any_:
    found = operators.compute(node.operator, t.value(node.left), t.value(node.right))
    if isinstance(found, Value) and isinstance(found.constant, str):
        t.scope.constants += len(found.constant)
    return found


def _negative(t: Translator, node: nodes.Neg) -> Any_:
    return operators.negative(t.value(node.node))


def _positive(t: Translator, node: nodes.Pos) -> Any_:
    return operators.positive(t.value(node.node))


def _compare(t: Translator, node: nodes.Compare) -> Any_:
    left = t.value(node.expr)
    found: list[Value] = []
    for operand in node.ops:
        right = t.value(operand.expr)
        found.append(operators.COMPARISONS[operand.op](left, right, t.strict))
        left = right
    if len(found) == 1:
        return found[0]
    result = found[-1]
    for each in reversed(found[:-1]):
        result = column(merge(each, result, constant(False)))
    return result


def _concat(t: Translator, node: nodes.Concat) -> Any_:
    texts = [rules.text(t.value(each), t.strict) for each in node.nodes]
    words = [each.constant for each in texts if isinstance(each.constant, str)]
    if len(words) == len(texts):
        t.scope.constants += sum(map(len, words))
        return constant("".join(words)) if sum(map(len, words)) <= _LONGEST else refuse("a constant of so much text")
    return Value(pl.concat_str([each.expr for each in texts]), TEXT, unknown=any(each.unknown for each in texts))


def _attribute(t: Translator, node: nodes.Getattr) -> Any_:
    if isinstance(node.node, nodes.Name) and isinstance(loop := t.load(node.node.name), LoopFields):
        return _loop_field(loop, node.attr)
    return spread(lambda value: _attribute_of(value, node.attr), t.value(node.node))


def _loop_field(loop: LoopFields, name: str) -> Any_:
    if name not in loop.fields:
        refuse(f"`loop.{name}`")
    return loop.fields[name]


def _attribute_of(value: Any_, name: str) -> Any_:
    if isinstance(value, FixedMapping):
        if name in value.items:
            return value.items[name]
        return refuse(f"the method `{name}` as a value") if hasattr(dict, name) else UNDEFINED
    if isinstance(value, Fixed):
        return refuse(f"the method `{name}` as a value") if hasattr(list, name) else UNDEFINED
    found = column(value)
    if found.lazy:
        refuse("an attribute of an iterator")
    if isinstance(found.type, StructOf):
        if found.type.field(name) is None and hasattr(dict, name):
            refuse(f"the method `{name}` as a value")
        return operators.field(found, name)
    owner = _OWNERS.get(found.type, list)
    if found.type != NOTHING and hasattr(owner, name):
        refuse(f"the method `{name}` as a value")
    return _missing(found)


_OWNERS: Mapping[Type, type] = {TEXT: str, INT: int, FLOAT: float, BOOL: bool, RANGE: range}
"""The Python types, whose attributes no template may see, of those that are no lists."""


def _missing(value: Value) -> Value:
    """Return an attribute that no value of the type has: undefined, unknown of what is undefined."""
    if value.undefined is True and value.type == NOTHING:
        return FAILS
    if value.undefined is False and not value.unknown:
        return UNDEFINED
    fails = value.is_undefined() | value.is_unknown()
    return Value(pl.lit(None), NOTHING, undefined=~fails, unknown=True)


def _item(t: Translator, node: nodes.Getitem) -> Any_:
    if isinstance(node.node, nodes.Name) and not isinstance(node.arg, nodes.Slice):
        outer = t.outer_list(node.node.name)
        if outer is not None:
            return t.item_of(*outer, t.value(node.arg))
    value = t.value(node.node)
    if isinstance(node.arg, nodes.Slice):
        bounds = (NONE if each is None else t.value(each) for each in (node.arg.start, node.arg.stop, node.arg.step))
        return operators.slice_of(value, *bounds)
    return operators.index(value, t.value(node.arg), t.strict)


def _filter(t: Translator, node: nodes.Filter) -> Any_ | Mapped:
    if node.node is None or node.dyn_args is not None or node.dyn_kwargs is not None:
        refuse("arguments that are unpacked")
    value, args = t.subject(node.node), t.values(node.args)
    options = {str(each.key): t.value(each.value) for each in node.kwargs}
    t.check(*args, *options.values())
    return filters.call(node.name, t.context, value, args, options)


def _is(t: Translator, node: nodes.Test) -> Any_:
    if node.kwargs or node.dyn_args is not None or node.dyn_kwargs is not None:
        refuse("arguments of a test by name")
    value, args = t.value(node.node), t.values(node.args)
    t.check(*args)
    return tests.call(node.name, t.context, value, args)


def _call(t: Translator, node: nodes.Call) -> Any_:
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        refuse("arguments that are unpacked")
    options = {each.key: each.value for each in node.kwargs}
    if isinstance(node.node, nodes.Getattr):
        return _method(t, node.node, node.args, options)
    if isinstance(node.node, nodes.Name) and node.node.name not in t.names and node.node.name not in t.schema:
        name = node.node.name
        if name in methods.FUNCTIONS and not options:
            args = t.values(node.args)
            t.check(*args)
            return methods.FUNCTIONS[name](t.context, *args)
        if name not in GLOBALS:
            return FAILS
        refuse(f"the function `{name}`")
    return refuse("a call of what is no function")


def _method(t: Translator, node: nodes.Getattr, args: Sequence[nodes.Expr], options: Mapping[str, nodes.Expr]) -> Any_:
    if isinstance(node.node, nodes.Name):
        target = t.load(node.node.name)
        if isinstance(target, LoopFields):
            return _loop_method(t, target, node.attr, t.values(args))
        if node.attr in sandbox.MUTATING and node.node.name in t.names:
            return _change(t, node.node.name, target, node.attr, args)
    elif node.attr in sandbox.MUTATING and node.attr in ("append", "extend", "insert", "pop", "remove"):
        refuse(f"`{node.attr}` of what has no name")
    subject = t.value(node.node)
    values = t.values(args)
    named = {key: t.value(each) for key, each in options.items()}
    t.check(*values, *named.values())
    return spread(lambda value: methods.call(t.context, value, node.attr, values, named), subject)


def _change(t: Translator, name: str, target: Bindable, method: str, args: Sequence[nodes.Expr]) -> Any_:
    """Append to a list that the template made."""
    if method != "append" or len(args) != 1:
        refuse(f"the method `{method}`")
    if isinstance(target, Clash):
        refuse(target.reason)
    no_alias(t, args[0])
    item = t.value(args[0])
    t.check(item)
    if isinstance(target, Appending):
        t.names[name] = Bound(Appending(t.scope.store(_appended(target.items, item))), t.scope)
    elif (isinstance(target, Fixed) and not target.is_tuple) or (
        isinstance(target, Value) and isinstance(target.type, ListOf) and target.type != RANGE and not target.lazy
    ):
        t.bind(name, _appended(target, item))
    else:
        refuse("`append` to what is no list of the template's own")
    return NONE


def _appended(items: Any_, item: Any_) -> Any_:
    if isinstance(items, Fixed):
        return Fixed((*items.items, item))
    return operators.joined_lists(column(items), column(Fixed((item,))))


def _loop_method(t: Translator, loop: LoopFields, name: str, args: tuple[Any_, ...]) -> Any_:
    if name != "cycle" or not args:
        refuse(f"`loop.{name}()`")
    t.check(*args)
    index = column(loop.fields["index0"])
    return operators.index(Fixed(args), Value(index.expr % len(args), INT), t.strict)


EXPRESSIONS: Mapping[type[nodes.Node], Callable[[Translator, Any], Any_ | Mapped]] = {
    nodes.Name: _name,
    nodes.Const: _const,
    nodes.List: _list_literal,
    nodes.Tuple: _list_literal,
    nodes.Dict: _dict,
    nodes.CondExpr: _conditional,
    nodes.And: _and,
    nodes.Or: _or,
    nodes.Not: _not,
    **dict.fromkeys(
        (nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow),
        _binary,
    ),
    nodes.Neg: _negative,
    nodes.Pos: _positive,
    nodes.Compare: _compare,
    nodes.Concat: _concat,
    nodes.Getattr: _attribute,
    nodes.Getitem: _item,
    nodes.Filter: _filter,
    nodes.Test: _is,
    nodes.Call: _call,
}
GLOBALS = frozenset(("range", "zip", "dict", "namespace"))

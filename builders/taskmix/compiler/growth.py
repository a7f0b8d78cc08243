"""How much text a template makes of a row that holds next to none: a bound from its source alone.

Polars cannot be stopped once it runs, nor held to an amount of memory; the processes that run Jinja can. So a template
that makes much of little is left to them. What a row's own size adds is for guards at run time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import reduce

from jinja2 import nodes

MOST_WORK = 1_000_000.0
_MULTIPLYING = frozenset("batch indent join replace slice wordwrap".split())


@dataclass(frozen=True)
class Size:
    """A bound on a value: its characters in all or its magnitude, its items, and the size of one of them."""

    whole: float = 1.0
    items: float = 1.0
    item: float = 1.0

    def __add__(self, other: "Size") -> "Size":
        return Size(self.whole + other.whole, self.items + other.items, max(self.item, other.item))

    def __or__(self, other: "Size") -> "Size":
        return Size(max(self.whole, other.whole), max(self.items, other.items), max(self.item, other.item))

    def times(self, factor: float) -> "Size":
        """Return the size of so many of it."""
        return Size(self.whole * factor, self.items * factor, self.item * factor)


@dataclass
class _Estimate:
    """Goes through statements as if every branch was taken. `times`: how often those at hand run."""

    names: dict[str, Size] = field(default_factory=dict)
    times: float = 1.0
    work: float = 0.0
    line: int = 0
    """Where the work first was too much."""

    def run(self, statements: Iterable[nodes.Node]) -> None:
        for node in statements:
            if isinstance(node, nodes.For):
                self._loop(node)
            elif isinstance(node, nodes.AssignBlock):
                before = self.work
                self.run(node.body)
                self._assign(node.target, Size((self.work - before) / self.times))
            elif isinstance(node, nodes.Assign):
                self._assign(node.target, self._spent(node.node))
            else:
                self._other(node)

    def _other(self, node: nodes.Node) -> None:
        for child in node.iter_child_nodes():
            if isinstance(child, nodes.Stmt):
                self.run([child])
            elif isinstance(child, nodes.Expr) and not (isinstance(child, nodes.Name) and child.ctx == "store"):
                self._spent(child)

    def _loop(self, node: nodes.For) -> None:
        size = self._spent(node.iter)
        inner = replace(self, names=dict(self.names), times=self.times * max(1.0, size.items))
        inner._assign(node.target, Size(size.item, size.item, size.item))
        if node.test is not None:
            inner._spent(node.test)
        inner.run(node.body)
        self.work, self.line = inner.work, inner.line
        for name in self.names.keys() & inner.names.keys():
            # what the body appends to
            self.names[name] |= inner.names[name]
        self.run(node.else_)

    def _assign(self, target: nodes.Node, size: Size) -> None:
        for name in target.find_all(nodes.Name) if not isinstance(target, nodes.Name) else [target]:
            self.names[name.name] = size

    def _spent(self, node: nodes.Node) -> Size:
        size = self.size(node)
        self.work += self.times * size.whole
        if self.work > MOST_WORK and not self.line:
            self.line = node.lineno
        return size

    def size(self, node: nodes.Node) -> Size:
        """Return a bound on the value of an expression."""
        if isinstance(node, nodes.Const | nodes.TemplateData):
            return _constant(node.value if isinstance(node, nodes.Const) else node.data)
        if isinstance(node, nodes.Name):
            return self.names.get(node.name, Size())
        inside = [self.size(child) for child in node.iter_child_nodes()]
        if isinstance(node, nodes.Mul | nodes.Pow):
            return _product(node, *inside)
        if isinstance(node, nodes.List | nodes.Tuple):
            sizes = [each.whole for each in inside]
            return Size(sum(sizes), len(sizes), max(sizes, default=0))
        if isinstance(node, nodes.Filter):
            return _called(node.name, inside)
        if isinstance(node, nodes.Call):
            return self._call(node, inside)
        if isinstance(node, nodes.CondExpr | nodes.Getitem | nodes.Or | nodes.And):
            return reduce(Size.__or__, inside, Size())
        return reduce(Size.__add__, inside) if inside else Size()

    def _call(self, node: nodes.Call, inside: list[Size]) -> Size:
        if isinstance(node.node, nodes.Name) and node.node.name == "range":
            most = max(each.whole for each in inside)
            return Size(most, most, most)
        if not isinstance(node.node, nodes.Getattr):
            return reduce(Size.__add__, inside)
        target, given = node.node.node, reduce(Size.__add__, inside[1:], Size(0, 0, 0))
        if node.node.attr in ("append", "extend", "insert") and isinstance(target, nodes.Name):
            grown = Size(given.whole, max(1.0, given.items), given.whole).times(self.times)
            self.names[target.name] = self.names.get(target.name, Size()) + grown
            return given
        if node.node.attr == "split" and isinstance(target, nodes.Const) and isinstance(target.value, str):
            separator = node.args[0].value if node.args and isinstance(node.args[0], nodes.Const) else None
            return Size(inside[0].whole, len(target.value.split(separator or None)), inside[0].whole)
        return _called(node.node.attr, inside)


def _constant(value: object) -> Size:
    if isinstance(value, str):
        return Size(len(value), len(value))
    if isinstance(value, int):
        return Size(max(1.0, abs(float(min(value, 10**30)))), 1.0, max(1.0, abs(float(min(value, 10**30)))))
    return Size()


def _product(node: nodes.Mul | nodes.Pow, left: Size, right: Size) -> Size:
    if isinstance(node, nodes.Pow):
        return left.times(max(2.0, left.whole) ** min(right.whole, 64.0))
    return left.times(right.whole) | right.times(left.whole)


def _called(name: str, inside: list[Size]) -> Size:
    """Return a bound on what a filter or method makes of its value and arguments."""
    value, arguments = inside[0], inside[1:]
    if name == "replace" and len(arguments) >= 2:
        old, new = arguments[0].whole, arguments[1].whole
        return value.times(max(1.0, new / old)) if old else Size(new).times(value.whole + 1) + value
    if name in _MULTIPLYING and arguments:
        return value.times(1.0 + sum(each.whole for each in arguments))
    return reduce(Size.__add__, arguments, value) if arguments else value


def too_much(statements: Iterable[nodes.Node]) -> int:
    """Return the line where a template makes too much of nothing; 0 if it does not."""
    found = _Estimate()
    found.run(statements)
    return found.line

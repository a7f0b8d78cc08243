"""What a template says, read from its Jinja: its own words, and what it prints and asks of a row."""

import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from jinja2 import nodes

from taskmix.templates.parts import Part, environment

_SAME_TEXT = frozenset(("trim", "string"))
_LEAVING_OUT = frozenset(("reject", "rejectattr", "without"))
_NAME = re.compile(r"Name\(name='\w+'")
_COUNTING = frozenset(("length", "count", "wordcount"))


@dataclass(frozen=True)
class Literal:
    """A stretch of a part's own words, and the line of the file on which it starts."""

    text: str
    line: int

    def line_of(self, position: int) -> int:
        """Return the line of a position in the text."""
        return self.line + self.text.count("\n", 0, position)


@functools.lru_cache(maxsize=4096)
def _parse(source: str) -> nodes.Template:
    """Return the tree of a part's own text, without its setup."""
    return environment().parse(source)


def literals(part: Part) -> list[Literal]:
    """Return the part's own words, without whitespace that Jinja removes."""
    found = _parse(part.source).find_all(nodes.TemplateData)
    return [Literal(each.data, part.line + each.lineno - 1) for each in found]


def words(part: Part) -> str:
    """Return all words that a part itself has, also those in its expressions."""
    constants = [each.value for each in _parse(part.source).find_all(nodes.Const) if isinstance(each.value, str)]
    return " ".join([*(each.text for each in literals(part)), *constants])


def is_drawn(part: Part) -> bool:
    """Whether a part depends on what its setup drew with `choice`: other parts may depend on the same draw."""
    if part.setup is None or not any(each.name == "choice" for each in part.setup.tree.find_all(nodes.Filter)):
        return False
    own = {name.name for name in _parse(part.source).find_all(nodes.Name)}
    return not own.isdisjoint(part.setup.assigned)


def last_words(part: Part) -> Literal | None:
    """Return the part's own words at its very end, if it ends in such."""
    body = _parse(part.source).body
    last = body[-1] if body else None
    data = last.nodes[-1] if isinstance(last, nodes.Output) and last.nodes else None
    return Literal(data.data, part.line + data.lineno - 1) if isinstance(data, nodes.TemplateData) else None


def printed(part: Part) -> frozenset[str]:
    """Return the expressions that a part prints or loops over, each in a form that is alike for alike ones."""
    tree = _parse(part.source)
    return frozenset([*map(_form, _outputs(tree)), *(_form(loop.iter) for loop in tree.find_all(nodes.For))])


def alternatives(form: str, others: Iterable[str]) -> bool:
    """Whether others hold an expression that picks another item of the same list: one of several that are offered."""
    picks = "Getitem" in form or "Getattr" in form
    return picks and any(other != form and _shape(other) == _shape(form) for other in others)


def _shape(form: str) -> str:
    return _NAME.sub("Name(", form)


def decisive(part: Part) -> frozenset[str]:
    """Return the expressions on which a part's text depends: what it prints, loops over, and asks in an `if`."""
    tree = _parse(part.source)
    tests = [_form(each.test) for each in tree.find_all(nodes.If)]
    reading = [_form(each) for each in _outputs(tree) if isinstance(each, nodes.Name) or each.find(nodes.Name)]
    return frozenset([*reading, *tests, *(_form(loop.iter) for loop in tree.find_all(nodes.For))])


def names_read(part: Part) -> frozenset[str]:
    """Return the row's names on which a part's text depends, whether it reads them itself or its setup does."""
    origins = _Origins(whole=True).of(part.tree)
    own = frozenset(name.name for name in _parse(part.source).find_all(nodes.Name))
    return frozenset[str]().union(*(_resolve(name, origins) for name in own)) & part.names


def names_printed(part: Part, beside: Collection[str]) -> Mapping[str, int]:
    """Return the row's names whose values a part prints, with their lines.

    What it only counts is left out, and what is one of several alternatives among the expressions `beside`.

    A name that a loop or `set` gives stands for the names that it was made from.
    """
    origins = _Origins(whole=False).of(part.tree)
    found: dict[str, int] = {}
    for output in _outputs(_parse(part.source)):
        for name, line in () if alternatives(_form(output), beside) else _reads(output):
            for origin in _resolve(name, origins) & part.names:
                found.setdefault(origin, part.line + line - 1)
    return found


def asked_whether_defined(part: Part) -> frozenset[str]:
    """Return the names for which a part has an answer if they are not there: `is defined`, or a default."""
    tests = [each.node for each in part.tree.find_all(nodes.Test) if each.name in ("defined", "undefined")]
    defaults = [each.node for each in part.tree.find_all(nodes.Filter) if each.name in ("default", "d")]
    return frozenset(node.name for node in (*tests, *defaults) if isinstance(node, nodes.Name))


def _outputs(tree: nodes.Template) -> Iterator[nodes.Expr]:
    for output in tree.find_all(nodes.Output):
        for node in output.nodes:
            if not isinstance(node, nodes.TemplateData):
                yield node


def _form(node: nodes.Node) -> str:
    """Return an expression's structure as text; `| trim` around it makes no difference."""
    while isinstance(node, nodes.Filter) and node.name in _SAME_TEXT and node.node is not None:
        node = node.node
    return repr(node)


def _reads(node: nodes.Node) -> Iterator[tuple[str, int]]:
    """Yield the names whose values an expression may show: not what it counts, leaves out or reckons with."""
    if isinstance(node, nodes.Filter) and node.name in _COUNTING:
        return
    if isinstance(node, nodes.Name):
        yield node.name, node.lineno
    shown = node.iter_child_nodes()
    if isinstance(node, nodes.Filter) and node.name in _LEAVING_OUT:
        # what is left out is what is not shown
        shown = iter([node.node] if node.node is not None else [])
    elif isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Name):
        # `options[1 - label]` is another one than the right one
        shown = iter([node.node])
    for child in shown:
        yield from _reads(child)


@dataclass(frozen=True)
class _Origins:
    """Finds what the names that a template gives were made from.

    `whole`: all that they depend on, also the conditions and loops that they were made in; otherwise only that whose
    value they may hold.
    """

    whole: bool
    made: dict[str, frozenset[str]] = field(default_factory=dict)

    def of(self, tree: nodes.Template) -> Mapping[str, frozenset[str]]:
        self._trace(tree, frozenset())
        return self.made

    def _trace(self, node: nodes.Node, around: frozenset[str]) -> None:
        if isinstance(node, nodes.If) and self.whole:
            around |= self._names(node.test)
        elif isinstance(node, nodes.For):
            self._give(node.target, around | self._names(node.iter))
            around |= self._names(node.iter) if self.whole else frozenset()
        elif isinstance(node, nodes.Assign):
            self._give(node.target, around | self._names(node.node))
        elif isinstance(node, nodes.AssignBlock):
            self._give(node.target, around | self._names(*node.body))
        elif isinstance(node, nodes.With):
            for target, value in zip(node.targets, node.values, strict=True):
                self._give(target, around | self._names(value))
        elif isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
            # `names.append(x)` makes names of x
            self._give(node.node.node, around | self._names(*node.args))
        for child in node.iter_child_nodes():
            self._trace(child, around)

    def _give(self, target: nodes.Node, of: frozenset[str]) -> None:
        for node in (target, *target.find_all((nodes.Name, nodes.NSRef))):
            if isinstance(node, nodes.Name | nodes.NSRef):
                self.made[node.name] = self.made.get(node.name, frozenset()) | of

    def _names(self, *found: nodes.Node) -> frozenset[str]:
        if self.whole:
            own = [each.name for each in found if isinstance(each, nodes.Name)]
            return frozenset([*own, *(name.name for each in found for name in each.find_all(nodes.Name))])
        return frozenset(name for each in found for name, _ in _reads(each))


def _resolve(name: str, origins: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return a name with those that it was made from, over any number of steps."""
    reached, pending = set[str](), [name]
    while pending:
        each = pending.pop()
        if each not in reached:
            reached.add(each)
            pending += origins.get(each, ())
    return frozenset(reached)

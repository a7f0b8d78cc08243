"""The Jinja environment of all templates and catalog expressions: strict, sandboxed, deterministic.

A template sees plain data (text, numbers, lists, mappings) and can do nothing but compute text from it. What it
may use is listed here by name; everything else is refused when the template is compiled, or when it runs.
"""

import copy
import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Never, TypeVar

import jinja2
from jinja2 import meta, nodes, pass_context, sandbox
from jinja2.environment import TemplateExpression
from jinja2.runtime import Context, LoopContext, StrictUndefined, Undefined
from jinja2.utils import Namespace

from taskmix import hashing
from taskmix.templates import filters

_Node = TypeVar("_Node", bound=nodes.Node)

METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset(
        "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit islower isnumeric"
        " isspace istitle isupper join lower lstrip partition removeprefix removesuffix replace rfind rindex"
        " rpartition rsplit rstrip split splitlines startswith strip swapcase title upper".split()
    ),
    list: frozenset("append copy count extend index insert pop remove reverse".split()),
    tuple: frozenset("count index".split()),
    dict: frozenset("copy get items keys pop update values".split()),
}
MUTATING = frozenset("append extend insert pop remove reverse update".split())
LOOP = frozenset(
    "changed cycle depth depth0 first index index0 last length nextitem previtem revindex revindex0".split()
)

_STATEMENTS: Mapping[type[nodes.Node], str] = {
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from",
    nodes.Extends: "extends",
    nodes.Block: "block",
    nodes.Macro: "macro",
    nodes.CallBlock: "call",
    nodes.FilterBlock: "filter",
    nodes.ScopedEvalContextModifier: "autoescape",
}
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_LONGEST = 1_000_000
_MAX_BITS = 4_096
# Parsing and compiling happen in the process of the user, where nothing else bounds them. The largest template of the
# public pool has 2,849 characters, 406 nodes, 16 levels and 4 brackets. Levels and brackets become calls of Jinja's
# compiler inside each other: far fewer than Python allows, so that it does not depend on who calls.
MAX_CHARACTERS = 100_000
MAX_NODES = 5_000
_MAX_LEVELS = 100
_MAX_BRACKETS = 32
_MAX_BRANCHES = 300
DRAW = filters.DRAW
SETUP_LINES = 100_000
"""From here on line numbers are those of a template's `setup`."""
START, END = "\ue000", "\ue001"
"""Private-use characters that mark where the text of a variable starts and ends, see `marking`."""


class Sandbox(sandbox.SandboxedEnvironment):
    """Jinja with a closed list of filters and methods, and data before methods in ``row.items``.

    `strict`: an undefined name, a null or NaN that is printed is an error. Else they print as in plain Jinja:
    nothing, ``None``, ``nan``.
    """

    intercepted_binops = frozenset(("*", "**", "%"))

    def __init__(self, strict: bool = True, finalize: Callable[[Context, object], object] | None = None) -> None:
        super().__init__(
            undefined=StrictUndefined if strict else jinja2.Undefined,
            autoescape=False,
            keep_trailing_newline=True,
            # constant folding would run a hostile expression while compiling; Jinja leaves constants alone
            # only if the optimiser is off and `finalize` needs the context
            optimized=False,
            finalize=finalize or (printable if strict else as_it_is),
        )
        self.strict = strict
        self.filters = filters.allowed(self.filters, strict)
        self.globals = {"range": sandbox.safe_range, "zip": zip, "dict": dict, "namespace": Namespace}

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Allow the listed methods of plain data, and the fields of ``loop`` and of a namespace."""
        if isinstance(obj, LoopContext):
            return attr in LOOP
        if isinstance(obj, Namespace):
            return not attr.startswith("_")
        return attr in METHODS.get(type(obj), frozenset())

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return ``obj.attribute``: for a mapping its item of that name first, so that data wins."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return ``obj[argument]``: an item, never a method, which goes by ``obj.name`` alone."""
        try:
            return obj[argument]
        except (AttributeError, TypeError, LookupError):
            return self.undefined(obj=obj, name=argument)

    def wrap_str_format(self, value: object) -> None:
        """Leave `str.format` to the list of methods, which has none: a width in it makes text of any length."""

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute ``*``, ``**`` and ``%`` within bounds."""
        texts = [value for value in (left, right) if isinstance(value, str | list | tuple)]
        if operator == "%" and texts:
            raise jinja2.TemplateRuntimeError("`%` formats text here, which is not allowed: use `~`")
        if operator == "*" and texts:
            times = right if texts[0] is left else left
            if isinstance(times, int) and len(texts[0]) * times > _LONGEST:
                raise jinja2.TemplateRuntimeError(f"`*` makes more than {_LONGEST:,} items")
        whole = isinstance(left, int) and isinstance(right, int)
        if operator == "**" and whole and left.bit_length() * right > _MAX_BITS:
            raise jinja2.TemplateRuntimeError(f"`**` makes a number of more than {_MAX_BITS} bits")
        return super().call_binop(context, operator, left, right)


@pass_context
def printable(_: Context, value: object) -> object:
    """Return what `{{ … }}` prints. Raises TemplateRuntimeError as `filters.check_text` does."""
    filters.check_text(value)
    return value


@pass_context
def as_it_is(_: Context, value: object) -> object:
    """Return what `{{ … }}` prints in a template that is not strict: anything."""
    return value


@functools.cache
def marking(strict: bool) -> Sandbox:
    """Return an environment that prints what it would, with START and END around the text of each variable."""

    @pass_context
    def mark(context: Context, value: object) -> object:
        shown = printable(context, value) if strict else value
        return shown if isinstance(shown, Undefined) else f"{START}{shown}{END}"

    return Sandbox(strict, finalize=mark)


def _refuse(what: str, node: nodes.Node, hint: str = "") -> Never:
    raise jinja2.TemplateSyntaxError(f"{what} is not allowed here{f': {hint}' if hint else ''}", node.lineno)


def _check_source(env: Sandbox, source: str) -> None:
    """Refuse what is too long or nested to parse."""
    if len(source) > MAX_CHARACTERS:
        raise jinja2.TemplateSyntaxError(f"a template of more than {MAX_CHARACTERS:,} characters", 1)
    if sum(map(source.count, "([{")) <= _MAX_BRACKETS:
        return
    depth = 0
    for line, kind, text in env.lex(source):
        if kind == "operator":
            depth += (text in "([{") - (text in ")]}")
        if depth > _MAX_BRACKETS:
            raise jinja2.TemplateSyntaxError(f"more than {_MAX_BRACKETS} brackets inside each other", line)


def _check_size(tree: nodes.Template) -> None:
    """Refuse what would take long to compile."""
    count, pending = 0, [(tree.body, 1)]
    while pending:
        found, depth = pending.pop()
        count += len(found)
        for node in found:
            if count > MAX_NODES:
                raise jinja2.TemplateSyntaxError(f"more than {MAX_NODES:,} parts of Jinja in one text", node.lineno)
            if depth > _MAX_LEVELS:
                raise jinja2.TemplateSyntaxError(f"nested deeper than {_MAX_LEVELS} levels", node.lineno)
            if isinstance(node, nodes.If) and len(node.elif_) > _MAX_BRANCHES:
                raise jinja2.TemplateSyntaxError(f"more than {_MAX_BRANCHES} branches of one `if`", node.lineno)
            pending.append((list(node.iter_child_nodes()), depth + 1))


def every(tree: nodes.Node) -> list[nodes.Node]:
    """Return the nodes of a tree in the order of `find_all`, which takes many times as long."""
    found: list[nodes.Node] = []
    pending = _children(tree)
    while pending:
        node = pending.pop()
        found.append(node)
        pending += _children(node)
    return found


def _children(node: nodes.Node) -> list[nodes.Node]:
    """Return the nodes right below a node, the last one first."""
    values = [getattr(node, name, None) for name in node.fields]
    listed = [each for value in values for each in (value if isinstance(value, list) else [value])]
    return [each for each in reversed(listed) if isinstance(each, nodes.Node)]


def _those(found: Iterable[nodes.Node], kind: type[_Node]) -> list[_Node]:
    return [node for node in found if isinstance(node, kind)]


def size(tree: nodes.Template) -> int:
    """Return the number of nodes of a tree, which is what its compilation costs."""
    return len(every(tree))


def _check(found: Sequence[nodes.Node]) -> None:
    """Refuse statements that load or define other templates or escape text, and private names."""
    for node in found:
        if type(node) in _STATEMENTS:
            _refuse(f"`{_STATEMENTS[type(node)]}`", node)
    for name in _those(found, nodes.Name):
        if name.name.startswith("__"):
            _refuse(f"the name `{name.name}`", name, "names do not start with `__`")
    for attribute in _those(found, nodes.Getattr):
        if attribute.attr.startswith("_"):
            _refuse(f"the attribute `{attribute.attr}`", attribute)
    for constant in _those(found, nodes.Const):
        if isinstance(constant.value, str) and _SURROGATE.search(constant.value):
            _refuse("half of a surrogate pair (\\ud800 to \\udfff)", constant, "it is no character")
        if isinstance(constant.value, float) and not math.isfinite(constant.value):
            _refuse("a number too large to hold", constant)


def _place_choices(found: Sequence[nodes.Node], scope: str) -> None:
    """Give each `choice` filter its place in the template, from which its draws follow."""
    filters = _those(found, nodes.Filter)
    for each in filters:
        if each.name == "map" and each.args and each.args[0] == nodes.Const("choice"):
            _refuse("`choice` in `map`", each, "loop over the lists")
    for index, each in enumerate(each for each in filters if each.name == "choice"):
        if each.args or each.kwargs:
            _refuse("an argument of `choice`", each)
        each.args = [nodes.Const(hashing.key("choice", scope, index), lineno=each.lineno)]


def _check_operands(found: Sequence[nodes.Node]) -> None:
    """Let `~` join what may become text only: Jinja would take anything there without asking `finalize`."""
    for joined in _those(found, nodes.Concat):
        joined.nodes = [nodes.Filter(each, "string", [], [], None, None, lineno=each.lineno) for each in joined.nodes]


def parse(env: Sandbox, source: str, scope: str) -> nodes.Template:
    """Parse and check a template. `scope` names its part, and tells the draws of two parts apart."""
    _check_source(env, source)
    tree = env.parse(source)
    _check_size(tree)
    found = every(tree)
    _check(found)
    _place_choices(found, scope)
    if env.strict:
        _check_operands(found)
    return tree


def after(setup: nodes.Template, tree: nodes.Template) -> nodes.Template:
    """Return a tree that first runs the statements of another, without its text, and then is itself.

    The lines of the statements are counted from `SETUP_LINES`.
    """
    statements = copy.deepcopy(setup)
    for node in every(statements):
        node.lineno = (node.lineno or 1) + SETUP_LINES
    whole = nodes.Template([*_without_text(statements.body), *tree.body], lineno=1)
    assert tree.environment is not None
    whole.set_environment(tree.environment)
    return whole


def _without_text(body: Sequence[nodes.Node]) -> list[nodes.Node]:
    """Return statements whose text is dropped: what they print is computed only."""
    kept: list[nodes.Node] = []
    for node in body:
        if isinstance(node, nodes.Output):
            printed = (each for each in node.nodes if not isinstance(each, nodes.TemplateData))
            kept += [nodes.ExprStmt(each, lineno=each.lineno) for each in printed]
            continue
        for inner in ("body", "else_"):
            if isinstance(node, nodes.If | nodes.For | nodes.With) and hasattr(node, inner):
                setattr(node, inner, _without_text(getattr(node, inner)))
        if isinstance(node, nodes.If):
            node.elif_ = [elif_ for elif_ in _without_text(node.elif_) if isinstance(elif_, nodes.If)]
        kept.append(node)
    return kept


def compile_template(env: Sandbox, tree: nodes.Template, name: str = "") -> jinja2.Template:
    """Compile a checked tree. `name` tells in a traceback which part of a template runs."""
    return jinja2.Template.from_code(env, env.compile(tree, filename=f"<template {name}>"), dict(env.globals))


def compile_expression(env: Sandbox, source: str) -> TemplateExpression:
    """Compile one expression in its braces, whose value is taken rather than its text.

    Raises:
        TemplateSyntaxError: it is not one expression, uses what is refused, or `choice`, which needs a template.
    """
    tree = parse(env, source, "expression")
    output = tree.body[0] if len(tree.body) == 1 else None
    if not isinstance(output, nodes.Output) or len(output.nodes) != 1:
        raise jinja2.TemplateSyntaxError("not one expression: write {{ … }} around all of it", 1)
    for found in _those(every(tree), nodes.Filter):
        if found.name == "choice":
            _refuse("`choice`", found, "it picks by row and template, so its place is in a template's text")
    result = nodes.Assign(nodes.Name("result", "store", lineno=1), output.nodes[0], lineno=1)
    body = nodes.Template([result], lineno=1)
    body.set_environment(env)
    return TemplateExpression(compile_template(env, body), undefined_to_none=False)


def plain_text(tree: nodes.Template) -> str | None:
    """Return the text of a template without Jinja, which is the same for every row; None if it has any."""
    printed = [node.nodes if isinstance(node, nodes.Output) else [node] for node in tree.body]
    texts = [node.data if isinstance(node, nodes.TemplateData) else None for nodes_ in printed for node in nodes_]
    return None if None in texts else "".join(text for text in texts if text is not None)


def variables(env: Sandbox, tree: nodes.Template, found: Sequence[nodes.Node]) -> frozenset[str]:
    """Return the names that a template reads from its row: a name such as `range` too, unless it only calls it."""
    called = {id(call.node) for call in _those(found, nodes.Call)}
    read = {name.name for name in _those(found, nodes.Name) if id(name) not in called}
    # as `meta.find_undeclared_variables`, which would first run all filters of constants, however heavy
    finder = meta.TrackingCodeGenerator(env)
    finder.optimizer = None
    finder.visit(tree)
    # Jinja itself never counts the names of its functions
    return frozenset(finder.undeclared_identifiers) | (read & set(env.globals) - assigned(found))


def mutates(found: Sequence[nodes.Node]) -> bool:
    """Whether a template of these nodes may change the lists and mappings that it is given."""
    return any(node.attr in MUTATING for node in _those(found, nodes.Getattr))


def assigned(found: Sequence[nodes.Node]) -> frozenset[str]:
    """Return the names that a template of these nodes sets."""
    return frozenset(name.name for name in _those(found, nodes.Name) if name.ctx == "store")


def first_line(tree: nodes.Template, name: str) -> int:
    """Return the line of a tree where a name is first used."""
    lines = [found.lineno for found in _those(every(tree), nodes.Name) if found.name == name]
    return min(lines, default=1)

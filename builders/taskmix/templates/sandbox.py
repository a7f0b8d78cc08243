"""The Jinja environment of all templates and catalog expressions: strict, sandboxed, deterministic.

A template sees plain data (text, numbers, lists, mappings) and can do nothing but compute text from it. What it
may use is listed here by name; everything else is refused when the template is compiled, or when it runs.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Never

import jinja2
from jinja2 import nodes, pass_context, sandbox
from jinja2.environment import TemplateExpression
from jinja2.runtime import Context, LoopContext, StrictUndefined, Undefined

from taskmix import hashing

FILTERS = frozenset(
    "abs batch capitalize count d default dictsort first float groupby indent int items join last length list lower"
    " map max min reject rejectattr replace reverse round select selectattr slice sort string sum title trim"
    " truncate unique upper wordcount wordwrap".split()
)
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
_LONGEST = 1_000_000
_MAX_COUNT = 10_000
_MAX_BITS = 4_096
DRAW = "__draw__"


class Sandbox(sandbox.SandboxedEnvironment):
    """Jinja with a closed list of filters and methods, and data before methods in ``row.items``."""

    intercepted_binops = frozenset(("*", "**", "%"))

    def __init__(self, finalize: Callable[[Context, object], object] | None = None) -> None:
        super().__init__(
            undefined=StrictUndefined,
            autoescape=False,
            keep_trailing_newline=True,
            # constant folding would run a hostile expression while compiling; Jinja leaves constants alone
            # only if the optimiser is off and `finalize` needs the context
            optimized=False,
            finalize=finalize or printable,
        )
        own: dict[str, Callable[..., Any]] = {
            "choice": choice,
            "most_frequent": most_frequent,
            "without": without,
            "tojson": to_json,
            "batch": _bounded_count(self.filters["batch"]),
            "slice": _bounded_count(self.filters["slice"]),
            "indent": _bounded_count(self.filters["indent"]),
            "truncate": self.filters["truncate"],
        }
        self.filters = {name: self.filters[name] for name in FILTERS} | own
        self.globals = {"range": sandbox.safe_range, "zip": zip, "dict": dict}

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Allow the listed methods of plain data, and the fields of ``loop``."""
        if isinstance(obj, LoopContext):
            return attr in LOOP
        return attr in METHODS.get(type(obj), frozenset())

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return ``obj.attribute``: for a mapping its item of that name first, so that data wins."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

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
    """Let through what has one clear form as text; refuse nulls, NaN, and functions that were not called."""
    if isinstance(value, str | bool | int | list | tuple | dict | Undefined):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if value is None or isinstance(value, float):
        raise jinja2.TemplateRuntimeError(f"prints {'a null value' if value is None else value}")
    if callable(value):
        raise jinja2.TemplateRuntimeError("prints a function: write () after its name")
    raise jinja2.TemplateRuntimeError(f"prints a {type(value).__name__}: make it a list or text first")


@pass_context
def choice(context: Context, values: Sequence[object], place: int) -> object:
    """Pick one of the values by a hash of the row, the template and the place of this filter in it."""
    items = list(values)
    if not items:
        raise jinja2.TemplateRuntimeError("`choice` of an empty list")
    draw = context.resolve(DRAW)
    assert isinstance(draw, int), draw
    return items[hashing.draw(place, draw) % len(items)]


def most_frequent(values: Iterable[Any]) -> list[Any]:
    """Return the most frequent of the values: a list, since several may tie, in order of appearance."""
    counts = Counter(values)
    most = max(counts.values(), default=0)
    return [value for value, count in counts.items() if count == most]


def without(text: str, start: str, end: str) -> str:
    """Return text without the spans from one mark to the next other one, marks included.

    >>> without("48/2 = <<48/2=24>>24", "<<", ">>")
    '48/2 = 24'
    """
    first, *rest = text.split(start)
    kept = [piece.partition(end) for piece in rest]
    return first + "".join(after if found else start + before for before, found, after in kept)


def to_json(value: object, indent: int | None = None) -> str:
    """Return a value as JSON, with non-ASCII text and ``<>&`` as they are; NaN is an error."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def _bounded_count(function: Callable[..., Any]) -> Callable[..., Any]:
    def bounded(value: object, count: int = 4, *rest: object, **options: object) -> object:
        if not isinstance(count, int) or count > _MAX_COUNT:
            raise jinja2.TemplateRuntimeError(f"a count above {_MAX_COUNT:,}")
        return function(value, count, *rest, **options)

    return bounded


def _refuse(what: str, node: nodes.Node, hint: str = "") -> Never:
    raise jinja2.TemplateSyntaxError(f"{what} is not allowed here{f': {hint}' if hint else ''}", node.lineno)


def _check(tree: nodes.Template) -> None:
    """Refuse statements that load or define other templates or escape text, and private names."""
    for node in tree.find_all(tuple(_STATEMENTS)):
        _refuse(f"`{_STATEMENTS[type(node)]}`", node)
    for name in tree.find_all(nodes.Name):
        if name.name.startswith("_") and name.name != "_":
            _refuse(f"the name `{name.name}`", name, "names do not start with `_`")
    for attribute in tree.find_all(nodes.Getattr):
        if attribute.attr.startswith("_"):
            _refuse(f"the attribute `{attribute.attr}`", attribute)


def _place_choices(tree: nodes.Template, scope: str) -> None:
    """Give each `choice` filter its place in the template, from which its draws follow."""
    for index, found in enumerate(node for node in tree.find_all(nodes.Filter) if node.name == "choice"):
        if found.args or found.kwargs:
            _refuse("an argument of `choice`", found)
        found.args = [nodes.Const(hashing.key("choice", scope, index), lineno=found.lineno)]


def parse(env: Sandbox, source: str, scope: str) -> nodes.Template:
    """Parse and check a template. `scope` names its part, and tells the draws of two parts apart."""
    tree = env.parse(source)
    _check(tree)
    _place_choices(tree, scope)
    return tree


def compile_template(env: Sandbox, tree: nodes.Template) -> jinja2.Template:
    """Compile a checked tree."""
    return jinja2.Template.from_code(env, env.compile(tree, filename="<template>"), env.make_globals(None))


def compile_expression(env: Sandbox, source: str) -> TemplateExpression:
    """Compile one expression, whose value is taken rather than its text."""
    parse(env, "{{ " + source + " }}", "expression")
    return env.compile_expression(source, undefined_to_none=False)


def mutates(tree: nodes.Template) -> bool:
    """Whether a template may change the lists and mappings that it is given."""
    return any(node.attr in MUTATING for node in tree.find_all(nodes.Getattr))


def assigned(tree: nodes.Template) -> frozenset[str]:
    """Return the names that a template sets."""
    return frozenset(name.name for name in tree.find_all(nodes.Name) if name.ctx == "store")


def first_line(env: Sandbox, source: str, name: str) -> int:
    """Return the line of a template's text where a name is first used."""
    lines = [found.lineno for found in env.parse(source).find_all(nodes.Name) if found.name == name]
    return min(lines, default=1)

"""The filters that templates may use, and what of a value may become text.

Jinja prints anything: a null as `None`, a method that was not called with its address. Here only what has one clear
form becomes text, wherever it does: in `{{ … }}`, in `~`, and in the filters that make text of what they are given.
"""

import functools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, TemplateRuntimeError, filters, pass_context, pass_eval_context
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, Undefined

from taskmix import hashing

DRAW = "__draw__"
MAX_COUNT = 10_000
_MAX_ITEMS = 1_000_000

_AS_THEY_ARE = (
    "abs count d default dictsort first float groupby int items last length list map max min reject rejectattr reverse"
    " select selectattr sort sum unique".split()
)
_COUNTING = "batch round slice".split()
_TO_TEXT = "capitalize indent lower replace string title trim truncate upper wordcount wordwrap".split()


def allowed(known: Mapping[str, Callable[..., Any]], strict: bool = True) -> dict[str, Callable[..., Any]]:
    """Return the filters that templates may use, given Jinja's own; strict ones refuse what has no text."""
    checked: Callable[[Callable[..., Any]], Callable[..., Any]] = _to_text if strict else lambda function: function
    return {
        **{name: known[name] for name in _AS_THEY_ARE},
        **{name: _bounded(known[name]) for name in _COUNTING},
        **{name: _bounded(checked(known[name])) for name in _TO_TEXT},
        "choice": choice,
        "join": join if strict else known["join"],
        "most_frequent": most_frequent,
        "tojson": _bounded(to_json),
        "without": without,
    }


def check_text(value: object) -> None:
    """Refuse what has no one clear form as text, also inside lists and mappings.

    Raises:
        TemplateRuntimeError: it is a null, NaN, infinite, undefined, a function that was not called, a generator, or
            endless.
    """
    if isinstance(value, str):
        return
    pending, items = [value], 0
    while pending:
        each = pending.pop()
        if isinstance(each, dict | list | tuple):
            inside = [*each, *each.values()] if isinstance(each, dict) else each
            items += len(inside)
            if items > _MAX_ITEMS:
                raise TemplateRuntimeError(f"prints a list or mapping of more than {_MAX_ITEMS:,} values")
            pending.extend(reversed(inside))
        elif not isinstance(each, str | bool | int):
            _check_value(each)


def _check_value(value: object) -> None:
    if isinstance(value, Undefined):
        # says which name is undefined
        str(value)
    elif value is None:
        raise TemplateRuntimeError("prints a null value")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise TemplateRuntimeError(f"prints {value}")
    elif callable(value):
        raise TemplateRuntimeError("prints a function: write () after its name")
    else:
        raise TemplateRuntimeError(f"prints a {type(value).__name__}: make it a list or text first")


@pass_context
def choice(context: Context, values: Sequence[object], place: int) -> object:
    """Pick one of the values by a hash of the row, the template and the place of this filter in it."""
    items = list(values)
    if not items:
        raise TemplateRuntimeError("`choice` of an empty list")
    draw = context.resolve(DRAW)
    assert isinstance(draw, int), draw
    return items[hashing.draw(place, draw) % len(items)]


@pass_eval_context
def join(context: EvalContext, values: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    """Return the texts of the values, or of an attribute of each, with `d` between them."""
    found = values if attribute is None else map(filters.make_attrgetter(context.environment, attribute), values)
    items = list(found)
    check_text([d, items])
    return str(d).join(map(str, items))


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


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse counts by which a filter would work without end or make text without end."""

    @functools.wraps(function)
    def bounded(*arguments: Any, **options: Any) -> Any:
        for each in (*_own(arguments)[1:], *options.values()):
            if isinstance(each, int | float) and not -MAX_COUNT <= each <= MAX_COUNT:
                raise TemplateRuntimeError(f"a count above {MAX_COUNT:,}")
        return function(*arguments, **options)

    return bounded


def _to_text(function: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse a value that has no one clear form as text where a filter would make text of it."""

    @functools.wraps(function)
    def checked(*arguments: Any, **options: Any) -> Any:
        for each in _own(arguments):
            check_text(each)
        return function(*arguments, **options)

    return checked


def _own(arguments: Sequence[Any]) -> Sequence[Any]:
    """Return a filter's arguments without the one that Jinja puts first for some filters."""
    return arguments[1:] if isinstance(arguments[0], EvalContext | Environment) else arguments

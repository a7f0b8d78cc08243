"""promptsource's own way to render a row: the template as one text, cut after it is rendered; plain Jinja.

It stands apart from taskmix's templates, whose text it judges. With taskmix it shares one thing, the hash by which
`choice` picks: two texts can only be compared if both draw the same.
"""

import copy
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
from jinja2 import nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment

from taskmix import hashing
from taskmix.importers.project import Entry
from taskmix.importers.promptsource import PromptTemplate

MARK = "|||"
# one character for one, so that templates that cut texts cut them alike
HIDDEN = "\ufdd0"
STAND_IN = HIDDEN * 3
Row = Mapping[str, Any]
Outcome = tuple[str, str] | str | None
"""The two parts of a row, None where it is dropped, or an error."""


@dataclass
class Oracle:
    """A template as promptsource renders it. `entry` is the imported one, for the places of its draws alone."""

    original: PromptTemplate
    entry: Entry
    draw: int = 0
    _template: jinja2.Template = field(init=False)
    _choices: jinja2.Template | None = field(init=False)

    def __post_init__(self) -> None:
        env = SandboxedEnvironment()
        env.globals["zip"] = zip
        env.filters |= {"choice": self._choice(), "random": self._choice(), "most_frequent": most_frequent}
        name = str(self.entry["name"])
        places = list(_places(self.entry, name, ("setup", "instruction", "output")))
        self._template = _compiled(env, self.original.jinja, places)
        text = self.original.answer_choices
        own = list(_places(self.entry, name, ("choices",)))
        self._choices = _compiled(env, text, own) if text and text.strip() else None

    def render(self, row: Row, draw: int) -> tuple[str, str] | None:
        """Return input and output; None for a row that promptsource drops. Raises what Jinja raises."""
        guarded = {name: _replaced(value, MARK, STAND_IN) for name, value in row.items()}
        self.draw, choices = draw, None
        if self._choices is not None:
            choices = [each.strip() for each in self._choices.render(copy.deepcopy(guarded)).split(MARK)]
        text = self._template.render({**copy.deepcopy(guarded), "answer_choices": choices})
        parts = [part.replace(HIDDEN, "|").strip() for part in text.split(MARK)]
        return (parts[0], parts[1]) if len(parts) == 2 and all(parts) else None

    def outcome(self, row: Row, draw: int) -> Outcome:
        """Return what `render` does, or what Jinja raises as a text."""
        try:
            return self.render(row, draw)
        except Exception as error:
            return f"error: {error}"

    def _choice(self) -> Callable[[Context, Any, int], object]:
        # with the context, since Jinja would draw from a constant list while compiling
        @pass_context
        def choice(_: Context, values: Any, place: int) -> object:
            items = list(values)
            return items[hashing.draw(place, self.draw) % len(items)]

        return choice


def same(one: Outcome, other: Outcome) -> bool:
    """Whether two outcomes are equal: errors are, whatever they say."""
    return one == other or (isinstance(one, str) and isinstance(other, str))


def most_frequent(values: Any) -> list[Any]:
    """Return the most frequent of the values, all that tie."""
    counts = Counter(values)
    return [value for value, count in counts.items() if count == max(counts.values())]


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, list):
        return [_replaced(each, old, new) for each in value]
    return {key: _replaced(each, old, new) for key, each in value.items()} if isinstance(value, dict) else value


def _draws(tree: nodes.Template) -> Iterator[nodes.Filter]:
    return (each for each in tree.find_all(nodes.Filter) if each.name in ("choice", "random"))


def _signature(found: nodes.Filter) -> str:
    """Return what is drawn from, under whatever names."""
    text = repr(found).replace("'random'", "'choice'")
    return re.sub(r"name='(?:answer_|raw_|own_|_+)?(\w+)'", r"name='\1'", text)


def _places(entry: Entry, name: str, fields: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield what each draw of the imported template draws from, and the key of its place."""
    env = SandboxedEnvironment()
    for part in fields:
        text = entry.get(part)
        if isinstance(text, str):
            for index, found in enumerate(_draws(env.parse(text))):
                yield _signature(found), hashing.key("choice", f"{name}/{part}", index)


def _compiled(env: jinja2.Environment, source: str, places: list[tuple[str, int]]) -> jinja2.Template:
    """Compile a template whose draws have the places of the imported one's: each place is used once."""
    tree = env.parse(source)
    for found in list(_draws(tree)):
        place = next(each for each in places if each[0] == _signature(found))
        places.remove(place)
        found.args = [nodes.Const(place[1], lineno=found.lineno)]
    assert not places, "the imported template draws more often"
    return env.from_string(tree)

"""One piece of Jinja from a file: compiled, with the names it uses and the line it stands on."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType

import jinja2
from jinja2.environment import TemplateExpression

from taskmix.errors import TemplateError
from taskmix.templates import sandbox
from taskmix.text import quoted, visible

Row = Mapping[str, object]
OUT_OF_MEMORY = "needs more memory than a template may take"
# Unicode keeps the 32 code points from here for a program's own use: no text has them
_NO_CHARACTER = 0xFDD0


@dataclass(frozen=True)
class Part:
    """A Jinja text of a template or catalog.

    `file` and `line` say where its first line stands; `scope` tells the draws of parts of a template apart.
    `setup` is run before it, for the variables that it sets. If not `strict`, what is undefined renders as nothing
    and any value as plain Jinja prints it.
    `names` are the variables that it reads from outside, `assigned` those that it sets itself; a name that is set
    in one branch alone is in both. `tree` is what is run, setup included. `text` is set where it prints the same text
    for every row, since nothing in it is Jinja; it is not compiled then. A part is pickled as its source, and compiled
    where it arrives.
    """

    source: str
    file: str
    line: int
    scope: str = ""
    setup: "Part | None" = None
    strict: bool = True
    names: frozenset[str] = field(init=False)
    assigned: frozenset[str] = field(init=False)
    tree: jinja2.nodes.Template = field(init=False, repr=False, compare=False)
    text: str | None = field(init=False, repr=False, compare=False)
    _mutates: bool = field(init=False)
    _template: jinja2.Template = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        env = environment(self.strict)
        try:
            tree = sandbox.parse(env, self.source, self.scope)
            if self.setup is not None:
                tree = sandbox.after(self.setup.tree, tree)
            object.__setattr__(self, "tree", tree)
            found, plain = sandbox.every(tree), sandbox.plain_text(tree)
            object.__setattr__(self, "text", plain)
            object.__setattr__(self, "names", sandbox.variables(env, tree, found) if plain is None else frozenset())
            object.__setattr__(self, "assigned", sandbox.assigned(found))
            object.__setattr__(self, "_mutates", sandbox.mutates(found))
            if plain is None:
                object.__setattr__(self, "_template", sandbox.compile_template(env, tree, self._name))
        except jinja2.TemplateSyntaxError as error:
            raise self._refused(error) from None
        except ValueError as error:
            # a number of more digits than Python converts
            raise TemplateError(visible(str(error)), where=f"{self.file}:{self.line}") from None
        except (RecursionError, MemoryError, SyntaxError, OverflowError):
            raise TemplateError("too deeply nested to compile", where=f"{self.file}:{self.line}") from None

    @property
    def _name(self) -> str:
        return self.scope.rpartition("/")[2]

    def _refused(self, error: jinja2.TemplateSyntaxError) -> TemplateError:
        return TemplateError(visible(error.message or "not valid Jinja"), where=self.at(error.lineno or 1))

    def at(self, line: int) -> str:
        """Return ``file:line`` of a line of the tree, counted from 1, in the setup from `sandbox.SETUP_LINES`."""
        if line > sandbox.SETUP_LINES and self.setup is not None:
            return self.setup.at(line - sandbox.SETUP_LINES)
        return f"{self.file}:{self.line + line - 1}"

    def where(self, name: str) -> str:
        """Return ``file:line`` of the first use of a name."""
        return self.at(sandbox.first_line(self.tree, name))

    def __reduce__(self) -> tuple[object, ...]:
        return Part, (self.source, self.file, self.line, self.scope, self.setup, self.strict)

    def compiled_at(self, line: int) -> str:
        """Return ``file:line`` of a line of the Python that Jinja made of the part."""
        return self.at(self._template.get_corresponding_lineno(line))

    def render(self, row: Row, draw: int = 0) -> str:
        """Return the text for one row.

        Raises:
            TemplateError: the template fails on this row; with the line in the file, without the row's name.
        """
        return self.render_known(known(row, draw, self.strict))

    def render_known(self, variables: Row, marked: bool = False) -> str:
        """Return what `render` does, given what `known` says of the row; `marked`: with the marks of `sandbox`."""
        if self.text is not None:
            return self.text
        template = self._marking if marked else self._template
        try:
            # shared: not copied once more
            context = template.new_context(self._own(variables), shared=True)
            return "".join(template.root_render_func(context))
        except Exception as error:
            raise self._failed(error) from None

    @functools.cached_property
    def _marking(self) -> jinja2.Template:
        return sandbox.compile_template(sandbox.marking(self.strict), self.tree, self._name)

    def _own(self, row: Row) -> dict[str, object]:
        """Return the row, copied where the template changes what it is given."""
        if not self._mutates:
            return row if isinstance(row, dict) else dict(row)
        return {name: _copy(value) if name in self.names else value for name, value in row.items()}

    def _failed(self, error: Exception) -> TemplateError:
        message = visible(str(error)) or type(error).__name__
        if isinstance(error, MemoryError):
            message = OUT_OF_MEMORY
        return TemplateError(message, where=self.at(_line_in_template(error)))


@dataclass(frozen=True)
class Expression:
    """One Jinja expression, ``{{ … }}``, whose value is taken and not its text."""

    part: Part
    _compiled: TemplateExpression = field(init=False)

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "_compiled", self._compile())
        except jinja2.TemplateSyntaxError as error:
            raise self.part._refused(error) from None

    def __reduce__(self) -> tuple[object, ...]:
        return Expression, (self.part,)

    def compiled_at(self, line: int) -> str:
        """Return ``file:line`` of a line of the Python that Jinja made of the expression."""
        return self.part.at(self._compiled._template.get_corresponding_lineno(line))

    def _compile(self) -> TemplateExpression:
        return sandbox.compile_expression(environment(self.part.strict), self.part.source)

    @classmethod
    def parse(cls, text: str, file: str, line: int, strict: bool = True) -> "Expression":
        """Read an expression. Raises TemplateError if the text is not exactly one ``{{ … }}``."""
        inner = text.strip()
        if not is_expression(inner):
            raise TemplateError(
                f"{quoted(text)} is not one expression",
                where=f"{file}:{line}",
                hint="write {{ … }} around all of it",
            )
        return cls(Part(inner, file, line, strict=strict))

    @property
    def names(self) -> frozenset[str]:
        """Return the names that the expression uses."""
        return self.part.names

    def value(self, row: Row) -> object:
        """Return the value for one row. Raises TemplateError without the row's name."""
        try:
            found: object = self._compiled(self.part._own(row))
        except Exception as error:
            raise self.part._failed(error) from None
        if isinstance(found, jinja2.Undefined):
            raise TemplateError(f"{self.part.source} is undefined", where=f"{self.part.file}:{self.part.line}")
        if not isinstance(found, str | int | float | list | tuple | dict | range | None):
            raise TemplateError(
                f"{self.part.source} is a {type(found).__name__}",
                where=f"{self.part.file}:{self.part.line}",
                hint="write () after a method's name, and `| list` after what goes over items",
            )
        return found


@dataclass(frozen=True)
class SplitText:
    """A Jinja text that holds a list of words between separators; whitespace around each goes.

    A separator in the data is no separator: it stays part of its word.
    """

    part: Part
    separator: str

    @property
    def names(self) -> frozenset[str]:
        """Return the names that the text uses."""
        return self.part.names

    def value(self, row: Row, draw: int) -> list[str]:
        """Return the words for one row. Raises TemplateError without the row's name."""
        guarded = {name: _replaced(row[name], self.separator, self.stand_in) for name in self.names if name in row}
        return [self.plain(word.strip()) for word in self.part.render(guarded, draw).split(self.separator)]

    @property
    def stand_in(self) -> str:
        """Return what a separator in the data is while the text is cut.

        It has a character for each of the separator's, so that what counts or cuts characters does the same.
        """
        return "".join(chr(_NO_CHARACTER + index) for index in range(len(self.separator)))

    def plain(self, word: str) -> str:
        """Return a word with the separator for its stand-in, or for what a template left of that."""
        return word.translate(str.maketrans(self.stand_in, self.separator))

    def compiled_at(self, line: int) -> str:
        """Return ``file:line`` of a line of the Python that Jinja made of the text."""
        return self.part.compiled_at(line)


def _replaced(value: object, old: str, new: str) -> object:
    """Return a value with one text for another in all its texts."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, list):
        return [_replaced(each, old, new) for each in value]
    if isinstance(value, dict):
        return {key: _replaced(each, old, new) for key, each in value.items()}
    return value


def known(row: Row, draw: int, strict: bool) -> dict[str, object]:
    """Return all that the parts of a template know while they run on a row: Jinja's functions, its values, its draw."""
    return {**environment(strict).globals, **row, sandbox.DRAW: draw}


def is_expression(text: str) -> bool:
    """Whether a catalog text is Jinja rather than the name of a column."""
    inner = text.strip()
    return inner.startswith("{{") and inner.endswith("}}")


@functools.cache
def environment(strict: bool = True) -> sandbox.Sandbox:
    """Return the one environment of its sort in this process."""
    return sandbox.Sandbox(strict)


def _line_in_template(error: Exception) -> int:
    """Return the line in a template's text where an error was raised.

    Jinja rewrites the traceback of a template, but leaves that of an expression with the lines of its Python.
    """
    line, trace = 1, error.__traceback__
    while isinstance(trace, TracebackType):
        if trace.tb_frame.f_code.co_filename.startswith("<template "):
            template = trace.tb_frame.f_globals.get("__jinja_template__")
            line = template.get_corresponding_lineno(trace.tb_lineno) if template else trace.tb_lineno
        trace = trace.tb_next
    return line


def _copy(value: object) -> object:
    """Return a copy of plain data: much faster than `copy.deepcopy`, which asks each value how it is copied."""
    if isinstance(value, list):
        return [_copy(each) for each in value]
    if isinstance(value, tuple):
        return tuple(_copy(each) for each in value)
    if isinstance(value, dict):
        return {key: _copy(each) for key, each in value.items()}
    return value

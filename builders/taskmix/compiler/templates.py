"""A template, compiled: known from its text and the columns of its rows, before any row is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl
from jinja2 import nodes

from taskmix.compiler import methods, rules
from taskmix.compiler.expressions import EXPRESSIONS, data_of
from taskmix.compiler.scopes import Scope, TooLargeError
from taskmix.compiler.statements import STATEMENTS
from taskmix.compiler.translator import Bound, Facts, RefusedAtError, Rules, Translator
from taskmix.compiler.values import (
    BOOL,
    FLOAT,
    INT,
    TEXT,
    Any_,
    Fixed,
    ListOf,
    RefusedError,
    StructOf,
    Type,
    Value,
    column,
    constant,
    is_constant,
    list_of,
    refuse,
)
from taskmix.templates import sandbox
from taskmix.templates.files import Template
from taskmix.templates.parts import Expression, Part, SplitText
from taskmix.templates.rows import Alternatives
from taskmix.templates.rowwise import ALTERNATIVES, RENDERED

Schema = Mapping[str, pl.DataType]
_MOST_TEXT = 10_000_000
_MOST_MADE = 2**30
_MOST_PARTS = 24
_PARTS = ("instruction", "input", "output")
_LABEL_NAMES = frozenset(("label", "choices"))
NO_FACTS = Facts()
_RULES = Rules(EXPRESSIONS, STATEMENTS)
_TYPES = {**RENDERED, **ALTERNATIVES}


@dataclass(frozen=True)
class RowWise:
    """A template that Jinja renders row by row: why, and where its file says so."""

    reason: str
    where: str

    @property
    def line(self) -> int:
        """Return the line in the template's file."""
        return int(self.where.rpartition(":")[2])


@dataclass(frozen=True)
class Vectorised:
    """A template as steps on a frame.

    `columns` maps what is rendered to the column that holds it; `certain` are those of them that a row always has,
    so that a null there means that only Jinja can tell.
    """

    scope: Scope
    columns: Mapping[str, str]
    certain: frozenset[str]

    def run(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return what is rendered of every row, with `known` (Boolean): false where only Jinja can tell.

        Args:
            rows: the template's variables, with `draw`.
        """
        pending, done, made = [rows], [self._nothing(0)], 0
        while pending:
            part = pending.pop()
            found = self._try(part) if made <= _MOST_MADE and len(done) <= _MOST_PARTS else self._nothing(len(part))
            if found is None:
                half = len(part) // 2
                pending += [part.slice(half), part.head(half)]
                continue
            made += int(found.estimated_size())
            done.append(found)
        return pl.concat(done)

    def _try(self, rows: pl.DataFrame) -> pl.DataFrame | None:
        """Return what is rendered of rows; None if they are too many at once."""
        try:
            done = self.scope.run(rows)
        except TooLargeError:
            return self._nothing(1) if len(rows) == 1 else None
        certain = [pl.col(self.columns[name]).is_not_null() for name in sorted(self.certain)]
        # whether a longer text is too long is for Jinja's limits to say
        short = [pl.col(self.columns[name]).str.len_bytes() <= _MOST_TEXT for name in _PARTS]
        made = done.select(
            *(pl.col(name).alias(made) for made, name in self.columns.items()),
            pl.all_horizontal([*certain, *short]).alias("known"),
        )
        if made["known"].all():
            return made
        return made.with_columns(pl.when("known").then(pl.all().exclude("known")).name.keep())

    def _nothing(self, rows: int) -> pl.DataFrame:
        """Return so many rows that are not known."""
        schema = {**{name: _TYPES[name] for name in self.columns}, "known": pl.Boolean()}
        return pl.DataFrame(schema=schema).clear(rows).with_columns(known=pl.lit(False))

    def expressions(self) -> list[pl.Expr]:
        """Return every expression of the steps."""
        return list(self.scope.expressions())


def compile_template(
    template: Template, schema: Schema, facts: Facts = NO_FACTS, alternatives: Alternatives | None = None
) -> Vectorised | RowWise:
    """Compile a template for rows with these columns.

    Args:
        template: the template.
        schema: the columns of the rows that it will see.
        facts: what is known of those columns in all rows.
        alternatives: also render the output for each label or accepted answer.
    """
    return _Compiler(template, schema, facts, alternatives).compile()


def outcome(template: Template, schema: Schema, facts: Facts = NO_FACTS) -> Vectorised | RowWise:
    """Return whether a template compiles, or why not and where."""
    return compile_template(template, schema, facts)


@dataclass(frozen=True)
class VectorisedValue:
    """An expression of a catalog as steps on a frame: the column of its value, and that of whether it is known."""

    scope: Scope
    value: str
    known: str

    def run(self, rows: pl.DataFrame) -> pl.Series | None:
        """Return the value of every row; None if only Jinja can tell one of them."""
        try:
            done = self.scope.run(rows)
        except TooLargeError:
            return None
        return done[self.value] if done[self.known].all() else None


def compile_expression(expression: Expression, schema: Schema) -> VectorisedValue | RowWise:
    """Compile an expression whose value is taken, for rows with these columns."""
    part, root = expression.part, Scope()
    output = part.tree.body[0]
    assert isinstance(output, nodes.Output), output
    translator = Translator(schema, NO_FACTS, part.strict, root, root, _mutated([part.tree]), _RULES)
    try:
        found = column(translator.value(output.nodes[0]))
        value, known = _plain_value(found), [*translator.pieces, _certain(found)]
    except RefusedAtError as refused:
        return RowWise(str(refused), part.at(refused.line))
    except (RefusedError, RecursionError) as error:
        return RowWise(str(error) or "too deeply nested", part.at(1))
    sure = pl.all_horizontal([each.expr.is_not_null() for each in known if isinstance(each, Value)])
    made = VectorisedValue(root, root.keep(value.alias(":value")), root.keep(sure.alias(":known")))
    root.prune({made.value, made.known})
    return made


def _plain_value(found: Value) -> pl.Expr:
    """Return the expression of a value that a column can hold as it is. Raises RefusedError for others."""
    kind = found.type.item if isinstance(found.type, ListOf) else found.type
    if found.lazy or kind not in (TEXT, INT, BOOL, FLOAT):
        refuse(f"a value of type {found.type}")
    return found.expr


def _certain(found: Value) -> Value:
    """Return a value that is null in the rows whose value is undefined, unknown or no finite number."""
    bad = found.is_undefined() | found.is_unknown()
    if found.type == FLOAT:
        bad = bad | ~found.expr.is_finite().fill_null(True)
    elif isinstance(found.type, ListOf) and found.type.item == FLOAT:
        bad = bad | ~found.expr.list.eval(pl.element().is_finite().fill_null(True)).list.all().fill_null(True)
    return Value(pl.when(~bad).then(pl.lit("")), TEXT, unknown=True)


@dataclass
class _Compiler:
    """Compiles the parts of one template, one after the other, in one root scope."""

    template: Template
    schema: Schema
    facts: Facts
    alternatives: Alternatives | None
    part: Part | None = None

    def compile(self) -> Vectorised | RowWise:
        root = Scope()
        try:
            made = self._made(root)
        except RefusedAtError as refused:
            part = self.part or self.template.instruction
            return RowWise(str(refused), part.at(refused.line))
        except (RefusedError, RecursionError) as error:
            reason = str(error) if isinstance(error, RefusedError) else "too deeply nested"
            return RowWise(reason, self.template.where)
        columns = {name: root.keep(value.expr.alias(f":{name}")) for name, value in made.items()}
        root.prune(set(columns.values()))
        certain = frozenset(name for name, value in made.items() if value.none is False)
        return Vectorised(root, columns, certain)

    def _made(self, root: Scope) -> Mapping[str, Value]:
        """Add the steps of all parts; return what they make."""
        for name in _PARTS:
            self.part = self._part(name)
            if late := _set_late(self.part.tree.body) & self.schema.keys():
                refuse(f"`{min(late)}` is read in a block before it is set")
        base = self._translator(root)
        self._set_choices(base)
        after_setup = self._after_setup(base)
        texts = {name: self._text(self._part(name), after_setup, name) for name in _PARTS}
        made = dict(texts)
        if self.alternatives is not None:
            made |= self._alternatives(after_setup, texts["output"])
        return made

    def _part(self, name: str) -> Part:
        part = getattr(self.template, name)
        assert isinstance(part, Part)
        return part

    def _translator(self, root: Scope) -> Translator:
        trees = [self._part(name).tree for name in _PARTS]
        if isinstance(self.template.choices, SplitText):
            trees.append(self.template.choices.part.tree)
        return Translator(
            self.schema, self.facts, self.template.instruction.strict, root, root, _mutated(trees), _RULES
        )

    def _set_choices(self, base: Translator) -> None:
        """Set `choices` to the template's own words, if it has any."""
        choices = self.template.choices
        if choices is None:
            return
        if isinstance(choices, tuple):
            value: Any_ = constant(list(choices))
        elif isinstance(choices, Expression):
            value = self._choices_of_expression(choices, base)
        else:
            value = self._split(choices, base)
        base.bind("choices", value)

    def _choices_of_expression(self, choices: Expression, base: Translator) -> Any_:
        self.part = choices.part
        output = choices.part.tree.body[0]
        assert isinstance(output, nodes.Output)
        value = base.value(output.nodes[0])
        if isinstance(value, Fixed) and is_constant(value):
            return value
        found = column(value)
        if not isinstance(found.type, ListOf) or found.type.item != TEXT or found.lazy:
            refuse("choices that are no list of texts")
        clean = found.expr
        if found.type.nullable:
            clean = pl.when(~found.expr.list.eval(pl.element().is_null()).list.any()).then(found.expr)
        return Value(clean, list_of(TEXT), unknown=found.may_be_null or found.type.nullable)

    def _split(self, choices: SplitText, base: Translator) -> Any_:
        self.part = choices.part
        words_apart = self._words(choices, base)
        if words_apart is not None:
            return words_apart
        guarded = base.fork()
        for name in choices.names & self.schema.keys():
            value = _guarded(data_of(base.load(name)), choices.separator, choices.stand_in)
            guarded.names[name] = Bound(base.scope.store(value), base.scope)
        text = self._text(choices.part, guarded, None)
        if isinstance(text.constant, str):
            return constant([choices.plain(word.strip()) for word in text.constant.split(choices.separator)])
        words = column(methods.split(base.context, text, constant(choices.separator)))
        stripped = pl.element().str.strip_chars(rules.WHITESPACE)
        back = stripped.str.replace_many(list(choices.stand_in), list(choices.separator))
        return replace(words, expr=words.expr.list.eval(back))

    def _words(self, choices: SplitText, base: Translator) -> Any_ | None:
        """Return the words of a text that only prints columns between its marks: cut where it is written."""
        pieces = [
            piece
            for node in choices.part.tree.body
            for piece in (node.nodes if isinstance(node, nodes.Output) else [node])
        ]
        if not all(isinstance(piece, nodes.TemplateData | nodes.Name) for piece in pieces):
            return None
        if not set(choices.part.source).isdisjoint(choices.stand_in):
            return None
        words, doubts = [base.fork()], []
        words[0].pieces = []
        for piece in pieces:
            if isinstance(piece, nodes.TemplateData):
                first, *rest = piece.data.split(choices.separator)
                words[-1].pieces.append(first)
                for each in rest:
                    words.append(base.fork())
                    words[-1].pieces.append(each)
                continue
            value = column(base.scope.store(rules.text(base.value(piece), base.strict)))
            words[-1].pieces.append(value)
            doubts.append(_doubt(base.scope, value.expr, choices))
        texts = [word.text() for word in words]
        whole = tuple(_stripped(text) for text in texts)
        if not doubts:
            return Fixed(whole)
        sure = Value(pl.when(~pl.any_horizontal(doubts)).then(pl.lit("")), TEXT, unknown=True)
        base.pieces.append(column(base.scope.store(sure)))
        return Fixed(whole)

    def _after_setup(self, base: Translator) -> Translator:
        """Return a translator that has run the template's setup."""
        self.part = self.template.instruction
        started = base.fork()
        started.pieces = list(base.pieces)
        setup = [node for node in self.part.tree.body if node.lineno > sandbox.SETUP_LINES]
        started.run(setup)
        return started

    def _text(self, part: Part, start: Translator, name: str | None) -> Value:
        """Return the text of a part, stripped if the template says so."""
        self.part = part
        own = start.fork()
        # what fails in setup or choices makes every part fail
        own.pieces = [piece for piece in start.pieces if isinstance(piece, Value)] if name else []
        own.run([node for node in part.tree.body if node.lineno <= sandbox.SETUP_LINES])
        text = own.text()
        return _stripped(text) if self.template.strip and name is not None else text

    def _alternatives(self, start: Translator, output: Value) -> Mapping[str, Value]:
        assert self.alternatives is not None
        names = self.template.output.names
        nothing = {
            "choices": Value(pl.lit(None, dtype=pl.List(pl.String)), list_of(TEXT), none=True),
            "answer": Value(pl.lit(None, dtype=pl.Int64), INT, none=True),
        }
        only = Value(pl.concat_list(output.expr), list_of(TEXT), unknown=output.unknown)
        if self.alternatives.by_label and "label" in names and names <= _LABEL_NAMES:
            label = column(_plain(start.load("label")))
            if label.type != INT:
                refuse("a label that is no number")
            choices = column(_plain(start.load("choices")))
            turns = methods.range_(start.context, Value(choices.expr.list.len().cast(pl.Int64), INT))
            found = self._for_each(start, replace(column(turns), lazy=False), "label")
            return {"choices": found, "answer": label, "references": only}
        answer = self.alternatives.answer
        if answer is not None and answer[0] in names:
            accepted = column(_plain(start.load(answer[1])))
            found = self._for_each(start, Value(accepted.expr, accepted.type), answer[0])
            several = pl.when(accepted.expr.list.len() == 0).then(only.expr).otherwise(found.expr)
            return {**nothing, "references": Value(several, list_of(TEXT), unknown=True)}
        if self.alternatives.by_word and self.template.choices is not None:
            words = column(_plain(start.load("choices")))
            answer_of = column(methods.list_index(start.context, words, output))
            return {"choices": words, "answer": replace(answer_of, none=True, unknown=False), "references": only}
        return {**nothing, "references": only}

    def _for_each(self, start: Translator, items: Value, name: str) -> Value:
        """Return the output rendered with a variable set to each of a list's items."""

        def rule(inside: Translator, item: Value) -> Value:
            inside.bind(name, item)
            again = inside.fork()
            again.run([node for node in self.template.output.tree.body if node.lineno > sandbox.SETUP_LINES])
            return self._text(self.template.output, again, "output")

        return start.each_in_scope(items, rule)


def _guarded(value: Any_, mark: str, stand_in: str) -> Any_:
    """Return a column's value with a stand-in for a mark in all its texts."""
    if isinstance(value, Fixed):
        return Fixed(tuple(_guarded(each, mark, stand_in) for each in value.items))
    found = column(value)
    if isinstance(found.constant, str):
        return constant(found.constant.replace(mark, stand_in))
    return replace(found, expr=_replaced(found.expr, found.type, mark, stand_in))


def _replaced(expr: pl.Expr, kind: Type, mark: str, stand_in: str) -> pl.Expr:
    if kind == TEXT:
        return expr.str.replace_all(mark, stand_in, literal=True)
    if not _has_text(kind):
        return expr
    if isinstance(kind, ListOf):
        return expr.list.eval(_replaced(pl.element(), kind.item, mark, stand_in))
    assert isinstance(kind, StructOf), kind
    fields = (_replaced(expr.struct.field(name), each, mark, stand_in).alias(name) for name, each in kind.fields)
    return pl.when(expr.is_not_null()).then(pl.struct(*fields))


def _has_text(kind: Type) -> bool:
    if isinstance(kind, ListOf):
        return _has_text(kind.item)
    return any(_has_text(each) for _, each in kind.fields) if isinstance(kind, StructOf) else kind == TEXT


def _stripped(text: Value) -> Value:
    """Return text without the whitespace around it."""
    if isinstance(text.constant, str):
        return column(constant(text.constant.strip()))
    return Value(text.expr.str.strip_chars(rules.WHITESPACE), TEXT, unknown=text.unknown)


def _doubt(scope: Scope, text: pl.Expr, choices: SplitText) -> pl.Expr:
    """Return whether a text might not stand in its word as it is.

    Where it holds a stand-in, or begins or ends with part of a mark, which could make one with what stands beside it.
    """
    mark, stand_in = _any_of(choices.separator), _any_of(choices.stand_in)
    edges = f"^{mark}|{mark}$"
    likely = pl.col(scope.keep(text.str.contains(f"{edges}|{stand_in}")))
    # whole marks are looked for in these few texts only
    hidden = pl.when(likely).then(text).str.replace_all(choices.separator, choices.stand_in, literal=True)
    sure = text.str.contains(stand_in) | hidden.str.contains(edges)
    return pl.when(likely).then(sure).otherwise(likely)


def _any_of(chars: str) -> str:
    return "[" + "".join(f"\\x{{{ord(char):x}}}" for char in dict.fromkeys(chars)) + "]"


def _plain(value: object) -> Any_:
    if not isinstance(value, Value | Fixed):
        refuse("variables of alternatives that are no plain values")
    return value


_INNER = (nodes.For, nodes.With, nodes.AssignBlock)


def _set_late(body: Sequence[nodes.Node]) -> set[str]:
    """Return the names that a block inside reads before they are set: to Jinja they are undefined there.

    What is read outside of such a block first keeps its value from the row until it is set.
    """
    seen: set[str] = set()
    early: set[str] = set()
    late: set[str] = set()

    def visit(node: nodes.Node) -> None:
        if isinstance(node, nodes.Name):
            if node.ctx == "store" and node.name in early - seen:
                late.add(node.name)
            seen.add(node.name)
            return
        # what is assigned is read first
        children = sorted(node.iter_child_nodes(), key=lambda child: child is getattr(node, "target", None))
        if not isinstance(node, _INNER):
            for child in children:
                visit(child)
            return
        if isinstance(node, nodes.For):
            # what it goes over is read outside of it
            visit(node.iter)
        early.update(name.name for name in node.find_all(nodes.Name) if name.name not in seen)
        late.update(_set_late(children))
        if isinstance(node, nodes.AssignBlock):
            visit(node.target)

    for node in body:
        visit(node)
    return late


def _mutated(trees: list[nodes.Template]) -> frozenset[str]:
    """Return the names of lists and mappings that a template changes."""
    return frozenset(
        found.node.name
        for tree in trees
        for found in tree.find_all(nodes.Getattr)
        if found.attr in sandbox.MUTATING and isinstance(found.node, nodes.Name)
    )

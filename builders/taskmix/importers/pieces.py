"""Jinja source as a tree of pieces that print back as they stood: text, `{{ … }}`, tags, and blocks with branches.

Jinja's own tree forgets how a template was written; what an importer writes is for people to read and edit.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Never

import jinja2
from jinja2 import nodes
from jinja2.meta import find_undeclared_variables

from taskmix.templates.parts import environment
from taskmix.templates.sandbox import MUTATING

Token = tuple[int, str, str]
MAX_CHARACTERS = 20_000
"""The longest template of the public pool has 2,849."""

_ENDS = {name: f"end{name}" for name in ("if", "for", "set", "with", "filter", "macro", "call", "block", "autoescape")}
_BRANCHES = frozenset(("elif", "else"))
_environment = environment(strict=False)


class PieceError(Exception):
    """A piece of Jinja that cannot be read or taken apart; with its line, counted from 1."""

    def __init__(self, message: str, line: int) -> None:
        self.line = line
        super().__init__(message)


@dataclass(frozen=True)
class Text:
    """Text outside of tags."""

    source: str
    line: int


@dataclass(frozen=True)
class Code:
    """`{{ … }}`, a comment or a raw block (`keyword` empty), or a tag that has no body."""

    source: str
    line: int
    keyword: str = ""


@dataclass(frozen=True)
class Branch:
    """A tag and what stands between it and the next one of its block."""

    tag: Code
    body: "tuple[Piece, ...]"


@dataclass(frozen=True)
class Block:
    """A tag with a body, `{% if %}` with all its branches."""

    branches: tuple[Branch, ...]
    end: Code

    @property
    def source(self) -> str:
        """Return the block as it stood."""
        return "".join(branch.tag.source + join(branch.body) for branch in self.branches) + self.end.source

    @property
    def line(self) -> int:
        """Return the line of its first tag."""
        return self.branches[0].tag.line

    @property
    def keyword(self) -> str:
        """Return the word after its first `{%`."""
        return self.branches[0].tag.keyword

    def with_bodies(self, bodies: "Iterable[Iterable[Piece]]") -> "Block":
        """Return the block with other bodies, one a branch."""
        pairs = zip(self.branches, bodies, strict=True)
        return replace(self, branches=tuple(replace(branch, body=tuple(body)) for branch, body in pairs))


Piece = Text | Code | Block


def join(pieces: Iterable[Piece]) -> str:
    """Return the source of some pieces."""
    return "".join(piece.source for piece in pieces)


def lex(source: str) -> list[Token]:
    """Return Jinja's tokens with their lines; their texts joined are the source. Raises PieceError."""
    if len(source) > MAX_CHARACTERS:
        raise PieceError(f"is longer than {MAX_CHARACTERS:,} characters", 1)
    try:
        return list(_environment.lex(source))
    except jinja2.TemplateSyntaxError as error:
        raise PieceError(error.message or "not valid Jinja", error.lineno) from None


def renamed(source: str, variables: dict[str, str], filters: dict[str, str]) -> str:
    """Return source with variables and filters under other names; text, strings and attributes stay as they are."""
    tokens, changed = lex(source), []
    solid = [token for token in tokens if token[1] != "whitespace"]
    place = 0
    for token in tokens:
        _, kind, text = token
        if kind == "whitespace":
            changed.append(text)
            continue
        before = solid[place - 1][2] if place else ""
        after = solid[place + 1][2] if place + 1 < len(solid) else ""
        place += 1
        if kind != "name" or before == ".":
            changed.append(text)
        elif before == "|":
            changed.append(filters.get(text, text))
        else:
            # `name=` is an argument, unless it stands in `{% set name = %}`
            argument = after == "=" and before in ("(", ",")
            changed.append(text if argument else variables.get(text, text))
    return "".join(changed)


def names(source: str) -> frozenset[str]:
    """Return the variables that source names, its own and others'."""
    return frozenset(name.name for name in parse(source).find_all(nodes.Name))


def read(source: str) -> tuple[Piece, ...]:
    """Read source into pieces. Raises PieceError where tags do not match."""
    flat = _flat(lex(source))
    body, last = _body(flat)
    if last is not None:
        raise PieceError(f"`{last.keyword}` ends nothing", last.line)
    return tuple(body)


def _flat(tokens: Sequence[Token]) -> Iterator[Text | Code]:
    """Yield texts and whole tags."""
    inside: list[Token] = []
    for token in tokens:
        kind = token[1]
        if not inside and kind == "data":
            yield Text(token[2], token[0])
            continue
        inside.append(token)
        if kind in ("variable_end", "block_end", "comment_end", "raw_end"):
            source = "".join(text for _, _, text in inside)
            word = next((text for _, found, text in inside if found == "name"), "") if kind == "block_end" else ""
            bare = word == "set" and all(text != "=" for _, _, text in inside)
            yield Code(source, inside[0][0], f"{word}…" if bare else word)
            inside = []
    if inside:
        raise PieceError("a tag does not end", inside[0][0])


def _body(flat: Iterator[Text | Code]) -> tuple[list[Piece], Code | None]:
    """Read pieces up to a tag that continues or ends the block around them; return that tag."""
    found: list[Piece] = []
    for piece in flat:
        word = piece.keyword.removesuffix("…") if isinstance(piece, Code) else ""
        if isinstance(piece, Code) and (word in _BRANCHES or word in _ENDS.values()):
            return found, piece
        opens = isinstance(piece, Code) and word in _ENDS and (word != "set" or piece.keyword == "set…")
        found.append(_block(replace(piece, keyword=word), flat) if opens else piece)  # type: ignore[arg-type]
    return found, None


def _block(first: Code, flat: Iterator[Text | Code]) -> Block:
    branches: list[Branch] = []
    tag = first
    while True:
        body, last = _body(flat)
        branches.append(Branch(tag, tuple(body)))
        if last is None:
            raise PieceError(f"`{first.keyword}` does not end", first.line)
        if last.keyword == _ENDS[first.keyword]:
            return Block(tuple(branches), last)
        if last.keyword not in _BRANCHES:
            raise PieceError(f"`{last.keyword}` inside `{first.keyword}`", last.line)
        tag = last


def walk(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Yield pieces and all inside them."""
    for piece in pieces:
        yield piece
        if isinstance(piece, Block):
            for branch in piece.branches:
                yield from walk(branch.body)


def silent(pieces: Iterable[Piece]) -> list[Piece]:
    """Return pieces without their text, and without what they only print."""
    kept: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Block) and piece.keyword != "set":
            bodies = [silent(branch.body) for branch in piece.branches]
            if any(bodies):
                kept.append(piece.with_bodies(bodies))
        elif isinstance(piece, Block) or (isinstance(piece, Code) and effects([piece]).changes):
            kept.append(piece)
    return kept


@dataclass(frozen=True)
class Effects:
    """What pieces do: names that they read from outside, set, or change in place; whether they print or draw.

    `prints` is about more than whitespace, `spaces` about whitespace.
    """

    reads: frozenset[str]
    stores: frozenset[str]
    mutates: frozenset[str]
    prints: bool
    spaces: bool
    draws: bool

    @property
    def changes(self) -> frozenset[str]:
        """Return the names whose values they change."""
        return self.stores | self.mutates


def effects(pieces: Iterable[Piece]) -> Effects:
    """Work out what pieces do. Raises PieceError if they are not valid Jinja."""
    return _effects(join(pieces))


@functools.lru_cache(maxsize=4096)
def _effects(source: str) -> Effects:
    tree = parse(source)
    stores = frozenset(_stores(tree.body))
    mutated = list(_mutated(tree))
    for called in tree.find_all((nodes.Filter, nodes.Test)):
        known = _environment.filters if isinstance(called, nodes.Filter) else _environment.tests
        if called.name not in known:
            what = type(called).__name__.lower()
            raise PieceError(f"uses the {what} `{called.name}`, which templates may not use", called.lineno)
    reads = frozenset(find_undeclared_variables(tree))
    # what is changed through a loop's variable may be anything that the loop goes over
    roots = frozenset(name for name in mutated if name in reads | stores)
    mutates = roots if len(roots) == len(set(mutated)) else roots | reads
    draws = any(each.name in ("choice", "random") for each in tree.find_all(nodes.Filter))
    printed = list(_printed(tree))
    prints = not all(_is_silent(each) for each in printed)
    spaces = any(isinstance(each, nodes.TemplateData) and each.data for each in printed)
    return Effects(reads, stores, mutates, prints, spaces, draws)


def parse(source: str) -> nodes.Template:
    """Return Jinja's tree. Raises PieceError."""
    try:
        tree = _environment.parse(source)
    except jinja2.TemplateSyntaxError as error:
        raise PieceError(error.message or "not valid Jinja", error.lineno) from None
    except (RecursionError, ValueError) as error:
        raise PieceError("too deeply nested" if isinstance(error, RecursionError) else str(error), 1) from None
    return tree


def _stores(body: Iterable[nodes.Node]) -> Iterator[str]:
    """Yield the names set in the scope of a body: what loops set stays inside them."""
    for node in body:
        if isinstance(node, nodes.Assign | nodes.AssignBlock):
            yield from (name.name for name in node.target.find_all(nodes.Name))
            if isinstance(node.target, nodes.Name):
                yield node.target.name
        elif isinstance(node, nodes.If):
            yield from _stores([*node.body, *node.elif_, *node.else_])


def _mutated(tree: nodes.Template) -> Iterator[str]:
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Getattr) and call.node.attr in MUTATING:
            yield from _root(call.node.node)
    for reference in tree.find_all(nodes.NSRef):
        yield reference.name


def _root(node: nodes.Node) -> Iterator[str]:
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        node = node.node
    if isinstance(node, nodes.Name):
        yield node.name


def _printed(tree: nodes.Template) -> Iterator[nodes.Expr]:
    in_set = {id(each) for block in tree.find_all(nodes.AssignBlock) for each in block.find_all(nodes.Output)}
    for output in tree.find_all(nodes.Output):
        if id(output) not in in_set:
            yield from output.nodes


def _is_silent(node: nodes.Expr) -> bool:
    """Whether a printed value is surely nothing: whitespace, or a null made empty (`append(…) or ""`)."""
    if isinstance(node, nodes.TemplateData):
        return not node.data.strip()
    if isinstance(node, nodes.Or) and node.right == nodes.Const(""):
        return _is_null(node.left)
    if isinstance(node, nodes.Filter) and node.name in ("default", "d") and node.node is not None:
        return node.args == [nodes.Const(""), nodes.Const(True)] and _is_null(node.node)
    return False


def _is_null(node: nodes.Node) -> bool:
    """Whether a value is surely null: what methods give that only change a list or mapping."""
    called = node.node if isinstance(node, nodes.Call) else None
    return isinstance(called, nodes.Getattr) and called.attr in MUTATING - {"pop"}


def refuse(message: str, piece: Piece) -> Never:
    """Raise PieceError at a piece."""
    raise PieceError(message, piece.line)

"""promptsource's `|||`, cut in a template's source: what is before it is the instruction, what is after the output.

promptsource cuts the rendered text. The cut in the source gives the same parts whatever the data holds, if every
part still sees the variables that statements of the other one set: those move, or are repeated.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from taskmix.importers.naming import unique
from taskmix.importers.pieces import (
    Block,
    Code,
    Effects,
    Piece,
    PieceError,
    Text,
    effects,
    join,
    names,
    read,
    refuse,
    silent,
    walk,
)

MARK = "|||"


@dataclass(frozen=True)
class Parts:
    """The Jinja of a template's parts; `setup` is what both need."""

    setup: str
    instruction: str
    output: str


@dataclass(frozen=True)
class _Halves:
    setup: tuple[Piece, ...]
    before: tuple[Piece, ...]
    after: tuple[Piece, ...]


def cut(source: str) -> Parts:
    """Cut a template's source at its one `|||`, or at the one of each branch of a condition.

    Where no branch with a `|||` is taken, the output is empty, and the row is to be dropped, as promptsource does.

    Raises:
        PieceError: it has none, or more than one on a path, or one where a text cannot be cut; with the line.
    """
    try:
        return _parts(source)
    except RecursionError:
        raise PieceError("is too deeply nested", 1) from None


def _parts(source: str) -> Parts:
    pieces = read(source)
    if not any(isinstance(piece, Text) and MARK in piece.source for piece in walk(pieces)):
        refuse("has no `|||`: promptsource drops every row", pieces[0] if pieces else Text("", 1))
    halves = _cut(pieces, set(names(source)), top=True)
    setup = "".join(piece.source for piece in _lines(halves.setup)).rstrip()
    return Parts(setup, _written(halves.before), _written(halves.after))


def _cut(body: Sequence[Piece], taken: set[str], *, top: bool = False, first: bool = True) -> _Halves:
    """Cut a body; `taken` are the names in use, and nothing is printed before it if it is `first`.

    Below the top statements move to the setup only if they draw: else they are repeated.
    """
    places = [index for index, piece in enumerate(body) if _has_mark([piece])]
    piece, before, after = body[places[0]], tuple(body[: places[0]]), tuple(body[places[0] + 1 :])
    if len(places) > 1 or (isinstance(piece, Text) and piece.source.count(MARK) > 1):
        refuse("has more than one `|||` on a path: promptsource drops such rows", body[places[-1]])
    if isinstance(piece, Text):
        left, _, right = piece.source.partition(MARK)
        # here one part ends and the other starts, and both are stripped
        end, start = replace(piece, source=left.rstrip()), replace(piece, source=right.lstrip())
        return _placed((*before, end), (), (start, *after), top=top, first=first)
    if not isinstance(piece, Block) or piece.keyword != "if":
        refuse(f"has `|||` inside `{piece.keyword}`, which cannot be cut", piece)
    if _asks_by_draw(piece):
        drawn_first = _draw_first(piece, taken)
        return _cut((*before, *drawn_first, *after), taken, top=top, first=first)
    uncut = piece.branches[-1].tag.keyword != "else" or not all(_has_mark(branch.body) for branch in piece.branches)
    if uncut and effects(after).prints:
        refuse("has text after a condition that holds `|||` in some of its branches only", after[0])
    inside_first = first and not any(effects([each]).prints for each in before)
    halves = [
        _cut(branch.body, taken, first=inside_first) if _has_mark(branch.body) else _Halves((), branch.body, ())
        for branch in piece.branches
    ]
    asked, answered, setup = (
        _without_empty_else(piece.with_bodies(getattr(each, part) for each in halves))
        for part in ("before", "after", "setup")
    )
    drawn = (setup,) if any(each.setup for each in halves) else ()
    return _placed((*before, asked), drawn, (answered, *after), top=top, first=first)


def _asks_by_draw(block: Block) -> bool:
    """Whether a condition itself draws at random."""
    return effects([block.with_bodies(() for _ in block.branches)]).draws


def _draw_first(block: Block, taken: set[str]) -> tuple[Piece, Piece]:
    """Return a statement that draws what a condition asks, and the condition that asks for it by name."""
    first, *others = block.branches
    asked = first.tag.source.strip()[2:-2].strip("-").strip().removeprefix("if").strip()
    name = unique("drawn", taken)
    statement = Code(f"{{% set {name} = {asked} %}}", block.line, "set")
    tag = replace(first.tag, source=first.tag.source.replace(asked, name, 1))
    named = replace(block, branches=(replace(first, tag=tag), *others))
    if _asks_by_draw(named):
        refuse("draws at random in an `elif` that holds `|||`", block)
    return statement, named


def _without_empty_else(block: Block) -> Block:
    """Return a condition without an `else` that holds nothing."""
    last = block.branches[-1]
    empty = last.tag.keyword == "else" and not join(last.body).strip()
    return replace(block, branches=block.branches[:-1]) if empty else block


def _has_mark(pieces: Sequence[Piece]) -> bool:
    return any(isinstance(piece, Text) and MARK in piece.source for piece in walk(pieces))


def _placed(
    before: tuple[Piece, ...], drawn: tuple[Piece, ...], after: tuple[Piece, ...], *, top: bool, first: bool
) -> _Halves:
    """Give the part after the cut what it needs of the statements before it.

    A statement that only the part after the cut needs moves there. One that both need moves to the setup. Where it
    also prints, or the order would change what it does, it is repeated without its text. `drawn` has already moved
    to the setup from inside the last piece.
    """
    deeds = [effects([piece]) for piece in before]
    for_setup = _needed(deeds, effects(drawn).reads)
    needed = for_setup | _needed(deeds, effects(drawn).reads | effects(after).reads)
    without_gap = needed & _without_gap(deeds, first)
    moved = _unread(deeds, without_gap - for_setup)
    both = needed - moved
    may_move = top or drawn or any(deeds[index].draws for index in both)
    shared = _movable(deeds, both & without_gap) if may_move else frozenset()
    repeated = both - shared
    if drawn and (for_setup - shared or _changes_earlier(deeds[:-1], before[-1], drawn[0], shared)):
        refuse("draws at random what both sides of `|||` use, from what it changes there", drawn[0])
    for index in repeated:
        if deeds[index].draws:
            refuse("draws at random what both sides of `|||` use, and prints it there", before[index])
    answer = silent(before[index] for index in sorted(moved | repeated))
    return _Halves(
        setup=(*silent(before[index] for index in sorted(shared)), *drawn),
        before=tuple(piece for index, piece in enumerate(before) if index not in moved | shared),
        after=(*_lines(answer), *after),
    )


def _needed(deeds: Sequence[Effects], wanted: frozenset[str]) -> frozenset[int]:
    """Return which pieces change what is wanted, directly or through others."""
    needed = frozenset[int]()
    while True:
        found = frozenset(index for index, each in enumerate(deeds) if each.changes & wanted)
        if found == needed:
            return needed
        needed = found
        wanted = wanted.union(*(deeds[index].reads for index in found))


def _without_gap(deeds: Sequence[Effects], first: bool) -> frozenset[int]:
    """Return which pieces can be taken out without a change to the text that is left, but for its ends."""
    printing = [index for index, each in enumerate(deeds) if each.prints]
    start = printing[0] if printing else len(deeds)
    end = printing[-1] if printing else -1
    return frozenset(
        index
        for index, each in enumerate(deeds)
        if not each.prints and (not each.spaces or (first and index < start) or index > end)
    )


def _unread(deeds: Sequence[Effects], candidates: frozenset[int]) -> frozenset[int]:
    """Return which of some pieces change only what no other piece reads or changes."""
    moved = candidates
    while True:
        staying = [each for index, each in enumerate(deeds) if index not in moved]
        used = frozenset[str]().union(*(each.reads | each.changes for each in staying))
        mutated = frozenset[str]().union(*(each.mutates for each in staying))
        kept = frozenset(
            index for index in moved if not deeds[index].changes & used and not deeds[index].reads & mutated
        )
        if kept == moved:
            return moved
        moved = kept


def _movable(deeds: Sequence[Effects], candidates: frozenset[int]) -> frozenset[int]:
    """Return which of some pieces may run before everything else: they overtake nothing that would tell."""
    shared = frozenset[int]()
    for index in sorted(candidates):
        if not _overtakes(deeds[:index], deeds[index], shared):
            shared |= {index}
    return shared


def _overtakes(earlier: Sequence[Effects], own: Effects, shared: frozenset[int]) -> bool:
    """Whether a piece would run before one that it changes something for, or that changes something for it."""
    return any(
        index not in shared and (own.changes & (other.reads | other.changes) or other.changes & own.reads)
        for index, other in enumerate(earlier)
    )


def _changes_earlier(earlier: Sequence[Effects], last: Piece, drawn: Piece, shared: frozenset[int]) -> bool:
    """Whether a block of draws, taken out of the last piece, would change something for what stands before it."""
    assert isinstance(last, Block)
    conditions = effects([last.with_bodies(() for _ in last.branches)])
    return _overtakes([*earlier, conditions], effects([drawn]), shared)


def _written(pieces: Sequence[Piece]) -> str:
    """Return the source of a part. Whitespace at its ends goes: imported templates strip what is rendered."""
    solid = [piece for piece in pieces if not (isinstance(piece, Text) and not piece.source.strip())]
    if len(solid) == 1 and isinstance(solid[0], Block) and solid[0].keyword == "if":
        return _spread(solid[0])
    return join(pieces).strip()


def _spread(block: Block) -> str:
    """Return a condition that is all of a part, its branches on lines of their own."""
    lines = []
    for branch in block.branches:
        lines += [branch.tag.source.strip(), _written(branch.body)]
    return "\n".join(line for line in [*lines, block.end.source.strip()] if line)


def _lines(statements: Iterable[Piece]) -> list[Piece]:
    """Return statements that print nothing, each on a line of its own."""
    return [Text(_statement(piece, "") + "\n", piece.line) for piece in statements]


def _statement(piece: Piece, indent: str) -> str:
    """Return a statement on lines of its own, without whitespace control: around it no text is kept."""
    if not isinstance(piece, Block) or piece.keyword == "set":
        return indent + (_plain(piece.source) if isinstance(piece, Code) else piece.source.strip())
    lines = []
    for branch in piece.branches:
        inner = [_statement(each, indent + "  ") for each in branch.body if each.source.strip()]
        lines += [indent + _plain(branch.tag.source), *inner]
    return "\n".join([*lines, indent + _plain(piece.end.source)])


def _plain(tag: str) -> str:
    """Return a tag without its marks of whitespace control."""
    tag = tag.strip()
    if not tag.startswith("{%"):
        return tag
    return f"{{% {tag[2:-2].removeprefix('-').removesuffix('-').strip()} %}}"

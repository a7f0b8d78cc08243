"""The steps of a compiled template: columns that are added to a frame, and loops that work on a frame of their own.

An expression cannot name the columns of another frame, so a loop is a scope: its lists are exploded to one row an
item, its body is computed there as columns, and what it makes is nested again by the lists' lengths.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import pyarrow as pa

from taskmix.compiler.values import NOTHING, TEXT, Any_, Either, Fixed, FixedMapping, Flag, Value, is_constant

# no name in a template has a colon
ROW = ":row"
MOST_ITEMS = 5_000_000
MOST_BYTES = 256 * 2**20
"""What the columns that a step reads may hold, each counted as often as the step names it."""
_MOST_SPARSE = 3
"""A text is put together in some rows alone if they are at most one in so many."""
_MOST_NAMES, _MOST_NAMES_OF_TEXT = 2, 8
"""How often an expression may name columns before it is made a column itself."""
MOST_BYTES_A_ROW = 32 * 2**20
MOST_CONSTANTS = 2**29
"""Characters that a template's own words may make in all rows together."""
Change = Callable[[pl.Expr], pl.Expr]
Flats = dict[str, pl.Series]
"""The items of list columns, one after the other, by the name of the column of their starts."""


class TooLargeError(Exception):
    """So many rows at once would need too much memory."""


@dataclass
class Columns:
    """Columns to add; none of them names another of the same step."""

    expressions: dict[str, pl.Expr] = field(default_factory=dict)

    def prune(self, needed: set[str]) -> bool:
        """Leave out what is not needed, and add what is read; whether anything is left."""
        self.expressions = {name: expr for name, expr in self.expressions.items() if name in needed}
        needed |= {root for expr in self.expressions.values() for root in expr.meta.root_names()}
        return bool(self.expressions)

    @functools.cached_property
    def roots(self) -> Counter[str]:
        """Return how often the expressions name each column."""
        return Counter(name for expr in self.expressions.values() for name in expr.meta.root_names())

    def run(self, frame: pl.DataFrame, flats: Flats) -> pl.DataFrame:
        """Return the frame with the columns. Raises TooLargeError if they might need too much memory."""
        total = sum(times * _bytes(frame[name]) for name, times in self.roots.items())
        if total > min(MOST_BYTES, MOST_BYTES_A_ROW * len(frame)):
            raise TooLargeError(total)
        try:
            return frame.with_columns(**self.expressions)
        except pl.exceptions.InvalidOperationError:
            # where all rows of an operand are null Polars may give one value for all of them, and then refuse it
            found = (frame.select(expr).to_series().alias(name) for name, expr in self.expressions.items())
            return frame.with_columns([each if len(each) == len(frame) else _for_all(each, frame) for each in found])


def _for_all(value: pl.Series, frame: pl.DataFrame) -> pl.Series:
    """Return the one value of a series for each row of a frame."""
    assert len(value) == 1, value
    return value.new_from_index(0, len(frame))


def _bytes(column: pl.Series) -> int:
    """Return about how much memory working with a column takes; 0 for numbers, which do not grow."""
    if column.dtype.is_nested():
        # what is made of items on the way takes several times their size
        return 8 * int(column.estimated_size())
    if column.dtype != pl.String:
        return 0
    # a text that is the same in all rows may be held once, but not what is made of it
    return 16 * len(column) + int(column.str.len_bytes().cast(pl.Int64).sum())


@dataclass(frozen=True)
class Reserve:
    """A bound on what the next steps make: an expression of the bytes of each row."""

    size: pl.Expr

    def prune(self, needed: set[str]) -> bool:
        """Add what is read. A bound always stays."""
        needed |= _names(self.size)
        return True

    def run(self, frame: pl.DataFrame, flats: Flats) -> pl.DataFrame:
        """Return the frame as it is. Raises TooLargeError if its rows together would need too much."""
        sizes = frame.select(self.size.cast(pl.Float64)).to_series()
        # the size of a constant is one for all rows
        total = sizes.sum() * (len(frame) if len(sizes) < len(frame) else 1)
        if total > MOST_BYTES:
            raise TooLargeError(total)
        return frame


@dataclass(frozen=True)
class Flatten:
    """A list column laid out flat, for loops further in to look items up; `start` is where each row's items start."""

    lists: str
    start: str

    def prune(self, needed: set[str]) -> bool:
        """Whether the starts are needed; then add what is read."""
        needed |= {self.lists} if self.start in needed else set()
        return self.start in needed

    def run(self, frame: pl.DataFrame, flats: Flats) -> pl.DataFrame:
        """Return the frame with the starts; keep the items."""
        lists = frame[self.lists]
        flats[self.start] = lists.explode(empty_as_null=False, keep_nulls=False)
        sizes = lists.list.len().cast(pl.Int64).fill_null(0)
        return frame.with_columns((sizes.cum_sum() - sizes).alias(self.start))


@dataclass(frozen=True)
class LookUp:
    """Items of a list from outside a loop, by their places in the flat layout that `start` names."""

    start: str
    place: str
    made: str

    def prune(self, needed: set[str]) -> bool:
        """Whether the items are needed; then add what is read."""
        needed |= {self.place} if self.made in needed else set()
        return self.made in needed

    def run(self, frame: pl.DataFrame, flats: Flats) -> pl.DataFrame:
        """Return the frame with the items."""
        return frame.with_columns(flats[self.start].gather(frame[self.place]).alias(self.made))


@dataclass(frozen=True)
class Sparse:
    """Texts that are `bare` in most rows and `whole` where `added` holds: only there are they put together."""

    bare: str
    added: str
    made: str
    whole: Columns

    def prune(self, needed: set[str]) -> bool:
        """Whether the texts are needed; then add what is read."""
        if self.made not in needed:
            return False
        needed |= {self.bare, self.added, *self.whole.roots}
        return True

    def run(self, frame: pl.DataFrame, flats: Flats) -> pl.DataFrame:
        """Return the frame with the texts. Raises TooLargeError as Columns does."""
        places = frame[self.added].arg_true()
        if _MOST_SPARSE * len(places) > len(frame):
            return self.whole.run(frame, flats)
        part = frame.select(self.added, *(self.whole.roots.keys() - {self.added})).filter(self.added)
        texts = self.whole.run(part, flats)[self.made]
        return frame.with_columns(frame[self.bare].clone().scatter(places, texts).alias(self.made))


@dataclass
class Loop:
    """A loop over list columns of equal length.

    `lists` maps the body's column of items to the list column that they come from. `keep` (if any) is the column of
    `before` that says which items are gone through. `index` and `length` are the body's columns of an item's position
    and of the number of items. `texts` and `nested` map the column that is made to that of the body whose texts are
    joined, with `between` between them, or whose items become a list.
    """

    lists: dict[str, str]
    body: "Scope"
    before: "Scope"
    index: str
    length: str
    keep: str | None = None
    between: str = ""
    texts: dict[str, str] = field(default_factory=dict)
    nested: dict[str, str] = field(default_factory=dict)
    numbers: set[str] = field(default_factory=set)
    """Those of `index` and `length` that are needed."""

    def prune(self, needed: set[str]) -> bool:
        """Leave out what is not needed, and add what is read; whether anything is left."""
        self.texts = {made: name for made, name in self.texts.items() if made in needed}
        self.nested = {made: name for made, name in self.nested.items() if made in needed}
        if not self.texts and not self.nested:
            return False
        inside = self.body.prune({*self.texts.values(), *self.nested.values()} | ({self.keep} if self.keep else set()))
        inside |= self.before.prune(inside)
        self.numbers = {self.index, self.length} & inside
        # one list says how many items there are
        first = next(iter(self.lists))
        self.lists = {item: name for item, name in self.lists.items() if item == first or item in inside}
        needed |= self.body.outer | self.before.outer | set(self.lists.values())
        return True

    def run(self, frame: pl.DataFrame, flats: Flats) -> pl.DataFrame:
        """Return the frame with what the loop makes of each row."""
        sizes = frame[next(iter(self.lists.values()))].list.len().cast(pl.Int64)
        if (sizes.sum() or 0) > MOST_ITEMS:
            raise TooLargeError(sizes.sum())
        items, counts = self._explode(frame, sizes), sizes.to_numpy()
        if self.keep is not None:
            items = self.before.run(items, flats).filter(pl.col(self.keep))
            counts = np.bincount(items[ROW].to_numpy(), minlength=len(frame)).astype(np.int64)
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
        if self.keep is not None:
            items = self._number(items, counts, offsets)
        done = self.body.run(items, flats)
        return frame.with_columns(
            *(_nest(done[name], offsets).alias(made) for made, name in self.nested.items()),
            *(_join(done[name], offsets, self.between).alias(made) for made, name in self.texts.items()),
        )

    def _explode(self, frame: pl.DataFrame, sizes: pl.Series) -> pl.DataFrame:
        """Return the items, with their rows if some are to be left out, else with their positions."""
        lists = {item: pl.col(name) for item, name in self.lists.items()}
        others = [pl.col(name) for name in sorted(self.body.outer | self.before.outer)]
        if self.keep is not None:
            others.append(pl.int_range(pl.len(), dtype=pl.UInt32).alias(ROW))
        else:
            others += [pl.lit(sizes).alias(name) for name in self.numbers & {self.length}]
            lists |= {name: pl.int_ranges(pl.lit(sizes), dtype=pl.Int64) for name in self.numbers & {self.index}}
        chosen = frame.select(*others, **lists)
        return chosen.explode(list(lists), empty_as_null=False, keep_nulls=False)

    def _number(self, items: pl.DataFrame, counts: np.ndarray, offsets: np.ndarray) -> pl.DataFrame:
        """Return items that were kept, with their positions and number."""
        made = []
        if self.index in self.numbers:
            positions = np.arange(len(items), dtype=np.int64) - np.repeat(offsets[:-1], counts)
            made.append(pl.Series(self.index, positions))
        if self.length in self.numbers:
            made.append(pl.Series(self.length, np.repeat(counts, counts)))
        return items.with_columns(made)


@dataclass
class Scope:
    """A frame to be: the steps that make its columns, and the columns of the scope around it that it needs."""

    parent: "Scope | None" = None
    steps: list[Columns | Loop | Flatten | LookUp | Reserve | Sparse] = field(default_factory=list)
    outer: set[str] = field(default_factory=set)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    constants: int = 0
    """Characters of the template's own words in this scope's expressions."""
    kept: dict[tuple[str, ...], list[tuple[pl.Expr, str]]] = field(default_factory=dict)
    """The expressions that are columns already and the columns' names, by the columns that they name."""

    def loop(self, lists: dict[str, str]) -> Loop:
        """Return a loop over lists of this scope, to be filled and added to the steps."""
        return Loop(lists, self.inside(), self.inside(), self.fresh(), self.fresh())

    def inside(self) -> "Scope":
        """Return a new scope within this one."""
        return Scope(self, numbers=self.numbers)

    def fresh(self) -> str:
        """Return a column name that is not taken."""
        return f":{next(self.numbers)}"

    def keep(self, expr: pl.Expr) -> str:
        """Return the name of a column that holds an expression, added if it is not one already."""
        if expr.meta.is_column():
            return expr.meta.output_name()
        roots = tuple(expr.meta.root_names())
        alike = self.kept.setdefault(roots, [])
        found = next((name for other, name in alike if other.meta.eq(expr)), None)
        if found is None:
            found = self.fresh()
            alike.append((expr, found))
            self._step_after(set(roots)).expressions[found] = expr
        return found

    def _step_after(self, roots: set[str]) -> Columns:
        """Return the last step, or a new one if that makes one of the columns that an expression names."""
        if self.steps and isinstance(self.steps[-1], Columns) and not roots & self.steps[-1].expressions.keys():
            return self.steps[-1]
        made = Columns()
        self.steps.append(made)
        return made

    def keep_sparse(self, whole: pl.Expr, bare: pl.Expr, added: pl.Expr) -> str:
        """Return the name of a column of texts that are another's in the rows where nothing is added to them."""
        name = whole.meta.output_name()
        self.steps.append(Sparse(self.keep(bare), self.keep(added), name, Columns({name: whole})))
        return name

    def store(self, value: Any_) -> Any_:
        """Return the value with its expressions computed once, as columns of this scope."""
        return self._each(value, lambda expr: pl.col(self.keep(expr)))

    def store_large(self, value: Any_) -> Any_:
        """Return the value with those of its expressions computed once that are large: a rule may repeat them."""
        # to put texts together again costs less than to hold them
        most = _MOST_NAMES_OF_TEXT if isinstance(value, Value) and value.type == TEXT else _MOST_NAMES
        return self._each(value, lambda expr: pl.col(self.keep(expr)) if len(expr.meta.root_names()) > most else expr)

    def bring(self, value: Any_, home: "Scope") -> Any_:
        """Return a value of a scope around this one (or of itself) as a value here."""
        if home is self:
            return value
        return self._each(value, lambda expr: self._bring(expr, home))

    def _bring(self, expr: pl.Expr, home: "Scope") -> pl.Expr:
        name = home.keep(expr)
        scope: Scope | None = self
        while scope is not home:
            assert scope is not None, name
            scope.outer.add(name)
            scope = scope.parent
        return pl.col(name)

    def _each(self, value: Any_, change: "Change") -> Any_:
        if isinstance(value, Fixed):
            return replace(value, items=tuple(self._each(each, change) for each in value.items))
        if isinstance(value, FixedMapping):
            return FixedMapping({key: self._each(each, change) for key, each in value.items.items()})
        if isinstance(value, Either):
            condition = self._each(value.condition, change)
            assert isinstance(condition, Value)
            return Either(condition, self._each(value.then, change), self._each(value.otherwise, change))
        if not isinstance(value, Value) or is_constant(value):
            return value
        if value.type == NOTHING and not _names(value.expr) | _flag_names(value.none) | _flag_names(value.undefined):
            return value

        def flag(each: Flag) -> Flag:
            return change(each) if isinstance(each, pl.Expr) else each

        return replace(
            value,
            expr=change(value.expr),
            none=flag(value.none),
            undefined=flag(value.undefined),
            shown=None if value.shown is None else change(value.shown),
        )

    def look_up(self, lists: str, home: "Scope", position: pl.Expr) -> pl.Expr:
        """Return items of a list column of a scope around this one, by positions from 0; null at a null."""
        flat = next((each for each in home.steps if isinstance(each, Flatten) and each.lists == lists), None)
        if flat is None:
            flat = Flatten(lists, self.fresh())
            home.steps.append(flat)
        place = self.keep(self._bring(pl.col(flat.start), home) + position)
        alike = (each for each in self.steps if isinstance(each, LookUp))
        found = next((each for each in alike if (each.start, each.place) == (flat.start, place)), None)
        if found is None:
            found = LookUp(flat.start, place, self.fresh())
            self.steps.append(found)
        return pl.col(found.made)

    def prune(self, needed: set[str]) -> set[str]:
        """Leave out what none of the needed columns comes from; return all columns that they come from."""
        needed = set(needed)
        steps = []
        for step in reversed(self.steps):
            if step.prune(needed):
                steps.append(step)
        self.steps = steps[::-1]
        self.outer &= needed
        return needed

    def run(self, frame: pl.DataFrame, flats: Flats | None = None) -> pl.DataFrame:
        """Return the frame after all steps."""
        flats = {} if flats is None else flats
        if len(frame) * self.constants > MOST_CONSTANTS:
            raise TooLargeError(len(frame) * self.constants)
        for step in self.steps:
            frame = step.run(frame, flats)
        return frame

    def expressions(self) -> Iterator[pl.Expr]:
        """Yield every expression of the steps, loops included."""
        for step in self.steps:
            if isinstance(step, Columns):
                yield from step.expressions.values()
            elif isinstance(step, Sparse):
                yield from step.whole.expressions.values()
            elif isinstance(step, Loop):
                yield from step.before.expressions()
                yield from step.body.expressions()


def _names(expr: pl.Expr) -> set[str]:
    return set(expr.meta.root_names())


def _flag_names(flag: Flag) -> set[str]:
    return _names(flag) if isinstance(flag, pl.Expr) else set()


def _nest(items: pl.Series, offsets: np.ndarray) -> pl.Series:
    """Return a list for each row of the scope around, by where its items start."""
    values = items.to_arrow(compat_level=pl.CompatLevel.newest())
    # not `pa.array`, which imports pandas
    starts = pa.py_buffer(offsets.astype(np.int64, copy=False))
    nested = pa.Array.from_buffers(pa.large_list(values.type), len(offsets) - 1, [None, starts], children=[values])
    found = pl.from_arrow(nested)
    assert isinstance(found, pl.Series)
    return found.cast(pl.List(items.dtype))


def _join(texts: pl.Series, offsets: np.ndarray, between: str) -> pl.Series:
    """Return the texts of each row's items as one; null where one of them is."""
    return _nest(texts, offsets).list.join(between, ignore_nulls=False)

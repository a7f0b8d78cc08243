"""What a kind of task is, and the checks that kinds share.

A kind turns a frame whose columns the catalog has named (`text`, `label`, …, with the source's own values) into
one that holds what templates may name: every value checked, labels as indices, words beside them.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
from polars.datatypes import DataTypeClass

from taskmix.errors import RowError
from taskmix.frames import SOURCE_ROW
from taskmix.kinds.labels import Labels
from taskmix.text import quoted

DataType = pl.DataType | DataTypeClass
_MOST_VALUES = 12


@dataclass(frozen=True)
class Column:
    """A canonical column: what it holds, and whether a task must give it."""

    meaning: str
    required: bool = True


@dataclass(frozen=True)
class View:
    """A task as its kind sees it: the columns it gives, and the words of its labels."""

    task: str
    columns: frozenset[str]
    labels: Labels | None = None
    multi_label: bool = False


@dataclass(frozen=True)
class Kind:
    """A kind of labelled task.

    Attributes:
        columns: the canonical columns that a catalog entry maps.
        inputs: those of them that make up what a model is asked, by which rows are compared.
        variables: what templates may name besides the columns.
        labelled: the column that holds label ids, names or tags, if there is one.
        answer: the variable that holds one accepted answer, if a row may have several, and the one that holds all.
        metric: the name of the metric that the field reports for it.
        head: the classic head of a model for the raw form.
        canonical: from named columns to template variables, for the variables that are asked for.
        fallback: the name of the template file that serves any task of the kind and shape; None for none.
        constants: the variables that are the same list of words in every row of a task.
        nullable: the variables, besides optional columns, that may be null or hold nulls.
        by_word: whether a template's own choices are what evaluation lists: then its output is one of those words.
    """

    name: str
    columns: Mapping[str, Column]
    inputs: tuple[str, ...]
    variables: Mapping[str, str]
    metric: str
    head: str
    canonical: Callable[[pl.DataFrame, View, Collection[str]], pl.DataFrame]
    fallback: Callable[[View], str | None]
    labelled: str | None = None
    answer: tuple[str, str] | None = None
    constants: Callable[[View], Mapping[str, tuple[str, ...]]] = lambda view: {}
    nullable: frozenset[str] = frozenset()
    by_word: bool = False
    names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", frozenset(self.columns) | frozenset(self.variables))

    @property
    def never_null(self) -> frozenset[str]:
        """Return the variables that hold no null, at any level: `canonical` has checked them."""
        optional = {name for name, column in self.columns.items() if not column.required}
        return self.names - optional - self.nullable


def fail(view: View, frame: pl.DataFrame, faulty: pl.Series, what: Callable[[int], str], hint: str = "") -> None:
    """Raise RowError for the first row where `faulty` (Boolean) is true; do nothing if there is none."""
    found = faulty.fill_null(False).arg_true()
    if len(found):
        position = int(found[0])
        row = frame[SOURCE_ROW][position]
        raise RowError(what(position), where=f"task {view.task}, row {row}", hint=hint)


def text(view: View, frame: pl.DataFrame, name: str, nullable: bool = False) -> pl.Series:
    """Return a column of texts; whole numbers become their digits.

    Raises:
        RowError: the column is of another type, or a row is null where it may not be.
    """
    series = frame[name]
    if series.dtype.is_integer() or series.dtype == pl.Null:
        series = series.cast(pl.String)
    if series.dtype != pl.String:
        raise wrong_type(view, name, series.dtype, "text")
    if not nullable:
        fail(view, frame, series.is_null(), lambda _: f"`{name}` is null", _drop_nulls(name))
    return series


def texts(view: View, frame: pl.DataFrame, name: str) -> pl.Series:
    """Return a column of lists of texts, a single text counting as a list of one. Raises RowError as `text` does."""
    series = frame[name]
    if series.dtype.is_integer():
        series = series.cast(pl.String)
    if series.dtype == pl.String:
        series = series.to_frame().select(pl.when(pl.col(name).is_not_null()).then(pl.concat_list(name)))[name]
    if isinstance(series.dtype, pl.List) and (series.dtype.inner.is_integer() or series.dtype.inner == pl.Null):
        series = series.cast(pl.List(pl.String))
    if series.dtype != pl.List(pl.String):
        raise wrong_type(view, name, series.dtype, "a list of texts")
    fail(view, frame, series.is_null(), lambda _: f"`{name}` is null", _drop_nulls(name))
    has_null = series.list.eval(pl.element().is_null()).list.any()
    fail(view, frame, has_null, lambda _: f"`{name}` has a null among its items", _drop_nulls(name))
    return series


def _drop_nulls(name: str) -> str:
    return f'drop such rows: `where: "{{{{ {name} is not none }}}}"`'


def wrong_type(view: View, name: str, dtype: DataType, expected: str) -> RowError:
    """Return the error that a column's type is not the expected one."""
    return RowError(
        f"`{name}` is {describe(dtype)}, not {expected}",
        where=f"task {view.task}",
        hint='map another column, or compute one: "{{ … }}"',
    )


def describe(dtype: DataType) -> str:
    """Return a data type in words."""
    names: Mapping[object, str] = {pl.String: "text", pl.Boolean: "true or false", pl.Null: "always null"}
    if isinstance(dtype, pl.List):
        return f"a list ({describe(dtype.inner)})"
    if isinstance(dtype, pl.Struct):
        return f"a mapping with {', '.join(each.name for each in dtype.fields)}"
    return names.get(dtype, "a whole number" if dtype.is_integer() else str(dtype))


def resolve_labels(view: View, frame: pl.DataFrame, name: str) -> pl.Series:
    """Return label indices (Int64, or lists of them) of a column of ids or names.

    Raises:
        RowError: a label is null, out of range, or none of the task's.
    """
    labels = view.labels
    assert labels is not None, view
    series = frame[name]
    found = labels.indices(series)
    fail(view, frame, series.is_null(), lambda _: f"`{name}` is null", _drop_nulls(name))
    bad = found.list.eval(pl.element().is_null()).list.any() if found.dtype == pl.List(pl.Int64) else found.is_null()
    fail(
        view,
        frame,
        bad,
        lambda at: f"`{name}` is {quoted(_value(series, at))}, which is none of the {len(labels.words)} labels",
        f'{labels.summary()}; drop other rows: `where: "{{{{ {_condition(name, series.dtype, labels)} }}}}"`',
    )
    return found


def _condition(name: str, dtype: pl.DataType, labels: Labels) -> str:
    """Return a condition of `where` that keeps the rows whose label is known."""
    values = list(labels.index)
    if isinstance(dtype, pl.List) or len(values) > _MOST_VALUES:
        return f"{name} is not none"
    known = f"[{', '.join(values)}]" if dtype.is_integer() else repr(values)
    return f"{name} in {known}"


def constant(words: Sequence[str]) -> pl.Expr:
    """Return an expression of the same list of texts in every row."""
    return pl.lit(pl.Series([list(words)], dtype=pl.List(pl.String))).first()


def _value(series: pl.Series, at: int) -> object:
    value = series[at]
    return value.to_list() if isinstance(value, pl.Series) else value


CHOICES: Mapping[str, str] = {"choices": "the words of the labels, or the options: a list in label order"}

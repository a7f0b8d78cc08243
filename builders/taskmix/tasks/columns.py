"""How a catalog's `columns` become canonical columns: a path, a list of columns, or one Jinja expression."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from taskmix.catalog.loading import CatalogTask
from taskmix.compiler.templates import RowWise, VectorisedValue, compile_expression
from taskmix.errors import CatalogError, RowError, nearest
from taskmix.frames import SOURCE_ROW
from taskmix.kinds.base import DataType
from taskmix.sources.jsonrows import Place
from taskmix.templates.parts import Expression, is_expression
from taskmix.templates.rowwise import Workers
from taskmix.text import quoted, visible

_PLAIN = (pl.String, pl.Boolean, pl.Null, pl.Float32, pl.Float64)


@dataclass(frozen=True)
class ColumnMap:
    """One entry of `columns`: `expression` is Polars' for a path or list of columns, else Jinja's.

    `uses` are the source's columns that it reads.
    """

    name: str
    uses: frozenset[str]
    expression: pl.Expr | Expression


def map_columns(task: CatalogTask, schema: Mapping[str, pl.DataType], source: str) -> tuple[ColumnMap, ...]:
    """Read a task's `columns` against the columns that its source has.

    Raises:
        CatalogError: an entry names a column that the source does not have; shows those it has.
    """
    return tuple(_map(task, name, mapped, schema, source) for name, mapped in task.spec.columns.items())


def nameable(schema: Mapping[str, pl.DataType], maps: Sequence[ColumnMap]) -> tuple[ColumnMap, ...]:
    """Return names with underscores for columns whose names have hyphens, which templates cannot write."""
    taken = {*schema, *(each.name for each in maps)}
    pairs = ((name.replace("-", "_"), name) for name in schema if "-" in name)
    found = {new: ColumnMap(new, frozenset([name]), pl.col(name).alias(new)) for new, name in pairs if new not in taken}
    return tuple(found.values())


def _map(
    task: CatalogTask, name: str, mapped: str | Sequence[str], schema: Mapping[str, pl.DataType], source: str
) -> ColumnMap:
    where = f"{task.where('columns', name)}: task {task.name}"
    if not isinstance(mapped, str):
        paths = [_path(each, schema, where, source) for each in mapped]
        expression = pl.concat_list([path for path, _ in paths]).alias(name)
        return ColumnMap(name, frozenset(column for _, column in paths), expression)
    if not is_expression(mapped):
        path, column = _path(mapped, schema, where, source)
        return ColumnMap(name, frozenset([column]), path.alias(name))
    line = task.document.texts.get(("tasks", task.name, "columns", name), 1)
    parsed = Expression.parse(mapped, str(task.document.path), line)
    for used in sorted(parsed.names):
        require_column(used, schema, where, source)
    return ColumnMap(name, parsed.names, parsed)


def require_column(name: str, schema: Mapping[str, pl.DataType], where: str, source: str) -> None:
    """Raise CatalogError, showing the columns that there are, unless the source has the column."""
    if name not in schema:
        hint = nearest(name, schema)
        raise CatalogError(
            f"{source} has no column {quoted(name)}; it has {', '.join(schema)}",
            where=where,
            hint=hint if hint.startswith("did") else "",
        )


def _path(path: str, schema: Mapping[str, pl.DataType], where: str, source: str) -> tuple[pl.Expr, str]:
    """Return the expression and the column of a dotted path; a column whose name has dots is found first."""
    if path in schema:
        return pl.col(path), path
    column, *fields = path.split(".")
    require_column(column, schema, where, source)
    expression = pl.col(column)
    dtype: DataType = schema[column]
    for field in fields:
        inside = dtype.inner if isinstance(dtype, pl.List) else dtype
        has = {each.name: each.dtype for each in inside.fields} if isinstance(inside, pl.Struct) else {}
        if field not in has:
            hint = nearest(field, has) or "it has no fields"
            raise CatalogError(f"{source}: {quoted(path)} leads nowhere: no {quoted(field)}", where=where, hint=hint)
        if isinstance(dtype, pl.List):
            expression, dtype = expression.list.eval(pl.element().struct.field(field)), pl.List(has[field])
        else:
            expression, dtype = expression.struct.field(field), has[field]
    return expression, column


def is_plain(dtype: DataType) -> bool:
    """Whether a column's values are text, numbers, truth values, and lists and mappings of them."""
    if isinstance(dtype, pl.List):
        return is_plain(dtype.inner)
    if isinstance(dtype, pl.Struct):
        return all(is_plain(each.dtype) for each in dtype.fields)
    return dtype.is_integer() or dtype in _PLAIN


def apply(frame: pl.DataFrame, maps: Sequence[ColumnMap], task: str, workers: Workers) -> pl.DataFrame:
    """Add the mapped columns to a frame of the source's own.

    Raises:
        TemplateError: an expression fails on a row, or its values are of different types.
    """
    computed: list[pl.Expr | pl.Series] = []
    for each in maps:
        if isinstance(each.expression, pl.Expr):
            computed.append(each.expression)
        else:
            computed.append(evaluate(frame, each.expression, each.name, task, workers))
    return frame.with_columns(computed)


def evaluate(frame: pl.DataFrame, expression: Expression, name: str, task: str, workers: Workers) -> pl.Series:
    """Return the value of an expression for every row.

    Raises:
        TemplateError: the expression fails on a row, or takes more than the limits of the workers.
        RowError: the values are of different types, which Polars alone would change to the first one's.
    """
    compiled = _compiled(expression, tuple(frame.schema.items()))
    found = None if isinstance(compiled, RowWise) or not len(frame) else compiled.run(frame)
    return _by_jinja(frame, expression, name, task, workers) if found is None else found.alias(name)


@functools.lru_cache(maxsize=1024)
def _compiled(expression: Expression, schema: tuple[tuple[str, pl.DataType], ...]) -> VectorisedValue | RowWise:
    return compile_expression(expression, dict(schema))


def _by_jinja(frame: pl.DataFrame, expression: Expression, name: str, task: str, workers: Workers) -> pl.Series:
    values, failure = workers.evaluate(frame, expression, task)
    place = Place(name)
    where, hint = f"{expression.part.file}:{expression.part.line}: task {task}", "add `| string` or `| int`"
    for position, value in enumerate(values):
        try:
            place.check(value)
        except ValueError as error:
            at = f"{where}, row {frame[SOURCE_ROW][position]}"
            raise RowError(visible(str(error)), where=at, hint=hint) from None
    if failure is not None:
        raise failure
    try:
        return pl.Series(name, values, dtype=place.dtype(), strict=True)
    except (TypeError, pl.exceptions.PolarsError):
        raise RowError(f"`{name}` is not of one type in all rows", where=where, hint=hint) from None

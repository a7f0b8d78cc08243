"""The compiler gives what Jinja gives, or no answer; and what else holds of every compiled template.

TASKMIX_LONG=1 makes the long profile: over a hundred thousand rows of thousands of templates, in some minutes.
"""

import ast
import functools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, cast

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings

from taskmix.catalog.loading import CatalogTask, load_catalog
from taskmix.compiler import expressions, filters, methods, operators, python, scopes, statements, templates, tests
from taskmix.compiler.templates import RowWise, Vectorised, compile_template
from taskmix.compiler.translator import Facts
from taskmix.errors import TaskmixError, TemplateError
from taskmix.frames import DRAW
from taskmix.tasks.opening import open_task
from taskmix.templates import parts, sandbox
from taskmix.templates.rows import RowRenderer, RowTemplate
from tests import jinja_templates
from tests.compiled import Comparison, compare, output_of, template_of
from tests.conftest import ROOT
from tests.workers import WORKERS

LONG = bool(os.environ.get("TASKMIX_LONG"))
EXAMPLES = 20 if LONG else 5
"""Templates around each line of the grammar."""
TEMPLATES = 14_000 if LONG else 300
"""Templates of any statements besides."""
ROWS = 16 if LONG else 12
TABLES: Mapping[str, Mapping[Any, Callable[..., object]]] = {
    "filters": filters.FILTERS,
    "tests": tests.TESTS,
    "binary": operators.BINARY,
    "comparisons": operators.COMPARISONS,
    "text methods": methods.TEXT_METHODS,
    "list methods": methods.LIST_METHODS,
    "mapping methods": methods.MAPPING_METHODS,
    "functions": methods.FUNCTIONS,
    "expressions": expressions.EXPRESSIONS,
    "statements": statements.STATEMENTS,
}
SETUPS = 2_000 if LONG else 100
"""Templates that a setup of any statements comes before."""
REFUSING = {"{{ number ** 2 }}": {"binary **", "expressions Pow"}, "{{ zip(items, items) | list }}": {"functions zip"}}
"""Templates of which an entry says only why they do not compile; a loop takes `zip` apart by itself."""


@dataclass
class Profile:
    """What came of all templates of a profile."""

    count: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


@contextmanager
def recorded() -> Iterator[set[str]]:
    """Note which entries of the tables, and which fields of `loop`, are asked for."""
    used: set[str] = set()
    kept = {name: dict(table) for name, table in TABLES.items()}

    def noting(name: str, rule: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(rule)
        def noted(*arguments: object, **options: object) -> object:
            used.add(name)
            return rule(*arguments, **options)

        return noted

    try:
        for name, table in TABLES.items():
            entries = cast(dict[Any, Callable[..., object]], table)
            entries.update({key: noting(f"{name} {_name(key)}", rule) for key, rule in table.items()})
        yield used
    finally:
        for name, table in kept.items():
            cast(dict[Any, Callable[..., object]], TABLES[name]).update(table)


def _name(key: object) -> str:
    return key.__name__ if isinstance(key, type) else str(key)


@dataclass(frozen=True)
class Case:
    """A generated template, with a setup or none, and rows for it."""

    tree: jinja_templates.Tree
    data: jinja_templates.Rows
    strict: bool
    setup: str = ""
    facts: Facts = templates.NO_FACTS


def checked(source: str, case: Case) -> Comparison | str | None:
    """Return what `compare` does, or what Polars says where it fails."""
    try:
        return compare(source, case.data.frame, case.strict, case.setup, case.facts)
    except (Exception, pl.exceptions.PanicException) as error:
        return f"{type(error).__name__}: {error}"


def wrong(source: str, case: Case) -> bool:
    found = checked(source, case)
    return isinstance(found, str) or (found is not None and bool(found.differences))


def described(case: Case) -> str:
    """Return a small template that still fails, and a row of it."""
    small = str(jinja_templates.shrunk(case.tree, lambda source: wrong(source, case)))
    found = checked(small, case)
    shown = found if isinstance(found, str) else found and str(found.differences[0])
    after = f" after {case.setup!r}" if case.setup else ""
    return f"{'strict' if case.strict else 'not strict'} {small!r}{after}\n  {case.data.schema}\n  {shown}"


def cases() -> Iterator[Case]:
    """Yield the templates of the profile, the same in every run, with rows that a few of them share."""
    lines = len(jinja_templates.LINES) * EXAMPLES
    for number in range(TEMPLATES + lines + SETUPS):
        random = Random(number)
        if number % 4 == 0:
            data = jinja_templates.rows(Random(-number), ROWS)
        if TEMPLATES <= number < TEMPLATES + lines:
            tree = jinja_templates.example(random, data, number)
        else:
            tree = jinja_templates.template(random, data)
        setup = str(jinja_templates.template(Random(number), data)) if number >= TEMPLATES + lines else ""
        facts = Facts(never_null=never_null(data.frame)) if number % 8 < 4 else templates.NO_FACTS
        yield Case(tree, data, random.random() < 0.5, setup, facts)


def never_null(rows: pl.DataFrame) -> frozenset[str]:
    """Return the columns that hold no null, not inside either."""
    return frozenset(column.name for column in rows if _is_whole(column))


def _is_whole(column: pl.Series) -> bool:
    if column.dtype == pl.List:
        return not column.null_count() and _is_whole(column.explode(empty_as_null=False))
    if column.dtype == pl.Struct:
        return not column.null_count() and all(map(_is_whole, column.struct.unnest()))
    return not column.null_count()


@pytest.fixture(scope="module")
def profile() -> Profile:
    found = Profile()
    with recorded() as used:
        for case in cases():
            used.clear()
            _add(found, case, used)
            if len(found.failures) == 5:
                break
    return found


def _add(profile: Profile, case: Case, used: set[str]) -> None:
    profile.count["templates"] += 1
    found = checked(str(case.tree), case)
    if isinstance(found, str) or (found and found.differences):
        profile.failures.append(repr(str(case.tree)) if profile.failures else described(case))
    elif found is None:
        profile.count["not a template"] += 1
    elif found.refused is not None:
        profile.count["row-wise"] += 1
    else:
        known = sum(text is not None for text in found.texts)
        profile.count["compiled"] += 1
        profile.count.update(rows=len(found.texts), known=known, failing=found.failing, needless=found.needless)
        fields = {f"loop {name}" for name in sandbox.LOOP if f"loop.{name}" in str(case.tree)}
        profile.reached.update(used | fields if known else ())


def test_compiled_text_is_that_of_jinja_or_unknown_and_polars_never_fails(profile: Profile) -> None:
    print(dict(profile.count))
    assert not profile.failures, "\n".join(profile.failures)


def test_most_generated_templates_compile_and_few_rows_are_handed_back_needlessly(profile: Profile) -> None:
    count = profile.count
    assert count["compiled"] > 0.4 * count["templates"]
    assert count["rows"] >= (100_000 if LONG else 5_000)
    assert count["needless"] < 0.05 * count["rows"]
    assert count["known"] > 0.6 * count["rows"]


def test_every_entry_of_every_table_is_reached_with_text(profile: Profile) -> None:
    entries = {f"{name} {_name(key)}" for name, table in TABLES.items() for key in table}
    loop = "cycle depth depth0 first index index0 last length nextitem previtem revindex revindex0"
    missing = (entries | {f"loop {each}" for each in loop.split()}) - profile.reached.keys()
    assert missing == set().union(*REFUSING.values())


@pytest.mark.parametrize("source", REFUSING)
def test_the_entries_that_are_reached_without_text_say_why(data: pl.DataFrame, source: str) -> None:
    with recorded() as used:
        found = compile_template(template_of(source), data.schema)
    assert isinstance(found, RowWise)
    assert used >= REFUSING[source]


def test_templates_are_written_with_every_name_of_the_sandbox() -> None:
    env = parts.environment(True)
    lines = [line for _, line in jinja_templates.LINES]
    grammar = "\n".join(lines) + " ".join(f" is {name} " for name in jinja_templates.TESTS)
    grammar += "".join(f" {each} " for each in jinja_templates.SIGNS)
    assert [name for name in env.filters if f"| {name}" not in grammar.replace("| random", "| choice")] == []
    assert [name for name in env.tests if f" {name}" not in grammar] == []
    used = {name for kind in (str, list, tuple, dict) for name in sandbox.METHODS[kind]}
    statements_only = {"append", "extend", "insert", "pop", "remove", "reverse", "update"}
    assert [name for name in sorted(used - statements_only) if f".{name}(" not in grammar] == []


@settings(max_examples=200 if LONG else 20, suppress_health_check=list(HealthCheck))
@given(jinja_templates.cases())
def test_any_template_of_the_grammar_gives_the_text_of_jinja_or_is_unknown(
    case: tuple[jinja_templates.Tree, jinja_templates.Rows, bool],
) -> None:
    tree, data, strict = case
    found = compare(str(tree), data.frame, strict)
    assert found is None or not found.differences


# -- choices

HOLDING = ["a", "x|||y", "|||", "|", "||||", " ||| ", "", "b|", "\ufdd0c", "é", None]
"""Texts that hold a mark, a part of one, or what stands in for one."""


def of_choices(choices: str, rows: pl.DataFrame) -> tuple[list[object], list[str | None]]:
    """Return the numbered choices of each row by Jinja, and as they are compiled."""
    part = parts.Part(choices, "t.yaml", 1, "t/choices", None, False)
    output = "{% for word in choices %}{{ loop.index }}{{ word }}{% endfor %}"
    template = replace(template_of(output, strict=False), choices=parts.SplitText(part, "|||"))
    texts = (template.instruction, template.input, template.output)
    renderer = RowRenderer(RowTemplate(*texts, template.choices, False, False, "t.yaml:1"))
    plan = compile_template(template, rows.schema)
    assert isinstance(plan, Vectorised), plan
    return [renderer(row, row[DRAW])[2] for row in rows.to_dicts()], output_of(plan, rows)


@pytest.mark.parametrize(
    ("choices", "doubts"),
    [
        ("{{ a }} ||| {{ b }}", True),
        ("{{ a }}||{{ b }}", True),
        ("no ||| {{ a }} ||| {{ b }} or {{ a }}", True),
        ("{{ a | trim('.|') }} ||| {{ b | length }}", False),
        ("{{ l | join('|||') }}", False),
        ("{% for m in s %}{{ m.t }}{{ m['t'] | length }} ||| {% endfor %} {{ l[-1] }}", False),
        ("{{ [a, b] | choice }} ||| {{ n }}", False),
        ("\ufdd1 ||| {{ a }}\ufdd2", False),
        ("\ufdd1 ||| yes", False),
    ],
)
def test_choices_are_those_of_jinja_whatever_marks_the_data_holds(choices: str, doubts: bool) -> None:
    size = range(len(HOLDING))
    rows = pl.DataFrame(
        {
            "a": HOLDING,
            "b": [HOLDING[at - 3] or "" for at in size],
            "l": [[HOLDING[at], HOLDING[at - 1]] for at in size],
            "s": [[{"t": HOLDING[at] or ""}, {"t": "|||"}] for at in size],
            "n": list(size),
            DRAW: pl.Series([at * 7**19 for at in size], dtype=pl.UInt64),
        }
    )
    wanted, found = of_choices(choices, rows)
    assert [text for text in found if text is not None] == [
        text for text, own in zip(wanted, found, strict=True) if own is not None
    ]
    assert doubts == (None in found)


# -- plans


def compiled(source: str, rows: pl.DataFrame, strict: bool = True) -> Vectorised:
    schema = {name: dtype for name, dtype in rows.schema.items() if name != DRAW}
    found = compile_template(template_of(source, strict), schema)
    assert isinstance(found, Vectorised), found
    return found


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The Python functions that expressions made in this test call."""
    called: list[object] = []
    plain = pl.Expr.map_batches

    def noted(self: pl.Expr, function: Any, *arguments: Any, **options: Any) -> pl.Expr:
        called.append(function)
        return plain(self, function, *arguments, **options)

    monkeypatch.setattr(pl.Expr, "map_batches", noted)
    return called


def test_no_plan_of_a_catalog_calls_python_but_for_floats_and_case(shared_data: Path, functions: list[object]) -> None:
    plans = 0
    for path in (ROOT / "tests" / "catalogs" / "everything.yaml", ROOT / "catalog.yaml"):
        catalog = load_catalog(path)
        for name in catalog.tasks:
            plans += _check_task(catalog.task(name), shared_data, functions)
    assert plans > 50


def _check_task(entry: CatalogTask, mirror: Path, functions: list[object]) -> int:
    try:
        task = open_task(entry, mirror, WORKERS)
    except TaskmixError:
        return 0
    names = frozenset[str]().union(*(template.names for template in task.templates))
    schema = next(task.batches(next(iter(task.splits.values())), names)).schema
    for template in task.templates:
        functions.clear()
        _check_plan(compile_template(template, schema), functions)
    return len(task.templates)


def _check_plan(found: Vectorised | RowWise, functions: list[object]) -> None:
    assert set(functions) <= set(python.FUNCTIONS)
    if isinstance(found, Vectorised) and not functions:
        assert not [each for each in map(str, found.expressions()) if "python_udf" in each]


def test_no_plan_of_a_generated_template_calls_python_but_for_floats_and_case(functions: list[object]) -> None:
    data = jinja_templates.rows(Random(1), 1)
    seen: set[object] = set()
    for number in range(300):
        functions.clear()
        try:
            template = template_of(str(jinja_templates.example(Random(number), data, number)))
        except TemplateError:
            continue
        _check_plan(compile_template(template, data.schema), functions)
        seen |= set(functions)
    assert seen


def test_only_one_module_of_the_compiler_hands_a_function_to_polars() -> None:
    handing = {"map_batches", "map_elements", "map_groups", "map_rows", "pipe", "rolling_map", "reduce", "fold"}
    found = {
        (path.name, node.attr)
        for path in Path(templates.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in handing
    }
    assert found == {("python.py", "map_batches")}


# -- batches


MANY = """
{% for v in items %}{{ loop.index }}{{ v }}{{ text | choice if text else '' }}{% endfor %}
{{ number | int / 3 }}{% set out = [] %}
{% for v in items if v %}{% set _ = out.append(v | upper) %}{% endfor %}{{ out | join(text) }}"""


@pytest.fixture
def data() -> pl.DataFrame:
    return jinja_templates.rows(Random(5), 60).frame


@pytest.mark.parametrize("size", [1, 7, 59])
def test_any_split_of_rows_into_batches_gives_the_same_texts(data: pl.DataFrame, size: int) -> None:
    plan = compiled(MANY, data, strict=False)
    whole = output_of(plan, data)
    batches = [output_of(plan, batch) for batch in data.iter_slices(size)]
    assert [text for batch in batches for text in batch] == whole
    assert sum(text is not None for text in whole) > 20


def test_rows_whose_loops_are_too_long_for_memory_are_taken_in_halves(
    data: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = compiled(MANY, data, strict=False)
    whole = output_of(plan, data)
    monkeypatch.setattr(scopes, "MOST_ITEMS", 9)
    assert output_of(plan, data) == whole


def test_many_short_texts_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    run = scopes.Scope.run

    def noted(self: scopes.Scope, frame: pl.DataFrame, flats: scopes.Flats | None = None) -> pl.DataFrame:
        sizes.append(len(frame))
        return run(self, frame, flats)

    monkeypatch.setattr(scopes.Scope, "run", noted)
    rows = pl.DataFrame({"items": [["O", "B-name"] * 10] * 10_000}, schema_overrides={"items": pl.List(pl.String)})
    plan = compiled("{% for v in items %}{{ v[0] if v[1:] else v }}{{ items[loop.index0 - 1] }}{% endfor %}", rows)
    assert plan.run(rows)["known"].all()
    assert sizes == [10_000, 200_000]


def test_a_row_that_alone_has_too_many_items_is_left_to_jinja(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pl.DataFrame({"items": [["a"] * 20, ["b"]], DRAW: pl.Series([0, 0], dtype=pl.UInt64)})
    plan = compiled("{% for v in items %}{{ v }}{{ loop.index }}{% endfor %}", rows)
    monkeypatch.setattr(scopes, "MOST_ITEMS", 9)
    assert output_of(plan, rows) == [None, "b1"]


def test_no_rows_give_no_rows(data: pl.DataFrame) -> None:
    assert output_of(compiled(MANY, data, strict=False), data.clear()) == []


# -- hostile shapes


@pytest.mark.parametrize(
    ("before", "middle", "after"),
    [
        ("{% if number %}", "{{ text }}", "{% endif %}"),
        ("{% for v in items %}", "{{ v }}", "{% endfor %}"),
        ("{% set x = text %}", "{{ x }}", ""),
        ("{{ text ~ text }}", "", ""),
        ("{{ [", "text", "] }}"),
    ],
)
@pytest.mark.parametrize("depth", [20, 90, 400, 3000])
def test_what_is_nested_deep_compiles_runs_row_by_row_or_is_refused(
    data: pl.DataFrame, before: str, middle: str, after: str, depth: int
) -> None:
    try:
        template = template_of(before * depth + middle + after * depth)
    except TemplateError:
        return
    schema = {name: dtype for name, dtype in data.schema.items() if name != DRAW}
    found = compile_template(template, schema)
    if isinstance(found, Vectorised) and depth <= 20:
        output_of(found, data.head(2))


@pytest.mark.parametrize("depth", [10, 90, 2000])
@pytest.mark.parametrize("piece", [" | upper", " ~ text", " + number", "[0]", " or text", " if number else text"])
def test_a_long_expression_compiles_runs_row_by_row_or_is_refused(data: pl.DataFrame, piece: str, depth: int) -> None:
    try:
        template = template_of("{{ text" + piece * depth + " }}")
    except TemplateError:
        return
    found = compile_template(template, {"text": pl.String(), "number": pl.Int64()})
    if isinstance(found, Vectorised):
        output_of(found, data.head(2))

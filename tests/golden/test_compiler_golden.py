"""What templates compile to, as texts of rows kept in files: one or more for each entry of the compiler's tables.

A text is what Jinja makes of the row, null where it raises an error. The compiler gives the same, or no answer where
`by` says that only Jinja does. `just golden` writes the texts anew.
"""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from tests.compiled import by_jinja, compare, template_of

from taskmix.compiler import expressions, filters, methods, operators, statements, tests
from taskmix.frames import DRAW

HERE = Path(__file__).parent / "compiler"
TABLES: Mapping[str, Mapping[Any, object]] = {
    "filters": filters.FILTERS,
    "tests": tests.TESTS,
    "binary": operators.BINARY,
    "comparisons": operators.COMPARISONS,
    "text_methods": methods.TEXT_METHODS,
    "list_methods": methods.LIST_METHODS,
    "mapping_methods": methods.MAPPING_METHODS,
    "functions": methods.FUNCTIONS,
    "expressions": {node.__name__: rule for node, rule in expressions.EXPRESSIONS.items()},
    "statements": {node.__name__: rule for node, rule in statements.STATEMENTS.items()},
}
REFUSED = {("binary", "**"), ("expressions", "Pow")}
"""Entries that say only why they do not compile."""


@dataclass(frozen=True)
class Golden:
    """A template on rows; `entry` is what of a table it is for."""

    table: str
    entry: str
    template: str
    strict: bool
    rows: list[dict[str, Any]]
    setup: str = ""

    @property
    def frame(self) -> pl.DataFrame:
        found = pl.DataFrame([each["row"] for each in self.rows], infer_schema_length=None)
        return found.with_columns(pl.Series(DRAW, range(len(found)), dtype=pl.UInt64))


@functools.cache
def read() -> list[Golden]:
    found = []
    for path in sorted(HERE.glob("*.yaml")):
        for each in yaml.safe_load(path.read_text()):
            strict = each.get("undefined") != "empty"
            setup = each.get("setup", "")
            found.append(Golden(path.stem, each["entry"], each["template"], strict, each["rows"], setup))
    return found


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def write(table: str, goldens: list[Golden]) -> None:
    """Write a file of goldens with the texts that Jinja and the compiler make today."""
    entries = []
    for golden in goldens:
        jinja = by_jinja(template_of(golden.template, golden.strict, golden.setup).output, golden.frame)
        found = compare(golden.template, golden.frame, golden.strict, golden.setup)
        assert found is not None, golden
        compiled = found.texts or [None] * len(jinja)
        rows = [
            {"row": each["row"], "text": text} | ({"by": "Jinja"} if text is not None and own is None else {})
            for each, text, own in zip(golden.rows, jinja, compiled, strict=True)
        ]
        undefined = {} if golden.strict else {"undefined": "empty"}
        setup = {"setup": golden.setup} if golden.setup else {}
        entries.append({"entry": golden.entry, **setup, "template": golden.template, **undefined, "rows": rows})
    text = yaml.dump(entries, Dumper=_Plain, allow_unicode=True, sort_keys=False, width=118, default_flow_style=None)
    (HERE / f"{table}.yaml").write_text(text)


if os.environ.get("TASKMIX_GOLDEN") == "write":
    for table in TABLES.keys() | {"loop", "regressions"}:
        write(table, [golden for golden in read() if golden.table == table])
    read.cache_clear()


@pytest.mark.parametrize("golden", read(), ids=lambda golden: f"{golden.table}-{golden.entry}")
def test_a_template_gives_the_texts_in_the_file_in_jinja_and_compiled(golden: Golden) -> None:
    texts = [each["text"] for each in golden.rows]
    assert by_jinja(template_of(golden.template, golden.strict, golden.setup).output, golden.frame) == texts
    found = compare(golden.template, golden.frame, golden.strict, golden.setup)
    assert found is not None
    if golden.table == "regressions" and found.refused is not None:
        return
    assert found.refused is None
    known = [None if "by" in each else each["text"] for each in golden.rows]
    assert list(found.texts) == known


@pytest.mark.parametrize("table", TABLES)
def test_each_entry_of_each_table_has_a_golden_text(table: str) -> None:
    goldens = [golden for golden in read() if golden.table == table]
    settled = {golden.entry for golden in goldens if any("by" not in each and each["text"] for each in golden.rows)}
    exempt = {name for own, name in REFUSED if own == table}
    assert settled == TABLES[table].keys() - exempt

"""The starter set: what its card says of it holds, and its templates render on all of it."""

import ast
import functools
import json
import re
import string
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from taskmix.catalog import builtin
from taskmix.catalog.loading import CatalogTask, load_catalog
from taskmix.frames import DRAW, SOURCE_ROW
from taskmix.kinds import KINDS
from taskmix.kinds.token_classification import decode
from taskmix.rendering import render
from taskmix.tasks.opening import open_task
from taskmix.tasks.task import Task
from taskmix.templates.files import read_templates
from tests.phrasing import alike, overlaps, trigrams
from tests.workers import WORKERS

Row = dict[str, Any]

CATALOG = load_catalog(builtin.catalog_path())
STARTER = [name for name, entry in CATALOG.tasks.items() if entry.spec.source.path is not None]
WITH_TEMPLATES = [name for name in STARTER if CATALOG.tasks[name].spec.kind != "conversation"]
SPLITS = ("train", "validation")
STARTER_FOLDER = builtin.root() / "examples" / "starter"

# Python's style puts two blank lines around functions, so code may hold three newlines in a row, but never four.
MOST_NEWLINES: Mapping[str, int] = defaultdict(lambda: 2, code=3)

# Runs in a process of its own. Tests see what the code defines but not what it imports, so that other code for the
# same request can be run against them.
RUN_CODE = """
import json, sys
failures = []
for place, code, tests in json.load(sys.stdin):
    space = {"__name__": "solution"}
    try:
        exec(code, space)
        own = {name: value for name, value in space.items() if getattr(value, "__module__", "") == "solution"}
        for test in tests:
            exec(test, dict(own))
    except Exception as error:
        failures.append([place, repr(error)])
print(json.dumps(failures))
"""


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@functools.cache
def rows_of(task: str, split: str) -> list[Row]:
    return read(STARTER_FOLDER / task / f"{split}.jsonl")


def all_rows(task: str) -> list[tuple[str, Row]]:
    return [(f"{split} row {number}", row) for split in SPLITS for number, row in enumerate(rows_of(task, split))]


def texts(value: object) -> Iterator[str]:
    """Yield the texts in a value of a row; of a message, its content."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts(value["content"])
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def inputs(entry: CatalogTask, row: Row) -> dict[str, str]:
    """Return what a row asks, by the source's column."""
    named = (entry.spec.columns.get(name, name) for name in KINDS[entry.spec.kind].inputs)
    return {name: " ".join(texts(row[name])) for name in named if isinstance(name, str) and name in row}


def spread(values: Sequence[str]) -> float:
    """Return how many times as often the most frequent value occurs as the rarest."""
    counts = Counter(values).values()
    return max(counts) / min(counts)


def run_code(programs: Sequence[tuple[str, str, list[str]]]) -> list[list[str]]:
    """Return the place and the error of each program whose tests fail, run in one child process."""
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", RUN_CODE],
        input=json.dumps(programs),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    failures: list[list[str]] = json.loads(done.stdout)
    return failures


def value_of(expression: str) -> Fraction:
    """Return the exact value of an arithmetic expression, such as 3 * (4 + 0.5)."""

    def value(node: ast.expr) -> Fraction:
        match node:
            case ast.BinOp(left, ast.Add(), right):
                return value(left) + value(right)
            case ast.BinOp(left, ast.Sub(), right):
                return value(left) - value(right)
            case ast.BinOp(left, ast.Mult(), right):
                return value(left) * value(right)
            case ast.BinOp(left, ast.Div(), right):
                return value(left) / value(right)
            case ast.UnaryOp(ast.USub(), operand):
                return -value(operand)
        # the digits as they are written: 0.1 is a tenth, not the nearest float
        return Fraction(plain[node.col_offset : node.end_col_offset])

    plain = expression.translate(str.maketrans("×÷−", "*/-")).strip()
    return value(ast.parse(plain, mode="eval").body)


def equations(reasoning: str) -> list[tuple[str, str]]:
    """Return the two sides of every equation."""
    number = r"-?\d+(?:\.\d+)?"
    return re.findall(rf"([-(\d][-+*/×÷−().\d\s]*?) = ({number}(?: / {number})?)(?![\d*/+(])", reasoning)


@pytest.mark.parametrize("task", STARTER)
def test_has_enough_rows(task: str) -> None:
    assert len(rows_of(task, "train")) >= 150
    assert len(rows_of(task, "validation")) >= 40


@pytest.mark.parametrize("task", STARTER)
def test_every_row_has_the_same_columns(task: str) -> None:
    assert len({tuple(row) for _, row in all_rows(task)}) == 1


@pytest.mark.parametrize("task", [name for name in STARTER if "label" in rows_of(name, "train")[0]])
def test_labels_are_balanced(task: str) -> None:
    labels = CATALOG.tasks[task].spec.labels
    assert isinstance(labels, list)
    for split in SPLITS:
        found = [row["label"] for row in rows_of(task, split)]
        assert set(found) == set(labels)
        assert spread(found) <= 1.1


@pytest.mark.parametrize("task", STARTER)
def test_rows_are_not_variations_of_each_other(task: str) -> None:
    entry = CATALOG.tasks[task]
    found = [(place, trigrams(" ".join(inputs(entry, row).values()))) for place, row in all_rows(task)]
    assert overlaps(found) == []


@pytest.mark.parametrize("task", STARTER)
def test_no_input_text_is_in_both_splits(task: str) -> None:
    entry = CATALOG.tasks[task]
    train, validation = (
        {(name, text) for row in rows_of(task, split) for name, text in inputs(entry, row).items()} for split in SPLITS
    )
    assert not train & validation


def test_name_tags_are_bio2() -> None:
    labels = CATALOG.tasks["name-tagging"].spec.labels
    assert isinstance(labels, list)
    for place, row in all_rows("name-tagging"):
        tokens, tags = row["tokens"], row["tags"]
        assert len(tokens) == len(tags), place
        assert set(tags) <= set(labels), place
        assert all(token and token == token.strip() for token in tokens), place
        for before, tag in zip(["O", *tags], tags, strict=False):
            assert not tag.startswith("I-") or before[2:] == tag[2:], place


@pytest.mark.parametrize("split", SPLITS)
def test_name_types_are_balanced(split: str) -> None:
    assert spread([tag for row in rows_of("name-tagging", split) for tag in row["tags"] if tag[0] == "B"]) <= 1.1


def test_answers_are_spans_of_the_passage() -> None:
    for place, row in all_rows("short-passages"):
        answers = row["answers"]
        for text, start in zip(answers["text"], answers["answer_start"], strict=True):
            assert text, place
            assert row["context"][start : start + len(text)] == text, place


@pytest.mark.parametrize("split", SPLITS)
def test_some_questions_have_no_answer(split: str) -> None:
    unanswerable = [not row["answers"]["text"] for row in rows_of("short-passages", split)]
    assert 0.1 < sum(unanswerable) / len(unanswerable) < 0.2


def test_the_longest_option_is_not_the_right_one() -> None:
    longest = 0
    rows = all_rows("plain-reasoning")
    for place, row in rows:
        assert len(row["options"]) == len(set(row["options"])) == 4, place
        right = row["options"]["ABCD".index(row["label"])]
        longest += len(right) == max(map(len, row["options"]))
    assert longest / len(rows) <= 0.4


def test_translations_are_balanced_and_differ_from_their_source() -> None:
    for split in SPLITS:
        assert spread([row["language"] for row in rows_of("phrasebook", split)]) <= 1.1
    for place, row in all_rows("phrasebook"):
        assert row["translation"] != row["english"], place


def test_summaries_are_short() -> None:
    # one of the templates promises at most 28 words
    for place, row in all_rows("brief-summaries"):
        assert len(row["summary"].split()) <= 28 < len(row["text"].split()), place


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("3 * (4 + 0.5)", Fraction(27, 2)),
        ("-17 + 15", Fraction(-2)),
        ("1 / 6 + 1 / 3", Fraction(1, 2)),
        ("0.1 × 3 ÷ 0.3 − 1", Fraction(0)),
    ],
)
def test_arithmetic_is_exact(expression: str, value: Fraction) -> None:
    assert value_of(expression) == value


def test_every_step_of_worked_arithmetic_is_true() -> None:
    for place, row in all_rows("worked-arithmetic"):
        steps = equations(row["reasoning"])
        assert len(steps) == row["reasoning"].count("=") > 0, place
        for left, right in steps:
            assert value_of(left) == value_of(right), f"{place}: {left} = {right}"
        assert value_of(steps[-1][1]) == value_of(row["answer"]), place


def test_small_functions_pass_their_tests() -> None:
    programs = [(place, row["code"], row["tests"]) for place, row in all_rows("small-functions")]
    assert all(2 <= len(tests) <= 4 for _, _, tests in programs)
    assert run_code(programs) == []


def test_a_failing_function_is_noticed() -> None:
    code = "from datetime import date\n\n\ndef year(day):\n    return day.year"
    programs = [
        ("right", code, ["from datetime import date; assert year(date(2024, 5, 1)) == 2024"]),
        ("wrong", code, ["from datetime import date; assert year(date(2024, 5, 1)) == 2025"]),
        ("leans on an import", code, ["assert year(date(2024, 5, 1)) == 2024"]),
    ]
    assert [place for place, _ in run_code(programs)] == ["wrong", "leans on an import"]


def test_chats_alternate_and_end_with_the_assistant() -> None:
    for place, row in all_rows("helpful-chats"):
        roles = [message["role"] for message in row["messages"]]
        turns = roles[roles[0] == "system" :]
        assert turns == ["user", "assistant"] * (len(turns) // 2), place
        assert turns, place
        assert all(text and text == text.strip() for text in texts(row["messages"])), place


def assert_templates_render(task: Task, split: str) -> None:
    """Render every template on all rows of a split, and check the texts that come out."""
    names = frozenset[str]().union(*(template.names for template in task.templates))
    part = next(part for name, part in task.splits.items() if name == split)
    rows = pl.concat(task.batches(part, names)).with_columns(pl.col(SOURCE_ROW).alias(DRAW))
    too_many = "\n" * (MOST_NEWLINES[task.entry.spec.cluster] + 1)
    for template in task.templates:
        rendered = render(rows, template, task.name, None, WORKERS).rows.rows(named=True)
        for source_row, parts in zip(rows[SOURCE_ROW], rendered, strict=True):
            where = f"{task.name} {split} row {source_row}: {template.name}"
            assert parts["output"], where
            assert all(text == text.strip() and too_many not in text for text in parts.values()), where
            if "json" in template.name:
                json.loads(parts["output"])


@pytest.mark.parametrize("task", WITH_TEMPLATES)
def test_templates_are_many_and_differ(task: str) -> None:
    templates = read_templates(builtin.templates_folder() / f"{task}.yaml")
    assert len(templates) >= 5
    assert alike(templates) == []


@pytest.mark.parametrize("task", WITH_TEMPLATES)
@pytest.mark.parametrize("split", SPLITS)
def test_starter_templates_render_on_every_row(task: str, split: str) -> None:
    assert_templates_render(open_task(CATALOG.tasks[task], None, WORKERS), split)


def normalised(answer: str) -> str:
    """Return an answer as SQuAD's script compares it."""
    bare = "".join(character for character in answer.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def agreement(task: str, second: Row) -> bool:
    """Whether the second annotation of a row agrees with the data (code is run elsewhere)."""
    row, label = rows_of(task, second["split"])[second["row"]], second["label"]
    if "agree" in second:
        return bool(second["agree"] and second["correct"])
    match task:
        case "name-tagging":
            found = [[each["text"], each["type"]] for each in decode(row["tokens"], row["tags"], True)]
            return bool(found == label)
        case "short-passages":
            return normalised(label) in [normalised(text) for text in row["answers"]["text"] or [""]]
        case "worked-arithmetic":
            return Fraction(label) == Fraction(row["answer"])
    return bool(row["label"] == label)


def agreements(task: str) -> tuple[int, int]:
    """Return how many rows of a task were annotated again, and with how many of them the data agrees."""
    again = read(STARTER_FOLDER / "agreement" / f"{task}.jsonl")
    if task != "small-functions":
        return len(again), sum(agreement(task, second) for second in again)
    programs = [
        (f"{second['split']} {second['row']}", second["label"], rows_of(task, second["split"])[second["row"]]["tests"])
        for second in again
    ]
    return len(again), len(again) - len(run_code(programs))


def table(heading: str) -> dict[str, list[str]]:
    """Return the cells of a table of the card, by task."""
    section = (STARTER_FOLDER / "README.md").read_text("utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {task.strip("`"): cells for task, *cells in rows[2:]}


@pytest.mark.parametrize("task", STARTER)
def test_the_card_and_the_catalog_give_the_agreement(task: str) -> None:
    rows, agreed = agreements(task)
    assert rows == 40
    assert len({(each["split"], each["row"]) for each in read(STARTER_FOLDER / "agreement" / f"{task}.jsonl")}) == rows
    assert table("Second annotation")[task][:2] == [str(rows), str(agreed)]
    assert f"{rows} rows labelled again blind: {agreed} of {rows} agree." in (CATALOG.tasks[task].spec.note or "")


def test_the_card_lists_the_tasks() -> None:
    for task, (kind, cluster, columns, train, validation, _) in table("Tasks").items():
        spec = CATALOG.tasks[task].spec
        assert (kind, cluster) == (spec.kind, spec.cluster)
        assert re.findall(r"`(\w+)`", columns) == list(rows_of(task, "train")[0])
        assert [train, validation] == [str(len(rows_of(task, split))) for split in SPLITS]
    assert list(table("Tasks")) == list(table("Second annotation")) == STARTER

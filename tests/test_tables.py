"""Tables as they are, and templates by plain Jinja's rules: setup, undefined, strip, empty, choices in a text."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import taskmix
from taskmix.catalog.loading import load_catalog
from taskmix.errors import CatalogError, TemplateError
from taskmix.previewing import preview
from taskmix.templates.sandbox import END, START

Project = Callable[..., Path]

CATALOG = """\
version: 1
tasks:
  quiz:
    kind: table
    cluster: quiz
    source: {path: data/quiz}
    columns: {first: options.text}
mixtures:
  m: {tasks: [quiz], decontamination: off}
default_mixture: m
"""
ROWS: list[dict[str, object]] = [
    {"ask-1": f"What is {i}?", "options": {"text": [f"o{i}", "|||", f" p{i} "]}, "right": i % 3, "hint": None}
    for i in range(12)
]
ROWS[3]["right"] = 7
PICK = """\
- name: pick
  undefined: empty
  strip: true
  empty: drop
  choices: "{{ options.text | join('###') }}"
  choices_separator: "###"
  setup: |-
    {% set order = [[0, 1, 2], [2, 1, 0]] | choice %}
    this text is dropped
  instruction: |2-

      {{ ask_1 }} {{ missing }}{{ hint }}
    {% for i in order %}{{ choices[i] }};{% endfor %}
  output: |
    {{ choices[right] }}
"""


def files(template: str = PICK, rows: list[dict[str, object]] = ROWS) -> dict[str, str]:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    return {"templates/quiz.yaml": template, "data/quiz/train.jsonl": text, "data/quiz/validation.jsonl": text}


def built(project: Project, catalog: str = CATALOG, **given: object) -> Path:
    path = project(catalog, files(**given))  # type: ignore[arg-type]
    taskmix.build(catalog=load_catalog(path), out=path.parent / "out")
    return path.parent / "out"


def split(folder: Path, name: str) -> list[dict[str, object]]:
    found = pl.concat([pl.read_parquet(file) for file in sorted((folder / "data").glob(f"{name}-*.parquet"))])
    return found.sort("source_row", "template").to_dicts()


def test_a_table_is_rendered_under_its_own_columns_by_plain_jinjas_rules(project: Project) -> None:
    rows = split(built(project), "train")
    assert [row["source_row"] for row in rows] == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]
    for row in rows:
        i = int(str(row["source_row"]))
        orders = [f"o{i};|||;p{i};", f"p{i};|||;o{i};"]
        # a null prints, what is missing does not; whitespace goes around the whole, not inside
        assert row["prompt"] in [f"What is {i}? None\n{order}\n\n" for order in orders]
        assert row["completion"] == [f"o{i}", "|||", f"p{i}"][i % 3]


def test_in_evaluation_the_words_are_listed_with_the_one_that_is_right(project: Project) -> None:
    row = split(built(project), "validation")[1]
    assert (row["choices"], row["answer"]) == (["o1", "|||", "p1"], 1)
    assert row["references"] == ["|||"]


def test_an_output_that_is_none_of_the_words_has_no_answer(project: Project) -> None:
    changed = PICK.replace("{{ choices[right] }}", "So: {{ choices[right] }}")
    row = split(built(project, template=changed), "validation")[1]
    assert (row["choices"], row["answer"], row["references"]) == (["o1", "|||", "p1"], None, ["So: |||"])


def test_without_choices_evaluation_lists_none(project: Project) -> None:
    plain = '- {name: a, instruction: "{{ ask_1 }}", output: "{{ first[0] }}"}\n'
    row = split(built(project, template=plain), "validation")[1]
    assert (row["choices"], row["answer"], row["references"]) == (None, None, ["o1"])


def test_rows_that_a_template_leaves_empty_are_counted_in_lock_and_card(project: Project) -> None:
    folder = built(project)
    lock = json.loads((folder / "mix.lock.json").read_text("utf-8"))
    assert [(part["dropped"]["where"], part["dropped"]["empty"]) for part in lock["plan"]] == [(0, 1)] * 2
    assert [part["rows"] for part in lock["plan"]] == [11, 11]
    card = (folder / "README.md").read_text("utf-8")
    assert "| quiz | train | 12 | 0 | 0 | 0 | 0 | 0 | 1 | 11 |" in card


def test_a_preview_marks_what_comes_from_the_data(project: Project) -> None:
    path = project(CATALOG, files())
    [shown] = preview("quiz", catalog=load_catalog(path), rows=1)
    prompt, completion = shown.marked
    assert prompt.startswith(f"{START}What is ")
    assert completion == f"{START}{shown.completion}{END}"
    assert prompt.replace(START, "").replace(END, "") == shown.prompt


def test_a_preview_shows_rows_that_the_template_does_not_drop(project: Project) -> None:
    only_five = '- {name: a, empty: drop, instruction: "{% if right == 7 %}Yes{% endif %}", output: "{{ right }}"}\n'
    path = project(CATALOG, files(only_five))
    for seed in range(4):
        [shown] = preview("quiz", catalog=load_catalog(path), rows=1, seed=seed)
        assert (shown.source_row, shown.completion) == (3, "7")


def test_an_empty_instruction_drops_the_row_too(project: Project) -> None:
    asked = "{% if right == 1 %}{{ ask_1 }}{% endif %}"
    only_ones = f'- {{name: a, empty: drop, instruction: "{asked}", output: "{{{{ right }}}}"}}\n'
    assert [row["source_row"] for row in split(built(project, template=only_ones), "train")] == [1, 4, 7, 10]


def test_where_every_row_is_empty_the_task_is_named(project: Project) -> None:
    nothing = '- {name: a, empty: drop, instruction: "{{ ask_1 }}", output: " ", strip: true}\n'
    with pytest.raises(CatalogError, match="no row of the task quiz is left of 12: 12 are empty"):
        built(project, template=nothing)


def test_the_setup_runs_for_every_part_and_draws_the_same(project: Project) -> None:
    twice = """\
- name: a
  setup: "{% set n = range(1000) | choice %}"
  instruction: "{{ n }}"
  input: "{{ n }}"
  output: "{{ n }}"
"""
    rows = split(built(project, template=twice), "train")
    assert all(row["prompt"] == f"{row['completion']}\n\n{row['completion']}\n\n" for row in rows)
    assert len({row["completion"] for row in rows}) > 6


def test_a_strict_template_still_refuses_what_is_missing(project: Project) -> None:
    strict = '- {name: a, instruction: "{{ missing }}", output: "{{ right }}"}\n'
    with pytest.raises(TemplateError, match=r"quiz\.yaml:1: template a: the task quiz has no 'missing'"):
        built(project, template=strict)


def test_a_separator_needs_choices_that_are_one_text(project: Project) -> None:
    listed = '- {name: a, choices: [a, b], choices_separator: ",", instruction: x, output: y}\n'
    with pytest.raises(CatalogError, match="choices_separator cuts `choices` that are one text"):
        built(project, template=listed)


def test_a_table_without_a_template_file_is_refused(project: Project) -> None:
    path = project(CATALOG, {name: text for name, text in files().items() if "templates" not in name})
    with pytest.raises(CatalogError, match=r"the task quiz has no templates, and a table has none of its kind"):
        taskmix.build(catalog=load_catalog(path), out=path.parent / "out")


def test_equal_rows_of_a_table_are_cut_to_the_same_side(project: Project) -> None:
    cut = CATALOG.replace(
        "    columns:", "    splits: {train: train, validation: {from: train, fraction: 0.5}}\n    columns:"
    )
    folder = built(project, cut, rows=[{**row, "n": i // 4} for i, row in enumerate(ROWS[:4] * 8)])
    train, validation = ({str(row["prompt"]) for row in split(folder, name)} for name in ("train", "validation"))
    assert train
    assert validation
    lock = json.loads((folder / "mix.lock.json").read_text("utf-8"))
    assert sum(part["rows"] + part["dropped"]["empty"] for part in lock["plan"]) == 32
    rows = [row for name in ("train", "validation") for row in split(folder, name)]
    assert sorted(int(str(row["source_row"])) for row in rows) == [i for i in range(32) if i % 4 != 3]


def test_a_hyphen_in_a_columns_name_is_an_underscore_unless_that_is_taken(project: Project) -> None:
    both = '- {name: a, instruction: "{{ ask_1 }}", output: "{{ right }}"}\n'
    rows = [{"ask-1": "hyphen", "ask_1": "underscore", "right": 1, "options": {"text": ["x"]}}]
    assert split(built(project, template=both, rows=rows), "train")[0]["prompt"] == "underscore\n\n"

"""Which rows a mixture takes, with which template, and what it leaves out."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import taskmix
from taskmix.catalog.loading import load_catalog
from taskmix.errors import CatalogError
from taskmix.mixing.parts import Part
from taskmix.mixing.plan import Plan, make_plan
from taskmix.rendering import render
from taskmix.templates.files import read_templates
from taskmix.templates.rows import Alternatives
from tests.workers import WORKERS

Project = Callable[..., Path]

TASK = """\
  {name}:
    kind: text-classification
    cluster: {cluster}
    source: {{path: data/{name}}}
    labels: [no, yes]
"""


def rows(count: int, prefix: str = "row") -> str:
    return "".join(f'{{"text": "{prefix} {i}", "label": {i % 2}}}\n' for i in range(count))


def catalog(mixture: str, *tasks: tuple[str, str], extra: str = "") -> str:
    listed = "".join(TASK.format(name=name, cluster=cluster) + extra for name, cluster in tasks)
    return f"version: 1\ntasks:\n{listed}mixtures:\n  m: {{{mixture}}}\ndefault_mixture: m\n"


def data(*names: str, train: int = 200, validation: int = 60) -> dict[str, str]:
    return {f"data/{name}/train.jsonl": rows(train, name) for name in names} | {
        f"data/{name}/validation.jsonl": rows(validation, f"{name} v") for name in names
    }


def plan(project: Project, text: str, files: dict[str, str], seed: int | None = None) -> Plan:
    return make_plan(load_catalog(project(text, files)), seed=seed, workers=WORKERS)


def rows_of(part: Part) -> pl.DataFrame:
    """Return the examples of a part: `source_row`, `slot`, `template`, `shots`, `options`."""
    planned = [part.posing.assignment(numbers, turn.slot) for turn in part.turns for numbers in turn.rows.chunks()]
    return pl.concat(planned).sort("source_row", "slot", "template")


def counts(made: Plan) -> dict[tuple[str, str], int]:
    return {(part.split, part.task.name): len(part) for part in made.parts}


def test_every_row_trains_once_and_evaluation_rows_come_under_every_template(project: Project) -> None:
    made = plan(project, catalog("tasks: [a], evaluation: {rows: 25}", ("a", "c")), data("a"))
    assert counts(made) == {("train", "a"): 200, ("validation", "a"): 25 * 5}
    (train, validation) = made.parts
    assert rows_of(train)["source_row"].is_unique().all()
    assert rows_of(validation).group_by("source_row").len()["len"].unique().to_list() == [5]


def test_a_cap_takes_a_sample_of_rows_that_depends_on_the_seed_alone(project: Project) -> None:
    text = catalog("tasks: [a], sampling: {cap: 50}", ("a", "c"))
    first, again = (rows_of(plan(project, text, data("a")).parts[0]) for _ in range(2))
    other = rows_of(plan(project, text, data("a"), seed=7).parts[0])
    assert len(first) == len(other) == 50
    assert first.equals(again)
    assert not first.equals(other)


def test_a_larger_cap_keeps_the_rows_of_a_smaller_one(project: Project) -> None:
    small, large = (
        rows_of(plan(project, catalog(f"tasks: [a], sampling: {{cap: {cap}}}", ("a", "c")), data("a")).parts[0])
        for cap in (40, 90)
    )
    assert set(small.rows()) <= set(large.rows())


def test_templates_are_drawn_about_equally_often(project: Project) -> None:
    made = plan(project, catalog("tasks: [a]", ("a", "c")), data("a", train=5000))
    drawn = rows_of(made.parts[0]).group_by("template").len()["len"]
    assert len(drawn) == 5
    # five templates, 5,000 rows: a standard deviation of 28 each
    assert drawn.min() > 850  # type: ignore[operator]
    assert drawn.max() < 1150  # type: ignore[operator]


STYLED = """\
- {name: plain, instruction: "Say: {{ text }}", output: "{{ choices[label] }}"}
- {name: other, instruction: "Tell: {{ text }}", output: "{{ choices[label] }}"}
- {name: think, instruction: "Why: {{ text }}", output: "Hm. {{ choices[label] }}", style: chain-of-thought}
- {name: back, instruction: "Write: {{ choices[label] }}", output: "{{ text }}", style: inverted}
"""


@pytest.mark.parametrize(
    ("styles", "expected"),
    [
        ("", {"zero-shot": 1.0}),
        (
            "styles: {chain_of_thought: 0.5, inverted: 0.1}",
            {"zero-shot": 0.4, "chain-of-thought": 0.5, "inverted": 0.1},
        ),
        ("styles: {chain_of_thought: 1.0}", {"chain-of-thought": 1.0}),
    ],
)
def test_styled_templates_are_drawn_by_their_share_alone(
    styles: str, expected: dict[str, float], project: Project
) -> None:
    text = catalog(f"tasks: [a], {styles}".rstrip(", "), ("a", "c"))
    made = plan(project, text, {**data("a", train=4000), "templates/a.yaml": STYLED})
    train, validation = made.parts
    drawn = [train.templates[index].style for index in rows_of(train)["template"]]
    assert {style: drawn.count(style) / len(drawn) for style in set(drawn)} == pytest.approx(expected, abs=0.03)
    used = {"zero-shot"} | ({"chain-of-thought"} & set(expected))
    assert {template.style for template in validation.templates} == used


def test_withheld_templates_train_nothing_and_have_a_split_of_their_own(project: Project) -> None:
    text = catalog("tasks: [a], holdout: {templates: 2}", ("a", "c"))
    made = plan(project, text, data("a"))
    _, validation, withheld = made.parts
    names = {part.split: {template.name for template in part.templates} for part in made.parts}
    assert withheld.split == "heldout_templates"
    assert len(names["heldout_templates"]) == 2
    assert names["train"] == names["validation"]
    assert not names["train"] & names["heldout_templates"]
    assert set(rows_of(withheld)["source_row"]) == set(rows_of(validation)["source_row"])


def test_a_task_with_too_few_templates_withholds_none(project: Project) -> None:
    text = catalog("tasks: [a], holdout: {templates: 5}", ("a", "c"))
    assert {part.split for part in plan(project, text, data("a")).parts} == {"train", "validation"}


def test_a_held_out_cluster_is_evaluated_and_its_relatives_appear_nowhere(project: Project) -> None:
    extra = "    derived_from: [shared]\n"
    tasks = TASK.format(name="a", cluster="c") + extra + TASK.format(name="b", cluster="d") + extra
    text = (
        f"version: 1\ntasks:\n{tasks}{TASK.format(name='e', cluster='d')}"
        'mixtures:\n  m: {tasks: ["*"], holdout: {clusters: [c]}}\ndefault_mixture: m\n'
    )
    made = plan(project, text, data("a", "b", "e"))
    assert {(part.split, part.task.name) for part in made.parts} == {
        ("train", "e"),
        ("validation", "e"),
        ("heldout", "a"),
    }
    assert dict(made.excluded) == {"b": "a"}


@pytest.mark.parametrize(
    ("path", "related"), [("data/a/train.jsonl", True), ("data/a/t*.jsonl", True), ("data/a-other.jsonl", False)]
)
def test_a_folder_and_its_files_are_one_origin(path: str, related: bool, project: Project) -> None:
    tasks = "".join(TASK.format(name=name, cluster=name) for name in ("a", "b")).replace("data/b", path)
    text = f"version: 1\ntasks:\n{tasks}{TASK.format(name='e', cluster='e')}"
    mixture = 'mixtures:\n  m: {tasks: ["*"], holdout: {tasks: [a]}}\ndefault_mixture: m\n'
    made = plan(project, text + mixture, {**data("a", "e"), "data/a-other.jsonl": rows(9, "z")})
    assert (dict(made.excluded) == {"b": "a"}) is related


def test_a_cut_split_and_its_parent_share_no_row_and_no_text(project: Project) -> None:
    extra = "    splits: {train: train, validation: {from: train, fraction: 0.25}}\n"
    text = catalog("tasks: [a], duplicates: keep", ("a", "c"), extra=extra)
    doubled = rows(400, "x") + rows(400, "x")
    made = plan(project, text, {"data/a/train.jsonl": doubled})
    train, validation = (set(rows_of(part)["source_row"]) for part in made.parts)
    assert not train & validation
    assert train | validation == set(range(800))
    assert {row % 400 for row in train}.isdisjoint(row % 400 for row in validation)
    assert len(validation) / 800 == pytest.approx(0.25, abs=0.06)


def test_rows_outside_the_length_limits_are_dropped_before_the_cap(project: Project) -> None:
    long = rows(100) + "".join(f'{{"text": "{"w " * 200}{i}", "label": 0}}\n' for i in range(100))
    files = {"data/a/train.jsonl": long, "data/a/validation.jsonl": rows(10, "other")}
    text = catalog("tasks: [a], length: {max_chars: 300}, sampling: {cap: 80}", ("a", "c"))
    train = plan(project, text, files).parts[0]
    assert len(train) == 80
    assert rows_of(train)["source_row"].max() < 100  # type: ignore[operator]
    assert (train.counts.too_short_or_long, train.counts.usable) == (100, 100)


def test_length_limits_hold_for_conversations_too(project: Project) -> None:
    turns = '{{"messages": [{{"role": "user", "content": "{}"}}, {{"role": "assistant", "content": "ok"}}]}}\n'
    text = (
        "version: 1\ntasks:\n  a: {kind: conversation, cluster: c, source: {path: data/a}}\n"
        "mixtures:\n  m: {tasks: [a], format: messages, duplicates: keep, length: {max_chars: 12}}\n"
        "default_mixture: m\n"
    )
    files = {"data/a/train.jsonl": turns.format("x" * 10) * 3 + turns.format("x" * 11) * 2}
    (train,) = plan(project, text, files).parts
    assert (len(train), train.counts.too_short_or_long) == (3, 2)


def test_where_drops_rows_and_counts_them(project: Project) -> None:
    unlabelled = rows(50) + '{"text": "x", "label": -1}\n' * 7
    files = {"data/a/train.jsonl": unlabelled, "data/a/validation.jsonl": rows(10, "other")}
    text = catalog("tasks: [a]", ("a", "c"), extra='    where: "{{ label >= 0 }}"\n')
    train = plan(project, text, files).parts[0]
    assert (len(train), train.counts.where, train.counts.source) == (50, 7, 57)


def test_a_task_without_training_rows_cannot_train(project: Project) -> None:
    files = {"data/a/validation.jsonl": rows(10)}
    with pytest.raises(CatalogError, match="trains in this mixture, but has no train split"):
        plan(project, catalog("tasks: [a]", ("a", "c")), files)


def test_a_refused_licence_leaves_a_task_out_of_a_glob_and_says_so(project: Project) -> None:
    tasks = TASK.format(name="a", cluster="c") + "    license: mit\n" + TASK.format(name="b", cluster="c")
    text = (
        f'version: 1\ntasks:\n{tasks}mixtures:\n  m: {{tasks: ["*"], licenses: {{allow: [mit]}}}}\ndefault_mixture: m\n'
    )
    made = plan(project, text, data("a", "b"))
    assert {part.task.name for part in made.parts} == {"a"}
    assert dict(made.refused) == {"b": "unknown"}


def rendered(folder: Path, template: str, **columns: list[object]) -> pl.DataFrame:
    file = folder / "t.yaml"
    file.write_text(template)
    frame = pl.DataFrame(columns).with_row_index("source_row").with_columns(draw=pl.lit(0, pl.UInt64))
    return render(frame, read_templates(file)[0], "a", Alternatives(True, ("answer", "answers")), WORKERS).rows


def test_choices_are_the_output_for_each_label_whatever_words_it_uses(tmp_path: Path) -> None:
    template = (
        "- {name: t, instruction: Hi, output: \"Answer {{ 'AB'[label] }}, {{ choices[label] }}\", choices: [x, y]}"
    )
    found = rendered(tmp_path, template, label=[1, 0], choices=[["no", "yes"]] * 2)
    assert found["choices"].to_list() == [["Answer A, x", "Answer B, y"]] * 2
    assert found["answer"].to_list() == [1, 0]
    assert found["output"].to_list() == ["Answer B, y", "Answer A, x"]
    assert found["references"].to_list() == [["Answer B, y"], ["Answer A, x"]]


@pytest.mark.parametrize("output", ["{{ choices[label] }}: {{ text }}", "{{ text }}"])
def test_an_output_that_depends_on_more_than_the_label_has_no_choices(output: str, tmp_path: Path) -> None:
    template = f'- {{name: t, instruction: Hi, output: "{output}"}}'
    found = rendered(tmp_path, template, text=["x"], label=[1], choices=[["no", "yes"]])
    assert found.select("choices", "answer").row(0) == (None, None)


def test_references_are_the_output_for_each_accepted_answer(tmp_path: Path) -> None:
    template = "- {name: t, instruction: Hi, output: \"It is {{ answer or 'unknown' }}.\"}"
    found = rendered(tmp_path, template, answer=["1987", ""], answers=[["1987", "in 1987"], []])
    assert found["references"].to_list() == [["It is 1987.", "It is in 1987."], ["It is unknown."]]
    assert found["output"].to_list() == ["It is 1987.", "It is unknown."]


def test_an_example_is_previewed_with_its_variables_marked() -> None:
    shown = next(taskmix.preview("review-sentiment", template="pick-a-letter"))
    start, end = "\ue000", "\ue001"
    assert shown.prompt == shown.marked[0].replace(start, "").replace(end, "")
    assert shown.completion == shown.marked[1].replace(start, "").replace(end, "")
    assert f"Review: {start}" in shown.marked[0]


def test_duplicates_leave_train_and_the_first_of_each_stays(project: Project) -> None:
    files = {"data/a/train.jsonl": rows(50) + rows(30) + '{"text": "row 0", "label": 1}\n'}
    (train,) = plan(project, catalog("tasks: [a]", ("a", "c")), files).parts
    assert (len(train), train.counts.duplicates, train.counts.usable) == (51, 30, 51)
    assert rows_of(train)["source_row"].to_list() == [*range(50), 80]
    (kept,) = plan(project, catalog("tasks: [a], duplicates: keep", ("a", "c")), files).parts
    assert (len(kept), kept.counts.duplicates) == (81, 0)


def test_rows_of_evaluation_splits_leave_train_before_the_cap(project: Project) -> None:
    validation = "".join(f'{{"text": "Row, {i}!", "label": 0}}\n' for i in range(10))
    files = {"data/a/train.jsonl": rows(60), "data/a/validation.jsonl": validation}
    made = plan(project, catalog("tasks: [a], sampling: {cap: 50}", ("a", "c")), files)
    train = made.parts[0]
    assert (len(train), dict(train.counts.contaminated)) == (50, {"exact": 10})
    assert rows_of(train)["source_row"].min() == 10
    assert sorted(made.dropped["source_row"]) == list(range(10))
    assert set(made.dropped["evaluation_split"]) == {"validation"}
    everything = catalog("tasks: [a], decontamination: off", ("a", "c"))
    assert len(plan(project, everything, files).parts[0]) == 60

"""What is wrapped around rendered templates: lists of options, worked examples, a system message."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmix import hashing
from taskmix.building import build
from taskmix.catalog.loading import load_catalog
from taskmix.catalog.models import OptionsSpec
from taskmix.mixing.assignment import SHOTS, SLOT, TEMPLATE
from taskmix.mixing.examples import Exemplars, examples, posed, takes_options
from taskmix.mixing.parts import Part
from taskmix.mixing.plan import Plan, make_plan
from taskmix.mixing.styles import BETWEEN_SHOTS, Shown, largest_prime, option_lists, worked_examples
from taskmix.rowsets import RowSet
from taskmix.sources import opening
from tests.workers import WORKERS

Project = Callable[..., Path]

DRAWS = st.integers(0, 2**64 - 1)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Zl", "Zp", "Cc"]), max_size=6)


# Lists of options


def naive_list(choices: list[str], draw: int, spec: OptionsSpec) -> str:
    """One row's list, in plain Python."""
    choices = [*dict.fromkeys(word for word in choices if word)]
    places = list(range(len(choices)))
    if hashing.draw(1, draw) < hashing.threshold(spec.shuffled):
        places.sort(key=lambda place: hashing.draw(draw, place))
    lettered = hashing.draw(2, draw) < hashing.threshold(spec.lettered) and len(choices) <= 26
    marks = [f"({chr(65 + at)}) " if lettered else "- " for at in range(len(choices))]
    return f"\n\n{spec.heading}\n" + "\n".join(mark + choices[place] for mark, place in zip(marks, places, strict=True))


@given(
    rows=st.lists(st.tuples(st.lists(WORDS, min_size=1, max_size=30), DRAWS), min_size=1, max_size=12),
    lettered=st.sampled_from([0.0, 0.5, 1.0]),
    shuffled=st.sampled_from([0.0, 0.5, 1.0]),
    heading=st.sampled_from(["Options:", "Möglichkeiten:", "選択肢"]),
)
def test_lists_of_options_are_those_that_plain_python_makes(
    rows: list[tuple[list[str], int]], lettered: float, shuffled: float, heading: str
) -> None:
    spec = OptionsSpec(share=1.0, lettered=lettered, shuffled=shuffled, heading=heading)
    choices = pl.Series([each for each, _ in rows], dtype=pl.List(pl.String))
    draws = np.array([draw for _, draw in rows], np.uint64)
    assert option_lists(choices, draws, spec).to_list() == [naive_list(*row, spec) for row in rows]
    # by row: the others of the batch do not matter
    assert option_lists(choices[-1:], draws[-1:], spec).to_list() == [naive_list(*rows[-1], spec)]


@given(choices=st.lists(WORDS.filter(bool), min_size=1, max_size=40, unique=True), draw=DRAWS)
def test_every_option_comes_once(choices: list[str], draw: int) -> None:
    listed = option_lists(pl.Series([choices]), np.array([draw], np.uint64), OptionsSpec(share=1.0))[0]
    blank, *lines = listed.removeprefix("\n").split("\n")
    assert (blank, lines[0]) == ("", "Options:")
    assert sorted(line.split(" ", 1)[1] for line in lines[1:]) == sorted(choices)
    marks = [line.split(" ", 1)[0] for line in lines[1:]]
    assert marks in (["-"] * len(choices), [f"({chr(65 + at)})" for at in range(len(choices))])
    assert len(choices) <= 26 or set(marks) == {"-"}


def test_an_order_of_its_own_has_every_option_first_about_as_often() -> None:
    choices, draws = pl.Series([["a", "b", "c"]] * 6000), hashing.draw(np.uint64(3), np.arange(6000, dtype=np.uint64))
    spec = OptionsSpec(share=1.0, lettered=0.0, shuffled=1.0)
    first = option_lists(choices, draws, spec).str.split("\n").list.get(3).value_counts()
    assert len(first) == 3
    assert all(abs(number - 2000) < 200 for number in first["count"])


def test_labels_of_one_word_are_one_option_and_those_of_none_are_none() -> None:
    spec = OptionsSpec(share=1.0, lettered=1.0, shuffled=0.0)
    listed = option_lists(pl.Series([["yes", "no", "no", ""]]), np.zeros(1, np.uint64), spec)
    assert listed.to_list() == ["\n\nOptions:\n(A) yes\n(B) no"]


def test_a_row_without_choices_has_no_list() -> None:
    listed = option_lists(pl.Series([["a"], None, ["b"]]), np.zeros(3, np.uint64), OptionsSpec(share=1.0, lettered=1.0))
    assert listed.to_list() == ["\n\nOptions:\n(A) a", None, "\n\nOptions:\n(A) b"]


# Worked examples


@given(
    there_are=st.integers(2, 61),
    rows=st.lists(st.tuples(st.integers(0, 70), st.integers(0, 32), DRAWS), min_size=1, max_size=20),
)
def test_worked_examples_are_as_many_distinct_others_as_are_asked_for(
    there_are: int, rows: list[tuple[int, int, int]]
) -> None:
    shown = Shown(np.arange(there_are, dtype=np.uint64), (pl.Series([f"<{row}>" for row in range(there_are)]),))
    own, asked, draws = (np.array(each, np.uint64) for each in zip(*rows, strict=True))
    counts = np.minimum(asked, shown.most).astype(np.uint8)
    look = np.zeros(len(rows), np.intp)
    found = worked_examples(counts, draws, own, shown, look)
    for row, count, text in zip(own, counts, found, strict=True):
        pieces = text.split(BETWEEN_SHOTS)
        assert pieces.pop() == ""
        assert len(pieces) == len(set(pieces)) == count
        assert f"<{row}>" not in pieces


@given(limit=st.integers(2, 500))
def test_the_largest_prime(limit: int) -> None:
    found = largest_prime(limit)
    assert all(found % divisor for divisor in range(2, found))
    assert all(any(n % divisor == 0 for divisor in range(2, n)) for n in range(found + 1, limit + 1))


def test_worked_examples_are_drawn_about_equally_often() -> None:
    shown = Shown(np.arange(7, dtype=np.uint64), (pl.Series([*"abcdefg"]),))
    draws = hashing.draw(np.uint64(5), np.arange(7000, dtype=np.uint64))
    none, twos = np.full(7000, 99, np.uint64), np.full(7000, 2, np.uint8)
    found = worked_examples(twos, draws, none, shown, np.zeros(7000, np.intp))
    pairs = found.str.split(BETWEEN_SHOTS).list.head(2)
    assert all(abs(number - 2000) < 200 for number in pairs.explode().value_counts()["count"])
    # either order of every two
    assert len(pairs.unique()) == 7 * 6


# Both, in a mixture

LABELLED = """\
version: 1
tasks:
  a:
    kind: text-classification
    cluster: c
    source: {{path: data/a}}
    labels: [schlecht, gut, "weiß nicht"]
  b: {{kind: text-generation, cluster: d, source: {{path: data/b}}}}
mixtures:
  m: {{decontamination: off, {mixture}}}
default_mixture: m
"""
TEMPLATES = """\
- {name: ask, instruction: "Wie?", input: "{{ text }}", output: "{{ choices[label] }}"}
- {name: below, instruction: "{{ text }}\\n\\nWie?", output: "{{ choices[label] }}", separator: " "}
- {name: bare, instruction: "{{ '' }}", input: "{{ text }} =>", output: "{{ choices[label] }}", ending: " "}
- {name: lists, instruction: "{{ choices | join(', ') }}?", input: "{{ text }}", output: "{{ choices[label] }}"}
- {name: mixed, instruction: "Wie?", input: "{{ text }}", output: "{{ text }}: {{ choices[label] }}"}
- {name: never, instruction: "Wie?", input: "{{ text }}", output: "{{ choices[label] }}", options: false}
- {name: think, instruction: "Warum?", input: "{{ text }}", output: "Hm. {{ choices[label] }}", style: chain-of-thought}
- {name: back, instruction: "Schreib: {{ choices[label] }}", output: "{{ text }}", style: inverted}
- {name: some, instruction: "Nur gut?", input: "{{ text }}", output: "{{ choices[label] if label else '' }}",
   empty: drop}
"""
B = '- {name: say, instruction: "Say {{ input }}", output: "{{ target }}"}\n'


def rows(split: str, count: int) -> str:
    return "".join(f'{{"text": "{split} {i} – naïve", "label": {i % 3}}}\n' for i in range(count))


def files(train: int = 90) -> dict[str, str]:
    pairs = "".join(f'{{"input": "i{i}", "target": "o{i}"}}\n' for i in range(30))
    return {
        "data/a/train.jsonl": rows("train", train),
        "data/a/validation.jsonl": rows("validation", 9),
        "data/b/train.jsonl": pairs,
        "data/b/validation.jsonl": pairs.replace(': "i', ': "v'),
        "templates/a.yaml": TEMPLATES,
        "templates/b.yaml": B,
    }


def plan(project: Project, mixture: str, more: Mapping[str, str] | None = None, text: str = LABELLED) -> Plan:
    catalog = load_catalog(project(text.format(mixture=mixture), {**files(), **(more or {})}))
    return make_plan(catalog, workers=WORKERS)


def part(made: Plan, split: str, task: str = "a") -> Part:
    (found,) = (each for each in made.parts_of(split) if each.task.name == task)
    return found


def shown_rows(part: Part) -> Iterator[tuple[dict[str, object], str]]:
    """Yield every example of a part with the name of its template, however many columns it has."""
    for frame in posed(part.posing, part.turns):
        for row in frame.iter_rows(named=True):
            yield row, part.templates[row[TEMPLATE]].name


def alone(part: Part, template: str) -> dict[str, int]:
    """Return the rows of a part's task that may be shown, by their prompt and completion under a template, alone."""
    split = part.task.splits["train"]
    every = RowSet.of(batch["source_row"].to_numpy() for batch in part.task.batches(split, ()))
    (chosen,) = (each for each in part.task.templates if each.name == template)
    frames = examples(part.task, split, [chosen], every, part.posing.seed, evaluation=False)
    whole = pl.concat(frame.drop_nulls("output") for frame in frames)
    return dict(zip(whole["prompt"] + whole["output"], whole["source_row"].to_list(), strict=True))


def plain_prompt(part: Part, row: Mapping[str, object], template: str) -> str:
    (chosen,) = (each for each in part.templates if each.name == template)
    only = RowSet.of([np.array([row["source_row"]], np.uint64)])
    (frame,) = examples(part.task, part.source, [chosen], only, part.posing.seed, evaluation=False)
    return str(frame["prompt"][0])


def check_shots(found: Part, most: int, least: int = 1) -> set[int]:
    """Check every example of a part against its rows and templates rendered alone; return the numbers of shots."""
    numbers, texts = set(), {each.name: alone(found, each.name) for each in found.templates}
    for row, template in shown_rows(found):
        prompt, own = str(row["prompt"]), plain_prompt(found, row, template)
        assert prompt.endswith(own)
        shots = prompt.removesuffix(own).split(BETWEEN_SHOTS)
        assert shots.pop() == ""
        # each of them is a training row under this very template, to the character
        shown = [texts[template][shot] for shot in shots]
        assert len(shown) == len(set(shown)) == row[SHOTS]
        assert found.source != found.task.splits["train"] or row["source_row"] not in shown
        assert row[SHOTS] == 0 or least <= len(shown) <= most
        numbers.add(len(shown))
    return numbers


STYLED = "styles: {few_shot: {share: 0.8, k: [2, 4]}, chain_of_thought: 0.2, inverted: 0.2}"


def test_worked_examples_are_other_training_rows_under_the_same_template(project: Project) -> None:
    made = plan(project, f"tasks: [a], {STYLED}, sampling: {{passes: 2}}")
    found = part(made, "train")
    assert check_shots(found, 4, 2) == {0, 2, 3, 4}
    assert {template for row, template in shown_rows(found) if row[SHOTS]} == {each.name for each in found.templates}


def test_evaluation_has_none_unless_the_mixture_says_so(project: Project) -> None:
    made = plan(project, f"tasks: [a, b], {STYLED}, holdout: {{tasks: [b], templates: 1}}")
    for split in ("validation", "heldout_templates", "heldout"):
        for found in made.parts_of(split):
            assert check_shots(found, 0) == {0}


def test_evaluation_shows_training_rows_where_the_mixture_says_so(project: Project) -> None:
    few = "evaluation: {few_shot: {k: 3}}"
    made = plan(project, f"tasks: [a, b], {few}, holdout: {{tasks: [b], templates: 2}}")
    assert check_shots(part(made, "validation"), 3, 3) == {3}
    assert check_shots(part(made, "heldout_templates"), 3, 3) == {3}
    assert check_shots(part(made, "heldout", "b"), 0) == {0}
    assert check_shots(part(made, "train"), 0) == {0}


def test_a_held_out_task_shows_its_own_training_rows_only_where_the_mixture_says_so(project: Project) -> None:
    few = "evaluation: {few_shot: {k: 2, splits: [heldout]}}"
    made = plan(project, f"tasks: [a, b], {few}, holdout: {{tasks: [b]}}")
    assert check_shots(part(made, "heldout", "b"), 2, 2) == {2}
    assert check_shots(part(made, "validation"), 0) == {0}
    assert {each.task.name for each in made.parts_of("train")} == {"a"}


def test_a_held_out_task_with_training_rows_alone_shows_those_that_are_not_evaluated(project: Project) -> None:
    few = "evaluation: {rows: 20, few_shot: {k: 2, splits: [heldout]}}"
    text = LABELLED.replace("source: {{path: data/b}}", "source: {{path: data/b/train.jsonl}}")
    found = part(plan(project, f"tasks: [a, b], {few}, holdout: {{tasks: [b]}}", text=text), "heldout", "b")
    assert check_shots(found, 2, 2) == {2}
    evaluated = {row["source_row"] for row, _ in shown_rows(found)}
    shown = {
        alone(found, "say")[shot]
        for row, _ in shown_rows(found)
        for shot in str(row["prompt"]).split(BETWEEN_SHOTS)[:-1]
    }
    assert len(evaluated) == 20
    assert shown
    assert shown.isdisjoint(evaluated)


def test_where_every_row_is_evaluated_none_is_left_to_show(project: Project) -> None:
    few = "evaluation: {few_shot: {k: 2, splits: [heldout]}}"
    text = LABELLED.replace("source: {{path: data/b}}", "source: {{path: data/b/train.jsonl}}")
    found = part(plan(project, f"tasks: [a, b], {few}, holdout: {{tasks: [b]}}", text=text), "heldout", "b")
    assert check_shots(found, 0) == {0}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 9])
def test_small_tasks_show_as_many_as_they_have(count: int, project: Project) -> None:
    styles = "styles: {few_shot: {share: 1.0, k: [1, 32]}}, sampling: {templates: 5}"
    found = part(plan(project, f"tasks: [a], {styles}", {"data/a/train.jsonl": rows("few", count)}), "train")
    assert max(check_shots(found, count - 1)) == (largest_prime(count) - 1 if count > 1 else 0)


def test_rows_that_a_template_leaves_empty_are_not_shown(project: Project) -> None:
    styles = "styles: {few_shot: {share: 1.0, k: [2, 2]}, options: 0.5}, sampling: {templates: all}"
    # one row in three is left empty by the template `some`; of three rows, only two are not
    for count, expected in ((60, {2}), (3, {0})):
        more = {"data/a/train.jsonl": rows("few", count)}
        found = part(plan(project, f"tasks: [a], {styles}", more), "train")
        shots = {row[SHOTS] for row, template in shown_rows(found) if template == "some" and row["output"]}
        assert shots == expected
        assert found.counts.empty == count // 3


def test_a_cap_bounds_the_rows_that_are_shown(project: Project) -> None:
    full = {"templates/a.yaml": TEMPLATES.partition("- {name: some")[0]}
    found = part(plan(project, f"tasks: [a], {STYLED}, sampling: {{cap: 7, passes: 9}}", full), "train")
    used, shown = {row["source_row"] for row, _ in shown_rows(found)}, set()
    for row, template in shown_rows(found):
        shown |= {alone(found, template)[shot] for shot in str(row["prompt"]).split(BETWEEN_SHOTS)[:-1]}
    assert len(used) == 7
    assert shown
    assert shown <= used


def test_options_follow_the_templates_whose_answer_is_one_of_them(project: Project) -> None:
    found = part(plan(project, "tasks: [a], styles: {options: 1.0}, sampling: {templates: all}"), "train")
    with_options = {template for row, template in shown_rows(found) if row["options"]}
    assert with_options == {"ask", "below", "bare", "some"}
    assert with_options == {each.name for each in found.templates if takes_options(found.task, each)} - {"think"}
    for row, template in shown_rows(found):
        prompt, ending = str(row["prompt"]), str(row["ending"])
        own = plain_prompt(found, row, template).removesuffix(ending)
        assert prompt.startswith(own)
        listed = prompt.removeprefix(own).removesuffix(ending).split("\n")
        if not row["options"]:
            assert listed == [""]
            continue
        assert listed[:3] == ["", "", "Options:"]
        options = [line.removeprefix("- ") if line[0] == "-" else line[4:] for line in listed[3:]]
        assert {*options} <= {"gut", "schlecht", "weiß nicht"}
        assert len(options) == 2 + (template != "some")
        assert row["output"] in options


def test_a_template_with_examples_of_its_own_gets_no_others(project: Project) -> None:
    templates = TEMPLATES.replace("- {name: ask,", "- {name: ask, few_shot: false,")
    made = plan(
        project,
        "tasks: [a], styles: {few_shot: {share: 1.0}}, evaluation: {few_shot: {k: 2, splits: [validation]}}, "
        "sampling: {templates: all}",
        {"templates/a.yaml": templates},
    )
    for split in ("train", "validation"):
        rows = list(shown_rows(part(made, split)))
        assert {template for row, template in rows if not row["shots"]} == {"ask"}
        assert {template for row, template in rows if row["shots"]} >= {"below", "bare"}


@pytest.mark.parametrize("mark", ["- ", "(A) "])
def test_lists_of_one_prompt_are_of_one_look(mark: str, project: Project) -> None:
    made = plan(project, "tasks: [a], styles: {options: 1.0, few_shot: {share: 1.0, k: [3, 3]}}, sampling: {passes: 4}")
    found = 0
    for row, _ in shown_rows(part(made, "train")):
        lists = str(row["prompt"]).split("Options:\n")[1:]
        if row["options"]:
            assert len(lists) == 4
            assert len({each.startswith("- ") for each in lists}) == 1
            found += lists[0].startswith(mark)
    assert found


def test_the_order_of_a_shuffled_list_is_another_in_another_pass(project: Project) -> None:
    styles = "styles: {options: {share: 1.0, lettered: 0.0, shuffled: 1.0}}"
    one = {"templates/a.yaml": TEMPLATES.partition("\n")[0] + "\n"}
    found = part(plan(project, f"tasks: [a], {styles}, sampling: {{passes: 2}}", one), "train")
    prompts = {(row["source_row"], row[SLOT]): row["prompt"] for row, _ in shown_rows(found)}
    same = sum(prompts[row, 0] == prompts[row, 1] for row in range(90))
    assert 0 < same < 40


CHATS = """\
version: 1
tasks:
  chat: {kind: conversation, cluster: c, source: {path: data/chat}}
mixtures:
  m:
    tasks: [chat]
    format: messages
    styles: {few_shot: {share: 1.0}, options: 1.0, system: Be kind.}
    evaluation: {few_shot: {k: 2}}
    decontamination: off
default_mixture: m
"""


def test_conversations_have_neither_examples_nor_options_and_keep_a_system_message(
    project: Project, tmp_path: Path
) -> None:
    turn = '{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}'
    own = '{"messages": [{"role": "system", "content": "Be brief."}, %s]}\n' % turn  # noqa: UP031
    text = own + '{"messages": [%s]}\n' % turn  # noqa: UP031
    catalog = load_catalog(project(CHATS, {"data/chat/train.jsonl": text, "data/chat/validation.jsonl": text}))
    build(catalog=catalog, out=tmp_path / "out")
    for split in ("train", "validation"):
        found = pl.read_parquet(tmp_path / "out" / "data" / f"{split}-*.parquet").sort("source_row")
        assert found["style"].to_list() == ["zero-shot"] * 2
        first = [messages[0] for messages in found["messages"].to_list()]
        assert [each["content"] for each in first] == ["Be brief.", "Be kind."]
        assert [len(messages) for messages in found["messages"].to_list()] == [3, 3]


# What the formats make of them


def whole_text(row: Mapping[str, object], form: str, ending: str, separator: str) -> str:
    """Put an example of a format together again, without a system message."""
    if form == "text":
        return str(row["text"])
    if form == "prompt-completion":
        return f"{row['prompt']}{row['completion']}"
    if form == "alpaca":
        between = separator if row["input"] else ""
        return f"{row['instruction']}{between}{row['input']}{ending}{row['output']}"
    turns = row["messages"] if form == "messages" else row["conversations"]
    assert isinstance(turns, list)
    asked, answer = (turn.get("content", turn.get("value")) for turn in turns[-2:])
    return f"{asked}{ending}{answer}"


@pytest.mark.parametrize("form", ["prompt-completion", "messages", "alpaca", "sharegpt", "text"])
def test_every_format_holds_the_same_styled_examples_after_its_system_message(form: str, project: Project) -> None:
    styles = "few_shot: {share: 0.5}, options: 0.5, inverted: 0.1"
    plain = plan(project, f"tasks: [a], styles: {{{styles}}}")
    train = part(plain, "train")
    endings = {each.name: (each.ending, each.separator) for each in train.templates}
    expected = {row["source_row"]: f"{row['prompt']}{row['output']}" for row, _ in shown_rows(train)}
    text = LABELLED.format(mixture=f"tasks: [a], styles: {{{styles}, system: Sei nett.}}, format: {form}")
    out = project(text, files()).parent / "out"
    build(catalog=load_catalog(out.parent / "catalog.yaml"), out=out)
    for row in pl.read_parquet(out / "data" / "train-*.parquet").iter_rows(named=True):
        if form in ("messages", "sharegpt"):
            turns = row.get("messages") or row["conversations"]
            assert turns[0] in ({"role": "system", "content": "Sei nett."}, {"from": "system", "value": "Sei nett."})
            assert len(turns) == 3
            shown = whole_text(row, form, *endings[row["template"]])
        else:
            shown = whole_text(row, form, *endings[row["template"]])
            assert shown.startswith("Sei nett.\n\n")
            shown = shown.removeprefix("Sei nett.\n\n")
        assert shown == expected[row["source_row"]]


def test_how_rows_are_cut_into_batches_does_not_matter(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    styles = "styles: {few_shot: {share: 0.5}, options: 0.5, inverted: 0.1}, sampling: {templates: 2, size: 400}"
    texts = []
    for size in (1 << 16, 7):
        monkeypatch.setattr(opening, "BATCH_ROWS", size)
        found = part(plan(project, f"tasks: [a], {styles}, length: {{max_chars: 700}}"), "train")
        texts.append({(row["source_row"], row[SLOT]): row["prompt"] for row, _ in shown_rows(found)})
    assert len(texts[0]) == 400
    assert texts[0] == texts[1]


def test_the_rows_that_are_shown_are_the_same_however_many_threads_ask(project: Project) -> None:
    found = part(plan(project, f"tasks: [a], {STYLED}"), "train")
    exemplars = found.posing.exemplars
    assert isinstance(exemplars, Exemplars)
    first = exemplars.shown(found.templates[0], options=True)
    assert first is exemplars.shown(found.templates[0], options=True)
    assert len(first.rows) == 61
    assert len(first.looks) == 2

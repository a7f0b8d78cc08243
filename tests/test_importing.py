"""`mix import`: what each format becomes, what is refused and why, and files that mean harm."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

import taskmix
from taskmix.catalog import yamlfile
from taskmix.catalog.loading import load_catalog
from taskmix.catalog.models import NAME
from taskmix.cli import main
from taskmix.importers import writing
from taskmix.importers.naming import readable
from taskmix.importers.natural_instructions import import_natural_instructions
from taskmix.templates.files import read_templates
from tests.conftest import ROOT, SHARED
from tests.pool import POOL

EXAMPLES = ROOT / "examples" / "importing"
SAMPLE = SHARED / "natural-instructions"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the example files."""
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mix(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), prog_name="mix")


def imported(*arguments: str) -> dict[str, Any]:
    """Run `mix import … --out out --json` and return what it prints."""
    done = mix("import", *arguments, "--out", "out", "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def reasons(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(f"{each['file']}:{each['line']}", each["reason"]) for each in summary["refused"]]


def write(name: str, text: str | bytes) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# promptsource


def prompts(*templates: str, head: str = "dataset: d") -> str:
    return f"{head}\ntemplates:\n" + "".join(templates)


def prompt(jinja: str, name: str = "a", choices: str = "null", uuid: str = "u1") -> str:
    return (
        f"  {uuid}: !Template\n    id: {uuid}\n    name: {json.dumps(name)}\n    jinja: {json.dumps(jinja)}\n"
        f"    answer_choices: {choices}\n    reference: ''\n    metadata: !TemplateMetadata\n      languages: [en]\n"
    )


def test_the_example_prompts_become_a_table_task(work: Path) -> None:
    summary = imported("promptsource", "promptsource")
    assert reasons(summary) == [
        ("harbour_notes/templates.yaml:48", "uses the filter `format`, which templates may not use")
    ]
    calm, rough = read_templates(Path("out/templates/harbour_notes.yaml"))
    assert (calm.name, calm.choices, calm.spec.output) == ("calm-or-rough", ("calm", "rough"), "{{choices[sea]}}")
    assert rough.spec.setup == "{% set boat = boats | choice %}"
    task = load_catalog(Path("out/catalog.yaml")).tasks["harbour_notes"]
    assert (task.spec.kind, task.spec.source.hub, task.spec.license) == ("table", "harbour_notes", "unknown")


def test_a_mixture_is_built_from_imported_prompts(work: Path) -> None:
    imported("promptsource", "promptsource")
    rows = [
        {
            "note": f"Note {i}.",
            "sea": i % 2,
            "boats": [{"name": "Tern", "hour": "one"}, {"name": "Gull", "hour": "two"}],
        }
        for i in range(20)
    ]
    folder = Path("mirror/harbour_notes")
    folder.mkdir(parents=True)
    pl.DataFrame(rows).write_parquet(folder / "train.parquet")
    built = taskmix.build(catalog=load_catalog(Path("out/catalog.yaml")), mirror=Path("mirror"), out=Path("m"))
    train = pl.read_parquet(sorted(Path("m/data").glob("train-*")))
    dropped = built.lock["plan"][0]["dropped"]["empty"]
    assert 0 < dropped < 20
    assert len(train) + dropped == 20
    for row in train.filter(pl.col("template") == "rough-days-only").rows(named=True):
        boat, hour = ("Tern", "one") if "Tern" in row["prompt"] else ("Gull", "two")
        assert row["completion"] == f"Note {row['source_row']}. The {boat} came in at {hour}."


def test_ids_of_the_hub_are_mapped(work: Path) -> None:
    write("ids.yaml", "harbour_notes: example-org/harbour-notes\n")
    imported("promptsource", "promptsource", "--hub-ids", "ids.yaml")
    source = load_catalog(Path("out/catalog.yaml")).tasks["harbour_notes"].spec.source
    assert source.hub == "example-org/harbour-notes"


def test_a_raw_column_called_choices_gets_another_name(work: Path) -> None:
    write(
        "t/templates.yaml",
        prompts(
            prompt(
                "{{ choices.text }} {{ answer_choices }} ||| {{ answer_choices[0] }}", choices='"{{ choices.text }}"'
            ),
            prompt("{{ choices.label }} ||| {{ 'choices' }}", "b", uuid="u2"),
        ),
    )
    imported("promptsource", "t")
    first, second = read_templates(Path("out/templates/d.yaml"))
    assert first.spec.instruction == "{{ raw_choices.text }} {{ choices }}"
    assert (first.spec.choices, first.spec.choices_separator) == ("{{ raw_choices.text }}", "|||")
    assert (second.spec.instruction, second.spec.output) == ("{{ raw_choices.label }}", "{{ 'choices' }}")
    assert load_catalog(Path("out/catalog.yaml")).tasks["d"].spec.columns == {"raw_choices": "choices"}


def test_names_are_readable_and_unique(work: Path) -> None:
    names = ["Is it TRUE?", "is it true", "…", "次", "../../etc/passwd", "a\n- name: b", "Übung", "con"]
    write("t/templates.yaml", prompts(*(prompt("a ||| b", name, uuid=f"u{i}") for i, name in enumerate(names))))
    imported("promptsource", "t")
    found = [template.name for template in read_templates(Path("out/templates/d.yaml"))]
    assert found == ["is-it-true", "is-it-true-2", "template", "template-2", "etc-passwd", "a-name-b", "ubung", "con"]


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (prompts(prompt("a ||| b")).replace("!TemplateMetadata", "!!python/object:os.system"), 9, "the tag "),
        (prompts(prompt("a ||| b")).replace("!TemplateMetadata", "!function"), 9, "the tag '!function' is not allowed"),
        (prompts(prompt("a ||| b")).replace("!Template\n", "!TemplateMetadata\n"), 3, "does not belong here"),
        ("!Template\n" + prompts(prompt("a ||| b")), 1, "does not belong here"),
        (prompts(prompt("a ||| b"), prompt("c ||| d")), 11, "the key 'u1' stands twice"),
        (prompts(prompt("a ||| b"), head="dataset: ../../etc"), 1, "'../../etc' is not a valid name"),
        (prompts(prompt("a ||| b"), head="dataset: d\nsubset: ../x"), 2, "'../x' is not a valid name"),
        (prompts(prompt("a ||| b"), head="dataset: no\nsubset: 010"), 2, "subset"),
        (prompts(prompt("a ||| b")) + "    extra: 1\n", 11, "unknown key 'extra'"),
        (prompts(prompt("a ||| b", choices="[a, b]")), 7, "answer_choices"),
        ("dataset: d\ntemplates: &a\n  u: *a\n", 2, "nested deeper than 32 levels"),
        (BOMB, 1, "expands to more than"),
        (b"dataset: \xff\n", 1, "not UTF-8"),
        ("dataset: [", 2, "not valid YAML"),
    ],
)
def test_a_file_that_is_not_promptsources_is_refused_with_its_line(
    work: Path, text: str | bytes, line: int, reason: str
) -> None:
    write("t/bad/templates.yaml", text)
    write("t/good/templates.yaml", prompts(prompt("a ||| b"), head="dataset: good"))
    summary = imported("promptsource", "t")
    assert summary["tasks"] == 1
    [(where, found)] = reasons(summary)[:1]
    assert reason in found
    assert where == f"bad/templates.yaml:{line}"


@pytest.mark.parametrize(
    ("jinja", "reason"),
    [
        ("{{ x.__class__ }} ||| b", "the attribute `__class__` is not allowed"),
        ("{{ '%9999999999d' % 1 }} ||| b", "`%` formats text"),
        ("{{ '{:>9}'.format(x) }} ||| b", "calls the method `format`"),
        ("{% include 'x' %} ||| b", "`include` is not allowed"),
        ("{{ x | attr('y') }} ||| b", "uses the filter `attr`"),
        ("{% macro a() %}{% endmacro %} ||| b", "`macro` is not allowed"),
        ("{{ x | highlight }} ||| b", "uses the filter `highlight`"),
        ("a ||| ", "has nothing after `|||`"),
        ("{% if false %}{{ 'a' | center(10**9) }}{% endif %} ||| b", "uses the filter `center`"),
    ],
)
def test_a_template_that_may_not_be_is_refused_with_its_reason(work: Path, jinja: str, reason: str) -> None:
    write("t/templates.yaml", prompts(prompt(jinja), prompt("a ||| b", "good", uuid="u2")))
    [(where, found)] = reasons(imported("promptsource", "t"))
    assert reason in found
    assert where == "templates.yaml:6"


def test_data_does_not_move_the_boundary(work: Path) -> None:
    write(
        "t/templates.yaml", prompts(prompt("{{ xs[0] }} {{ s }} ||| {{ xs[1] }}", choices='"{{ s }} ||| {{ xs[0] }}"'))
    )
    imported("promptsource", "t")
    Path("mirror/d").mkdir(parents=True)
    rows = [{"s": "p ||| q", "xs": ["a ||| b", "c ||| d"]}, {"s": "p", "xs": ["a", "p ||| "]}]
    pl.DataFrame(rows).write_parquet("mirror/d/validation.parquet")
    other = {"s": "other", "xs": ["quite", "another"]}
    pl.DataFrame([other]).write_parquet("mirror/d/train.parquet")
    taskmix.build(catalog=load_catalog(Path("out/catalog.yaml")), mirror=Path("mirror"), out=Path("m"))
    found = pl.read_parquet(sorted(Path("m/data").glob("validation-*"))).sort("source_row").rows(named=True)
    assert [(row["prompt"], row["completion"]) for row in found] == [
        ("a ||| b p ||| q\n\n", "c ||| d"),
        ("a p\n\n", "p |||"),
    ]
    assert [row["choices"] for row in found] == [["p ||| q", "a ||| b"], ["p", "a"]]


def test_links_that_lead_outside_are_not_followed(work: Path) -> None:
    write("secret/templates.yaml", prompts(prompt("secret ||| b")))
    write("t/good/templates.yaml", prompts(prompt("a ||| b")))
    Path("t/link").symlink_to(Path("secret").resolve())
    Path("t/file").mkdir()
    Path("t/file/templates.yaml").symlink_to(Path("secret/templates.yaml").resolve())
    assert imported("promptsource", "t")["tasks"] == 1
    assert "secret" not in Path("out/templates/d.yaml").read_text("utf-8")


def test_datasets_whose_names_differ_in_case_do_not_meet_in_one_file(work: Path) -> None:
    for index, name in enumerate(("Data", "data", "DATA.", "org/data", "org-data")):
        write(f"t/{index}/templates.yaml", prompts(prompt(f"{index} ||| b"), head=f"dataset: {name}"))
    summary = imported("promptsource", "t")
    tasks = load_catalog(Path("out/catalog.yaml")).tasks
    assert len(tasks) + len(summary["refused"]) == 5
    assert len({path.name.casefold() for path in Path("out/templates").iterdir()}) == len(tasks) == 5
    for task in tasks.values():
        [template] = read_templates(Path(f"out/templates/{task.name}.yaml"))
        assert template.spec.instruction in "01234"


def test_terminal_codes_in_names_are_shown_escaped(work: Path) -> None:
    write("t/templates.yaml", prompts(prompt("a", name="\x1b[31mred\u202e"), prompt("a ||| b", uuid="u2")))
    done = mix("import", "promptsource", "t")
    assert "\x1b" not in done.output
    assert "\u202e" not in done.output
    assert "\\x1b[31mred" in done.output


# Where an import is written


def test_an_import_is_not_overwritten_unless_asked(work: Path) -> None:
    imported("promptsource", "promptsource")
    write("out/templates/harbour_notes.yaml", "edited")
    done = mix("import", "promptsource", "promptsource", "--out", "out")
    assert done.exit_code == 1
    assert "an import is there already" in done.output
    assert Path("out/templates/harbour_notes.yaml").read_text("utf-8") == "edited"
    assert mix("import", "lm-eval", "lm-eval", "--out", "out", "--force").exit_code == 0
    assert not Path("out/templates/harbour_notes.yaml").exists()
    assert sorted(path.name for path in Path().glob(".*")) == []


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_folder_of_something_else_is_never_touched(work: Path, force: tuple[str, ...]) -> None:
    write("mine/letter.txt", "dear")
    done = mix("import", "promptsource", "promptsource", "--out", "mine", *force)
    assert done.exit_code == 1
    assert "no import made it" in done.output
    assert [path.name for path in Path("mine").iterdir()] == ["letter.txt"]


def test_nothing_is_written_where_nothing_was_imported(work: Path) -> None:
    write("t/templates.yaml", prompts(prompt("no mark")))
    done = mix("import", "promptsource", "t", "--out", "out")
    assert done.exit_code == 1
    assert "nothing was imported" in done.output
    assert "templates.yaml:6: a: has no `|||`" in done.output
    assert not Path("out").exists()


def test_a_write_that_fails_leaves_nothing(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", fail)
    done = mix("import", "promptsource", "promptsource", "--out", "out")
    assert done.exit_code == 1
    assert "No space left on device" in done.output
    assert not Path("out").exists()
    assert list(Path().glob(".out*")) == []


@pytest.mark.parametrize("form", ["promptsource", "lm-eval", "natural-instructions"])
def test_a_folder_without_files_of_the_format_is_a_wrong_use(work: Path, form: str) -> None:
    Path("empty").mkdir()
    done = mix("import", form, "empty")
    assert done.exit_code == 2
    assert "Traceback" not in done.output


# lm-evaluation-harness


def test_the_example_questions_become_tasks(work: Path) -> None:
    summary = imported("lm-eval", "lm-eval")
    assert reasons(summary) == [("tasks/harbour_quiz/harbour_quiz_knots.yaml:4", "process_docs is a Python function")]
    catalog = load_catalog(Path("out/catalog.yaml"))
    ships, open_ = catalog.tasks["harbour_quiz_ships"].spec, catalog.tasks["harbour_open"].spec
    assert (ships.kind, ships.source.config, ships.columns) == ("table", "ships", {"raw_choices": "choices"})
    assert (open_.kind, open_.columns, open_.splits) == (
        "text-generation",
        {"target": "answers"},
        {"validation": "test"},
    )
    assert catalog.mixtures["lm-eval"].holdout.tasks == ["harbour_open"]
    rows = [
        {"question": " Which? ", "choices": {"text": ["a brig", "a buoy"], "label": ["A", "B"]}, "key": "B"},
        {"question": "What?", "choices": {"text": ["a dory", "a dock"], "label": ["A", "B"]}, "key": "A"},
    ]
    folders = (Path("mirror/example-org/harbour-quiz/ships"), Path("mirror/example-org/harbour-questions"))
    for folder in folders:
        folder.mkdir(parents=True)
    other = {"question": "Where to?", "choices": {"text": ["the quay", "a buoy"], "label": ["A", "B"]}, "key": "A"}
    for split, given in {"train": [other], "validation": rows}.items():
        pl.DataFrame(given).write_parquet(folders[0] / f"{split}.parquet")
    answers = {"question": ["Who?"], "answers": [["The pilot", "the pilot"]]}
    pl.DataFrame(answers).write_parquet(folders[1] / "test.parquet")
    taskmix.build(catalog=catalog, mirror=Path("mirror"), out=Path("m"))
    found = pl.read_parquet(sorted(Path("m/data").glob("validation-*"))).sort("source_row").rows(named=True)
    assert found[0]["prompt"] == "Questions about ships.\n\nWhich?\nAnswer: "
    assert [(row["completion"], row["choices"], row["answer"]) for row in found] == [
        ("a buoy", ["a brig", "a buoy"], 1),
        ("a dory", ["a dory", "a dock"], 0),
    ]
    held = pl.read_parquet(sorted(Path("m/data").glob("heldout-*"))).rows(named=True)
    assert [(row["prompt"], row["references"]) for row in held] == [("Who?\n", ["The pilot", "the pilot"])]


def question(**keys: object) -> str:
    base = {
        "task": "q", "dataset_path": "o/d", "training_split": "train", "output_type": "multiple_choice",
        "doc_to_text": "{{q}}", "doc_to_choice": ["x", "y"], "doc_to_target": "label",
    }  # fmt: skip
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in {**base, **keys}.items() if value is not None)


@pytest.mark.parametrize(
    ("keys", "entry"),
    [
        ({}, {"choices": ["x", "y"], "output": "{{ choices[label] if label is integer else label }}"}),
        ({"doc_to_target": 1}, {"output": "{{ choices[1] }}"}),
        ({"doc_to_target": "{{ ['a', 'b'].index(k) }}"}, {"output": "{{ choices[['a', 'b'].index(k)] }}"}),
        ({"doc_to_target": "{{k|int - 1}}"}, {"output": "{{ choices[k|int - 1] }}"}),
        ({"doc_to_choice": "options"}, {"choices": "{{ options }}"}),
        ({"doc_to_choice": "{{[a, b]}}"}, {"choices": "{{[a, b]}}"}),
        ({"doc_to_choice": {"A": "one", "B": "two"}}, {"choices": ["one", "two"]}),
        ({"doc_to_choice": [0, 1]}, {"choices": ["0", "1"]}),
        ({"doc_to_text": "question", "target_delimiter": ""}, {"instruction": "{{ question }}", "ending": ""}),
        ({"description": "D {{ s }}\n"}, {"instruction": "D {{ s }}\n{{q}}"}),
        (
            {"output_type": "generate_until", "doc_to_target": "{{a}} and {{b}}", "doc_to_choice": None},
            {"output": "{{a}} and {{b}}"},
        ),
        ({"metric_list": [{"metric": "acc"}], "tag": "t", "num_fewshot": 5}, {"instruction": "{{q}}"}),
    ],
)
def test_keys_of_a_question_become_a_template(work: Path, keys: dict[str, object], entry: dict[str, object]) -> None:
    write("q/q.yaml", question(**keys))
    imported("lm-eval", "q")
    [template] = read_templates(Path("out/templates/q.yaml"))
    assert {name: getattr(template.spec, name) for name in entry} == entry


def test_a_target_of_unknown_kind_is_an_index_if_it_is_digits(work: Path) -> None:
    write("q/q.yaml", question(doc_to_target="{{k}}"))
    imported("lm-eval", "q")
    [template] = read_templates(Path("out/templates/q.yaml"))
    render = template.output.render
    assert [render({"k": k, "choices": ["x", "y"]}) for k in ("1", 0, "y")] == ["y", "x", "y"]


def test_an_included_file_gives_what_the_including_one_does_not(work: Path) -> None:
    write("q/base/_a_yaml", question(task=None, doc_to_text="{{a}}", target_delimiter="\n"))
    write("q/_b.yaml", "include: base/_a_yaml\ndoc_to_text: '{{b}}'\ndescription: B\n")
    write("q/q.yaml", "include: _b.yaml\ntask: q\ndescription: 'C '\n")
    imported("lm-eval", "q")
    [template] = read_templates(Path("out/templates/q.yaml"))
    assert (template.spec.instruction, template.ending) == ("C {{b}}", "\n")


@pytest.mark.parametrize(
    ("text", "where", "reason"),
    [
        (question() + "process_docs: !function u.f\n", "bad.yaml:8", "process_docs is a Python function"),
        (question(doc_to_text=None) + "doc_to_text: !function u.f\n", "bad.yaml:7", "doc_to_text is a Python function"),
        (question() + "metadata: !!python/object/apply:os.system [ls]\n", "bad.yaml:8", "the tag "),
        (question() + "gen_prefix: x\n", "bad.yaml:8", "gen_prefix is not supported"),
        (question() + "new_key: x\n", "bad.yaml:8", "new_key is not supported"),
        (question() + "dataset_kwargs: {data_files: /etc/passwd}\n", "bad.yaml:8", "dataset_kwargs choose the data"),
        (question(dataset_path="../../etc"), "bad.yaml:2", "is none of the hub"),
        (question(dataset_path="json"), "bad.yaml:2", "is a reader of local files"),
        (question(doc_to_text=""), "bad.yaml:5", "asks nothing"),
        (question(doc_to_text="{{ q | regex_replace('a', 'b') }}"), "bad.yaml:5", "regex_replace"),
        (question(doc_to_choice="['{{a}}', '{{b}}']"), "bad.yaml:6", "text that Python would read as a list"),
        (question(output_type="loglikelihood_rolling"), "bad.yaml:4", "asks for no answer"),
        (question(training_split=None), "bad.yaml:1", "names no split"),
        (question() + "task: again\n", "bad.yaml:8", "stands twice"),
        ("include: ../outside.yaml\n" + question(), "bad.yaml:1", "leads out of the folder"),
        ("include: /etc/passwd\n" + question(), "bad.yaml:1", "leads out of the folder"),
        ("include: link.yaml\n" + question(), "bad.yaml:1", "leads out of the folder"),
        ("include: bad.yaml\n" + question(), "bad.yaml:1", "include each other"),
        ("include: none.yaml\n" + question(), "bad.yaml:1", "there is no file"),
        ('include: "a\\0b"\n' + question(), "bad.yaml:1", "is no file"),
    ],
)
def test_a_question_that_cannot_be_is_refused_with_file_and_line(
    work: Path, text: str, where: str, reason: str
) -> None:
    write("outside.yaml", question())
    write("q/good.yaml", question(task="good"))
    write("q/bad.yaml", text)
    Path("q/link.yaml").symlink_to(Path("outside.yaml").resolve())
    [(found, said)] = reasons(imported("lm-eval", "q"))
    assert reason in said
    assert found == where


# Natural Instructions


def test_the_example_instructions_build_with_the_test_tasks_held_out(work: Path) -> None:
    arguments = ("natural-instructions", "natural-instructions", "--test-tasks", "natural-instructions/test_tasks.txt")
    assert imported(*arguments)["tasks"] == 3
    catalog = load_catalog(Path("out/catalog.yaml"))
    rhyme = catalog.tasks["task9003_harbour_rhyme"].spec
    assert (rhyme.license, rhyme.note, rhyme.derived_from) == (
        "other",
        "Licence: Free for fishermen.",
        ["harbour_songs"],
    )
    assert catalog.tasks["task9002_harbour_arrival"].spec.license == "cc-by-4.0"
    built = taskmix.build(catalog=catalog, out=Path("m"))
    # the boats' names are of the same log as the held-out task
    assert built.lock["holdout"] == {
        "heldout": ["task9002_harbour_arrival"],
        "excluded": {"task9001_harbour_boat_name": "task9002_harbour_arrival"},
    }


def instructions(**keys: object) -> str:
    base: dict[str, object] = {
        "Definition": ["Do it."],
        "Positive Examples": [],
        "Categories": ["C"],
        "Source": ["s"],
        "Instances": [{"id": "1", "input": "i", "output": ["o"]}],
    }
    return json.dumps({**base, **keys})


@pytest.mark.parametrize(
    "definition",
    [
        "Replace {{name}} by {% if %} or {# no #}.",
        "{{{{{%%}}}}} {{ '}}' }} {%- raw -%}",
        "{",
        "{ {% } }",
        "a\n\n  b: 'c' \"d\" \\n # e",
        "日本語 {{ }} é",
        "- {{ x | choice }}",
    ],
)
def test_a_definition_renders_as_itself(work: Path, definition: str) -> None:
    examples = [{"input": definition, "output": definition, "explanation": ""}] * 3
    write("n/task1_a.json", instructions(Definition=[definition], **{"Positive Examples": examples}))
    imported("natural-instructions", "n")
    alone, shown = read_templates(Path("out/templates/task1_a.yaml"))
    assert alone.instruction.render({}) == definition
    block = f"Input: {definition}\nOutput: {definition}"
    assert shown.instruction.render({}) == f"{definition}\n\n{block}\n\n{block}"
    assert (shown.name, shown.input.render({"input": "x"})) == ("definition-and-2-examples", "Input: x")
    # what has examples already gets none before it
    assert (alone.spec.few_shot, shown.spec.few_shot) == (True, False)


def test_instances_keep_their_accepted_outputs(work: Path) -> None:
    rows = [
        {"id": "1", "input": "a\r\nb", "output": ["x", "y", "x", " "]},
        {"id": "2", "input": "", "output": "z"},
        {"id": "3", "input": "c", "output": [" "]},
    ]
    write("n/task1_a.json", instructions(Instances=rows))
    assert imported("natural-instructions", "n")["remarks"] == ["instances left out for want of an output: 1"]
    assert pl.read_parquet("out/data/task1_a.parquet").to_dicts() == [
        {"id": "1", "input": "a\r\nb", "target": ["x", "y"]},
        {"id": "2", "input": "", "target": ["z"]},
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (instructions(Definition=[]), "Definition"),
        (instructions(Definition=[" "]), "its definition is empty"),
        (instructions(Instances=[]), "has no instances"),
        (instructions(Instances=[{"input": 1, "output": ["o"]}]), "Instances.0.input"),
        (instructions(Instances=[{"input": "\ud800", "output": ["o"]}]), "half of a surrogate pair"),
        ('{"Definition": ["a"], "Definition": ["b"]}', "stands twice"),
        ("[" * 100_000, "nested deeper"),
        ("{", "not valid JSON"),
        (b"\xff", "utf-8"),
        ("3", "is no task"),
    ],
)
def test_a_task_that_cannot_be_read_is_refused(work: Path, text: str | bytes, reason: str) -> None:
    write("n/task1_bad.json", text)
    write("n/task2_good.json", instructions())
    summary = imported("natural-instructions", "n")
    assert summary["tasks"] == 1
    [(where, said)] = reasons(summary)
    assert where == "task1_bad.json:1"
    assert reason.lower() in said.lower()


def test_test_tasks_that_are_not_there_are_an_error_only_together(work: Path) -> None:
    write("n/task1_a.json", instructions())
    write("n/task2_b.json", instructions(Source=["other"]))
    write("some.txt", "task1_a.json\ntask9_z\n")
    assert imported("natural-instructions", "n", "--test-tasks", "some.txt")["remarks"] == [
        "tasks in some.txt that are not here: 1 of 2"
    ]
    write("none.txt", "task9_z\n")
    done = mix("import", "natural-instructions", "n", "--test-tasks", "none.txt", "--out", "x")
    assert done.exit_code == 2
    assert "none of the 1 tasks" in done.output


@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"no Natural Instructions in {SAMPLE}")
def test_every_sample_task_builds_as_one_mixture_with_the_official_test_tasks_held_out(work: Path) -> None:
    official = SAMPLE / "official_default_test_tasks.txt"
    summary = imported("natural-instructions", str(SAMPLE), "--test-tasks", str(official))
    files = sorted(path.stem for path in (SAMPLE / "tasks").glob("*.json"))
    assert (summary["tasks"], summary["refused"]) == (len(files), [])
    catalog = load_catalog(Path("out/catalog.yaml"))
    assert sorted(catalog.tasks) == files
    built = taskmix.build(catalog=catalog, out=Path("m"), limit=20)
    tests = set(official.read_text("utf-8").split()) & set(files)
    train, held = (pl.read_parquet(sorted(Path("m/data").glob(f"{name}-*"))) for name in ("train", "heldout"))
    assert set(held["task"]) == tests
    excluded = set(built.lock["holdout"]["excluded"])
    assert set(train["task"]) == set(files) - tests - excluded
    origins = {name: set(task.spec.derived_from) for name, task in catalog.tasks.items()}
    unseen = set().union(*(origins[name] for name in tests))
    assert not any(origins[name] & unseen for name in set(train["task"]))
    assert held["completion"].str.len_chars().min() > 0  # type: ignore[operator]


# All of promptsource's pool


@pytest.mark.slow
@pytest.mark.skipif(not POOL.is_dir(), reason=f"no promptsource templates in {POOL}")
def test_every_template_of_the_pool_imports_or_is_refused_with_its_reason(work: Path) -> None:
    summary = imported("promptsource", str(POOL))
    assert (summary["tasks"], summary["templates"], len(summary["refused"])) == (279, 2078, 7)
    catalog = load_catalog(Path("out/catalog.yaml"))
    assert len(catalog.tasks) == 279
    files = [yamlfile.read(path).value for path in Path("out/templates").glob("*.yaml")]
    assert sum(len(file) for file in files if isinstance(file, list)) == 2078
    for each in summary["refused"]:
        line = (POOL / each["file"]).read_text("utf-8").splitlines()[each["line"] - 1]
        assert line.strip().startswith("jinja:")


# Words in files


PLAIN = (
    "",
    " ",
    "a",
    "no",
    "Yes",
    "010",
    "1e3",
    "~",
    "null",
    "=",
    "é",
    "CON",
    "---",
    "...",
    "?",
    ":",
    "|||",
    "{{ a }}",
)
STARTS = ("a: b", "a #b", "- a", "%a", "@a", "`a", "!a", "&a", "*a", "? a", "a:", "'", '"', "\\", "'\"")
LINES = (
    "\n",
    "a\n",
    "\na",
    "a\n  b\n\nc",
    " a\nb",
    "a \nb ",
    "{{ a }}\n'\"",
    "a\n---\nb",
    "a\r\nb",
    "😀\n😀",
    "a\n\tb",
)
CHARACTERS = ("a\tb", "\x00\x1b\x7f", "\u2028", "\ufeff", "\ud7ff", "\x85", "a\u2029\nb", "\ufffe")


@pytest.mark.parametrize("text", [*PLAIN, *STARTS, *LINES, *CHARACTERS])
def test_any_text_is_read_back_as_it_was(text: str) -> None:
    values: dict[str, writing.Value] = {
        "k": text,
        "list": [text, text],
        "map": {"k": text},
        "nested": {"m": {"k": text}},
    }
    writing.check(writing.mapping(values), values, "t")
    writing.check(writing.items([values, values]), [values, values], "t")


@pytest.mark.parametrize(
    "text", ["A b", "…", "../x", "a/b\\c", "x" * 500, "\x00", ".hidden", "-", "CON", "é" * 90, "a..b"]
)
def test_any_text_makes_a_name(text: str) -> None:

    name = readable(text, "task")
    assert re.fullmatch(NAME, name)
    assert ".." not in name
    assert len(name) <= 80


def test_the_function_itself_takes_one_file(work: Path) -> None:
    path = Path("natural-instructions/tasks/task9003_harbour_rhyme.json")
    project = import_natural_instructions(path)
    assert list(project.tasks) == ["task9003_harbour_rhyme"]
    assert project.summary["templates"] == 2

"""`mix lint`: each rule finds its mistake and nothing else does; the catalogs of this project are clean."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

from taskmix.catalog.loading import load_catalog
from taskmix.cli import main
from taskmix.linting.findings import Finding, Report
from taskmix.linting.formats import FORMATS
from taskmix.linting.rules import RULES, chosen
from tests.test_docs import DOCS, ROOT, generate

Json = dict[str, Any]
RULE_NAMES = [rule.name for rule in RULES]
PAGE = generate.sections((DOCS / "lint.md").read_text("utf-8"))
GOOD = {
    "templates/example.yaml": """\
- name: verdict
  instruction: Positive or negative?
  input: "{{ text }}"
  output: "{{ choices[label] }}"
""",
    "templates/example-of-text.yaml": """\
- name: summary
  instruction: What does it say?
  input: "{{ input }}"
  output: "{{ target }}"
""",
}


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKMIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for name in ("TASKMIX_CATALOG", "TASKMIX_MIRROR"):
        monkeypatch.delenv(name, raising=False)


def mix(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["lint", *arguments], prog_name="mix")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def report(*arguments: str) -> Json:
    result = mix("--format", "json", *arguments)
    found: Json = json.loads(result.stdout)
    assert result.exit_code == (1 if found["errors"] else 0)
    return found


def faults(done: Json) -> list[Json]:
    return [each for each in done["findings"] if each["severity"] != "note"]


def found(*arguments: str) -> list[tuple[str, str | None]]:
    """The rule and the template of each finding but the notes, of which the compiler decides."""
    return [(each["rule"], each["template"]) for each in faults(report(*arguments))]


def write(files: Mapping[str, str]) -> None:
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, "utf-8")


def page_project(section: str) -> None:
    """Write the page's own project, with what a section of the page puts in its place; sixty rows like its three."""
    base = generate.example(next(each for each in PAGE if "### broken-template" not in each and "data/rows" in each))
    mine = generate.example(section)
    catalog = mine.catalog or base.catalog
    rows = "".join(base.rows.replace('{"text": "', f'{{"text": "{n}. ') for n in range(20))
    used = {name: text for name, text in GOOD.items() if f"templates: {Path(name).stem}\n" in catalog}
    write({"catalog.yaml": catalog, "data/rows.jsonl": rows, **used, **mine.templates})


# dates need Parquet, which the page cannot show
SHOWN = [name for name in RULE_NAMES if name != "column-type"]


@pytest.mark.parametrize("rule", SHOWN)
def test_the_example_of_a_rule_is_found_by_it_and_by_no_other(rule: str) -> None:
    page_project(next(section for section in PAGE if section.startswith(f"### {rule}\n")))
    done = report()
    assert {each["rule"] for each in done["findings"]} == {rule}
    assert report("--select", rule)["findings"] == done["findings"]
    assert report("--ignore", rule)["findings"] == []
    for each in done["findings"]:
        assert Path(each["file"]).is_file()
        assert 1 <= each["line"] <= len(Path(each["file"]).read_text("utf-8").splitlines())


def test_the_page_s_own_project_is_clean() -> None:
    page_project("")
    assert report()["findings"] == []


def parts(name: str = "a", **parts: Any) -> str:
    """A template of reviews that is fine but for what is given."""
    plain = {"name": name, "instruction": "Good or bad?", "input": "{{ text }}", "output": "{{ choices[label] }}"}
    return f"- {json.dumps(plain | parts)}\n"


def project(*templates: str, **task: object) -> None:
    """A project with one task of sixty reviews and its templates."""
    spec = {"kind": "text-classification", "cluster": "c", "source": {"path": "data"}, "labels": ["bad", "good"]}
    rows = "".join(f'{{"text": "row {n}", "label": {n % 2}, "extra": "x{n}", "many": ["m{n}"]}}\n' for n in range(60))
    catalog = json.dumps({"version": 1, "tasks": {"reviews": spec | task}})
    write({"catalog.yaml": catalog, "data/train.jsonl": rows, "templates/reviews.yaml": "".join(templates)})


# Rules, where their example does not say enough


MEANT = [
    parts(instruction='Answer as {"label": "…"}; {} and { } and {unknown} and ${text} and \\frac{text} are text.'),
    parts(instruction="{% raw %}{{ text }}{% endraw %} is how templates name it."),
    parts(instruction="Choose one of the following: Bad, Good."),
    parts(instruction="Options: {{ choices | join(' / ') }}"),
    parts(instruction="Options: {% for c in choices %}{{ c }}{{ ', ' if not loop.last }}{% endfor %}"),
    parts(instruction="Pick one of these: {{ many | join(' ') }}"),
    parts(instruction="Which of the following reviews is meant? There is one."),
    parts(choices=["no", "yes"], instruction="Possible answers: no, yes"),
    parts(output="{{ 'yes' if label else 'no' }}"),
    parts(output="{% if label %}yes{% else %}no{% endif %}"),
    parts(output="{% set word = choices[label] %}{{ word }}"),
    parts(output="{% set all = [] %}{% for w in many %}{% set _ = all.append(w) %}{% endfor %}{{ all[0] }}"),
    parts(output="{% set ns = namespace(a='') %}{% set ns.a = extra %}{{ ns.a }}"),
    parts(setup="{% if label %}{% set a = 'good' %}{% else %}{% set a = 'bad' %}{% endif %}", output="{{ a }}"),
    parts(setup="{% set n = text | length %}", output="{{ n if label else -n }}"),
    parts(output="{{ choices[label] }}", input="{{ text }}\n\n{{ choices | length }} labels; which?"),
    parts(input="Not {{ choices[1 - label] }}: {{ text }}"),
    parts(input="{{ text }} ({{ choices | reject('equalto', choices[label]) | join(', ') }} is wrong)"),
    parts(setup="{% set n = text | length % 2 %}", input="{{ choices[n] }} or {{ choices[label] }}? {{ text }}"),
    parts(style="inverted", instruction="Write a {{ choices[label] }} one.", input="", output="{{ text }}"),
    parts(input="{{ text }}{{ '\n' }}"),
    parts(input="{{ text }} {# a remark #}", strip=True),
    parts(input="{{ nowhere | default('') }}{{ text }}{% if other is defined %}!{% endif %}", undefined="empty"),
    parts(choices="{{ ['no', 'yes'] }}"),
    parts(setup="{% set a = [0, 1] | choice %}", input="{{ 'x' if a }}: x?", output="{{ 'y' if a else 'n' }}"),
    parts(instruction="Which of these is it: {{ 'bad' }} or {{ 'good' }}?"),
    parts(choices="{{ extra }}|||other", choices_separator="|||", output="{{ choices[0] }}"),
]  # fmt: skip
MISTAKES = [
    ("undefined-name", parts(input="{{ txt }}")),
    ("undefined-name", parts(choices="{{ wordz }}")),
    ("undefined-name", parts(setup="{% set a = txt %}", input="{{ a }}")),
    ("undefined-name", parts(input="{{ txt }}{{ text }}", undefined="empty")),
    ("single-braces", parts(input="{ text }")),
    ("single-braces", parts(input="{extra}}")),
    ("single-braces", parts(input="Text: {choices}\n{{ text }}")),
    ("missing-choices", parts(instruction="Select from these words, one of the following: bad or…")),
    ("target-in-prompt", parts(instruction="It is {{ choices[label] }}. What is it?")),
    ("target-in-prompt", parts(instruction="{% set a = choices[label] %}It is {{ a }}. What is it?")),
    ("target-in-prompt", parts(setup="{% set a = choices[label] %}", instruction="It is {{ a }}.")),
    ("target-in-prompt", parts(input="{% for c in choices %}{{ c }}{{ '*' if loop.index0 == label }}{% endfor %}")),
    ("target-in-prompt", parts(output="{{ text | trim }}")),
    ("constant-output", parts(output="good")),
    ("constant-output", parts(output="{{ choices[0] }}")),
    ("constant-output", parts(output="{{ ['bad', 'good'] | choice }}")),
    ("constant-output", parts(setup="{% set a = 'good' %}{% set b = text %}", output="{{ a }}")),
    ("empty-output", parts(output="{# nothing #}")),
    ("empty-output", parts(output="{{ '' if label else 'bad' }}")),
    ("empty-output", parts(output="{{ '' if text else 'bad' }}", empty="drop")),
    ("fails-on-row", parts(output="{{ ['bad'][label] }}")),
    ("fails-on-row", parts(output="{{ choices[label].name }}")),
    ("same-output", parts(output="{{ 'yes' if text else 'no' }}")),
    ("trailing-whitespace", parts(instruction="Good or bad? ")),
    ("trailing-whitespace", parts(instruction="Good \nor bad?")),
    ("trailing-whitespace", parts(output="{{ choices[label] }}\n")),
    ("trailing-whitespace", parts(input="{% for m in many %}{{ m }}, {% endfor %}")),
    ("unused-choices", parts(choices=["no", "yes"], output="{{ label }}")),
    ("choices-per-label", parts(choices=["no"])),
]  # fmt: skip


@pytest.fixture(scope="module")
def all_at_once(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, set[str]]:
    """The rules that each template of the two lists breaks, by its name; duplicates are not looked for."""
    folder = tmp_path_factory.mktemp("all")
    lists = {"meant": MEANT, "mistake": [template for _, template in MISTAKES]}
    named = [
        text.replace('"name": "a"', f'"name": "{name}-{at}"')
        for name, given in lists.items()
        for at, text in enumerate(given)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        project(*named)
        broken: dict[str, set[str]] = {}
        for rule, template in found("--ignore", "duplicate-template"):
            broken.setdefault(str(template), set()).add(rule)
    return broken


@pytest.mark.parametrize("at", range(len(MEANT)), ids=lambda at: MEANT[at])
def test_what_is_meant_is_not_reported(at: int, all_at_once: Mapping[str, set[str]]) -> None:
    assert all_at_once.get(f"meant-{at}", set()) - {"trailing-whitespace"} == set()


@pytest.mark.parametrize("at", range(len(MISTAKES)), ids=lambda at: MISTAKES[at][1])
def test_a_mistake_is_found(at: int, all_at_once: Mapping[str, set[str]]) -> None:
    assert MISTAKES[at][0] in all_at_once[f"mistake-{at}"]


@pytest.mark.parametrize(
    ("rule", "template"),
    [
        ("target-in-prompt", parts(style="inverted", output="{{ extra }}", input="{{ text }}{{ extra }}")+ parts("b")),
        ("duplicate-template", parts() + parts("b", instruction="Good  or\tbad?", input="{{text}}")),
        ("duplicate-template", parts() + parts("b", ending="\n", separator=" ")),
        ("no-plain-template", parts(style="chain-of-thought")),
        ("broken-template", parts(output="{{ text.__class__ }}")),
        ("broken-template", parts(outputs="x")),
        ("broken-template", parts() + parts()),
        ("broken-template", "just text\n"),
    ],
)  # fmt: skip
def test_a_mistake_of_a_whole_file_is_found(rule: str, template: str) -> None:
    project(template)
    assert rule in {each[0] for each in found()}


def test_the_hint_names_the_nearest_column() -> None:
    project(parts(input="{{ extr }}"))
    (finding,) = report()["findings"]
    assert finding["hint"] == "did you mean 'extra'?"


def test_a_column_of_dates_is_no_error_until_a_template_names_it() -> None:
    project(parts(), parts("b", instruction="On {{ day }}: good or bad?"))
    rows = pl.DataFrame({"text": ["a", "b"], "label": [0, 1]}).with_columns(day=pl.date(2024, 2, 29))
    Path("data/train.jsonl").unlink()
    rows.write_parquet("data/train.parquet")
    assert found() == [("column-type", "b")]


def test_whitespace_from_the_data_is_not_the_template_s() -> None:
    project(parts())
    write({"data/train.jsonl": '{"text": "ends in blanks  ", "label": 1}\n'})
    assert found() == []


def test_a_finding_names_line_row_and_all_tasks_that_share_the_template() -> None:
    project(parts(), parts("b", input="{{ extra }}", output="{{ ['bad'][label] }}"))
    tasks = json.loads(Path("catalog.yaml").read_text("utf-8"))
    tasks["tasks"] |= {"twin": {**tasks["tasks"]["reviews"], "templates": "reviews"}}
    write({"catalog.yaml": json.dumps(tasks)})
    (finding,) = report()["findings"]
    assert (finding["file"], finding["line"], finding["template"]) == ("templates/reviews.yaml", 2, "b")
    assert (finding["task"], finding["also"], finding["split"]) == ("reviews", ["twin"], "train")
    assert finding["row"] % 2 == 1
    assert "20 of 40 rows" in finding["message"]


# All findings at once


def test_nothing_that_is_broken_stops_the_rest() -> None:
    project(parts(), parts("broken", output="{{"), parts("named", input="{{ txt }}"))
    catalog = json.loads(Path("catalog.yaml").read_text("utf-8"))
    spec = catalog["tasks"]["reviews"]
    catalog["tasks"] |= {
        "gone": {**spec, "source": {"path": "nowhere"}},
        "remote": {**spec, "source": {"hub": "some/where"}, "templates": "remote"},
        "dirty": {**spec, "source": {"path": "dirty"}},
    }
    dirty = '{"text": "a", "label": 7}\n'
    bad_file = parts(choices=["only one"])
    files = {"catalog.yaml": json.dumps(catalog), "dirty/train.jsonl": dirty, "templates/remote.yaml": bad_file}
    write({**files, "templates/list.yaml": "a: list\n"})
    done = report()
    assert {(each["rule"], each["task"] or each["file"]) for each in done["findings"]} == {
        ("broken-template", "templates/reviews.yaml"),
        ("broken-template", "templates/list.yaml"),
        ("unused-template-file", "templates/list.yaml"),
        ("undefined-name", "reviews"),
        ("broken-task", "gone"),
        ("unusable-row", "dirty"),
        ("choices-per-label", "remote"),
    }
    assert done["skipped"] == [{"task": "remote", "reason": "some/where was not downloaded yet"}]
    text = mix().stdout
    assert "remote" in text
    assert "--mirror" in text


def test_rows_0_reads_no_rows() -> None:
    project(parts(output="{{ ['bad'][label] }}"))
    assert found("--rows", "0") == []
    assert found("--rows", "60") == [("fails-on-row", "a")]


def test_the_sample_is_the_same_each_time_and_as_large_as_asked() -> None:
    project(parts(output="{{ ['bad'][label] }}"))
    once = report("--rows", "10")
    assert report("--rows", "10") == once
    assert "of 10 rows" in once["findings"][0]["message"]


def test_rows_that_where_leaves_out_are_not_rendered() -> None:
    project(parts(output="{{ ['bad'][label] }}"), where="{{ label == 0 }}")
    assert found("--select", "fails-on-row") == []


# Targets, rules and formats


def two_tasks() -> None:
    project(parts(input="{{ txt }}"))
    catalog = json.loads(Path("catalog.yaml").read_text("utf-8"))
    spec = catalog["tasks"]["reviews"]
    catalog["tasks"]["letters"] = {**spec, "cluster": "mail"}
    write({"catalog.yaml": json.dumps(catalog), "templates/letters.yaml": parts("b", input="{{ txt }}")})


@pytest.mark.parametrize(
    ("target", "templates"),
    [
        ("reviews", ["a"]),
        ("letters", ["b"]),
        ("mail", ["b"]),
        ("cluster:c", ["a"]),
        ("*e*", ["b", "a"]),
        ("templates/letters.yaml", ["b"]),
    ],
)
def test_a_target_is_a_task_a_cluster_a_glob_or_a_file(target: str, templates: list[str]) -> None:
    two_tasks()
    assert [template for _, template in found(target)] == templates


def test_a_file_of_no_task_is_checked_for_what_it_shows_alone() -> None:
    project(parts())
    write({"elsewhere/t.yaml": parts(output="good") + parts("b", input="{text}")})
    assert found("elsewhere/t.yaml") == [("constant-output", "a"), ("single-braces", "b")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["revews"], "did you mean 'reviews'?"),
        (["cluster:male"], "did you mean 'mail'?"),
        (["templates/none.yaml"], "no template file"),
        (["--select", "undefined-nam3"], "did you mean 'undefined-name'?"),
        (["--ignore", "constant-output,blank"], "'blank'"),
    ],
)
def test_unknown_names_are_usage_errors(arguments: list[str], said: str) -> None:
    two_tasks()
    result = mix(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_rules_are_chosen_by_name_or_start() -> None:
    assert chosen(["empty", "target-in-prompt"], []) == {"empty-output", "target-in-prompt"}
    assert chosen(["un"], ["undefined-name"]) == {"unused-template-file", "unusable-row", "unused-choices"}
    assert chosen([], []) == set(RULE_NAMES)
    assert chosen([], ["trailing-whitespace"]) == set(RULE_NAMES) - {"trailing-whitespace"}
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)+", name) for name in RULE_NAMES)
    assert len(set(RULE_NAMES)) == len(RULE_NAMES)


def test_warnings_fail_under_strict_only() -> None:
    project(parts(instruction="Good or bad? "))
    assert mix().exit_code == 0
    assert mix("--strict").exit_code == 1
    assert mix("--strict", "--ignore", "trailing").exit_code == 0


def test_notes_never_fail() -> None:
    project(parts(input="{{ text | wordwrap(40) }}"))
    result = mix("--strict")
    assert result.exit_code == 0
    assert "note: runs row by row: the filter `wordwrap`" in result.stdout
    assert mix("--format", "github").stdout.startswith("::notice file=templates/reviews.yaml,line=1,title=row-by-row::")


def test_errors_fail() -> None:
    project(parts(output="good"))
    result = mix()
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0].startswith("templates/reviews.yaml:1: error: the output is the same")


def test_github_shows_each_finding_beside_its_line() -> None:
    project(parts(instruction="Good \nor bad?"), parts("b", input="{{ txt }}"))
    lines = mix("--format", "github").stdout.splitlines()
    assert lines == [
        "::warning file=templates/reviews.yaml,line=1,title=trailing-whitespace::a line of the instruction ends in a "
        "blank (template a, task reviews)%0Aremove it",
        "::error file=templates/reviews.yaml,line=2,title=undefined-name::there is no 'txt' (template b, task "
        "reviews)%0Adid you mean 'text'?",
    ]


def test_github_commands_hold_nothing_that_ends_them() -> None:
    hostile = Finding("rule", "error", "a,b:c%\n.yaml", 1, "100%\n::error::x\r", hint="\x1b[31m")
    line = FORMATS["github"](Report((hostile,), 1, 1, 1, (("t", "why\n::x"),)))
    command, notice = line.split("\n")
    assert command.startswith("::error file=a%2Cb%3Ac%25%0A.yaml,line=1,title=rule::100%25%0A::error::x")
    assert "\x1b" not in command
    assert "\r" not in command
    assert notice == "::notice title=rows not checked::t: why%0A::x"


def test_what_a_template_says_cannot_write_to_the_terminal() -> None:
    project(parts(input="{{ text }}{{ 'a'.b\x1b }}", output='{{ "\x1b[31m".x }}'))
    for form in FORMATS:
        assert "\x1b" not in mix("--format", form).stdout


def test_hub_data_is_read_from_the_mirror(shared_data: Path) -> None:
    source = {"hub": "stanfordnlp/sst2"}
    project(parts(input="{{ sentense }}"), source=source, columns={"text": "sentence"})
    (finding,) = report("--mirror", str(shared_data))["findings"]
    assert (finding["rule"], finding["hint"]) == ("undefined-name", "did you mean 'sentence'?")
    assert report("--mirror", ".")["skipped"][0]["reason"] == "stanfordnlp/sst2 is not in the mirror"


def test_hub_data_that_was_fetched_before_is_read_without_asking_the_hub() -> None:
    project(parts(input="{{ txt }}"), source={"hub": "some/where"})
    commit = "0" * 40
    folder = Path("cache/hub/some--where")
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text(commit, "ascii")
    (folder / "default" / commit).mkdir(parents=True)
    pl.DataFrame({"text": ["a"], "label": [0]}).write_parquet(folder / "default" / commit / "train.parquet")
    done = report()
    assert done["skipped"] == []
    assert [each["rule"] for each in done["findings"]] == ["undefined-name"]


# The catalogs of this project


def test_the_built_in_catalog_is_clean_without_data() -> None:
    done = report("--catalog", str(ROOT / "catalog.yaml"))
    assert faults(done) == []
    hub = [task for task in load_catalog(ROOT / "catalog.yaml").tasks.values() if task.spec.source.hub]
    assert len(done["skipped"]) == len(hub)
    assert done["templates"] > 200


@pytest.mark.parametrize("catalog", ["tests/catalogs/everything.yaml", "tests/golden/project/catalog.yaml"])
def test_our_catalogs_are_clean_on_real_data(catalog: str, shared_data: Path) -> None:
    done = report("--catalog", str(ROOT / catalog), "--mirror", str(shared_data))
    assert (faults(done), done["skipped"]) == ([], [])


# Its page


def test_every_rule_has_a_section_of_the_page() -> None:
    page = "".join(PAGE)
    assert [name for name in RULE_NAMES if f"\n### {name}\n" not in page] == []
    assert [name for name in re.findall(r"^### (.+)$", page, re.MULTILINE) if name not in RULE_NAMES] == []

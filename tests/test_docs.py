"""The documentation says what the program does: generated parts are current, examples work, links lead somewhere."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import click
import jsonschema
import pytest
from click.shell_completion import BashComplete

import taskmix
from taskmix.catalog import builtin, models, yamlfile
from taskmix.catalog.selection import select
from taskmix.cli import main
from taskmix.mixing.examples import examples
from taskmix.mixing.holdout import assign_roles
from taskmix.rowsets import RowSet
from taskmix.templates.files import TemplateSpec, read_templates
from taskmix.templates.parts import Part

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
    if not path.relative_to(ROOT).parts[0].startswith(".")
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NEVER_FOR_HELP = ("torch", "transformers", "datasets", "polars", "pyarrow", "rich", "pydantic")
NEVER_FOR_BUILD = ("torch", "transformers", "taskmix_trainer")


def load_generator() -> ModuleType:
    """Import docs/generate.py, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


generate = load_generator()


def fenced(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of some languages in a page."""
    return [code for language, code in FENCE.findall(page.read_text("utf-8")) if language in languages]


def program(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of this environment (`mix`, `python`, `bash`) to its end."""
    return subprocess.run(
        arguments,
        cwd=cwd,
        env=clean_environment(cwd) | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def clean_environment(home: Path) -> dict[str, str]:
    """This environment with its programs first, caches below `home`, and no settings of taskmix."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKMIX_")}
    caches = {name: str(home / ".cache") for name in ("HF_HOME", "XDG_CACHE_HOME")}
    return kept | caches | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}


# What is generated


def test_generated_docs_are_up_to_date(tmp_path: Path) -> None:
    done = program("python", str(DOCS / "generate.py"), "--check", cwd=tmp_path)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nrun: python docs/generate.py"


def test_the_check_finds_a_stale_page_and_writing_mends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "DOCS", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- generated: globals -->\nold\n<!-- end -->\nafter\n", "utf-8")
    assert generate.run(check=True) == 1
    assert "old" in page.read_text("utf-8")
    assert generate.run(check=False) == 0
    assert generate.run(check=True) == 0
    expected = "before\n<!-- generated: globals -->\n`dict`, `namespace`, `range`, `zip`\n<!-- end -->\nafter\n"
    assert page.read_text("utf-8") == expected
    assert {path.name for path in tmp_path.iterdir()} == {"page.md", "help.md", "catalog.schema.json"}


def test_every_generated_part_stands_in_a_page() -> None:
    text = "".join(path.read_text("utf-8") for path in DOCS.glob("*.md"))
    assert [name for name in generate.PARTS if f"<!-- generated: {name} -->" not in text] == []


# Commands

COMMANDS: Mapping[tuple[str, ...], click.Command] = {
    path: command for path, command in generate.commands(main, ()) if path
}


RUN_ELSEWHERE = {("build",), ("init",), ("compare",)}
"""By the README; and in tests/trainer, for it trains for minutes."""


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_an_example_and_a_place_in_the_docs(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert command.help
    assert command.epilog is not None
    assert command.epilog.startswith("Example: ")
    assert f"mix {' '.join(path)}" in command.epilog
    assert f"## `mix {' '.join(path)}`" in (DOCS / "help.md").read_text("utf-8")
    undocumented = [each for each in command.params if isinstance(each, click.Option) and not each.help]
    assert undocumented == []


def mix_commands(shell: str) -> Iterator[list[str]]:
    """The arguments of every `mix …` in some lines of shell."""
    for command in re.split(r"&&|\||;|\$\(|\)|\n", shell.replace("\\\n", " ")):
        words = shlex.split(command.replace('"', " "), comments=True)
        if words[:1] == ["mix"]:
            yield words[1:]


def check_usage(words: list[str]) -> None:
    """Fail where a command or an option does not exist."""
    context = click.Context(main, info_name="mix")
    if words and not words[0].startswith("-"):
        name, command, arguments = main.resolve_command(context, words)
        assert command is not None, words
        # resilient parsing lets names such as TASK stand, and still refuses an option that there is not
        command.make_context(name, list(arguments), parent=context, resilient_parsing=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_commands_and_options_that_a_page_names_exist(page: Path) -> None:
    spans = re.findall(r"`(mix [^`\n]+)`", FENCE.sub("", page.read_text("utf-8")))
    for words in mix_commands("\n".join([*fenced(page, "bash", "console", "sh"), *spans])):
        check_usage(words)


@pytest.fixture(scope="module")
def after_readme(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which all of the README was run in one shell, but for the installation; and what that printed."""
    folder, script = tmp_path_factory.mktemp("readme"), []
    for language, code in FENCE.findall((ROOT / "README.md").read_text("utf-8")):
        if language == "python":
            script.append(f"python - <<'END'\n{code}END")
        elif language == "bash":
            script += [re.sub(r"^pip install [^&]*&& (pytest.*$)?", "", line) for line in code.splitlines()]
    text = "\n".join(script)
    assert "pip" not in text
    # what the examples of `mix import` read
    shutil.copytree(ROOT / "examples" / "importing", folder, dirs_exist_ok=True)
    done = program("bash", "-euo", "pipefail", "-c", text, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.slow
def test_what_the_readme_shows_works_in_order(after_readme: tuple[Path, str]) -> None:
    folder, printed = after_readme
    assert "everyday-entailment\n" in printed
    assert (folder / "mixtures/starter/mix.lock.json").is_file()
    assert (folder / "my-project/mixtures/first/mix.lock.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_example_in_the_help_runs(path: tuple[str, ...], after_readme: tuple[Path, str]) -> None:
    folder, _ = after_readme
    line = str(COMMANDS[path].epilog).removeprefix("Example: ")
    for words in mix_commands(line):
        check_usage(words)
    if path not in RUN_ELSEWHERE:
        done = program("bash", "-euc", line, cwd=folder)
        assert done.returncode == 0, done.stderr


def test_the_readme_installs_extras_that_the_project_has() -> None:
    extras = re.findall(r"\.\[(\w+)\]", (ROOT / "README.md").read_text("utf-8"))
    declared = (ROOT / "pyproject.toml").read_text("utf-8").partition("[project.optional-dependencies]")[2]
    assert extras
    assert [name for name in extras if f"\n{name} = [" not in declared] == []


# Links


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text("utf-8")))
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        other = (page.parent / file).resolve() if file else page
        if not other.exists() or (anchor and anchor not in anchors(other)):
            broken.append(target)
    assert broken == []


# The catalog's page and schema

CATALOGS = (ROOT / "catalog.yaml", ROOT / "tests/catalogs/everything.yaml", ROOT / "tests/golden/project/catalog.yaml")


def as_json(value: object) -> object:
    """A YAML value as JSON has it: every key a text."""
    if isinstance(value, dict):
        return {json.dumps(key) if isinstance(key, bool) else str(key): as_json(each) for key, each in value.items()}
    return [as_json(each) for each in value] if isinstance(value, list) else value


def errors_by_schema(catalog: object) -> list[str]:
    schema = json.loads((DOCS / "catalog.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(as_json(catalog))]


@pytest.mark.parametrize("path", CATALOGS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_our_catalogs_are_valid_by_the_schema(path: Path) -> None:
    assert errors_by_schema(yamlfile.read(path).value) == []


@pytest.mark.parametrize(
    "catalog",
    [
        {},
        {"version": 2},
        {"version": 1, "task": {}},
        {"version": 1, "mixtures": {"m": {"tasks": ["a"], "format": "chatml"}}},
        {"version": 1, "tasks": {"t": {"kind": "text-classification", "source": {"path": "d"}}}},
    ],
)
def test_the_schema_finds_mistakes(catalog: object) -> None:
    assert errors_by_schema(catalog)


def test_the_catalog_page_names_every_key() -> None:
    page = (DOCS / "catalog.md").read_text("utf-8")
    specs = [each for each in vars(models).values() if isinstance(each, type) and issubclass(each, models._Model)]
    keys = {field.alias or name for spec in specs for name, field in spec.model_fields.items()}
    assert len(keys) > 30
    assert sorted(key for key in keys if f"`{key}`" not in page) == []


def test_the_templates_page_names_every_key() -> None:
    page = (DOCS / "templates.md").read_text("utf-8")
    assert [key for key in TemplateSpec.model_fields if f"| `{key}` |" not in page] == []


# Examples


def yaml_sections(page: Path) -> list[str]:
    return [section for section in generate.sections(page.read_text("utf-8")) if "```yaml" in section]


def title(section: str) -> str:
    return section.splitlines()[0].lstrip("# ")


@pytest.mark.parametrize(
    "section",
    [each for name in ("catalog.md", "mixtures.md", "templates.md") for each in yaml_sections(DOCS / name)],
    ids=title,
)
def test_every_yaml_example_loads(section: str, tmp_path: Path) -> None:
    found = generate.example(section)
    for name, text in found.templates.items():
        path = tmp_path / Path(name).name
        path.write_text(text, "utf-8")
        assert read_templates(path)
    if found.catalog:
        path = tmp_path / "catalog.yaml"
        path.write_text(found.catalog, "utf-8")
        catalog = taskmix.load_catalog(path)
        assert catalog.tasks or catalog.mixtures
    assert found.templates or found.catalog


@pytest.mark.parametrize("section", yaml_sections(DOCS / "mixtures.md"), ids=title)
def test_every_well_known_mixture_has_its_tasks_and_something_to_train_on(section: str, tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").write_text(generate.example(section).catalog, "utf-8")
    catalog = taskmix.load_catalog(tmp_path / "catalog.yaml")
    for name, spec in catalog.mixtures.items():
        roles = assign_roles(catalog, name, select(catalog, name).tasks)
        assert roles.train
        assert bool(roles.heldout) is bool(spec.holdout.clusters)


@pytest.mark.parametrize(
    "section", [each for each in yaml_sections(DOCS / "catalog.md") if "```json\n" in each], ids=title
)
def test_every_worked_entry_fits_its_rows_under_every_template(section: str, tmp_path: Path) -> None:
    tasks = generate.open_example(generate.example(section), tmp_path)
    assert tasks
    for task in tasks:
        for split in task.splits.values():
            rows = RowSet.of(batch["source_row"].to_numpy() for batch in task.batches(split, ()))
            assert len(rows)
            templates = task.templates or [None]
            for index, template in enumerate(templates):
                rendered = list(examples(task, split, [template] if template else [], rows, seed=0, evaluation=True))
                assert sum(map(len, rendered)) == len(rows), (task.name, index)


# What the page on templates says of Jinja


@pytest.mark.parametrize(
    "source",
    [
        "{% include 'a' %}",
        "{% macro a() %}{% endmacro %}",
        "{% filter upper %}{{ x }}{% endfilter %}",
        "{% autoescape true %}{{ x }}{% endautoescape %}",
        "{{ x | safe }}",
        "{{ x | random }}",
        "{{ x.__class__ }}",
        "{{ '%s' % x }}",
        "{{ '{:>9}'.format(x) }}",
        "{{ x * 10 ** 9 }}",
        "{{ none }}",
        "{{ x.upper }}",
        "{{ y }}",
    ],
)
def test_what_the_page_calls_refused_is_refused(source: str) -> None:
    with pytest.raises(taskmix.TaskmixError, match=r"^t\.yaml:1: "):
        Part(source, "t.yaml", 1).render({"x": "<a>"})


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("one\n", "one\n"),
        ("one\r\ntwo {{ crlf }}", "one\ntwo p\r\nq"),
        (r"{{ crlf.replace('\r\n', '\n') }}", "p\nq"),
        ("{{ {'a': 'é<&>'} | tojson }}", '{"a": "é<&>"}'),
        ("{{ [1, 2, 2] | most_frequent }}", "[2]"),
        ("{{ '6*4 = <<6*4=24>>24' | without('<<', '>>') }}", "6*4 = 24"),
        ("{{ row.items }}", "3"),
        ("{{ none or '' }}{% if false %}\n{% endif %}.", "."),
    ],
)
def test_what_the_page_says_of_text_holds(source: str, text: str) -> None:
    assert Part(source, "t.yaml", 1).render({"crlf": "p\r\nq", "row": {"items": 3}}) == text


# What is imported, and completion


def imported(modules: tuple[str, ...], *arguments: str, cwd: Path) -> list[str]:
    """Those of the modules that a command imports."""
    script = (
        "import sys\nfrom taskmix.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print([name for name in {modules!r} if name in sys.modules], file=sys.stderr)"
    )
    done = program("python", "-c", script, *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return [str(name) for name in json.loads(done.stderr.splitlines()[-1].replace("'", '"'))]


@pytest.mark.parametrize("arguments", [("--help",), ("build", "--help"), ("--version",)], ids=" ".join)
def test_asking_for_help_imports_nothing_heavy(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert imported(NEVER_FOR_HELP, *arguments, cwd=tmp_path) == []


def test_a_build_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    assert imported(NEVER_FOR_BUILD, "build", "starter", "--limit", "1", cwd=tmp_path) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_serves_both_names_of_the_program(shell: str, tmp_path: Path) -> None:
    done = program("mix", "completion", shell, cwd=tmp_path)
    assert done.returncode == 0
    assert "_MIX_COMPLETE" in done.stdout
    assert "_TASKMIX_COMPLETE" in done.stdout
    if shell == "bash":
        assert program("bash", "-c", done.stdout, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("mix show rev", ["review-sentiment"]),
        ("mix show starter-", ["starter-chat"]),
        ("mix preview review", ["review-sentiment"]),
        ("mix build eight", ["eight-hub-tasks"]),
        ("mix pre", ["preview"]),
        ("mix build --wor", ["--workers"]),
        ("mix show no-such", []),
    ],
)
def test_commands_options_and_names_are_completed(
    words: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TASKMIX_CATALOG", raising=False)
    _, *before, last = words.split()
    found = BashComplete(main, {}, "mix", "_MIX_COMPLETE").get_completions(before, last)
    assert [item.value for item in found] == expected


def completed(words: str, cwd: Path) -> list[str]:
    """What the program answers when a shell asks it to complete the last of some words."""
    position = str(len(words.split()) - 1)
    done = program("mix", cwd=cwd, _MIX_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=position)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.partition(",")[2] for line in done.stdout.split()]


def test_the_program_answers_the_shell(tmp_path: Path) -> None:
    assert completed("mix show rev", tmp_path) == ["review-sentiment"]


def test_completion_stays_silent_where_the_catalog_is_broken(tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").write_text("version: [", "utf-8")
    assert completed("mix show rev", tmp_path) == []


def test_the_built_in_catalog_is_the_one_at_the_root() -> None:
    assert builtin.catalog_path() == ROOT / "catalog.yaml"

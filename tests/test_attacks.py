"""Hostile templates, catalogs and data, through the commands that meet them, in a child process of bounded means.

Each ends in a message with file and line, or does no harm; the mixture that was there before stays as it was.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmix import rendering
from taskmix.errors import TaskmixError, TemplateError
from taskmix.frames import DRAW, SOURCE_ROW
from taskmix.templates.files import Template, read_templates
from taskmix.templates.packing import dump, load, pack, unpack
from taskmix.templates.parts import Expression
from taskmix.templates.rows import Alternatives
from taskmix.templates.rowwise import Limits, Workers

MEMORY = 4 << 30
SECONDS_A_ROW = 0.5
SECONDS_AN_ATTACK = 15
CHILD = f"""
import json, resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
resource.setrlimit(resource.RLIMIT_CPU, (200, 200))
from click.testing import CliRunner
from taskmix.cli import main
from taskmix.templates import rowwise
rowwise.LIMITS = rowwise.Limits(seconds={SECONDS_A_ROW})
for command in json.load(sys.stdin):
    started = time.monotonic()
    done = CliRunner().invoke(main, command)
    understood = done.exception is None or isinstance(done.exception, SystemExit)
    print(json.dumps([done.exit_code, done.output, time.monotonic() - started, understood]), flush=True)
"""


@dataclass(frozen=True)
class Attack:
    """A template's Jinja, what the refusal says (a pattern), the command that meets it, and the line that it names.

    That is the fourth of the file if the fault is on the second line of the Jinja, and the third where no more than
    the text is known.
    """

    jinja: str
    said: str
    command: str = "build"
    line: int = 4


DOUBLING = "{%% set ns = namespace(a=%s) %%}{%% for i in range(60) %%}{%% set ns.a = %s %%}{%% endfor %%}"
MANY = "{%% set ns = namespace(a=[]) %%}{%% for i in range(99999) %%}{%% set ns.a = %s %%}{%% endfor %%}"
LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
TWINS = (
    "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}"
    "{% set ns.b = [ns.b, ns.b] %}{% endfor %}\n{{ ns.a == ns.b }}"
)
SLOW = f"takes more than {SECONDS_A_ROW} s"
LONG = "makes more than 10,000,000 characters"
# a busy machine may run out of time first
LARGE = f"needs more than 512 MiB of memory|{SLOW}"
REFUSED: Mapping[str, Attack] = {
    # 1: out of the sandbox
    "class": Attack("\n{{ text.__class__ }}", "`__class__` is not allowed"),
    "class-by-item": Attack("\n{{ text['__class__'].x }}", "__class__"),
    "attr": Attack("\n{{ text | attr('__class__') }}", "No filter named 'attr'"),
    "map-attribute": Attack("\n{{ [text] | map(attribute='__class__') | list }}", "__class__"),
    "format": Attack("\n{{ '{0.__class__}'.format(text) }}", "format"),
    "format-by-map": Attack("\n{{ ['{0.__class__}'] | map('format', text) | list }}", "format"),
    "lipsum": Attack("\n{{ lipsum.__globals__['os'].popen('id').read() }}", "__globals__", "show"),
    # 2: run while it is compiled
    "center": Attack("\n{{ 'x' | center(10**9) }}", "No filter named 'center'", "show"),
    # 3: operators
    "times": Attack("\n{{ 'a' * 10**9 }}", r"`\*` makes more"),
    "list-times": Attack("\n{{ [[1] * 10**6] * 10**6 }}", "more than 1,000,000"),
    "percent": Attack("\n{{ '%999999999d' % 1 }}", "`%` formats text"),
    "power": Attack("\n{{ 10**(10**9) }}", r"`\*\*` makes a number"),
    "product": Attack("\n" + DOUBLING % ("9", "ns.a * ns.a"), SLOW, "preview"),
    # 4: time, memory, output
    "ranges": Attack("\n" + LOOPS, SLOW),
    "ranges-preview": Attack("\n" + LOOPS, SLOW, "preview"),
    "sum-of-ranges": Attack("\n{% for a in range(99999) %}{% if range(99999) | sum %}{% endif %}{% endfor %}", SLOW),
    "zip-of-ranges": Attack(
        "\n{% for a in range(99999) %}{% if zip(range(99999)) | list %}{% endif %}{% endfor %}", SLOW
    ),
    "twins": Attack(TWINS, SLOW),
    "tilde": Attack("\n" + DOUBLING % ("'ab'", "ns.a ~ ns.a"), LARGE),
    "plus": Attack("\n" + DOUBLING % ("[1]", "ns.a + ns.a"), LARGE),
    "join": Attack("\n" + DOUBLING % ("'ab'", "[ns.a, ns.a] | join(ns.a)"), LARGE),
    "replace": Attack("\n" + DOUBLING % ("'ab'", "ns.a.replace('', ns.a)"), LARGE),
    "replace-filter": Attack("\n" + DOUBLING % ("'ab'", "ns.a | replace('', ns.a)"), LARGE),
    "wordwrap": Attack("\n{{ ('a ' * 99999) | wordwrap(1, true, 'b' * 99999) }}", LARGE),
    "extend": Attack("\n{% set a = [1] %}{% for i in range(60) %}{% if a.extend(a) %}{% endif %}{% endfor %}", LARGE),
    "tojson": Attack("\n" + DOUBLING % ("[1]", "[ns.a, ns.a]") + "{{ ns.a | tojson }}", ""),
    "list-text": Attack("\n" + DOUBLING % ("[1]", "[ns.a, ns.a]") + "{{ ns.a }}", f"more than 1,000,000 values|{SLOW}"),
    "deep": Attack("\n" + MANY % "[ns.a]" + "{{ ns.a }}", "recursion"),
    "text": Attack("\n{% for i in range(9999) %}{{ 'ab' * 999 }}{% endfor %}", LONG, line=3),
    "text-unseen": Attack("\n{% set a %}{% for i in range(99999) %}{{ 'ab' * 9999 }}{% endfor %}{% endset %}", LARGE),
    "ljust": Attack("\n{{ text.ljust(10**9) }}", "ljust"),
    "indent": Attack("\n{{ 'a\\nb' | indent(10**9) }}", "a count above"),
    "slice": Attack("\n{{ choices | slice(1e9) | list }}", "a count above"),
    "batch": Attack("\n{{ choices | batch(10**9, 'x') | list }}", "a count above"),
    "one-row": Attack("x\n{% if label == 1 %}" + LOOPS + "{% endif %}", f"row 1: {SLOW}"),
    # 5: nesting and size
    "parentheses": Attack("\n{{ " + "(" * 49_000 + "1" + ")" * 49_000 + " }}", "brackets inside each other", "show"),
    "lists": Attack("\n{{ " + "[" * 100_000 + "]" * 100_000 + " }}", "more than 100,000 characters", "show", 3),
    "nots": Attack("\n{{ " + "not " * 20_000 + "1 }}", "nested", "show", 3),
    "minuses": Attack("\n{{ " + "-" * 200 + "1 }}", "nested", "show"),
    "filters": Attack("\n{{ 1" + " | trim" * 5_000 + " }}", "nested", "show"),
    "sum": Attack("\n{{ 1" + " + 1" * 20_000 + " }}", "nested", "show"),
    "tildes": Attack("\n{{ 1" + "~1" * 45_000 + " }}", "more than 5,000 parts of Jinja", "show"),
    "loops": Attack("\n" + "{% for c in choices %}" * 150 + "{% endfor %}" * 150, "nested", "show"),
    "some-loops": Attack("\n" + "{% for c in choices %}" * 25 + "{% endfor %}" * 25, "nested", "show", 3),
    "branches": Attack("\n{% if a %}" + "{% elif a %}" * 5_000 + "{% endif %}", "branches", "show"),
    "macro": Attack("\n{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "`macro` is not allowed", "show"),
    "recursive": Attack("\n{% for c in [1] recursive %}{{ loop([1]) }}{% endfor %}", "recursion"),
    # 7: what differs from run to run
    "random": Attack("\n{{ choices | random }}", "No filter named 'random'", "show"),
    "shuffle": Attack("\n{{ choices | shuffle }}", "No filter named 'shuffle'", "show"),
    "now": Attack("\n{{ now() }}", "now"),
    "address": Attack("\n{{ text.upper }}", "a function"),
    # 9: other files
    "include": Attack("\n{% include '/etc/passwd' %}", "`include` is not allowed", "show"),
    "import": Attack("\n{% import 'x' as y %}", "`import` is not allowed", "show"),
    "extends": Attack("\n{% extends 'x' %}", "`extends` is not allowed", "show"),
}
HARMLESS: Mapping[str, Attack] = {
    # 2: never run, so they are only text
    "folding": Attack("{% if false %}{{ 'x' | center(10**9) }}{{ 'x' * 10**9 }}{{ 9**9**9 }}{% endif %}{{ text }}", ""),
    "folding-filters": Attack(
        "{% if false %}{{ 'a'" + " | replace('', 'aaaaaaaaa')" * 40 + " }}{% endif %}{{ text }}", ""
    ),
    # 6: the column wins
    "items": Attack("{{ row.items }} {{ row.keys }} {{ items }}", ""),
    # 8: a change is the part's own
    "mutable": Attack("{{ words.append('new') or '' }}{{ words | join(' ') }}", ""),
    # 10: line ends
    "newline": Attack("a\r\nb {{ text | tojson }}\n", ""),
    # 11: marks in the data
    "marks": Attack("{{ marks | join('|||') }} ||| {{ text }}", ""),
}
SEARCH = "range(9999) | batch(1) | select('in', range(9999) | batch(1) | list) | list | length"
HUGE = "('ab' * 499999) | replace('', 'ab' * 499999)"
# keys of a task in the catalog, the command that meets them, and what the refusal says
EXPRESSIONS: Mapping[str, tuple[str, str, str]] = {
    "where-slow": (f'where: "{{{{ ({SEARCH}) > label }}}}"', "build", f"row 0: {SLOW}"),
    "where-one-row": (f'where: "{{{{ label == 0 or ({SEARCH}) > label }}}}"', "preview", f"row 1: {SLOW}"),
    "column-large": (f'columns: {{text: "{{{{ {HUGE} }}}}"}}', "build", f"row 0: ({LARGE})"),
    "column-long": (
        "columns: {text: \"{{ ('ab' * 499999) | replace('a', 'a' * 99) }}\"}",
        "build",
        LONG,
    ),
    "label-slow": (f'columns: {{label: "{{{{ label + ({SEARCH}) }}}}"}}', "show", f"row 0: {SLOW}"),
    "where-class": ('where: "{{ text.__class__ }}"', "show", "`__class__` is not allowed"),
    "where-parentheses": (f'where: "{{{{ {"(" * 9_999} 1 {")" * 9_999} }}}}"', "show", "brackets inside each other"),
    "column-lists": (
        f'columns: {{text: "{{{{ {"[" * 40_000}{"]" * 40_000} }}}}"}}',
        "show",
        "brackets inside each other",
    ),
}
FILES: Mapping[str, tuple[str, str]] = {
    "function": ("- name: a\n  instruction: !function os.system\n  output: b\n", "2: the tag '!function'"),
    "python": ('- name: a\n  instruction: !!python/object/apply:os.system ["id"]\n  output: b\n', "2: the tag"),
    "unknown-tag": ("- name: a\n  instruction: a\n  output: !x b\n", "3: the tag '!x'"),
    "repeated": (
        '- name: a\n  instruction: &a "' + "{{ a ~ b }}" * 400 + '"\n  output: *a\n'
        "" + "".join(f"- {{name: n{number}, instruction: *a, output: *a}}\n" for number in range(999)),
        "more templates than one file may hold",
    ),
}
ROWS = [
    {
        "text": f"<b>{number}</b> ||| {{{{ 1/0 }}}}",
        "label": number,
        "row": {"items": "mine", "keys": "too"},
        "items": "a column",
        "words": ["one", "two"],
        "marks": ["a ||| b", "|||"],
    }
    for number in range(2)
]


def task(name: str, keys: str = "") -> str:
    lines = f"  {name}:\n    kind: text-classification\n    cluster: c\n    license: unknown\n"
    return lines + f"    source: {{path: data}}\n    labels: ['no', 'yes']\n    templates: {name}\n    {keys}\n"


def template_file(jinja: str) -> str:
    lines = "".join(f"    {line}\n" for line in jinja.split("\n"))
    return f"- name: a\n  instruction: |-\n{lines}  output: '{{{{ choices[label] }}}}'\n"


@dataclass(frozen=True)
class Outcome:
    code: int
    text: str
    seconds: float
    understood: bool


@dataclass(frozen=True)
class Arena:
    """A project whose tasks are attacks, each with a mixture of its own, and what came of each."""

    folder: Path
    outcomes: Mapping[str, Outcome]
    before: str
    after: str


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    whole = hashlib.sha256()
    for path in files:
        whole.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Arena:
    """All attacks, one after the other in one child process, each over the same mixture that is there already."""
    folder = tmp_path_factory.mktemp("arena")
    (folder / "templates").mkdir()
    (folder / "data").mkdir()
    (folder / "data" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    tasks, commands = [task("good")], {}
    files = {"good": template_file("{{ text }}")}
    for name, attack in {**REFUSED, **HARMLESS}.items():
        tasks.append(task(name))
        files[name], commands[name] = template_file(attack.jinja), attack.command
    for name, (keys, command, _) in EXPRESSIONS.items():
        tasks.append(task(name, keys))
        files[name], commands[name] = template_file("{{ text }}"), command
    for name, (text, _) in FILES.items():
        tasks.append(task(name))
        files[name], commands[name] = text, "show"
    for name, text in files.items():
        (folder / "templates" / f"{name}.yaml").write_bytes(text.encode())
    mixtures = "".join(f"  mix-{name}: {{tasks: [{name}]}}\n" for name in files)
    (folder / "catalog.yaml").write_text("version: 1\ntasks:\n" + "".join(tasks) + "mixtures:\n" + mixtures)

    def arguments(name: str, command: str) -> Sequence[str]:
        out = f"out/{name}" if name in HARMLESS else "out/kept"
        return [command, f"mix-{name}", "--out", out] if command == "build" else [command, name]

    before = after = ""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        names = ["good", *commands]
        child.stdin.write(json.dumps([arguments(name, commands.get(name, "build")) for name in names]))
        child.stdin.close()
        outcomes: dict[str, Outcome] = {}
        for name in names:
            line = child.stdout.readline()
            assert line, f"the process ended at {name}"
            outcomes[name] = Outcome(*json.loads(line))
            before = before or digest(folder / "out" / "kept")
    after = digest(folder / "out" / "kept")
    return Arena(folder, outcomes, before, after)


def test_what_is_no_attack_builds(arena: Arena) -> None:
    assert arena.outcomes["good"].code == 0, arena.outcomes["good"].text


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_template_is_refused_with_its_line(arena: Arena, name: str) -> None:
    outcome = arena.outcomes[name]

    assert outcome.understood, outcome.text
    assert outcome.code == 1, outcome.text
    assert "Traceback" not in outcome.text
    assert f"templates/{name}.yaml:{REFUSED[name].line}: " in outcome.text, outcome.text[:500]
    assert re.search(REFUSED[name].said, outcome.text), outcome.text[:500]
    assert outcome.seconds < SECONDS_AN_ATTACK


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_hostile_expression_of_a_catalog_is_refused_with_its_line(arena: Arena, name: str) -> None:
    outcome, (keys, _, said) = arena.outcomes[name], EXPRESSIONS[name]
    lines = (arena.folder / "catalog.yaml").read_text().split("\n")

    assert outcome.understood, outcome.text
    assert outcome.code == 1, outcome.text
    assert f"catalog.yaml:{lines.index(f'    {keys}') + 1}: " in outcome.text, outcome.text[:500]
    assert re.search(said, outcome.text), outcome.text[:500]
    assert outcome.seconds < SECONDS_AN_ATTACK


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_template_file_is_refused_with_its_line(arena: Arena, name: str) -> None:
    outcome = arena.outcomes[name]

    assert outcome.understood, outcome.text
    assert outcome.code == 1, outcome.text
    assert f"templates/{name}.yaml:" in outcome.text
    assert FILES[name][1] in outcome.text
    assert outcome.seconds < SECONDS_AN_ATTACK


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("folding", "<b>1</b> ||| {{ 1/0 }}"),
        ("folding-filters", "<b>1</b> ||| {{ 1/0 }}"),
        ("items", "mine too a column"),
        ("mutable", "one two new"),
        ("newline", 'a\nb "<b>1</b> ||| {{ 1/0 }}"'),
        ("marks", "a ||| b|||||| ||| <b>1</b> ||| {{ 1/0 }}"),
    ],
)
def test_what_does_no_harm_makes_its_text(arena: Arena, name: str, prompt: str) -> None:
    assert arena.outcomes[name].code == 0, arena.outcomes[name].text
    built = pl.concat(pl.read_parquet(path) for path in (arena.folder / "out" / name / "data").iterdir())
    (row,) = built.filter(pl.col("source_row") == 1).rows(named=True)

    assert row["prompt"].removesuffix("\n\n") == prompt
    assert row["completion"] == "yes"


def test_the_mixture_that_was_there_stays_and_nothing_lies_beside_it(arena: Arena) -> None:
    assert arena.before == arena.after
    found = {path.name for path in (arena.folder / "out").iterdir() if path.suffix != ".lock"}
    assert found == {"kept", *HARMLESS}


# -- the processes themselves

TEMPLATES = """\
- name: plain
  instruction: "{{ text }}"
  output: "{{ choices[label] }}"
- name: busy
  instruction: "{% for a in range(200) %}{{ a if label == 9 }}{% endfor %}{{ text }}"
  output: "{{ choices[label] }}"
- name: choosing
  instruction: "{{ ['one', 'two', 'three'] | choice }} {% for w in words %}{{ words.pop() }}{% endfor %}"
  output: "{{ choices[label] }}"
  choices: "{{ [text, 'no'] }}"
- name: failing
  instruction: "{{ 1 / (n - 2500) }}{{ 1 / (n - 3500) }}{{ 1 / (n - 100000) }}"
  output: "{{ choices[label] }}"
- name: endless
  instruction: |-
    Count.
    {% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}
  output: "{{ choices[label] }}"
"""
ROW_COUNT = 4_000


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Template]:
    path = tmp_path_factory.mktemp("templates") / "t.yaml"
    path.write_text(TEMPLATES)
    return {template.name: template for template in read_templates(path)}


def numbered(count: int = ROW_COUNT) -> pl.DataFrame:
    keys = pl.Series(range(count), dtype=pl.UInt64)
    return pl.DataFrame(
        {
            "text": [f"text {number} é" for number in range(count)],
            "n": range(count),
            "label": [number % 2 for number in range(count)],
            "words": [["a", None, "b"][: number % 4] for number in range(count)],
            "choices": [["yes", "no"]] * count,
            SOURCE_ROW: keys + 7,
            DRAW: keys * 2**40,
        }
    )


def test_any_number_of_processes_gives_the_same_texts(templates: Mapping[str, Template]) -> None:
    rows = numbered().with_columns(words=pl.col("words").list.drop_nulls())
    rule = Alternatives(True, None)
    found: list[tuple[pl.DataFrame, ...]] = []
    for count in (1, 2, 3):
        with Workers(count) as workers:
            names = ("plain", "choosing")
            found.append(tuple(workers.render(rows, templates[name], "t", rule) for name in names))

    assert all(first.equals(other) for others in found[1:] for first, other in zip(found[0], others, strict=True))
    plain, choosing = found[0]
    assert plain["instruction"].to_list() == rows["text"].to_list()
    assert plain.columns == ["instruction", "input", "output", "choices", "answer", "references"]
    assert set(choosing["instruction"].str.split(" ").list.first()) == {"one", "two", "three"}
    assert choosing["choices"][2].to_list() == ["text 2 é", "no"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_first_row_that_fails_is_named_whatever_the_number_of_processes(
    templates: Mapping[str, Template], count: int
) -> None:
    rows = numbered().with_columns(words=pl.lit([], pl.List(pl.String)))
    with Workers(count) as workers, pytest.raises(TemplateError) as caught:
        workers.render(rows, templates["failing"], "t")

    assert caught.value.message == "division by zero"
    assert caught.value.where == f"{templates['failing'].file}:12: task t, template failing, row 2507"


def test_no_rows_need_no_process(templates: Mapping[str, Template]) -> None:
    with Workers(1) as workers:
        assert workers.render(numbered(0), templates["plain"], "t").shape == (0, 3)
        assert workers.evaluate(numbered(0), Expression.parse("{{ n }}", "c", 1), "t") == ([], None)
        assert not children(workers)


def children(workers: Workers) -> list[int]:
    return [process._child.pid for process in workers._all]


def gone(pid: int) -> bool:
    """Whether a process has ended, or is a zombie of another one than this."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def test_a_process_that_is_killed_is_replaced_once(templates: Mapping[str, Template]) -> None:
    rows = numbered()
    with Workers(2) as workers:
        expected = workers.render(rows, templates["busy"], "t")
        victim = children(workers)[0]
        killer = threading.Timer(0.05, os.kill, (victim, signal.SIGKILL))
        killer.start()
        found = workers.render(rows, templates["busy"], "t")
        killer.join()

        assert found.equals(expected)
        assert victim not in children(workers)


def test_processes_that_are_killed_again_and_again_fail_the_rendering(templates: Mapping[str, Template]) -> None:
    ends = threading.Event()
    with Workers(1) as workers:

        def kill() -> None:
            while not ends.wait(0.01):
                for pid in children(workers):
                    os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            with pytest.raises(TemplateError, match=r"the process that renders it ended \(signal 9\)") as caught:
                workers.render(numbered(), templates["endless"], "t")
        finally:
            ends.set()
            killer.join()
    assert "task t, template endless, row 7" in caught.value.where


def test_a_process_that_is_stopped_is_given_up(templates: Mapping[str, Template]) -> None:
    with Workers(1, Limits(seconds=0.5, patience=2)) as workers:
        workers.render(numbered(1), templates["plain"], "t")
        (pid,) = children(workers)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(TemplateError, match="takes more than"):
            workers.render(numbered(), templates["plain"], "t")
        wait_until(lambda: gone(pid))

        # and another one takes its place
        assert len(workers.render(numbered(), templates["plain"], "t")) == ROW_COUNT


def test_after_a_row_that_took_too_much_the_next_rendering_works(templates: Mapping[str, Template]) -> None:
    with Workers(1, Limits(seconds=0.3)) as workers:
        for _ in range(2):
            with pytest.raises(TemplateError, match=r"takes more than 0\.3 s") as caught:
                workers.render(numbered(3), templates["endless"], "t")
            assert caught.value.where == f"{templates['endless'].file}:17: task t, template endless, row 7"
            assert len(workers.render(numbered(3), templates["plain"], "t")) == 3


@pytest.mark.parametrize(
    ("jinja", "said"),
    [
        (DOUBLING % ("'ab'", "ns.a ~ ns.a"), "needs more than 64 MiB of memory"),
        (DOUBLING % ("[1]", "ns.a + ns.a"), "needs more than 64 MiB of memory"),
        (DOUBLING % ("[1]", "[ns.a, ns.a]") + "{{ ns.a }}", "prints a list or mapping of more than 1,000,000 values"),
        ("{{ 'ab' * 99 }}", "makes more than 100 characters"),
        ("{{ text }}" * 99, "makes more than 100 characters"),
    ],
)
def test_a_row_may_not_take_more_memory_or_text(tmp_path: Path, jinja: str, said: str) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(template_file("text\n" + jinja))
    with Workers(1, Limits(seconds=60, memory_mib=64, characters=100)) as workers:
        with pytest.raises(TemplateError, match=said) as caught:
            workers.render(numbered(2), read_templates(path)[0], "t")
        assert caught.value.where == f"{path}:{3 if 'characters' in said else 4}: task t, template a, row 7"

        # memory that was taken is given back
        plain = Expression.parse("{{ ('a' * 999999) | replace('a', 'a' * 20) | length }}", "c", 1)
        assert workers.evaluate(numbered(1), plain, "t") == ([19_999_980], None)


def test_a_batch_may_not_have_endless_text(templates: Mapping[str, Template]) -> None:
    rows = numbered().with_columns(words=pl.lit([], pl.List(pl.String)), text=pl.lit(""))
    limits = Limits(batch_characters=100_000)
    expression = Expression.parse("{{ 'abc' * 1000 }}", "c", 1)
    found = []
    for count in (1, 2):
        with Workers(count, limits) as workers:
            _, error = workers.evaluate(rows, expression, "t")
            found.append(str(error))

    assert "more text than a batch may have" in found[0]
    assert found[0] == found[1]


def test_closing_ends_the_processes_whatever_they_do(templates: Mapping[str, Template]) -> None:
    workers = Workers(2)
    seen: list[BaseException] = []

    def render() -> None:
        try:
            workers.render(numbered(), templates["endless"], "t")
        except BaseException as error:
            seen.append(error)

    thread = threading.Thread(target=render)
    thread.start()
    wait_until(lambda: len(children(workers)) == 2)
    pids = children(workers)
    workers.close()
    thread.join(30)

    assert len(seen) == 1
    assert isinstance(seen[0], TaskmixError)
    assert all(map(gone, pids))


@dataclass(frozen=True)
class Running:
    """A build that hangs in a template, and the processes that render it."""

    child: "subprocess.Popen[str]"
    workers: Sequence[int]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc, to find a build's processes")
    (tmp_path / "templates").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    (tmp_path / "templates" / "slow.yaml").write_text(template_file(LOOPS))
    (tmp_path / "catalog.yaml").write_text(f"version: 1\ntasks:\n{task('slow')}mixtures:\n  m: {{tasks: [slow]}}\n")
    # a hostile project: what a process imports is never found in the working folder
    for name in ("jinja2", "json", "marshal", "taskmix", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("open('hijacked', 'w')\n")
    limits = "from taskmix.templates import rowwise; rowwise.LIMITS = rowwise.Limits(seconds=3)"
    code = f"{limits}; from taskmix.cli import main; main(['build', 'm', '--out', 'out'])"
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with child:
        found: list[int] = []

        def works() -> bool:
            found[:] = [pid for pid in children_of(child.pid) if cpu_seconds(pid) > 0.5]
            return bool(found)

        wait_until(works)
        assert not (tmp_path / "hijacked").exists()
        yield Running(child, found)
        child.kill()


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    return [int(each) for path in tasks.glob("*/children") for each in path.read_text().split()]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_ctrl_c_ends_a_build_and_its_processes(running: Running) -> None:
    running.child.send_signal(signal.SIGINT)
    _, said = running.child.communicate(timeout=60)

    assert running.child.returncode == 130
    assert said.endswith("interrupted\n")
    assert all(map(gone, running.workers))


def test_a_build_that_is_killed_leaves_no_process_behind(running: Running) -> None:
    running.child.kill()
    running.child.wait()

    # at the latest when its row has taken too long
    wait_until(lambda: all(map(gone, running.workers)))


# -- what travels

DTYPES = st.recursive(
    st.sampled_from([pl.String(), pl.Int64(), pl.Float64(), pl.Boolean(), pl.Null(), pl.Date(), pl.Binary()]),
    lambda inner: st.builds(pl.List, inner) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(pl.Struct),
    max_leaves=5,
)


@given(st.data())
def test_columns_arrive_as_they_were(data: st.DataObject) -> None:
    dtype = data.draw(DTYPES)
    series = pl.Series("c", data.draw(st.lists(st.none() | values(dtype), max_size=6)), dtype=dtype)

    found = unpack(load(dump(pack(series))))

    assert repr(found) == repr(series.to_list())


def values(dtype: Any) -> st.SearchStrategy[Any]:
    if isinstance(dtype, pl.List):
        return st.lists(st.none() | values(dtype.inner), max_size=3)
    if isinstance(dtype, pl.Struct):
        return st.fixed_dictionaries({field.name: st.none() | values(field.dtype) for field in dtype.fields})
    kinds: list[tuple[Any, st.SearchStrategy[Any]]] = [
        (pl.String, st.text(max_size=3)),
        (pl.Int64, st.integers(-(2**63), 2**63 - 1)),
        (pl.Float64, st.floats()),
        (pl.Boolean, st.booleans()),
        (pl.Date, st.dates()),
        (pl.Binary, st.binary(max_size=3)),
    ]
    return next((strategy for kind, strategy in kinds if dtype == kind), st.none())


# -- compiled templates: Polars runs in the process of the user, and cannot be stopped


def test_a_compiled_row_may_not_have_more_text_than_one_of_jinja(templates: Mapping[str, Template]) -> None:
    rows = numbered(3).with_columns(text=pl.when(pl.col("n") == 1).then(pl.lit("x" * 200)).otherwise(pl.lit("y")))
    with Workers(1, Limits(characters=100)) as workers:
        with pytest.raises(TemplateError, match="makes more than 100 characters") as caught:
            rendering.render(rows, templates["plain"], "t", None, workers)
        kept = rendering.render(rows.filter(pl.col("n") != 1), templates["plain"], "t", None, workers)

    assert caught.value.where.endswith("row 8")
    assert (kept.handed_back, kept.row_wise) == (0, None)

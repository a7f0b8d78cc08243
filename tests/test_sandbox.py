"""A template can do nothing but make text of its row: what it may not do is refused, with the line in its file."""

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmix.errors import CatalogError, RowError, TemplateError
from taskmix.frames import DRAW, SOURCE_ROW
from taskmix.rendering import render as render_frame
from taskmix.sources.jsonrows import Place
from taskmix.tasks.columns import evaluate
from taskmix.templates.files import Template, read_templates
from taskmix.templates.parts import Expression, Part
from tests.workers import WORKERS

ROW: Mapping[str, Any] = {
    "text": "hello",
    "n": 3,
    "x": 1.5,
    "ok": True,
    "choices": ["a", "b", "c"],
    "row": {"k": "v", "deep": {"k": 1}},
    "nothing": None,
    "nan": math.nan,
    "inf": math.inf,
    "holes": ["a", None],
}


def render(source: str, row: Mapping[str, Any] = ROW, draw: int = 0, scope: str = "t/output") -> str:
    return Part(source, "t.yaml", 10, scope).render(row, draw)


def refusal(source: str, row: Mapping[str, Any] = ROW) -> TemplateError:
    with pytest.raises(TemplateError) as caught:
        render(source, row)
    return caught.value


def value(source: str, row: Mapping[str, Any] = ROW) -> object:
    return Expression.parse(source, "catalog.yaml", 10).value(row)


# -- out of the sandbox

ESCAPES = [
    "{{ text.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ text['__class__'] }}",
    "{{ text['__cla' ~ 'ss__'] }}",
    "{{ text | attr('__class__') }}",
    "{{ [text] | map(attribute='__class__') | list }}",
    "{{ [text] | map(attribute='__class__.__mro__') | list }}",
    "{{ [text] | map('attr', '__class__') | list }}",
    "{{ [text] | selectattr('__class__') | list }}",
    "{{ [text] | groupby('__class__') }}",
    "{{ [text, text] | sort(attribute='__class__') }}",
    "{{ [text] | sum(attribute='__class__') }}",
    "{{ [text] | join(attribute='__class__') }}",
    "{{ [text] | unique(attribute='__class__') | list }}",
    "{{ [text, text] | max(attribute='__class__') }}",
    "{{ '{0.__class__}'.format(text) }}",
    "{{ '{a.__class__}'.format_map({'a': text}) }}",
    "{{ text['format'](1) }}",
    "{{ ['{0.__class__}'] | map(attribute='format') | list }}",
    "{{ '%s' | format(text) }}",
    "{{ '%s' % text }}",
    "{{ '%(a)s' % {'a': text} }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ lipsum() }}",
    "{{ cycler }}",
    "{{ cycler.__init__ }}",
    "{{ joiner }}",
    "{{ namespace(a=1) }}",
    "{{ self }}",
    "{{ self ~ '' }}",
    "{{ self._TemplateReference__context }}",
    "{{ self['_TemplateReference__context'] }}",
    "{{ range.__globals__ }}",
    "{{ range['__globals__'] }}",
    "{{ dict.mro() }}",
    "{{ dict.fromkeys([1]) }}",
    "{{ zip.__self__ }}",
    "{% for c in choices %}{{ loop.__init__ }}{% endfor %}",
    "{% for c in choices %}{{ loop['_iterator'] }}{% endfor %}",
    "{% for c in choices %}{{ loop._iterator }}{% endfor %}",
    "{{ text.encode }}",
    "{{ text.encode() }}",
    "{{ text.translate({}) }}",
    "{{ text.format_map({}) }}",
    "{{ n.real }}",
    "{{ n.to_bytes(2) }}",
    "{{ x.hex() }}",
    "{{ ok.real }}",
    "{{ choices.clear() }}",
    "{{ choices.sort() }}",
    "{{ row.clear() }}",
    "{{ row.setdefault('k') }}",
    "{{ row.popitem() }}",
    "{{ __draw__ }}",
    "{{ _private }}",
    "{{ __builtins__ }}",
    "{{ __import__('os') }}",
    "{% set __draw__ = 1 %}{{ choices | choice }}",
    "{% for __draw__ in [1] %}{% endfor %}",
    "{% set row.k = 1 %}",
    "{% include 'x' %}",
    "{% include '/etc/passwd' %}",
    "{% include ['x'] ignore missing %}",
    "{% import 'x' as y %}",
    "{% from 'x' import y %}",
    "{% extends 'x' %}",
    "{% block a %}{% endblock %}",
    "{% macro f() %}{% endmacro %}",
    "{% call f() %}{% endcall %}",
    "{% filter upper %}a{% endfilter %}",
    "{% autoescape true %}{{ text }}{% endautoescape %}",
    "{% do choices.append('x') %}",
    "{% debug %}",
    "{% trans %}x{% endtrans %}",
    "{{ _('x') }}",
    "{{ gettext('x') }}",
    "{{ context }}",
    "{{ environment }}",
    "{{ caller() }}",
    "{{ varargs }}",
    "{{ kwargs }}",
    "{{ request }}",
    "{{ url_for.__globals__ }}",
    "{{ open('/etc/passwd') }}",
    "{{ choices | random }}",
    "{{ choices | shuffle }}",
    "{{ now() }}",
    "{{ text | safe }}",
    "{{ text | pprint }}",
    "{{ text | xmlattr }}",
    "{{ text | urlize }}",
    "{{ text | filesizeformat }}",
    "{{ text | center(80) }}",
    "{{ text | nope }}",
    "{{ text is nope }}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_what_leads_out_of_the_sandbox_is_refused(source: str) -> None:
    assert refusal(source).where == "t.yaml:10"


@pytest.mark.parametrize("source", [each for each in ESCAPES if each.startswith("{{") and each.count("{{") == 1])
def test_the_same_holds_for_the_expressions_of_a_catalog(source: str) -> None:
    # what is undefined inside a list is found when the list is made a column
    with pytest.raises((TemplateError, ValueError)):
        Place("text").check(value(source))


# -- bounded

HEAVY = [
    "{% if false %}{{ 'x' | center(10**9) }}{% endif %}",
    "{% if false %}{{ 'x' * 10**9 }}{% endif %}",
    "{% if false %}{{ [1] * 10**9 }}{% endif %}",
    "{% if false %}{{ 9**9**9**9 }}{% endif %}",
    "{% set a = false and 9**(9**9) %}",
    "{{ 'a' * 10**9 }}",
    "{{ 10**9 * 'a' }}",
    "{{ ('a' * 10**6) * 10**6 }}",
    "{{ [1] * 10**9 }}",
    "{{ (1,) * 10**9 }}",
    "{{ [[1] * 10**6] * 10**6 }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '%*d' % (10**9, 1) }}",
    "{{ 2**(10**9) }}",
    "{{ 10**(10**9) }}",
    "{{ (10**1000)**(10**6) }}",
    "{{ (0 - 7)**(10**9) }}",
    "{{ 1.5 | round(10**9, 'ceil') }}",
    "{{ 1.5 | round(10**9, 'floor') }}",
    "{{ 1.5 | round(precision=10**9, method='ceil') }}",
    "{{ 15 | round(10**9, 'ceil') }}",
    "{{ [1] | tojson(indent=10**9) }}",
    "{{ [1] | tojson(10**9) }}",
    "{{ choices | batch(10**9, 'x') | list }}",
    "{{ choices | batch(linecount=10**9, fill_with='x') | list }}",
    "{{ choices | slice(10**9) | list }}",
    "{{ choices | slice(slices=10**9) | list }}",
    "{{ choices | slice(1e9) | list }}",
    "{{ 'a\\nb' | indent(10**9) }}",
    "{{ 'a\\nb' | indent(width=10**9) }}",
    "{{ 'a'.ljust(10**9) }}",
    "{{ 'a'.center(10**9) }}",
    "{{ 'a'.zfill(10**9) }}",
    "{{ 'a\\t'.expandtabs(10**9) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ range(10**9) | list }}",
    "{{ range(10**9) | sum }}",
    "{{ " + "(" * 100_000 + "1" + ")" * 100_000 + " }}",
    "{{ " + "[" * 100_000 + "]" * 100_000 + " }}",
    "{{ " + "{'a':" * 100_000 + "1" + "}" * 100_000 + " }}",
    "{{ " + "not " * 100_000 + "1 }}",
    "{{ " + "-" * 100_000 + "1 }}",
    "{{ " + "1 + " * 20_000 + "1 }}",
    "{{ 1" + " | trim" * 20_000 + " }}",
    "{{ text" + ".x" * 20_000 + " }}",
    "{{ text" + "[0]" * 20_000 + " }}",
    "{{ text" + "(1)" * 20_000 + " }}",
    "{{ " + "1 if 1 else " * 100_000 + "1 }}",
    "{{ " + "9" * 10_000 + " }}",
    "{% if 1 %}" * 1_000 + "{% endif %}" * 1_000,
    "{% for c in [1] %}" * 150 + "{% endfor %}" * 150,
    "{% for c in [1] %}" * 21 + "{% endfor %}" * 21,
    "{% with a = 1 %}" * 1_000 + "{% endwith %}" * 1_000,
    "{% for c in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% set a = [] %}{{ a.append(a) or a }}",
    "{% set a = [] %}{{ a.append(a) or '' }}{{ a | string }}",
    "{% set a = {} %}{{ a.update({'a': a}) or '' }}{{ a }}",
]
CHILD = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from taskmix.errors import TemplateError
from taskmix.templates.parts import Expression, Part
row = {"text": "hello", "choices": ["a", "b", "c"]}
for source in json.load(sys.stdin):
    try:
        text = Part(source, "t.yaml", 10).render(row)
        print(json.dumps(["text", len(text)]), flush=True)
    except TemplateError as error:
        print(json.dumps(["refused", error.where]), flush=True)
    try:
        Expression.parse(source, "t.yaml", 10).value(row)
    except TemplateError:
        pass
"""


def test_heavy_templates_are_harmless_or_refused() -> None:
    # in another process of bounded memory: some of these would take hours, or end the process
    sources = json.dumps(HEAVY)
    try:
        child = subprocess.run([sys.executable, "-c", CHILD], input=sources, capture_output=True, text=True, timeout=60)
        output, ended = child.stdout, child.stderr[-2000:]
    except subprocess.TimeoutExpired as error:
        output, ended = (error.stdout or b"").decode(), "out of time"
    outcomes = [json.loads(line) for line in output.splitlines()]

    assert len(outcomes) == len(HEAVY), (HEAVY[len(outcomes)][:200], ended)
    for source, (outcome, detail) in zip(HEAVY, outcomes, strict=True):
        assert outcome == ("text" if "false" in source else "refused"), source[:200]
        assert outcome == "text" or detail.startswith("t.yaml:")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ 'ab' * 3 }}", "ababab"),
        ("{{ 3 * 'ab' }}", "ababab"),
        ("{{ [0] * 3 }}", "[0, 0, 0]"),
        ("{{ 'ab' * 0 }}", ""),
        ("{{ 2 ** 10 }}", "1024"),
        ("{{ 2 ** -1 }}", "0.5"),
        ("{{ 7 % 4 }}", "3"),
        ("{{ 6 * 7 }}", "42"),
        ("{{ 12 / 5 }}", "2.4"),
        ("{{ 1.115 | round(2) }}", "1.11"),
        ("{{ 1.15 | round(1, 'ceil') }}", "1.2"),
        ("{{ 'a\\nb' | indent(2) }}", "a\n  b"),
        ("{{ 'a\\nb' | indent(width=2, first=true) }}", "  a\n  b"),
        ("{{ 'a\\nb' | indent('> ') }}", "a\n> b"),
        ("{{ choices | batch(2) | list }}", "[['a', 'b'], ['c']]"),
        ("{{ choices | batch(linecount=2, fill_with='-') | list }}", "[['a', 'b'], ['c', '-']]"),
        ("{{ choices | slice(2) | list }}", "[['a', 'b'], ['c']]"),
        ("{{ choices | slice(2, '-') | list }}", "[['a', 'b'], ['c', '-']]"),
        ("{{ 'hello again' | truncate(3, true, '') }}", "hel"),
        ("{{ 'a b c' | wordwrap(3) }}", "a b\nc"),
        ("{{ choices | join }}", "abc"),
        ("{{ choices | join(', ') }}", "a, b, c"),
        ("{{ choices | join(d='-') }}", "a-b-c"),
        ("{{ 'abc' | join('-') }}", "a-b-c"),
        ("{{ [1, 2.5, true] | join(' ') }}", "1 2.5 True"),
        ("{{ [{'k': 'x'}, {'k': 'y'}] | join('+', attribute='k') }}", "x+y"),
        ("{{ [row, row] | map(attribute='deep.k') | list }}", "[1, 1]"),
        ("{{ choices | map('upper') | join(' ') }}", "A B C"),
        ("{{ 'a' ~ 1 ~ 2.5 ~ [1] }}", "a12.5[1]"),
        ("{{ text | replace('l', 'L', 1) }}", "heLlo"),
        ("{{ [1, 2, 2, 3, 3] | most_frequent }}", "[2, 3]"),
        ("{{ [] | most_frequent }}", "[]"),
        ("{{ '<<48/2=24>>24' | without('<<', '>>') }}", "24"),
        ("{% for a, b in zip(choices, range(3)) %}{{ a }}{{ b }}{% endfor %}", "a0b1c2"),
        ("{% for c in choices %}{{ loop.index }}{{ ', ' if not loop.last }}{% endfor %}", "1, 2, 3"),
        ("{% set a = [] %}{% for c in choices %}{{ a.append(c) or '' }}{% endfor %}{{ a | join }}", "abc"),
        ("{{ dict(k=1).k }}", "1"),
        ("{{ text[0] }}{{ text[-1] }}{{ text[1:3] }}{{ row['k'] }}{{ row.deep.k }}", "hoelv1"),
    ],
)
def test_what_templates_need_works_as_in_jinja(source: str, expected: str) -> None:
    assert render(source) == expected


# -- what becomes text


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("{{ nothing }}", "null"),
        ("{{ none }}", "null"),
        ("{{ nan }}", "nan"),
        ("{{ inf }}", "inf"),
        ("{{ -inf }}", "inf"),
        ("{{ holes }}", "null"),
        ("{{ {'k': nothing} }}", "null"),
        ("{{ [[nan]] }}", "nan"),
        ("{{ (1, nothing) }}", "null"),
        ("{{ text.upper }}", "function"),
        ("{{ row.keys }}", "function"),
        ("{{ choices.append }}", "function"),
        ("{{ [text.upper] }}", "function"),
        ("{{ {'k': text.upper} }}", "function"),
        ("{{ range }}", "function"),
        ("{{ range(3) }}", "range"),
        ("{{ zip(choices, choices) }}", "zip"),
        ("{{ choices | map('upper') }}", "generator"),
        ("{{ [choices | select] }}", "generator"),
        ("{{ choices | batch(2) }}", "generator"),
        ("{{ row.items() }}", "dict_items"),
        ("{% for c in choices %}{{ loop }}{% endfor %}", ""),
        ("{{ missing }}", "'missing' is undefined"),
        ("{{ row.missing }}", "missing"),
        ("{{ row['missing'] }}", "missing"),
        ("{{ choices[3] }}", "no element 3"),
        ("{{ [missing] }}", "'missing' is undefined"),
        ("{{ {'k': row.missing} }}", "missing"),
        ("{{ choices | map(attribute='missing') | list }}", "missing"),
        ("{{ missing == 1 }}", "'missing' is undefined"),
        ("{{ 1 if missing else 2 }}", "'missing' is undefined"),
        ("{{ missing.x | default('d') }}", "'missing' is undefined"),
        ("{% for c in missing %}{% endfor %}", "'missing' is undefined"),
        ("{{ 'a' ~ nothing }}", "null"),
        ("{{ 'a' ~ nan ~ 'b' }}", "nan"),
        ("{{ text ~ text.upper }}", "function"),
        ("{{ text ~ (choices | map('upper')) }}", "generator"),
        ("{{ text ~ missing }}", "missing"),
        ("{{ nothing | string }}", "null"),
        ("{{ nothing | upper }}", "null"),
        ("{{ nothing | lower }}", "null"),
        ("{{ nothing | capitalize }}", "null"),
        ("{{ nothing | title }}", "null"),
        ("{{ nothing | trim }}", "null"),
        ("{{ nothing | replace('a', 'b') }}", "null"),
        ("{{ text | replace('h', nothing) }}", "null"),
        ("{{ nothing | wordcount }}", "null"),
        ("{{ nothing | wordwrap(3) }}", "null"),
        ("{{ nothing | truncate(3) }}", "null"),
        ("{{ nothing | indent }}", "null"),
        ("{{ text.upper | string }}", "function"),
        ("{{ text.upper | length }}", ""),
        ("{{ holes | join }}", "null"),
        ("{{ choices | join(nothing) }}", "null"),
        ("{{ [nan] | join }}", "nan"),
        ("{{ [text.upper] | join }}", "function"),
        ("{{ [{'k': nothing}] | join(attribute='k') }}", "null"),
        ("{{ holes | map('string') | list }}", "null"),
        ("{% set s %}{{ nothing }}{% endset %}{{ s }}", "null"),
        ("{{ nan | tojson }}", "JSON"),
        ("{{ [inf] | tojson }}", "JSON"),
        ("{{ missing | tojson }}", "JSON"),
        ("{{ text.upper | tojson }}", "JSON"),
        ("{{ 1 / 0 }}", "division"),
        ("{{ 'a' + 1 }}", "concatenate"),
        ("{{ '\\ud800' }}", "surrogate"),
        ("{{ text ~ '\\udfff' }}", "surrogate"),
        ("{{ 1e999 }}", "too large"),
        ("{{ '\\x' }}", "escape"),
    ],
)
def test_what_has_no_clear_text_is_refused(source: str, shown: str) -> None:
    assert shown in refusal(source).message


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ text }}", "hello"),
        ("{{ n }}", "3"),
        ("{{ x }}", "1.5"),
        ("{{ ok }}", "True"),
        ("{{ choices }}", "['a', 'b', 'c']"),
        ("{{ row.deep }}", "{'k': 1}"),
        ("{{ (1, 'a') }}", "(1, 'a')"),
        ("{{ nothing or 'none given' }}", "none given"),
        ("{{ nothing | default('d', true) }}", "d"),
        ("{{ missing | default('d') }}", "d"),
        ("{{ missing is defined }}", "False"),
        ("{{ nothing is none }}", "True"),
        ("{% if nothing %}x{% endif %}", ""),
        ("{{ 'x' if false }}", ""),
        ("{{ holes | select | join }}", "a"),
        ("{{ nothing | tojson }}", "null"),
        ("{{ holes | tojson }}", '["a", null]'),
        ("{{ 2 ** 100 }}", str(2**100)),
        ("{{ 10000000000000000.0 }}", "1e+16"),
        ("{{ '' }}", ""),
    ],
)
def test_what_has_a_clear_text_is_printed(source: str, expected: str) -> None:
    assert render(source) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("<b>&\"'</b>", '"<b>&\\"\'</b>"'),
        ("é\U0001f600\u2028", '"é\U0001f600\u2028"'),
        ("a\nb\t\0", '"a\\nb\\t\\u0000"'),
        ([1, 2.5, None, True, "x"], '[1, 2.5, null, true, "x"]'),
        ({"b": 1, "a": {"é": []}}, '{"b": 1, "a": {"é": []}}'),
        (2**53 + 1, "9007199254740993"),
    ],
)
def test_tojson_writes_plain_json(found: object, expected: str) -> None:
    assert render("{{ found | tojson }}", {"found": found}) == expected
    assert json.loads(expected) == found


def test_tojson_can_indent() -> None:
    assert render("{{ row | tojson(indent=1) }}") == json.dumps(ROW["row"], indent=1)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a\n", "a\n"),
        ("a\n\n", "a\n\n"),
        ("\n a \n", "\n a \n"),
        ("{{ text }}\n", "hello\n"),
        ("{% if true %}\nx\n{% endif %}\n", "\nx\n\n"),
        ("{%- if true %} x {% endif -%}  y", " x y"),
        ("a{# comment #}b", "ab"),
        ("{% raw %}{{ text }}{% endraw %}", "{{ text }}"),
        ("{{ '{{' }}", "{{"),
        # of the line ends in a template Jinja makes LF; those of the data stay
        ("a\r\nb\rc", "a\nb\nc"),
        ("{{ 'a\\r\\nb' }}", "a\r\nb"),
        ("", ""),
        ("<b>&amp;'\"</b>", "<b>&amp;'\"</b>"),
    ],
)
def test_text_is_kept_as_it_is(source: str, expected: str) -> None:
    assert render(source) == expected


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_data_are_printed_as_they_are(text: str) -> None:
    row = {"text": text, "items": [text]}

    assert render("[{{ text }}]\n", row) == f"[{text}]\n"
    assert render("{{ items[0] ~ text }}{{ items | join }}", row) == text * 3
    assert json.loads(render("{{ text | tojson }}", row)) == text


@pytest.mark.parametrize("text", ["{{ 1/0 }}", "{% include 'x' %}", "{# #}", "|||", "{{", "%}"])
def test_jinja_in_the_data_is_text(text: str) -> None:
    assert render("{{ text }}", {"text": text}) == text


# -- names

TAKEN = ["items", "keys", "values", "get", "pop", "update", "copy", "count", "index", "append"]


@pytest.mark.parametrize("name", TAKEN)
def test_a_field_named_like_a_method_is_the_field(name: str) -> None:
    row = {"row": {name: "mine"}, "rows": [{name: "mine"}]}

    assert render(f"{{{{ row.{name} }}}}", row) == "mine"
    assert render(f"{{{{ row['{name}'] }}}}", row) == "mine"
    assert render(f"{{{{ rows | map(attribute='{name}') | join }}}}", row) == "mine"


@pytest.mark.parametrize("name", [*TAKEN, "range", "dict", "zip", "loop", "upper", "context", "name", "environment"])
def test_a_column_may_have_a_name_that_jinja_uses(name: str) -> None:
    assert render(f"{{{{ {name} }}}}", {name: "mine"}) == "mine"
    assert value(f"{{{{ {name} }}}}", {name: "mine"}) == "mine"
    assert Part(f"{{{{ {name} }}}}", "t.yaml", 1).names == {name}


def test_a_function_that_is_called_is_no_column() -> None:
    part = Part("{% for a, b in zip(range(3), choices) %}{{ a }}{{ b }}{% endfor %}{{ dict(k=1).k }}", "t.yaml", 1)

    assert part.names == {"choices"}


def test_methods_go_by_a_dot_and_not_by_brackets() -> None:
    assert render("{{ text.upper() }}") == "HELLO"
    assert "upper" in refusal("{{ text['upper']() }}").message


@pytest.mark.parametrize(
    ("source", "names", "assigned"),
    [
        ("{{ a }}{{ b.c }}", {"a", "b"}, set()),
        ("{% for a in b %}{{ a }}{{ loop.index }}{{ c }}{% endfor %}", {"b", "c"}, {"a"}),
        ("{% set a = b %}{{ a }}", {"b"}, {"a"}),
        ("{% if x %}{% set a = 1 %}{% endif %}{{ a }}", {"x", "a"}, {"a"}),
        ("{% with a = b %}{{ a }}{% endwith %}", {"b"}, set()),
        ("{{ a | join(b) }}{{ c is in d }}", set("abcd"), set()),
        ("no names", set(), set()),
    ],
)
def test_a_part_knows_its_names(source: str, names: set[str], assigned: set[str]) -> None:
    part = Part(source, "t.yaml", 1)

    assert part.names == names
    assert part.assigned == assigned


# -- choice

PICK = "{{ choices | choice }}"


def picks(source: str, draws: Sequence[int], row: Mapping[str, Any] = ROW, scope: str = "t/output") -> list[str]:
    part = Part(source, "t.yaml", 10, scope)
    return [part.render(row, draw) for draw in draws]


def test_choice_follows_from_the_draw_and_the_place_alone() -> None:
    source = "{{ choices | choice }}{{ text }}{{ choices | choice }}"
    found = picks(source, range(50))

    assert picks(source, range(49, -1, -1)) == found[::-1]
    assert picks(source, range(50), {**ROW, "text": "other"}) == [text.replace("hello", "other") for text in found]
    # a later place does not move an earlier one
    assert picks(PICK, range(50)) == [text[0] for text in found]


def test_choice_never_changes_from_one_version_to_the_next() -> None:
    found = picks(PICK, range(40), scope="movie-verdict/output")

    assert "".join(found) == "caaaacababbcbabbbbcbaccacaabccbccaabcaca"


def near(count: int, expected: int) -> bool:
    return abs(count - expected) < 4 * math.sqrt(expected)


def test_places_and_parts_pick_independently() -> None:
    draws = range(4_500)
    places = Counter(picks(PICK * 2, draws))
    parts = Counter(zip(picks(PICK, draws), picks(PICK, draws, scope="t/input"), strict=True))

    assert len(places) == len(parts) == 9
    assert all(near(count, 500) for count in (*places.values(), *parts.values()))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10])
def test_choice_is_even(count: int) -> None:
    row = {"choices": [str(number) for number in range(count)]}
    found = Counter(picks(PICK, range(500 * count), row))

    assert len(found) == count
    assert all(near(each, 500) for each in found.values())


def test_choice_in_a_loop_is_one_place() -> None:
    for text in picks("{% for _ in range(20) %}{{ choices | choice }}{% endfor %}", range(10)):
        assert len(set(text)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "{{ choices | choice(1) }}",
        "{{ choices | choice(place=1) }}",
        "{{ choices | choice(*[1]) }}",
        "{{ choices | choice(**{'place': 1}) }}",
        "{{ [choices] | map('choice') | list }}",
        "{{ [choices] | map('choice', 1) | list }}",
        "{{ [choices] | map('choice', place=1) | list }}",
        "{{ [] | choice }}",
        "{{ nothing | choice }}",
        "{{ n | choice }}",
        "{{ missing | choice }}",
    ],
)
def test_choice_takes_a_list_and_no_arguments(source: str) -> None:
    assert refusal(source).where == "t.yaml:10"


# -- what a template changes is its own affair


def template(tmp_path: Path, text: str) -> Template:
    path = tmp_path / "t.yaml"
    path.write_text(text)
    (found,) = read_templates(path)
    return found


def frame(**columns: Sequence[Any]) -> pl.DataFrame:
    count = len(next(iter(columns.values())))
    keys = {SOURCE_ROW: pl.Series(range(count), dtype=pl.UInt64), DRAW: pl.Series(range(count), dtype=pl.UInt64)}
    return pl.DataFrame({**columns, **keys})


@pytest.mark.parametrize(
    "change",
    [
        "{{ words.append('new') or '' }}",
        "{{ words.extend(['new']) or '' }}",
        "{{ words.insert(0, 'new') or '' }}",
        "{{ words.reverse() or '' }}",
        "{{ words.remove('a') or '' }}",
        "{{ words.pop() | replace('b', '') }}",
        "{{ row.update({'k': 'new'}) or '' }}",
        "{{ row.pop('k') | replace('v', '') }}",
        "{{ row.inner.append('new') or '' }}",
        "{% set mine = words %}{{ mine.append('new') or '' }}",
        "{% for f in [words.append] %}{{ f('new') or '' }}{% endfor %}",
        "{% for each in [words] %}{{ each.append('new') or '' }}{% endfor %}",
        "{{ words[:].append('new') or '' }}",
    ],
)
def test_a_change_in_one_part_is_not_seen_by_later_parts_or_rows(tmp_path: Path, change: str) -> None:
    shown = "{{ words | join }}{{ row.k }}{{ row.inner | join }}"
    text = f"- name: a\n  instruction: |-\n    {change}x\n  input: |-\n    {change}x\n  output: |-\n    {shown}\n"
    rows = frame(words=[["a", "b"]] * 2, row=[{"k": "v", "inner": ["i"]}] * 2)

    found = render_frame(rows, template(tmp_path, text), "t", None, WORKERS).rows

    assert found["instruction"].to_list() == found["input"].to_list() == ["x", "x"]
    assert found["output"].to_list() == ["abvi", "abvi"]
    assert rows["words"].to_list() == [["a", "b"]] * 2


@pytest.mark.parametrize(
    "change",
    ["{{ words['append']('new') }}", "{{ [words] | map(attribute='append') | list }}", "{{ words['pop']() }}"],
)
def test_there_is_no_other_way_to_a_method_that_changes(change: str) -> None:
    words = ["a", "b"]

    refusal(change, {"words": words})

    assert words == ["a", "b"]


def test_choices_of_a_template_are_its_own_for_each_row(tmp_path: Path) -> None:
    text = (
        "- name: a\n  instruction: \"{{ choices.append('x') or '' }}{{ choices | join }}\"\n"
        '  output: "{{ choices | join }}"\n  choices: [a, b]\n'
    )

    found = render_frame(frame(label=[0, 1]), template(tmp_path, text), "t", None, WORKERS).rows

    assert found["instruction"].to_list() == ["abx", "abx"]
    assert found["output"].to_list() == ["ab", "ab"]


def test_an_expression_does_not_change_its_row() -> None:
    row = {"words": ["a"]}

    assert value("{{ words.append('b') or words }}", row) == ["a", "b"]
    assert row == {"words": ["a"]}


def test_a_column_named_like_a_function_reaches_its_template(tmp_path: Path) -> None:
    text = '- name: a\n  instruction: "{{ zip }} {{ dict.k }}"\n  output: "{{ range }}"\n'

    found = render_frame(
        frame(zip=["90210"], dict=[{"k": "v"}], range=[7]), template(tmp_path, text), "t", None, WORKERS
    )

    assert found.rows.rows() == [("90210 v", "", "7")]


# -- lines

BLOCK = """\
# a comment

- name: first
  instruction: Say it.
  output: "{{ text }}"
- name: second
  instruction: |-   # the text starts below
    Line one {{ text }}

    and line three
    FAULT
    line five
  input: "{{ text }}"
  output: x
"""


@pytest.mark.parametrize("style", ["|-", "|", "|+", "|2-", "|- # why"])
@pytest.mark.parametrize(
    ("fault", "shown"),
    [
        ("{{ text | nope }}", "No filter named 'nope'"),
        ("{{ text.__class__ }}", "__class__"),
        ("{% if text %}", "endif"),
        ("{% include 'x' %}", "include"),
        ("{{ text }", "}"),
        ("{% for %}", ""),
        ("{{ '\\ud800' }}", "surrogate"),
    ],
)
def test_a_syntax_error_has_its_line_in_the_file(tmp_path: Path, style: str, fault: str, shown: str) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(BLOCK.replace("|-   # the text starts below", style).replace("FAULT", fault))

    with pytest.raises(TemplateError) as caught:
        read_templates(path)

    assert caught.value.where == f"{path}:11"
    assert shown in caught.value.message


@pytest.mark.parametrize("style", ["|-", "|", "|+", "|2-", "|- # why"])
@pytest.mark.parametrize(
    "fault",
    [
        "{{ text.missing }}",
        "{{ 1 / 0 }}",
        "{{ none }}",
        "{{ text ~ none }}",
        "{% for c in text %}{{ c / 0 }}{% endfor %}",
        "{% if true %}{{ text + 1 }}{% endif %}",
        "{% set a = text[99] %}{{ a }}",
        "{{ [none] | join }}",
        "{{ text['upper']() }}",
        "{{ 'a' * 10**9 }}",
    ],
)
def test_an_error_on_a_row_has_its_line_in_the_file(tmp_path: Path, style: str, fault: str) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(BLOCK.replace("|-   # the text starts below", style).replace("FAULT", fault))
    _, second = read_templates(path)

    with pytest.raises(TemplateError) as caught:
        render_frame(frame(text=["a"]), second, "reviews", None, WORKERS)

    assert caught.value.where == f"{path}:11: task reviews, template second, row 0"


@pytest.mark.parametrize(
    ("key", "text", "line"),
    [
        ("instruction", '  instruction: "{{ 1 / 0 }}"\n  output: x\n', 2),
        ("output", "  instruction: x\n  output: '{{ 1 / 0 }}'\n", 3),
        ("input", "  instruction: x\n  input:\n    '{{ 1 / 0 }}'\n  output: x\n", 4),
        ("output", "  instruction: x\n  output:\n    |-\n    {{ 1 / 0 }}\n", 5),
        ("choices", "  instruction: x\n  output: '{{ choices[0] }}'\n  choices: '{{ [1 / 0] }}'\n", 4),
        ("choices", "  instruction: x\n  output: '{{ choices[0] }}'\n  choices: |-\n    {{ [1 / 0] }}\n", 5),
    ],
)
def test_every_part_has_the_line_of_its_own_text(tmp_path: Path, key: str, text: str, line: int) -> None:
    found = template(tmp_path, f"- name: a\n{text}")

    with pytest.raises(TemplateError, match="division") as caught:
        render_frame(frame(text=["a", "b"]), found, "t", None, WORKERS)

    assert caught.value.where == f"{tmp_path}/t.yaml:{line}: task t, template a, row 0", key


def test_the_first_row_that_fails_is_named(tmp_path: Path) -> None:
    found = template(tmp_path, '- name: a\n  instruction: x\n  output: "{{ 6 / n }}"\n')

    with pytest.raises(TemplateError, match="row 2"):
        render_frame(frame(n=[1, 2, 0, 0]), found, "t", None, WORKERS)


@pytest.mark.parametrize("output", ["{{ text }}", "{% if false %}x{% endif %}", "  \n"])
def test_an_empty_output_is_an_error(tmp_path: Path, output: str) -> None:
    found = template(tmp_path, f"- name: a\n  instruction: x\n  output: {json.dumps(output)}\n")

    with pytest.raises(TemplateError, match="the output is empty"):
        render_frame(frame(text=[" "]), found, "t", None, WORKERS)


def test_hostile_text_in_a_message_is_shown_escaped() -> None:
    error = refusal("{{ row[text] }}", {"row": {}, "text": "\x1b[31m\u202e"})

    assert "\x1b" not in str(error)
    assert "\u202e" not in str(error)


# -- expressions of a catalog


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ text }}", "hello"),
        (" {{text}} ", "hello"),
        ("{{- text -}}", "hello"),
        ("{{ n + 1 }}", 4),
        ("{{ n >= 0 }}", True),
        ("{{ nothing }}", None),
        ("{{ choices }}", ["a", "b", "c"]),
        ("{{ row.deep }}", {"k": 1}),
        ("{{ {'a': {}} }}", {"a": {}}),
        ("{{ '}}' }}", "}}"),
        ("{{ choices | map('upper') | list }}", ["A", "B", "C"]),
        ("{{\n  text\n  | upper\n}}", "HELLO"),
        ("{{ text ~ n }}", "hello3"),
        ("{{ range(2) | list }}", [0, 1]),
    ],
)
def test_an_expression_gives_its_value(source: str, expected: object) -> None:
    found = value(source)

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "source",
    [
        "{{ text }} {{ n }}",
        "{{ text }}{{ n }}",
        "{{ text }} }}",
        "{{ {{ text }} }}",
        "x {{ text }}",
        "{{ text",
        "text",
        "{{}}",
        "{{ }}",
        "{{ text }}{% if true %}{{ n }}{% endif %}{{ n }}",
        "{{ text |nope }}",
        "{{ choices | choice }}",
        "{{ text.__class__ }}",
        "{{ '\\ud800' }}",
        "{{ " + "(" * 10_000 + "1" + ")" * 10_000 + " }}",
    ],
)
def test_what_is_not_one_expression_is_refused_when_it_is_read(source: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Expression.parse(source, "catalog.yaml", 10)

    assert caught.value.where == "catalog.yaml:10"


@pytest.mark.parametrize(
    "source",
    [
        "{{ missing }}",
        "{{ 1 / 0 }}",
        "{{\n\n\n 1 / 0 }}",
        "{{ text.upper }}",
        "{{ choices | map('upper') }}",
        "{{ row.items() }}",
        "{{ self }}",
        "{{ dict }}",
        "{{ 1 if false }}",
        "{{ text ~ nothing }}",
    ],
)
def test_a_value_that_is_no_data_is_an_error(source: str) -> None:
    with pytest.raises(TemplateError) as caught:
        value(source)

    assert caught.value.where == "catalog.yaml:10"


def computed(source: str, **columns: Sequence[Any]) -> pl.Series:
    return evaluate(frame(**columns), Expression.parse(source, "catalog.yaml", 10), "made", "t", WORKERS)


@pytest.mark.parametrize(
    ("source", "column", "expected"),
    [
        ("{{ a }}", [1, 2], [1, 2]),
        ("{{ a | string }}", [1, 2], ["1", "2"]),
        ("{{ none if a == 1 else 'x' }}", [1, 2], [None, "x"]),
        ("{{ none }}", [1, 2], [None, None]),
        ("{{ 1 if a == 1 else 1.5 }}", [1, 2], [1.0, 1.5]),
        # what Polars alone would change: it takes the type of the first value
        ("{{ [1 if a == 1 else 1.5] }}", [1, 2], [[1.0], [1.5]]),
        ("{{ [{'k': none if a == 1 else 7}] }}", [1, 2], [[{"k": None}], [{"k": 7}]]),
        ("{{ [] if a == 1 else ['x'] }}", [1, 2], [[], ["x"]]),
        ("{{ (1, a) }}", [1, 2], [[1, 1], [1, 2]]),
        ("{{ range(a) }}", [1, 2], [[0], [0, 1]]),
        ("{{ 2 ** 100 + a }}", [1, 2], [2**100 + 1, 2**100 + 2]),
    ],
)
def test_values_of_all_rows_make_a_column(source: str, column: list[Any], expected: list[Any]) -> None:
    assert computed(source, a=column).to_list() == expected


@pytest.mark.parametrize(
    "source",
    [
        "{{ 1 if a == 1 else 'x' }}",
        "{{ 1 if a == 1 else true }}",
        "{{ ['x'] if a == 1 else [1] }}",
        "{{ {'k': [1]} if a == 1 else [1] }}",
        "{{ [1, 'x'] if a == 2 else [] }}",
        "{{ 2 ** 53 + 1 if a == 1 else 0.5 }}",
        "{{ 2 ** 200 if a == 2 else 1 }}",
        "{{ 1e308 * 10 * (a - 1) }}",
        "{{ [text.upper] if a == 2 else [] }}",
    ],
)
def test_values_that_do_not_fit_one_column_are_an_error_with_the_row(source: str) -> None:
    with pytest.raises(RowError) as caught:
        computed(source, a=[1, 2], text=["x", "y"])

    row = 0 if "1e308" in source else 1
    assert caught.value.where == f"catalog.yaml:10: task t, row {row}"


def test_choices_that_are_no_expression_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="neither a list nor an expression") as caught:
        template(tmp_path, "- name: a\n  instruction: x\n  output: x\n  choices: a, b\n")

    assert caught.value.where == f"{tmp_path}/t.yaml:4"

"""`|||` cut in a template's source: what each part holds, and what is refused."""

import pytest

from taskmix.importers.cutting import Parts, cut
from taskmix.importers.pieces import PieceError, join, read, renamed


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        pytest.param("ask ||| answer", Parts("", "ask", "answer"), id="text"),
        pytest.param("{{ a }}|||{{ b }}", Parts("", "{{ a }}", "{{ b }}"), id="expressions"),
        pytest.param("{{ '|||' }} ||| {{ b }}", Parts("", "{{ '|||' }}", "{{ b }}"), id="a mark in a string is data"),
        pytest.param(
            "{% set x = 1 %}{{ x }} ||| {{ x }}",
            Parts("{% set x = 1 %}", "{{ x }}", "{{ x }}"),
            id="what both need is set up",
        ),
        pytest.param(
            "{% set x = 1 %}ask ||| {{ x }}",
            Parts("", "ask", "{% set x = 1 %}\n{{ x }}"),
            id="what the output alone needs moves there",
        ),
        pytest.param(
            "{% set x = 1 %}{{ x }} ||| answer",
            Parts("", "{% set x = 1 %}{{ x }}", "answer"),
            id="what the instruction alone needs stays",
        ),
        pytest.param(
            "{% set a = [] %}{%- for x in xs %}{{ a.append(x) or '' }}{% endfor -%} {{ a }} ||| {{ a[0] }}",
            Parts(
                "{% set a = [] %}\n{% for x in xs %}\n  {{ a.append(x) or '' }}\n{% endfor %}", "{{ a }}", "{{ a[0] }}"
            ),
            id="a list that is appended to",
        ),
        pytest.param(
            "{% set a = [] %}{% for x in xs %}- {{ x }}{{ a.append(x) or '' }}{% endfor %} ||| {{ a[0] }}",
            Parts(
                "{% set a = [] %}",
                "{% for x in xs %}- {{ x }}{{ a.append(x) or '' }}{% endfor %}",
                "{% for x in xs %}\n  {{ a.append(x) or '' }}\n{% endfor %}\n{{ a[0] }}",
            ),
            id="a loop that prints and appends is repeated without its text",
        ),
        pytest.param(
            "{% if a %}\nask\n|||\n{{ b }}\n{% endif %}",
            Parts("", "{% if a %}\nask\n{% endif %}", "{% if a %}\n{{ b }}\n{% endif %}"),
            id="inside a condition",
        ),
        pytest.param(
            "Q {% if a %}one ||| 1{% elif b %}two{% else %}three ||| 3{% endif %}",
            Parts(
                "",
                "Q {% if a %}one{% elif b %}two{% else %}three{% endif %}",
                "{% if a %}\n1\n{% elif b %}\n{% else %}\n3\n{% endif %}",
            ),
            id="a branch without a mark has no output",
        ),
        pytest.param(
            "{% if a %}x ||| y{% else %}u ||| v{% endif %} z",
            Parts("", "{% if a %}\nx\n{% else %}\nu\n{% endif %}", "{% if a %}y{% else %}v{% endif %} z"),
            id="text behind a condition that is cut in all branches",
        ),
        pytest.param(
            "{% if 0 == [0, 1] | choice %}x ||| y{% else %}u ||| v{% endif %}",
            Parts(
                "{% set drawn = 0 == [0, 1] | choice %}",
                "{% if drawn %}\nx\n{% else %}\nu\n{% endif %}",
                "{% if drawn %}\ny\n{% else %}\nv\n{% endif %}",
            ),
            id="a condition that draws is drawn once",
        ),
        pytest.param(
            "{% if a %}{% set x = b | choice %}{{ x }} ||| {{ x }}{% endif %}",
            Parts(
                "{% if a %}\n  {% set x = b | choice %}\n{% endif %}",
                "{% if a %}\n{{ x }}\n{% endif %}",
                "{% if a %}\n{{ x }}\n{% endif %}",
            ),
            id="a draw inside a condition",
        ),
        pytest.param(
            "{% set x %}a ||| b{% endset %}",
            None,
            id="a captured text",
        ),
        pytest.param(
            "{# a comment with ||| #} ask ||| {{ b }}",
            Parts("", "{# a comment with ||| #} ask", "{{ b }}"),
            id="comment",
        ),
    ],
)
def test_the_cut(source: str, parts: Parts | None) -> None:
    if parts is None:
        with pytest.raises(PieceError):
            cut(source)
    else:
        assert cut(source) == parts


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("no mark", "has no `|||`: promptsource drops every row"),
        ("", "has no `|||`: promptsource drops every row"),
        ("{{ '|||' }}", "has no `|||`: promptsource drops every row"),
        ("a ||| b ||| c", "more than one `|||` on a path"),
        ("a ||| b {% if x %} ||| {% endif %}", "more than one `|||` on a path"),
        ("{% if x %}a ||| b{% endif %}{% if y %}c ||| d{% endif %}", "more than one `|||` on a path"),
        ("{% for x in xs %}a ||| b{% endfor %}", "`|||` inside `for`, which cannot be cut"),
        ("{% if x %}a ||| b{% endif %} c", "text after a condition that holds `|||` in some of its branches only"),
        ("{% for x in xs %}{% set _ = a.append(xs | choice) %}{{ x }}{% endfor %} ||| {{ a }}", "draws at random"),
        ("{% if x %}a", "`if` does not end"),
        ("{% if x %}a ||| b{% endfor %}", "`endfor`"),
        ("a ||| b {% endif %}", "endif"),
        ("{{ a ", "a tag does not end"),
        ("{% if x %}" * 900 + "a ||| b" + "{% endif %}" * 900, "too deeply nested"),
        ("{{ " + "(" * 5000 + "a" + ")" * 5000 + " }} ||| b", "nested"),
        ("{% set a = 1 %}" * 20_000 + "||| {{ a }}", "longer than"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_reason(source: str, reason: str) -> None:
    with pytest.raises(PieceError) as refused:
        cut(source)
    assert reason.lower() in str(refused.value).lower()


@pytest.mark.parametrize(
    "source",
    [
        "a {{ b }} {%- if c -%} d {%- else %}e{% endif %}\n{# f #}{% raw %}{{ g }}{% endraw %}{% set h %}i{% endset %}",
        "{% for a in b if a recursive %}{{ loop.index }}{% else %}c{% endfor %}{% with x = 1 %}{{ x }}{% endwith %}",
        "line\r\nline",
        "{{ '{%' }}{{ \"}}\" }}",
    ],
)
def test_pieces_print_back_as_they_stood(source: str) -> None:
    # whitespace that a tag removes before itself is gone already
    assert join(read(source)) == source.replace(" {%-", "{%-").replace("\r\n", "\n")


def test_names_are_renamed_and_nothing_else_is() -> None:
    source = "name {{ name.name | name(name=name, a='name') }}{% set name = x.name %}{{ f(name) is name }}"
    changed = "name {{ new.name | other(name=new, a='name') }}{% set new = x.name %}{{ f(new) is new }}"
    assert renamed(source, {"name": "new"}, {"name": "other"}) == changed

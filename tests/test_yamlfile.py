"""YAML is read strictly: YAML 1.2's scalars, no duplicates, no tags, bounded, and every value with its line."""

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from taskmix.catalog import yamlfile
from taskmix.catalog.yamlfile import MAX_DEPTH, MAX_VALUES, Document, Location
from taskmix.errors import CatalogError

FILE = Path("catalog.yaml")


def parse(text: str) -> Document:
    return yamlfile.parse(text, FILE)


def refusal(text: str) -> CatalogError:
    with pytest.raises(CatalogError) as caught:
        parse(text)
    return caught.value


# -- values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # what YAML 1.1 reads as truth values, dates, octal, sexagesimal and grouped numbers
        *((word, word) for word in "no No NO yes Yes on off On OFF y n Y N".split()),
        ("2024-01-31", "2024-01-31"),
        ("2024-01-31T12:00:00Z", "2024-01-31T12:00:00Z"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("0o17", "0o17"),
        ("0b1", "0b1"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("=", "="),
        ("<<", "<<"),
        # the core schema's own
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("tRue", "tRue"),
        ("null", None),
        ("NULL", None),
        ("~", None),
        ("nUll", "nUll"),
        ("none", "none"),
        ("0", 0),
        ("010", 10),
        ("-7", -7),
        ("+7", 7),
        ("9007199254740993", 9007199254740993),
        ("0.5", 0.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.5", -0.5),
        ("1e3", 1000.0),
        ("1.5E-2", 0.015),
        ("1e", "1e"),
        (".", "."),
        ("-", [None]),
        ("+", "+"),
        ("1.2.3", "1.2.3"),
        ("٣", "٣"),
        # quoted scalars are texts
        ('"5"', "5"),
        ("'true'", "true"),
        ('""', ""),
        ("'~'", "~"),
        ('"a\\u00e9\\x41\\n"', "aéA\n"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, expected: object) -> None:
    found = parse(text).value

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("text", ["key:", "key: # a comment"])
def test_a_key_without_a_value_is_null(text: str) -> None:
    assert parse(text).value == {"key": None}


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "\ufeff"])
def test_an_empty_file_is_null(text: str) -> None:
    assert parse(text).value is None


def test_a_byte_order_mark_is_not_a_part_of_the_first_key() -> None:
    assert parse("\ufeffversion: 1").value == {"version": 1}


def test_a_number_of_more_digits_than_python_converts_is_text() -> None:
    assert parse(f"a: {'9' * 5000}").value == {"a": "9" * 5000}


def test_a_fraction_too_large_to_hold_is_infinite() -> None:
    assert parse("1e999").value == math.inf


def test_keys_are_scalars_too() -> None:
    found = parse("{5: a, no: b, true: c, 0.5: d, '2': e, ~: f}").value

    assert found == {5: "a", "no": "b", True: "c", 0.5: "d", "2": "e", None: "f"}


def test_an_alias_is_the_value_that_it_names() -> None:
    assert parse("a: &x {k: [1, 2]}\nb: *x\nc: [*x]").value == {
        "a": {"k": [1, 2]},
        "b": {"k": [1, 2]},
        "c": [{"k": [1, 2]}],
    }


def test_a_merge_key_is_an_ordinary_key() -> None:
    # models forbid unknown keys, so that a catalog that relies on merging is refused and not misread
    assert parse("a: &x {k: 1}\nb: {<<: *x, l: 2}").value == {"a": {"k": 1}, "b": {"<<": {"k": 1}, "l": 2}}


# `08` and `1E0` are numbers in YAML 1.2 and texts in YAML 1.1, which PyYAML writes without quotes
TEXT = st.text(max_size=8).filter(lambda text: not text or not set(text) <= set("-+.0123456789eE"))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | TEXT | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def _spelt_differently(value: object) -> bool:
    """Whether PyYAML writes a value in a form of YAML 1.1 alone, such as `.inf`, or with a tag."""
    if isinstance(value, dict):
        return any(map(_spelt_differently, value.values()))
    return any(map(_spelt_differently, value)) if isinstance(value, list) else value in (math.inf, -math.inf)


@given(PLAIN.filter(lambda value: not _spelt_differently(value)), st.sampled_from([None, True, False]))
def test_what_pyyaml_writes_is_read_as_it_was(value: object, flow: bool | None) -> None:
    # with allow_unicode PyYAML writes U+0085 as it is, which YAML takes for a line break
    written = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=False)

    assert parse(written).value == value


# -- refusals


@pytest.mark.parametrize(
    ("text", "line", "shown"),
    [
        pytest.param("a: 1\nb: 2\na: 3\n", 3, ["'a' stands twice", "line 1"], id="duplicate key"),
        pytest.param("t:\n  x: {k: 1,\n    k: 2}\n", 3, ["'k' stands twice", "line 2"], id="duplicate in flow"),
        pytest.param("'a': 1\na: 2", 2, ["stands twice"], id="duplicate in quotes"),
        pytest.param("~: 1\nnull: 2", 2, ["stands twice"], id="null twice"),
        pytest.param("1: a\ntrue: b", 2, ["stands twice", "line 1"], id="1 and true, one key to Python"),
        pytest.param("0: a\n0.0: b", 2, ["stands twice"], id="0 and 0.0"),
        pytest.param("010: a\n10: b", 2, ["stands twice"], id="010 and 10"),
        pytest.param("a:\n  b: !!python/object:os.system x", 2, ["tag", "python/object"], id="python object"),
        pytest.param("a: !!python/name:os.system", 1, ["tag"], id="python name"),
        pytest.param("a: !!str 1", 1, ["tag"], id="a harmless tag"),
        pytest.param("a:\n- !function f.g", 2, ["tag", "!function"], id="a tag of one's own"),
        pytest.param("!!map {a: 1}", 1, ["tag"], id="a tag on a mapping"),
        pytest.param("- !!set {a}", 1, ["tag"], id="a tag on a set"),
        pytest.param("%TAG ! tag:x,2000:\n---\n!y 1", 3, ["tag"], id="a tag by a directive"),
        pytest.param("a: 1\nb:\n\tc: 2", 3, ["tabs"], id="indented by a tab"),
        pytest.param("a: 1\n? [x]\n: 2", 2, ["key"], id="a list as a key"),
        pytest.param("a: 1\n? {x: 1}\n: 2", 2, ["key"], id="a mapping as a key"),
        pytest.param("a: [1, 2\nb: 3", 2, [], id="an open bracket"),
        pytest.param("a: 'x\n", 2, [], id="an open quote"),
        pytest.param("a: *nowhere", 1, ["alias"], id="an alias of nothing"),
        pytest.param("a: 1\n--- \nb: 2", 2, ["document"], id="two documents"),
        pytest.param("a: b: c", 1, [], id="two colons"),
        pytest.param("a: 1\n  b: 2", 2, [], id="bad indentation"),
        pytest.param("a: {{ text }}", 1, [], id="jinja without quotes"),
        pytest.param('a: "\\ud800"', 1, [], id="half of a surrogate pair"),
        pytest.param("a: @x", 1, [], id="a reserved character"),
    ],
)
def test_what_is_not_strict_yaml_is_refused_with_its_line(text: str, line: int, shown: list[str]) -> None:
    error = refusal(text)

    assert error.where == f"catalog.yaml:{line}"
    for part in shown:
        assert part in str(error)


@pytest.mark.parametrize("text", ["a: x\0y", "a: \x1b[31m", "a: \x07", "a: \ufffe"])
def test_control_characters_are_refused(text: str) -> None:
    error = refusal(text)

    assert error.where.startswith("catalog.yaml")
    assert text[-1] not in str(error) or text[-1].isprintable()


# -- bounds


@pytest.mark.parametrize("start", ["[", "{a: ", "- ", "? ", "[{a: ["])
def test_deep_nesting_is_refused(start: str) -> None:
    assert refusal(start * 100_000).where == "catalog.yaml:1"


def test_deep_nesting_by_indentation_is_refused_with_the_line() -> None:
    text = "".join(f"{' ' * depth}a:\n" for depth in range(MAX_DEPTH + 5))

    assert refusal(text).where == f"catalog.yaml:{MAX_DEPTH + 1}"


def test_nesting_up_to_the_bound_is_read() -> None:
    assert parse("[" * MAX_DEPTH + "]" * MAX_DEPTH).value is not None
    assert "nested deeper" in refusal("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)).message


def test_a_billion_laughs_are_refused() -> None:
    lines = ["a0: &a0 [" + ", ".join(["ha"] * 10) + "]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]

    error = refusal("\n".join(lines))

    assert "500,000 values" in error.message
    assert "alias" in error.hint


def test_aliases_that_multiply_keys_are_refused() -> None:
    lines = ["a0: &a0 {" + ", ".join(f"k{n}: 1" for n in range(50)) + "}"]
    lines += [f"a{n}: &a{n} {{{', '.join(f'k{m}: *a{n - 1}' for m in range(50))}}}" for n in range(1, 6)]

    assert "values" in refusal("\n".join(lines)).message


@pytest.mark.parametrize("text", ["&a [*a]", "a: &a {b: *a}", "a: &a [{b: [*a, *a]}]", "&a {k: &b {l: *a, m: *b}}"])
def test_an_alias_inside_of_what_it_names_is_refused(text: str) -> None:
    assert "nested deeper" in refusal(text).message


def test_aliases_that_nest_are_refused_beyond_the_depth() -> None:
    lines = ["a0: &a0 " + "[" * 20 + "]" * 20]
    lines += [f"a{n}: &a{n} {'[' * 20}*a{n - 1}{']' * 20}" for n in range(1, 60)]

    error = refusal("\n".join(lines))

    assert "nested deeper" in error.message
    assert error.where == "catalog.yaml:1"


def test_many_values_without_aliases_are_bounded_too() -> None:
    assert "values" in refusal("[" + "1," * MAX_VALUES + "1]").message


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(yamlfile.MAX_BYTES + 1)

    with pytest.raises(CatalogError, match="larger than 16 MiB"):
        yamlfile.read(path)


# -- files


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a: 1\nb: \xff\n", 2),
        (b"\xff\xfea\x00", 1),
        (b"a: \xed\xa0\x80", 1),
        (b"# \xc3\n", 1),
        (b"a\n" * 9 + b"\x80", 10),
    ],
)
def test_a_file_that_is_not_utf_8_is_refused_with_the_line(tmp_path: Path, content: bytes, line: int) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)

    with pytest.raises(CatalogError, match="not UTF-8") as caught:
        yamlfile.read(path)

    assert caught.value.where == f"{path}:{line}"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_ends_do_not_matter(tmp_path: Path, newline: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes("a: 1\nb:\n  c: |\n    x\n    y\n".replace("\n", newline).encode())

    document = yamlfile.read(path)

    assert document.value == {"a": 1, "b": {"c": "x\ny\n"}}
    assert document.lines[("b", "c")] == 3
    assert document.texts[("b", "c")] == 4


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="No such file") as caught:
        yamlfile.read(tmp_path / "nope.yaml")
    assert caught.value.where == str(tmp_path / "nope.yaml")


def test_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="cannot be read"):
        yamlfile.read(tmp_path)


# -- lines

LINES = """\
# a comment
version: 1

tasks:
  reviews:   # another
    labels:
      - bad
      - good
    where: "{{ label
      >= 0 }}"
    flow: {a: 1,
      b: [x,
          y]}
    "quoted": |-   # content starts below

      first is blank
    folded: >
      text
    next:
      |
      far below
    plain: one
      two
    1: number
  anchored: &x
    inside: 1
alias: *x
"""


@pytest.mark.parametrize(
    ("location", "line"),
    [
        ((), 2),
        (("version",), 2),
        (("tasks",), 4),
        (("tasks", "reviews"), 5),
        (("tasks", "reviews", "labels"), 6),
        (("tasks", "reviews", "labels", 0), 7),
        (("tasks", "reviews", "labels", 1), 8),
        (("tasks", "reviews", "where"), 9),
        (("tasks", "reviews", "flow"), 11),
        (("tasks", "reviews", "flow", "a"), 11),
        (("tasks", "reviews", "flow", "b"), 12),
        (("tasks", "reviews", "flow", "b", 1), 13),
        (("tasks", "reviews", "quoted"), 14),
        (("tasks", "reviews", "folded"), 17),
        (("tasks", "reviews", "next"), 19),
        (("tasks", "reviews", "plain"), 22),
        (("tasks", "reviews", "1"), 24),
        (("tasks", "anchored", "inside"), 26),
        (("alias",), 27),
        (("alias", "inside"), 26),
        # of what is not there, the nearest value around it
        (("tasks", "reviews", "nope"), 5),
        (("tasks", "reviews", "labels", 9), 6),
        (("nope", "nope"), 2),
    ],
)
def test_every_value_has_its_line(location: Location, line: int) -> None:
    document = parse(LINES)

    assert document.line(location) == line
    assert document.where(location) == f"catalog.yaml:{line}"


@pytest.mark.parametrize(("key", "line"), [("where", 9), ("quoted", 15), ("folded", 18), ("next", 21), ("plain", 22)])
def test_texts_have_the_line_on_which_their_content_starts(key: str, line: int) -> None:
    assert parse(LINES).texts[("tasks", "reviews", key)] == line


@given(st.integers(0, 5), st.sampled_from(["|", "|-", "|+", "|2", "|2-", "| # why"]), st.integers(0, 3))
def test_the_content_of_a_block_scalar_starts_below_its_key(above: int, style: str, blank: int) -> None:
    text = "# x\n" * above + f"key: {style}\n" + "\n" * blank + "  first\n  second\n"
    document = parse(text)
    value = document.value
    assert isinstance(value, dict)
    content = str(value["key"]).split("\n")

    start = document.texts[("key",)]

    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() in ("first", "second"):
            assert content[number - start] == line.strip()


def test_tags_that_are_asked_for_are_noted_and_change_nothing(tmp_path: Path) -> None:
    text = "a: !One {b: !Two 1, c: [!One no]}\nd: !One |-\n  text\n"
    found = yamlfile.parse(text, tmp_path / "t.yaml", ("!One", "!Two"))
    assert found.value == {"a": {"b": 1, "c": ["no"]}, "d": "text"}
    assert found.tags == {("a",): "!One", ("a", "b"): "!Two", ("a", "c", 0): "!One", ("d",): "!One"}


@pytest.mark.parametrize("tag", ["!Two", "!!python/name:os.system", "!!int", "!<!One2>"])
def test_other_tags_are_refused_beside_those_that_are_asked_for(tag: str, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"t\.yaml:2: the tag"):
        yamlfile.parse(f"a: !One 1\nb: {tag} 2\n", tmp_path / "t.yaml", ("!One",))

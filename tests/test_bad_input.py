"""Bad input gets one clear message with its place, exit 1 or 2, no traceback; an earlier mixture stays as it was."""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from taskmix.building import Reporters, build
from taskmix.cli import main
from taskmix.errors import CatalogError, SourceError

CATALOG = """\
version: 1
tasks:
  t:
    kind: text-classification
    cluster: c
    source: {path: data}
    labels: [bad, good]
mixtures:
  m: {tasks: [t]}
default_mixture: m
"""
ROWS = "".join(f'{{"text": "row {i}", "label": {i % 2}}}\n' for i in range(40))
FILES = {"catalog.yaml": CATALOG, "data/train.jsonl": ROWS, "data/validation.jsonl": ROWS[:400].rsplit("\n", 1)[0]}


def template(output: str = "{{ choices[label] }}", instruction: str = "Say it.\n    {{ text }}") -> str:
    return f"- name: a\n  instruction: |-\n    {instruction}\n  output: |-\n    {output}\n"


def write(files: Mapping[str, str | bytes | None]) -> None:
    for name, content in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())


def mix(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), prog_name="mix")


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a finished mixture, as the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    write(FILES)
    assert mix("build").exit_code == 0
    return tmp_path


def check_failure(result: Result, code: int, *said: str) -> None:
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    for text in said:
        assert text in result.stderr, result.stderr


def changed(old: str, new: str) -> dict[str, str | bytes | None]:
    assert old in CATALOG
    return {"catalog.yaml": CATALOG.replace(old, new)}


def bomb() -> str:
    levels = "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(8))
    return "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + levels


CATALOG_FAULTS: dict[str, tuple[dict[str, str | bytes | None], tuple[str, ...]]] = {
    "unknown kind": (
        changed("text-classification", "text-clasification"),
        ("catalog.yaml:4", "'text-clasification'", "did you mean 'text-classification'?"),
    ),
    "unknown key": (changed("cluster: c", "clustr: c"), ("catalog.yaml:5", "'clustr'", "did you mean 'cluster'?")),
    "several faults at once": (
        changed("cluster: c\n    source: {path", "cluster: c\n    licence: x\n    source: {pth"),
        ("catalog.yaml:6: unknown key 'licence'", "did you mean 'license'?", "catalog.yaml:7: unknown key 'pth'"),
    ),
    "unknown column": (
        changed("labels:", "columns: {text: txt}\n    labels:"),
        ("catalog.yaml:7: task t", "no column 'txt'; it has text, label", "did you mean 'text'?"),
    ),
    "a path that leads nowhere": (
        changed("labels:", "columns: {text: text.inner}\n    labels:"),
        ("catalog.yaml:7", "'text.inner' leads nowhere"),
    ),
    "unknown cluster": (changed("[t]", '["cluster:d"]'), ("catalog.yaml:9", "'cluster:d'", "known: c")),
    "unknown task": (changed("[t]", "[tt]"), ("catalog.yaml:9", "'tt'", "did you mean 't'?")),
    "a glob that matches nothing": (changed("[t]", '["x*"]'), ("catalog.yaml:9", "'x*'", "mix list")),
    "unknown held-out cluster": (
        changed("{tasks: [t]}", "{tasks: [t], holdout: {clusters: [d]}}"),
        ("catalog.yaml:9", "holdout.clusters: 'd'", "known: c"),
    ),
    "everything held out": (
        changed("{tasks: [t]}", "{tasks: [t], holdout: {clusters: [c]}}"),
        ("catalog.yaml:9", "leaves no task to train on"),
    ),
    "unknown template file": (
        changed("labels:", "templates: sst\n    labels:"),
        ("catalog.yaml:7", "'sst.yaml'", "did you mean 'sst"),
    ),
    "missing source": (changed("{path: data}", "{path: dat}"), ("catalog.yaml:6", "dat: no such file or folder")),
    "missing split": (
        changed("labels:", "splits: {train: train, validation: valid}\n    labels:"),
        ("catalog.yaml:7", "no split 'valid'; it has train, validation"),
    ),
    "one split twice": (
        changed("labels:", "splits: {train: train, validation: train}\n    labels:"),
        ("catalog.yaml:7", "the same split", "from: train"),
    ),
    "a cut from nothing": (
        changed("labels:", "splits: {validation: {from: train, fraction: 0.5}}\n    labels:"),
        ("catalog.yaml:7", "cut from 'train'"),
    ),
    "a size of nothing": (
        changed("{tasks: [t]}", "{tasks: [t], sampling: {size: 0}}"),
        ("catalog.yaml:9", "sampling.size"),
    ),
    "a weight without a size": (
        changed("[t]", "[{t: 2.0}]"),
        ("catalog.yaml:9", "mixtures.m: tasks: weights say how a `sampling.size` is shared: give one"),
    ),
    "a weight of nothing": (
        changed("{tasks: [t]}", "{tasks: [{t: 0}], sampling: {size: 9}}"),
        ("catalog.yaml:9", "mixtures.m.tasks.0.t", "greater than 0"),
    ),
    "two weights in one entry": (
        changed("{tasks: [t]}", '{tasks: [{t: 1, "*": 2}], sampling: {size: 9}}'),
        ("catalog.yaml:9", "give each weight an entry of its own: `- name: weight`"),
    ),
    "a weight of an unknown task": (
        changed("{tasks: [t]}", "{tasks: [{tt: 1}], sampling: {size: 9}}"),
        ("catalog.yaml:9", "no task matches 'tt'", "did you mean 't'?"),
    ),
    "a maximum rate without a size": (
        changed("{tasks: [t]}", "{tasks: [t], sampling: {max_rate: 10}}"),
        ("catalog.yaml:9", "`max_rate` says how a `size` is shared: give a `size` too"),
    ),
    "a temperature without a size": (
        changed("{tasks: [t]}", "{tasks: [t], sampling: {temperature: 2}}"),
        ("catalog.yaml:9", "`temperature` says how a `size` is shared"),
    ),
    "equal without a size": (
        changed("{tasks: [t]}", "{tasks: [t], sampling: {strategy: equal}}"),
        ("catalog.yaml:9", "`strategy: equal` says how a `size` is shared"),
    ),
    "a temperature of nothing": (
        changed("{tasks: [t]}", "{tasks: [t], sampling: {size: 9, temperature: 0}}"),
        ("catalog.yaml:9", "sampling.temperature", "greater than 0"),
    ),
    "passes beside a size": (
        changed("{tasks: [t]}", "{tasks: [t], sampling: {size: 9, passes: 2}}"),
        ("catalog.yaml:9", "how often rows come follows from `size`: leave out `passes`"),
    ),
    "tokens of no tokenizer": (
        changed("{tasks: [t]}", "{tasks: [t], sampling: {size: {tokens: 9}}}"),
        ("catalog.yaml:9", "sampling.size", "tokenizer: this key is required"),
    ),
    "no templates a row": (
        changed("{tasks: [t]}", "{tasks: [t], sampling: {templates: 0}}"),
        ("catalog.yaml:9", "sampling.templates"),
    ),
    "a share above one": (
        changed("{tasks: [t]}", "{tasks: [t], styles: {options: 1.5}}"),
        ("catalog.yaml:9", "styles.options", "1.5"),
    ),
    "shares that add up to more than one": (
        changed("{tasks: [t]}", "{tasks: [t], styles: {chain_of_thought: 0.7, inverted: 0.4}}"),
        ("catalog.yaml:9", "the shares of the styles add up to more than 1"),
    ),
    "more examples at least than at most": (
        changed("{tasks: [t]}", "{tasks: [t], styles: {few_shot: {share: 0.5, k: [5, 2]}}}"),
        ("catalog.yaml:9", "the least number of examples, 5, is above the most, 2"),
    ),
    "no examples": (
        changed("{tasks: [t]}", "{tasks: [t], styles: {few_shot: {share: 0.5, k: [0, 2]}}}"),
        ("catalog.yaml:9", "styles.few_shot.k.0", "greater than or equal to 1"),
    ),
    "an empty system message": (
        changed("{tasks: [t]}", '{tasks: [t], styles: {system: ""}}'),
        ("catalog.yaml:9", "styles.system"),
    ),
    "examples before a split that there is not": (
        changed("{tasks: [t]}", "{tasks: [t], evaluation: {few_shot: {k: 2, splits: [held]}}}"),
        ("catalog.yaml:9", "'held' is not a valid value", "did you mean 'heldout'?"),
    ),
    "a pair of no cluster": (
        changed("version: 1", "version: 1\npaired_clusters:\n- [c, d]"),
        ("catalog.yaml:3", "paired_clusters: no task is of the cluster 'd'", "c"),
    ),
    "a pair of three": (
        changed("version: 1", "version: 1\npaired_clusters:\n- [c, c, c]"),
        ("catalog.yaml:3", "paired_clusters.0"),
    ),
    "duplicate key": (
        changed("    cluster: c\n", "    cluster: c\n    cluster: d\n"),
        ("catalog.yaml:6", "'cluster' stands twice (first on line 5)"),
    ),
    "two tasks of one name": (
        changed("mixtures:", "  t: {kind: conversation, cluster: c, source: {path: data}}\nmixtures:"),
        ("catalog.yaml:8", "'t' stands twice (first on line 3)"),
    ),
    "a name of the built-in catalog": (
        {"catalog.yaml": CATALOG.replace("version: 1", "version: 1\nextends: builtin").replace("  t:", "  sst2:")},
        ("catalog.yaml:4", "'sst2' is one of the built-in catalog too"),
    ),
    "tab": (changed("    cluster: c", "\tcluster: c"), ("catalog.yaml:5", "tab", "indent with spaces")),
    "alias bomb": ({"catalog.yaml": bomb()}, ("catalog.yaml:", "expands to more than")),
    "tag": (changed("cluster: c", "cluster: !!python/name:os.system c"), ("catalog.yaml:5", "tag")),
    "deep nesting": ({"catalog.yaml": "[" * 5000}, ("catalog.yaml:1", "nested deeper")),
    "a name that escapes": (changed("  m: {", "  ../m: {"), ("catalog.yaml:9", "'../m' is not a valid name")),
    "a refused licence": (
        changed("{tasks: [t]}", "{tasks: [t], licenses: {deny: [unknown]}}"),
        ("catalog.yaml:9", "'unknown', which this mixture refuses"),
    ),
    "conversations in text": (
        changed("kind: text-classification", "kind: conversation"),
        ("catalog.yaml:3", "a conversation task needs `messages`"),
    ),
    "control characters": (changed("[bad, good]", '["a\\e[31m"]'), ("labels: 0=a\\x1b[31m",)),
    "labels renamed upstream": (
        changed("[bad, good]", "{bad: bad, good: good}"),
        ("`label` is 0, which is none of the 2 labels",),
    ),
    "nothing left by length": (
        changed("{tasks: [t]}", "{tasks: [t], length: {max_chars: 3}}"),
        ("catalog.yaml:3", "65 outside the limits of `length`"),
    ),
    "where drops all": (
        changed("labels:", 'where: "{{ label > 5 }}"\n    labels:'),
        ("catalog.yaml:3", "no row left of 40 (40 dropped by `where`)"),
    ),
    "where is no condition": (
        changed("labels:", 'where: "{{ text }}"\n    labels:'),
        ("catalog.yaml:7: task t, row 0", "not true or false"),
    ),
    "where names nothing": (
        changed("labels:", 'where: "{{ labl }}"\n    labels:'),
        ("catalog.yaml:7", "'labl'", "label"),
    ),
}

DATA_FAULTS: dict[str, tuple[dict[str, str | bytes | None], tuple[str, ...]]] = {
    "null label": (
        {"data/train.jsonl": ROWS + '{"text": "x", "label": null}\n'},
        ("catalog.yaml:3: data (train): task t, row 40", "`label` is null", "{{ label is not none }}"),
    ),
    "label out of range": (
        {"data/train.jsonl": ROWS + '{"text": "x", "label": -1}\n'},
        ("task t, row 40", "`label` is -1", "0=bad, 1=good", "{{ label in [0, 1] }}"),
    ),
    "null text": ({"data/train.jsonl": ROWS + '{"text": null, "label": 1}\n'}, ("row 40", "`text` is null")),
    "numbers as text": (
        {"data/train.jsonl": '{"text": 1.5, "label": 1}\n', "data/validation.jsonl": '{"text": 2.5, "label": 1}\n'},
        ("`text` is Float64, not text",),
    ),
    "empty split": ({"data/train.jsonl": ""}, ("data/train.jsonl", "no rows")),
    "corrupt Parquet": (
        {"data/train.jsonl": None, "data/train.parquet": b"PAR1 garbage PAR1"},
        ("data/train.parquet: cannot be read",),
    ),
    "line cut off": ({"data/train.jsonl": ROWS + '{"text": "abc", "la'}, ("data/train.jsonl:41", "cut off")),
    "lone surrogate": ({"data/train.jsonl": ROWS + '{"text": "\\ud800", "label": 1}\n'}, ("data/train.jsonl:41",)),
    "not UTF-8": (
        {"data/train.jsonl": ROWS.encode() + b'{"text": "\xff", "label": 1}\n'},
        ("data/train.jsonl:41", "UTF-8"),
    ),
    "splits disagree": (
        {"data/validation.jsonl": '{"text": "a", "label": "good"}\n'},
        ("the column 'label' of data is Int64 in train, but String in validation",),
    ),
}

TEMPLATE_FAULTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "unknown variable": (
        template(instruction="Say\n    {{ txt }}"),
        ("templates/t.yaml:4", "the task t has no 'txt'", "did you mean 'text'?"),
    ),
    "not Jinja": (template(instruction="Say\n    {% if %}"), ("templates/t.yaml:4", "Expected an expression")),
    "fails on one row": (
        template(instruction="Say\n    {{ 1 / (text.split(' ')[1] | int - 17) }}"),
        ("templates/t.yaml:4: task t, template a, row 17", "division by zero"),
    ),
    "empty output": (
        template(output="{{ '' if label else choices[label] }}"),
        ("templates/t.yaml:6: task t, template a, row 1", "the output is empty"),
    ),
    "label out of the choices": (
        template(output="{{ choices[label + 1] }}"),
        ("templates/t.yaml:6: task t, template a, row 1",),
    ),
    "private attribute": (template(instruction="{{ text.__class__ }}"), ("templates/t.yaml:3", "`__class__`")),
    "include": (template(instruction="{% include 'x' %}"), ("templates/t.yaml:3", "`include` is not allowed")),
    "unknown filter": (template(instruction="{{ text | attr('x') }}"), ("templates/t.yaml:3", "attr")),
    "two of one name": (template() + template(), ("templates/t.yaml:7", "two templates are named 'a'", "line 1")),
    "no output": ("- name: a\n  instruction: x\n", ("templates/t.yaml:1", "output: this key is required")),
    "not a list": ("name: a\n", ("templates/t.yaml", "not a list of templates")),
    "misspelt key": (template() + "  choises: [a]\n", ("templates/t.yaml:7", "did you mean 'choices'?")),
}


@pytest.mark.parametrize("name", CATALOG_FAULTS)
def test_a_fault_of_the_catalog_is_explained(name: str, built: Path) -> None:
    files, said = CATALOG_FAULTS[name]
    before = hashes(built / "mixtures" / "m")
    write(files)
    check_failure(mix("build", "--out", "mixtures/m"), 1, *said)
    assert hashes(built / "mixtures" / "m") == before


@pytest.mark.parametrize("name", DATA_FAULTS)
def test_a_fault_of_the_data_is_explained(name: str, built: Path) -> None:
    files, said = DATA_FAULTS[name]
    before = hashes(built / "mixtures" / "m")
    write(files)
    check_failure(mix("build"), 1, *said)
    assert hashes(built / "mixtures" / "m") == before


@pytest.mark.parametrize("name", TEMPLATE_FAULTS)
def test_a_fault_of_a_template_is_explained(name: str, built: Path) -> None:
    text, said = TEMPLATE_FAULTS[name]
    before = hashes(built / "mixtures" / "m")
    write({"templates/t.yaml": text})
    check_failure(mix("build"), 1, *said)
    assert hashes(built / "mixtures" / "m") == before


def test_a_template_that_fails_on_one_row_in_ten_thousand_is_named_with_it(built: Path) -> None:
    rows = "".join(f'{{"text": "row {i}", "label": {i % 2}}}\n' for i in range(30_000))
    fragile = template(instruction="Say\n    {{ 1 / (text.split(' ')[1] | int - 23456) }}")
    write({"data/train.jsonl": rows, "templates/t.yaml": fragile})
    check_failure(mix("build"), 1, "templates/t.yaml:4: task t, template a, row 23456: division by zero")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("build", "mm"), 2, "did you mean 'm'?"),
        (("build", "--catalog", "nope.yaml"), 1, "nope.yaml: cannot be read"),
        (("build", "--catalog", "data"), 1, "data: cannot be read"),
        (("build", "--seed", "-1"), 2, "--seed"),
        (("build", "--sed", "1"), 2, "--seed"),
        (("buld",), 2, "build"),
        (("build", "--mirror", "nowhere"), 2, "nowhere"),
        (("verify", "data"), 1, "no mix.lock.json"),
        (("verify", "nowhere"), 1, "no mix.lock.json"),
        (("show", "nope"), 2, "'nope'"),
        (("show", "t/nope"), 2, "no template 'nope'"),
        (("preview", "tt"), 2, "did you mean 't'?"),
        (("preview", "t", "--template", "pick"), 2, "pick-a-label"),
        (("list", "--kind", "multiple-choise"), 2, "did you mean 'multiple-choice'?"),
        (("list", "--cluster", "topics"), 2, "--cluster: no task has 'topics'"),
        (("list", "--language", "eng"), 2, "--language: no task has 'eng'"),
        (("list", "--license", "mitt"), 2, "--license: no task has 'mitt'"),
        (("init", "data"), 1, "not empty"),
        (("completion", "tcsh"), 2, "bash"),
    ],
)
def test_a_wrong_call_is_explained(arguments: tuple[str, ...], code: int, said: str, built: Path) -> None:
    check_failure(mix(*arguments), code, said)


def test_a_mirror_without_the_dataset_is_explained(built: Path) -> None:
    write(changed("{path: data}", "{hub: org/name}"))
    check_failure(mix("build", "--mirror", "data"), 1, "catalog.yaml:6", "data/org/name", "SPLIT*.parquet")


def test_an_output_folder_that_is_not_ours_is_refused_before_any_work(built: Path) -> None:
    write({"other/file.txt": "precious"})
    check_failure(mix("build", "--out", "other"), 1, "other: the folder is not a mixture", "--out")
    assert Path("other/file.txt").read_text() == "precious"


def test_names_in_data_are_shown_without_their_control_characters(built: Path) -> None:
    write({"data/train.jsonl": '{"text": "x", "label": "\\u001b[31mred"}\n'})
    write({"data/validation.jsonl": None})
    result = mix("build")
    check_failure(result, 1, "\\x1b[31mred")
    assert "\x1b[31mred" not in result.output


@pytest.mark.parametrize("rows", [ROWS[:200].rsplit("\n", 1)[0], ROWS.replace("row 1", "raw 1")])
def test_a_source_that_changes_during_a_build_fails_it(rows: str, built: Path) -> None:
    before = hashes(built / "mixtures" / "m")

    def change(_: int) -> None:
        Path("data/train.jsonl").write_text(rows)

    with pytest.raises(SourceError, match="changed while it was read"):
        build(reporters=Reporters(start=change), force=True)
    assert hashes(built / "mixtures" / "m") == before


def test_an_error_is_the_same_in_another_process() -> None:
    inner = CatalogError("b", where="f:2")
    error = CatalogError("a", where="f:1", hint="do", more=[inner])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is CatalogError
    assert str(again) == str(error) == "f:1: a\n  do\nf:2: b"

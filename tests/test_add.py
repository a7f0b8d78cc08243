"""`mix add`: the kind and columns of real and of small datasets are guessed, and the catalog keeps its form."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import polars as pl
import pytest
from click.testing import CliRunner, Result

from taskmix.adding import catalogfile, kinds
from taskmix.adding.entry import scalar
from taskmix.adding.running import Request, add
from taskmix.building import build
from taskmix.catalog import yamlfile
from taskmix.catalog.loading import load_catalog
from taskmix.catalog.models import KindName, MixtureSpec, TaskSpec
from taskmix.cli import commands, main
from taskmix.errors import CatalogError, SourceError
from taskmix.kinds import KINDS
from tests.test_docs import ROOT
from tests.test_hub_source import environment, parquet

Json = dict[str, Any]
Row = Mapping[str, object]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("TASKMIX_CATALOG", "TASKMIX_MIRROR"):
        monkeypatch.delenv(name, raising=False)


def mix(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["add", *arguments], prog_name="mix")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def refused(*arguments: str, code: int = 1) -> str:
    result = mix(*arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    return result.stderr


def spec(name: str, path: str = "catalog.yaml") -> TaskSpec:
    return load_catalog(Path(path)).tasks[name].spec


def rows(file: str, *given: Row) -> str:
    """Write rows as JSON lines."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text("".join(json.dumps(row) + "\n" for row in given), "utf-8")
    return file


def built(catalog: Path, tasks: Sequence[str], mirror: Path | None = None) -> dict[str, int]:
    """Build a mixture of some tasks, a few rows each, and return how many rows of train each has."""
    loaded = load_catalog(catalog)
    chats = all(loaded.tasks[name].spec.kind == "conversation" for name in tasks)
    mixture = MixtureSpec(tasks=list(tasks), format="messages" if chats else "prompt-completion")
    with_mixture = type(loaded)(loaded.path, loaded.tasks, {"m": mixture}, "m", loaded.document)
    out = build("m", catalog=with_mixture, out=catalog.parent / "out", mirror=mirror, limit=3).out
    train = pl.read_parquet(out / "data" / "train-*.parquet")
    return dict(train["task"].value_counts().iter_rows())


# Kinds and columns of small files

REVIEWS = [{"text": f"review {n}", "label": "good" if n % 2 else "bad"} for n in range(30)]
LETTERS = "ABCD"
COUNT = range(9)


def turns(*names: str, text: str) -> list[Row]:
    who, what, asks, answers = names
    return [{who: asks, what: "Hi"}, {who: answers, what: text}]


SMALL: dict[str, tuple[list[Any], str, dict[str, Any]]] = {
    "text and a name": (
        [*REVIEWS],
        "text-classification",
        {"labels": ["bad", "good"]},
    ),
    "text and ids without words": (
        [{"id": n, "review": f"review {n}", "stars": n % 3} for n in range(30)],
        "text-classification",
        {"columns": {"text": "review", "label": "stars"}, "labels": ["0", "1", "2"]},
    ),
    "ids that are not counted from 0": (
        [{"text": f"review {n}", "label": 2 * (n % 3) + 1} for n in range(30)],
        "text-classification",
        {"labels": {1: "1", 3: "3", 5: "5"}},
    ),
    "rows without a label": (
        [{"text": f"review {n}", "label": n % 3 - 1} for n in range(30)],
        "text-classification",
        {"labels": ["0", "1"], "where": "{{ label >= 0 }}"},
    ),
    "rows without a text": (
        [{"text": None if n == 7 else f"review {n}", "label": n % 2} for n in range(30)],
        "text-classification",
        {"where": "{{ text is not none }}"},
    ),
    "two texts by name": (
        [{"premise": f"a{n}", "hypothesis": f"b{n}", "gold_label": ["yes", "no"][n % 2]} for n in range(30)],
        "text-classification",
        {"columns": {"text": "premise", "text_pair": "hypothesis", "label": "gold_label"}, "labels": ["no", "yes"]},
    ),
    "two texts by number": (
        [{"remark_1": f"a{n}", "remark_2": f"b{n}", "label": n % 2 == 0} for n in range(30)],
        "text-classification",
        {"columns": {"text": "remark_1", "text_pair": "remark_2"}, "labels": {False: "no", True: "yes"}},
    ),
    "several labels at once": (
        [{"text": f"t{n}", "topics": ["a", "b"][: n % 3]} for n in range(30)]
        + [{"text": f"u{n}", "labels": ["x"], "topics": []} for n in range(0)],
        "text-classification",
        {"columns": {"label": "topics"}, "labels": ["a", "b"]},
    ),
    "words and tag names": (
        [{"tokens": [f"Ana{n}", "left", "."], "tags": ["B-PER", "O", "O"]} for n in COUNT],
        "token-classification",
        {"labels": ["O", "B-PER"]},
    ),
    "a passage with answers": (
        [{"context": f"It is {n}", "question": "?", "answers": {"text": [f"{n}"], "answer_start": [6]}} for n in COUNT],
        "question-answering",
        {},
    ),
    "a passage with one answer as text": (
        [{"passage": f"It is {n}.", "question": "What?", "answer": str(n)} for n in COUNT],
        "question-answering",
        {"columns": {"context": "passage", "answers": "answer"}},
    ),
    "options with keys": (
        [{"question": f"q{n}", "choices": {"text": ["x"] * 2, "label": ["A", "B"]}, "answerKey": "A"} for n in COUNT],
        "multiple-choice",
        {"columns": {"choices": "choices.text", "keys": "choices.label", "label": "answerKey"}},
    ),
    "options and a position": (
        [{"question": f"q{n}", "options": ["x", "y", "z"], "answer": n % 3} for n in COUNT],
        "multiple-choice",
        {"columns": {"choices": "options", "label": "answer"}},
    ),
    "options and a position from 1": (
        [{"question": f"q{n}", "options": ["x", "y", "z"], "answer": n % 3 + 1} for n in COUNT],
        "multiple-choice",
        {"columns": {"choices": "options", "label": "answer"}, "labels": {1: "1", 2: "2", 3: "3"}},
    ),
    "options and a letter": (
        [{"question": f"q{n}", **{each: f"{each}{n}" for each in LETTERS}, "answer": LETTERS[n % 4]} for n in COUNT],
        "multiple-choice",
        {"columns": {"choices": [*LETTERS], "label": "answer"}, "labels": [*LETTERS]},
    ),
    "options and the right one": (
        [{"question": f"q{n}", "choices": ["x", f"y{n}"], "answer": "x" if n % 2 else f"y{n}"} for n in COUNT],
        "multiple-choice",
        {"columns": {"keys": "choices", "label": "answer"}},
    ),
    "messages": (
        [{"messages": turns("role", "content", "user", "assistant", text=f"Ho {n}")} for n in COUNT],
        "conversation",
        {},
    ),
    "ShareGPT": (
        [{"conversations": turns("from", "value", "human", "gpt", text=f"Ho {n}")} for n in COUNT],
        "conversation",
        {"columns": {"messages": "conversations"}},
    ),
    "Alpaca": (
        [{"instruction": f"do {n}", "input": "" if n % 2 else "this", "output": f"done {n}"} for n in COUNT],
        "text-generation",
        {"columns": {"target": "output", "input": r"{{ instruction ~ ('\n\n' ~ input if input else '') }}"}},
    ),
    "Dolly": (
        [{"instruction": f"do {n}", "context": "", "response": f"done {n}", "category": "open"} for n in COUNT],
        "text-generation",
        {"columns": {"target": "response", "input": r"{{ instruction ~ ('\n\n' ~ context if context else '') }}"}},
    ),
    "a summary": (
        [{"document": f"a long text {n}", "summary": f"text {n}"} for n in COUNT],
        "text-generation",
        {"columns": {"target": "summary", "input": "document"}, "cluster": "summarization"},
    ),
    "a translation": (
        [{"translation": {"de": f"Satz {n}", "en": f"sentence {n}"}} for n in COUNT],
        "text-generation",
        {"columns": {"target": "translation.en", "input": "translation.de"}, "cluster": "translation"},
    ),
    "an answer with its reasons": (
        [{"question": f"q{n}", "rationale": f"since {n}", "answer": "yes" if n % 2 else "no"} for n in range(30)],
        "text-generation",
        {"columns": {"target": "answer", "input": "question"}},
    ),
    "several answers": (
        [{"question": f"q{n}", "answers": [f"a{n}", f"b{n}"]} for n in COUNT],
        "text-generation",
        {"columns": {"target": "answers", "input": "question"}},
    ),
    "rows with a blank target": (
        [{"prompt": f"p{n}", "completion": "  " if n == 3 else f"c{n}"} for n in COUNT],
        "text-generation",
        {"columns": {"target": "completion", "input": "prompt"}, "where": "{{ target.strip() != '' }}"},
    ),
    "two columns of any name": (
        [{"before": f"p{n}", "after": f"c{n}"} for n in COUNT],
        "text-generation",
        {"columns": {"target": "after", "input": "before"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SMALL)
def test_a_small_file_is_understood_and_builds_as_it_is(shape: str) -> None:
    given, kind, expected = SMALL[shape]
    result = mix(rows("data/some.jsonl", *given))
    assert result.exit_code == 0, result.output
    found = spec("some")
    assert found.kind == kind
    for key, value in expected.items():
        assert getattr(found, key) == value
    assert found.source.path == "data/some.jsonl"
    assert "cannot be used" not in result.stderr
    assert built(Path("catalog.yaml"), ["some"])["some"] >= 2


def test_files_by_split_a_glob_and_other_formats_are_read() -> None:
    frame = pl.DataFrame(REVIEWS)
    for split in ("train", "dev", "test"):
        Path("folder").mkdir(exist_ok=True)
        frame.write_csv(f"folder/{split}.csv")
    Path("shards").mkdir()
    for shard in range(2):
        frame.write_parquet(f"shards/part-{shard}.parquet")
    assert mix("folder").exit_code == 0
    assert mix("shards/*.parquet").exit_code == 0
    assert spec("folder").splits == {"train": "train", "validation": "dev"}
    assert spec("shards").source.path == "shards/*.parquet"
    assert built(Path("catalog.yaml"), ["folder", "shards"]) == {"folder": 3, "shards": 3}


def test_what_describes_data_beside_it_is_no_split() -> None:
    rows("folder/train.jsonl", *REVIEWS)
    for name in ("dataset_info.json", "state.json", "features.json"):
        Path("folder", name).write_text("{}", "utf-8")
    assert mix("folder").exit_code == 0
    assert sorted(spec("folder").splits or ()) == ["train", "validation"]


def test_a_catalog_elsewhere_gets_a_path_from_its_own_folder() -> None:
    rows("data/some.jsonl", *REVIEWS)
    assert mix("data/some.jsonl", "--catalog", "project/deep/catalog.yaml").exit_code == 0
    assert spec("some", "project/deep/catalog.yaml").source.path == "../../data/some.jsonl"
    assert built(Path("project/deep/catalog.yaml"), ["some"]) == {"some": 3}


def test_what_was_guessed_is_said_beside_the_keys_and_on_stderr() -> None:
    result = mix(rows("some.jsonl", *SMALL["text and ids without words"][0]))
    assert "some: labels: the data has ids and no words: write the words" in result.stderr
    text = Path("catalog.yaml").read_text("utf-8")
    assert 'labels: ["0", "1", "2"]  # the data has ids and no words: write the words\n' in text
    assert "cluster: classification  # a guess" in text
    assert result.stdout in text


def test_what_cannot_be_used_is_said() -> None:
    given = [*SMALL["a passage with answers"][0], {"context": "c", "question": None, "answers": None}]
    result = mix(rows("some.jsonl", *given))
    assert spec("some").where == "{{ question is not none and answers is not none }}"
    assert "cannot be used" not in result.stderr
    chat = SMALL["messages"][0][0]
    result = mix(rows("chat.jsonl", chat, {"messages": [{"role": "narrator", "content": "Night fell."}]}))
    assert "chat: cannot be used as it is: a role of ['narrator'] is unknown" in result.stderr


def test_the_card_beside_the_data_gives_licence_and_language() -> None:
    rows("folder/train.jsonl", *REVIEWS)
    card = "---\nlicense: cc-by-4.0\nlanguage:\n- de\n- fr\npretty_name: 'x'\n---\n# Card\n"
    Path("folder/README.md").write_text(card, "utf-8")
    assert mix("folder").exit_code == 0
    assert (spec("folder").license, spec("folder").language) == ("cc-by-4.0", ["de", "fr"])
    Path("folder/README.md").write_text("---\n{a: !!python/object x}\n---\n", "utf-8")
    assert mix("folder", "--name", "other").exit_code == 0
    assert (spec("other").license, spec("other").language) == ("unknown", "en")


def test_print_writes_nothing() -> None:
    result = mix(rows("some.jsonl", *REVIEWS), "--print")
    assert result.exit_code == 0
    assert yamlfile.parse(result.stdout, Path("entry")).value["some"]["kind"] == "text-classification"  # type: ignore[index]
    assert not Path("catalog.yaml").exists()


def test_hostile_names_and_values_stay_inside_their_quotes() -> None:
    nasty = ["a\nb: c", "x: y # z", "'\"", "\x1b[31m", "\u2028\x85", "- no", "no", "🙂 {{ x }}", "true", "1.5"]
    given = [
        {"text": f"t{n}", "label": nasty[n % 10], "\n  evil:\n    kind: x": "tëxt", "{{ label }}": "u"}
        for n in range(60)
    ]
    result = mix(rows("some.jsonl", *given))
    assert result.exit_code == 0, result.output
    found = spec("some")
    assert found.kind == "text-classification"
    assert set(found.labels or ()) == set(nasty)
    assert set(load_catalog(Path("catalog.yaml")).document.value["tasks"]) == {"some"}  # type: ignore[index]
    assert "\x1b" not in result.output
    assert built(Path("catalog.yaml"), ["some"]) == {"some": 3}


@pytest.mark.parametrize(
    "text", ["no", "a b", "a: b", "#", "", " a", "é", "1", "1.5", "null", '"', "\\", "\x85\u2028", "a\tb", "🙂"]
)
def test_a_scalar_is_read_as_what_it_was(text: str) -> None:
    assert yamlfile.parse(f"{{{scalar(text)}: [{scalar(text)}]}}", Path("t")).value == {text: [text]}


# A kind that is given, or cannot be guessed


def test_what_fits_no_kind_is_shown_with_its_columns() -> None:
    said = refused(rows("some.jsonl", *({"a": n, "b": n / 7} for n in range(9))))
    assert "its kind cannot be guessed" in said
    assert "a (a whole number), b (Float64)" in said
    assert "--kind" in said
    assert not Path("catalog.yaml").exists()


def test_a_given_kind_is_taken_or_its_missing_columns_are_named() -> None:
    rows("some.jsonl", *REVIEWS)
    said = refused("some.jsonl", "--kind", "question-answering")
    assert "`context` (the passage), `question` (the question), `answers`" in said
    assert "text (text), label (text)" in said
    rows("pairs.jsonl", *({"text": f"t{n}", "label": "a" if n % 2 else "b", "output": f"o{n}"} for n in range(30)))
    assert mix("pairs.jsonl", "--kind", "text-generation").exit_code == 0
    assert spec("pairs").kind == "text-generation"
    assert spec("pairs").columns == {"target": "output", "input": "text"}


def test_the_command_offers_every_kind() -> None:
    # a table needs templates of its own, which nothing here can write
    assert set(commands.KINDS) == set(kinds.GUESSES) == set(KINDS) - {"table"} == set(get_args(KindName)) - {"table"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 2, "there is no 'nowhere'"),
        (["nowhere.jsonl"], 1, "no such file or folder"),
        (["some.jsonl", "--name", "Not A Name"], 2, "such as 'not-a-name'"),
        (["some.jsonl", "--name", "sst2"], 2, "there is a task 'sst2' already"),
        (["some.jsonl", "--catalog", str(ROOT / "catalog.yaml")], 2, "the built-in catalog is not edited"),
        (["org/name", "--mirror", "."], 1, "org/name"),
        (["nested"], 1, "name one of: one, two"),
        (["empty.jsonl"], 1, "empty.jsonl"),
    ],
)
def test_what_cannot_be_added_is_said_and_leaves_no_file(arguments: list[str], code: int, said: str) -> None:
    rows("some.jsonl", *REVIEWS)
    rows("nested/one/train.jsonl", *REVIEWS)
    rows("nested/two/train.jsonl", *REVIEWS)
    rows("empty.jsonl")
    before = hashlib.sha256((ROOT / "catalog.yaml").read_bytes()).hexdigest()
    assert said in refused(*arguments, code=code)
    assert not Path("catalog.yaml").exists()
    assert hashlib.sha256((ROOT / "catalog.yaml").read_bytes()).hexdigest() == before


def test_a_name_that_is_taken_is_not_taken_again() -> None:
    rows("sst2.jsonl", *REVIEWS)
    assert mix("sst2.jsonl").exit_code == 0
    assert mix("sst2.jsonl").exit_code == 0
    assert [name for name in load_catalog(Path("catalog.yaml")).tasks if "sst2" in name] == ["sst2", "sst2-2", "sst2-3"]


# The catalog's text

ENTRY = ["new:", "  kind: conversation", "  cluster: c", "  source: {path: d}"]
TASK = "kind: conversation, cluster: c, source: {path: d}"
LINES = TASK.replace(", ", "\n    ") + "\n"
ENTRY_AT_TWO = "".join(f"  {line}\n" for line in ENTRY)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("version: 1\n", f"version: 1\n\ntasks:\n{ENTRY_AT_TWO}"),
        ("version: 1", f"version: 1\n\ntasks:\n{ENTRY_AT_TWO}"),
        ("version: 1\ntasks: {}  # none yet\n", f"version: 1\ntasks:  # none yet\n{ENTRY_AT_TWO}"),
        (f"version: 1\ntasks:\n  a: {{{TASK}}}", f"version: 1\ntasks:\n  a: {{{TASK}}}\n{ENTRY_AT_TWO}"),
        (
            f"# t\nversion: 1\ntasks:\n  # 1st\n  a: {{{TASK}}}  # one\n  # last\n\n#\nmixtures: {{}}\n",
            f"# t\nversion: 1\ntasks:\n  # 1st\n  a: {{{TASK}}}  # one\n  # last\n{ENTRY_AT_TWO}\n#\nmixtures: {{}}\n",
        ),
        (
            f"tasks:\n    a:\n        {TASK.replace(', ', chr(10) + '        ')}\nversion: 1\n",
            f"tasks:\n    a:\n        {TASK.replace(', ', chr(10) + '        ')}\n"
            + "".join(f"    {line}\n" for line in ENTRY)
            + "version: 1\n",
        ),
        (
            f"version: 1\ntasks:\n  a: {{{TASK}, note: \"x\n\n    y\"}}\n\n...\n",
            f"version: 1\ntasks:\n  a: {{{TASK}, note: \"x\n\n    y\"}}\n{ENTRY_AT_TWO}\n...\n",
        ),
        (
            f"version: 1\ntasks:\n  a:\n    {LINES}    note: |\n      x\n\n# end\n",
            f"version: 1\ntasks:\n  a:\n    {LINES}    note: |\n      x\n{ENTRY_AT_TWO}\n# end\n",
        ),
        (
            f"version: 1\ntasks:\n  a: {{{TASK}}}\nmixtures: {{}}\n".replace("\n", "\r\n"),
            f"version: 1\ntasks:\n  a: {{{TASK}}}\n{ENTRY_AT_TWO}mixtures: {{}}\n".replace("\n", "\r\n"),
        ),
    ],
)  # fmt: skip
def test_an_entry_is_added_behind_the_others_and_all_else_stays(before: str, after: str) -> None:
    path = Path("catalog.yaml")
    path.write_bytes(before.encode())
    assert catalogfile.inserted(before, ENTRY, path) == after
    catalogfile.replace(path, before, after, "new")
    assert path.read_bytes() == after.encode()
    assert "new" in load_catalog(path).tasks


@pytest.mark.parametrize("before", [f"version: 1\ntasks: {{a: {{{TASK}}}}}\n", "{version: 1}\n"])
def test_a_catalog_in_braces_is_refused_and_stays(before: str) -> None:
    path = Path("catalog.yaml")
    path.write_text(before, "utf-8")
    rows("some.jsonl", *REVIEWS)
    refused("some.jsonl")
    assert path.read_text("utf-8") == before
    assert sorted(each.name for each in Path().iterdir()) == ["catalog.yaml", "some.jsonl"]


def test_a_broken_catalog_is_named_and_stays() -> None:
    Path("catalog.yaml").write_text("version: 1\ntask: {}\n", "utf-8")
    assert "did you mean 'tasks'?" in refused(rows("some.jsonl", *REVIEWS))
    assert Path("catalog.yaml").read_text("utf-8") == "version: 1\ntask: {}\n"


def test_a_text_that_would_change_another_task_never_takes_the_place_of_the_old_one() -> None:
    path, before = Path("catalog.yaml"), f"version: 1\ntasks:\n  a: {{{TASK}}}\n"
    path.write_text(before, "utf-8")
    for wrong in (
        before,
        before.replace("a:", "new:"),
        "version: 1\ntasks: [",
        before.replace("cluster: c", "cluster: d"),
    ):
        with pytest.raises(CatalogError):
            catalogfile.replace(path, before, wrong, "new")
        assert path.read_text("utf-8") == before
        assert [each.name for each in Path().iterdir()] == ["catalog.yaml"]


def test_a_change_by_somebody_else_is_not_lost() -> None:
    path, before = Path("catalog.yaml"), "version: 1\n"
    path.write_text(f"{before}# theirs\n", "utf-8")
    new = catalogfile.inserted(before, ENTRY, path)
    with pytest.raises(Exception, match="changed meanwhile"):
        catalogfile.replace(path, before, new, "new")
    assert path.read_text("utf-8") == f"{before}# theirs\n"


def test_a_linked_catalog_keeps_its_link_and_its_mode() -> None:
    Path("real").mkdir()
    Path("real/catalog.yaml").write_text("version: 1\n", "utf-8")
    Path("real/catalog.yaml").chmod(0o640)
    Path("catalog.yaml").symlink_to("real/catalog.yaml")
    catalogfile.replace(Path("catalog.yaml"), "version: 1\n", f"version: 1\ntasks:\n{ENTRY_AT_TWO}", "new")
    assert Path("catalog.yaml").is_symlink()
    assert Path("real/catalog.yaml").stat().st_mode & 0o777 == 0o640


# The hub


def test_a_hub_dataset_is_added_with_what_its_card_says(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tests.hub.running import running

    with running(tmp_path_factory.mktemp("hub")) as hub:
        card = "---\nlicense: apache-2.0\nlanguage: en\n---\n"
        data = parquet(*((f"text {n}", n % 2) for n in range(20)))
        files: dict[str, str | bytes] = {"README.md": card, "data/train-00000-of-00001.parquet": data}
        hub.repository("org/reviews").commit(files)
        cache = str(tmp_path_factory.mktemp("cache"))
        done = subprocess.run(
            [sys.executable, "-c", "from taskmix.cli import main; main()", "add", "org/reviews", "--revision", "main"],
            env=environment(hub.url, Path(cache)) | {"TASKMIX_CACHE": cache},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    found = spec("reviews")
    assert (found.kind, found.labels, found.license) == ("text-classification", ["bad", "good"], "apache-2.0")
    assert found.source.hub == "org/reviews"
    assert "language: en\n" in Path("catalog.yaml").read_text("utf-8")


# Real datasets

UNKNOWN = {
    "local/comve",  # seven texts of which none is a target by its name
    "shunk031/JGLUE/JSTS",  # scores, which no kind takes
    *(f"local/wino_bias/type{n}_{side}" for n in (1, 2) for side in ("anti", "pro")),  # a sentence and two of its words
}


def datasets(data: Path) -> list[str]:
    return sorted({file.parent.relative_to(data).as_posix() for file in data.glob("**/*.parquet")})


def expected_kinds() -> dict[str, str]:
    """The kind of each real dataset, as the catalogs that name them by hand have it."""
    found: dict[str, str] = {}
    for path in ("catalog.yaml", "tests/catalogs/everything.yaml"):
        for task in load_catalog(ROOT / path).tasks.values():
            source = task.spec.source
            if source.hub is not None:
                found["/".join(part for part in (source.hub, source.config) if part)] = task.spec.kind
    return found


def test_real_datasets_get_the_kind_that_a_person_gave_them_and_build_without_an_edit(shared_data: Path) -> None:
    wrong, names = {}, []
    expected = expected_kinds()
    for each in datasets(shared_data):
        org, short, *config = each.split("/")
        request = Request(f"{org}/{short}", config[0] if config else None, mirror=shared_data)
        try:
            added = add(request, Path("mirrored.yaml"))
        except SourceError as error:
            if error.message != "its kind cannot be guessed":
                raise
            wrong[each] = "unknown"
            continue
        if added.kind != expected[each]:
            wrong[each] = added.kind
        assert not any("cannot be used" in remark for remark in added.remarks), each
        names.append(added.name)
    assert wrong == dict.fromkeys(UNKNOWN, "unknown")
    assert len(names) > 50
    assert set(built(Path("mirrored.yaml"), names, shared_data)) == set(names)


@pytest.mark.parametrize(
    "each", ["stanfordnlp/sst2", "leondz/wnut_17", "rajpurkar/squad", "ybisk/piqa", "openai/gsm8k/main"]
)
def test_a_real_dataset_by_its_path_is_what_it_is_by_its_name(each: str, shared_data: Path) -> None:
    org, short, *config = each.split("/")
    hub = add(Request(f"{org}/{short}", config[0] if config else None, mirror=shared_data), only_show=True)
    local = add(Request(str(shared_data / each)), Path("catalog.yaml"))
    keep = [line for line in hub.text.splitlines()[1:] if "source:" not in line]
    assert [line for line in local.text.splitlines()[1:] if "source:" not in line] == keep
    assert set(built(Path("catalog.yaml"), [local.name])) == {local.name}

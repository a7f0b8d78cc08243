"""Hub datasets, through the real clients: a server on loopback speaks the hub's protocol to child processes.

`HF_ENDPOINT` is read when the clients are imported, so every build here is a process of its own.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.hub_server import Hub, running

from taskmix.sources.files import find_splits

MIX = ["-c", "from taskmix.cli import main; main()"]
TEMPLATE = '- {name: judge, instruction: "Judge.", input: "{{ text }}", output: "{{ choices[label] }}"}'
Rows = list[tuple[str, str]]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A running server without repositories."""
    with running(tmp_path / "hub") as server:
        yield server


@dataclass(frozen=True)
class Ended:
    """What a child process said, and in which folder."""

    code: int
    stdout: str
    stderr: str
    folder: Path

    def rows(self, split: str = "train") -> dict[str, Rows]:
        """Return the (text, completion) pairs of a built split by task, in the source's order."""
        assert self.code == 0, self.stderr
        found: dict[str, list[tuple[int, str, str]]] = {}
        for file in sorted(self.folder.glob(f"mixtures/all/data/{split}-*.parquet")):
            for row in pq.read_table(file).to_pylist():
                text = row["prompt"].removeprefix("Judge.\n\n").removesuffix("\n\n")
                found.setdefault(row["task"], []).append((row["source_row"], text, row["completion"]))
        return {task: [(text, completion) for _, text, completion in sorted(rows)] for task, rows in found.items()}

    def commits(self) -> dict[str, str]:
        """Return the commit of each task by the lock."""
        lock = json.loads((self.folder / "mixtures/all/mix.lock.json").read_text("utf-8"))
        return {name: task["commit"] for name, task in lock["tasks"].items()}

    def refusal(self) -> str:
        """Return the message of a run that failed as an understood failure does."""
        assert self.code == 1, (self.stdout, self.stderr)
        assert "Traceback" not in self.stderr
        assert self.stdout == ""
        before, error, message = self.stderr.partition("error: ")
        assert error, self.stderr
        assert len(message.splitlines()) <= 2, self.stderr
        assert not (self.folder / "mixtures/all").exists()
        return message


@dataclass(frozen=True)
class Home:
    """A project whose builds ask the hub, and caches that start empty."""

    folder: Path
    hub: Hub

    def run(self, *arguments: str, **environment: str) -> Ended:
        """Run Python with an environment in which the hub is the only one that there is."""
        foreign = re.compile(r"(HF_|HUGGING_?FACE|TASKMIX_).*|.*_proxy", re.IGNORECASE)
        env = {name: value for name, value in os.environ.items() if not foreign.fullmatch(name)}
        env |= {
            "HF_ENDPOINT": self.hub.url,
            "HF_HOME": str(self.folder / "hf"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "TASKMIX_CACHE": str(self.cache),
        }
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=env | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Ended(done.returncode, done.stdout, done.stderr, self.folder)

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def build(self, *sources: str, labels: Sequence[str] = (), **environment: str) -> Ended:
        """Run `mix build` over tasks a, b, … with these sources, in a flow mapping's words: "hub: org/reviews"."""
        self.write_catalog("catalog.yaml", sources, labels)
        shutil.rmtree(self.folder / "mixtures", ignore_errors=True)
        return self.run(*MIX, "build", "all", **environment)

    def write_catalog(self, name: str, sources: Sequence[str], labels: Sequence[str] = ()) -> None:
        (self.folder / "templates").mkdir(exist_ok=True)
        (self.folder / "templates" / "judge.yaml").write_text(TEMPLATE)
        words = f", labels: [{', '.join(labels)}]" if labels else ""
        common = f"kind: text-classification, cluster: sentiment, templates: judge{words}"
        tasks = "".join(f"  {task}: {{source: {{{each}}}, {common}}}\n" for task, each in zip("abcdefgh", sources))
        (self.folder / name).write_text(f"version: 1\ntasks:\n{tasks}mixtures: {{all: {{tasks: ['*']}}}}\n")

    def cached(self) -> list[str]:
        """Return the data files below the cache."""
        return sorted(path.name for path in self.cache.rglob("*.parquet"))


@pytest.fixture
def home(tmp_path: Path, hub: Hub) -> Home:
    """A project beside the server."""
    folder = tmp_path / "project"
    folder.mkdir()
    return Home(folder, hub)


def parquet(*rows: tuple[str, int], names: Sequence[str] = ("bad", "good")) -> bytes:
    """Return a Parquet file with a text and a ClassLabel, as the hub holds them."""
    label = {"names": list(names), "_type": "ClassLabel"}
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": label}
    schema = pa.schema(
        {"text": pa.string(), "label": pa.int64()}, {"huggingface": json.dumps({"info": {"features": features}})}
    )
    target = io.BytesIO()
    table = pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]}, schema=schema)
    pq.write_table(table, target)
    return target.getvalue()


def jsonl(*rows: Mapping[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


TRAIN: dict[str, str | bytes] = {"data/train-00000-of-00001.parquet": parquet(("dull", 0), ("fine", 1))}


def test_the_unmodified_client_loads_a_dataset_from_the_server(home: Home) -> None:
    home.hub.repository("org/reviews").commit(TRAIN)
    script = "import datasets; print(datasets.load_dataset('org/reviews', split='train').to_list())"
    done = home.run("-c", script)
    assert done.stdout == "[{'text': 'dull', 'label': 0}, {'text': 'fine', 'label': 1}]\n", done.stderr
    assert [asked.origin for asked in home.hub.asked() if asked.path.startswith("/objects/")] == ["storage"]


def test_the_unmodified_client_finds_commits_refs_files_and_their_parts(home: Home) -> None:
    repository = home.hub.repository("org/reviews")
    first = repository.commit({"a.txt": "0123456789", "deep/b.txt": "b", "gone.txt": ""}, message="First")
    repository.point("refs/tags/v1", first)
    second = repository.commit({"gone.txt": None}, message="Second")
    script = """if True:
        import json
        from huggingface_hub import HfApi, HfFileSystem
        api, place, kind = HfApi(), "org/reviews", {"repo_type": "dataset"}
        refs = api.list_repo_refs(place, **kind)
        print(json.dumps({
            "refs": {each.ref: each.target_commit for each in refs.branches + refs.tags},
            "commits": [[each.commit_id, each.title] for each in api.list_repo_commits(place, **kind)],
            "files": sorted(each.path for each in api.list_repo_tree(place, recursive=True, **kind)),
            "tagged": sorted(each.path for each in api.list_repo_tree(place, revision="v1", **kind)),
            "info": [each.size for each in api.get_paths_info(place, ["a.txt", "gone.txt"], expand=True, **kind)],
            "part": HfFileSystem().read_block("datasets/org/reviews/a.txt", 3, 4).decode(),
        }))
    """
    done = home.run("-c", script)
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout) == {
        "refs": {"refs/heads/main": second, "refs/tags/v1": first},
        "commits": [[second, "Second"], [first, "First"]],
        "files": ["a.txt", "deep", "deep/b.txt"],
        "tagged": ["a.txt", "deep", "gone.txt"],
        "info": [10],
        "part": "3456",
    }
    assert 206 in [asked.status for asked in home.hub.asked()]


def test_a_build_gives_the_rows_of_every_file_with_the_label_names_of_the_hub(home: Home) -> None:
    card = "A card without front matter.\n"
    files = {
        "README.md": card,
        "data/train-00000-of-00002.parquet": parquet(("dull", 0), ("fine", 1)),
        "data/train-00001-of-00002.parquet": parquet(("vivid", 1)),
        "data/validation-00000-of-00001.parquet": parquet(("weak", 0)),
        "data/test-00000-of-00001.parquet": parquet(("unused", 0)),
    }
    commit = home.hub.repository("org/reviews").commit(files)
    built = home.build("hub: org/reviews")
    assert built.rows() == {"a": [("dull", "bad"), ("fine", "good"), ("vivid", "good")]}
    assert built.rows("validation") == {"a": [("weak", "bad")]}
    assert built.commits() == {"a": commit}
    # no bars, no remarks of the clients: only what the build itself reports
    assert [
        line for line in built.stderr.splitlines() if not re.match(r"(read )?[\d,]+ (source rows;|of )", line)
    ] == []


def test_a_configuration_is_honoured_and_text_formats_are_read(home: Home) -> None:
    card = """---
configs:
- {config_name: english, data_files: [{split: train, path: en/train.jsonl}]}
- {config_name: german, default: true, data_files: [{split: train, path: [de/a.jsonl, de/b.jsonl]}]}
- {config_name: plain, data_files: [{split: train, path: other.csv}]}
---
"""
    files = {
        "README.md": card,
        "en/train.jsonl": jsonl({"text": "dull", "label": 0}),
        "de/a.jsonl": jsonl({"text": "fad", "label": 0}),
        "de/b.jsonl": jsonl({"text": "fein", "label": 1}),
        "other.csv": "text,label\nplain,1\n",
    }
    home.hub.repository("org/reviews").commit(files)
    sources = [f"hub: org/reviews{config}" for config in ("", ", config: english", ", config: plain")]
    built = home.build(*sources, labels=["bad", "good"])
    assert built.rows() == {
        "a": [("fad", "bad"), ("fein", "good")],
        "b": [("dull", "bad")],
        "c": [("plain", "good")],
    }
    # what has no name in the catalog is no configuration of the name "default", though it is cached
    refused = home.build("hub: org/reviews, config: default", labels=["bad", "good"]).refusal()
    assert "Available: ['english', 'german', 'plain']" in refused


def test_a_branch_a_tag_and_a_commit_keep_their_rows_after_main_has_moved_on(home: Home) -> None:
    repository = home.hub.repository("org/reviews")
    path = "data/train-00000-of-00001.parquet"
    first = repository.commit({path: parquet(("first", 0))})
    repository.point("refs/tags/v1.0", first)
    second = repository.commit({path: parquet(("second", 0))})
    repository.point("refs/heads/work/half", second)
    third = repository.commit({path: parquet(("third", 0))})
    revisions = ("v1.0", "work/half", first, "main")
    built = home.build("hub: org/reviews", *(f"hub: org/reviews, revision: {revision}" for revision in revisions))
    assert {task: rows[0][0] for task, rows in built.rows().items()} == {
        "a": "third",
        "b": "first",
        "c": "second",
        "d": "first",
        "e": "third",
    }
    assert built.commits() == {"a": third, "b": first, "c": second, "d": first, "e": third}

    fourth = repository.commit({path: parquet(("fourth", 0))})
    built = home.build("hub: org/reviews", "hub: org/reviews, revision: v1.0")
    assert built.rows() == {"a": [("fourth", "bad")], "b": [("first", "bad")]}
    assert built.commits() == {"a": fourth, "b": first}


def test_what_is_cached_is_not_downloaded_again_and_serves_without_the_hub(home: Home) -> None:
    commit = home.hub.repository("org/reviews").commit(TRAIN)
    first = home.build("hub: org/reviews")
    shutil.rmtree(home.folder / "hf")  # the clients' own cache shall not help

    home.hub.forget()
    again = home.build("hub: org/reviews")
    assert again.rows() == first.rows()
    assert [asked.path for asked in home.hub.asked()] == ["/api/datasets/org/reviews/revision/main"]

    home.hub.forget()
    assert home.build(f"hub: org/reviews, revision: {commit}").rows() == first.rows()
    assert home.hub.asked() == []

    home.hub.stop()
    pinned = home.build(f"hub: org/reviews, revision: {commit}")
    assert pinned.rows() == first.rows()
    assert "warning" not in pinned.stderr
    fallen_back = home.build("hub: org/reviews")
    assert fallen_back.rows() == first.rows()
    assert fallen_back.commits() == {"a": commit}
    (warning,) = [line for line in fallen_back.stderr.splitlines() if "warning" in line]
    assert f"org/reviews@main: the hub cannot be reached: [Errno 111] Connection refused; taking commit {commit}" in (
        warning
    )


@pytest.mark.parametrize("revision", ["main", "deadbeef" * 5])
def test_without_a_hub_what_was_never_fetched_is_an_error(home: Home, revision: str) -> None:
    home.hub.stop()
    message = home.build(f"hub: org/reviews, revision: {revision}").refusal()
    assert f"task a: org/reviews@{revision}: the hub cannot be reached: [Errno 111] Connection refused" in message
    assert "--mirror DIR" in message


def test_a_dataset_that_needs_its_script_is_refused_and_its_conversion_is_read(home: Home) -> None:
    repository = home.hub.repository("org/reviews")
    repository.commit({"reviews.py": "raise SystemExit('ran')", "raw/train.txt": "dull"})
    repository.commit({"default/train/0000.parquet": parquet(("dull", 0))}, ref="refs/convert/parquet")
    message = home.build("hub: org/reviews").refusal()
    assert "script" in message
    assert "revision: refs/convert/parquet" in message
    converted = home.build("hub: org/reviews, revision: refs/convert/parquet")
    assert converted.rows() == {"a": [("dull", "bad")]}


CONFIGS = """---
configs:
- {config_name: english, data_files: en/train.jsonl}
- {config_name: german, data_files: de/train.jsonl}
---
"""
TWO: dict[str, str | bytes] = {"README.md": CONFIGS} | {
    f"{each}/train.jsonl": jsonl({"text": each, "label": 0}) for each in ("en", "de")
}
COUNTED = "---\ndataset_info: {splits: [{name: train, num_examples: 3, num_bytes: 9}]}\n---\n"
ABSENT = "deadbeef" * 5
REFUSED = {
    "unknown dataset": ("hub: org/nothing", "", "org/nothing@main: the hub has no such dataset"),
    "unknown branch": ("hub: org/two, revision: gone", "", "org/two@gone: the dataset has no such revision"),
    "unknown commit": (f"hub: org/two, revision: {ABSENT}", "", f"@{ABSENT}: the dataset has no such revision"),
    "unknown configuration": ("hub: org/two, config: french", "", "Available: ['english', 'german']"),
    "configuration where there is none": ("hub: org/plain, config: french", "", "'french' not found. Available: ['d"),
    "no configuration": ("hub: org/two", "", "pick one among the available configs: ['english', 'german']"),
    "no data": ("hub: org/empty", "", "org/empty@main: cannot be read: The directory at hf://datasets/org/empty@"),
    "damaged data": ("hub: org/damaged", "", "org/damaged@main: cannot be read: Parquet magic bytes not found"),
    "damaged lines": ("hub: org/cut", "", "org/cut@main: cannot be read: "),
    "a card that counts other rows": ("hub: org/counted", "", "org/counted@main: cannot be read: [{'expected'"),
    "a script": ("hub: org/script", "", "org/script@main: the dataset runs a script of its own, which is never run"),
    "gated, not logged in": ("hub: org/gated", "", "org/gated@main: access to this dataset has to be asked for"),
    "gated, not let in": ("hub: org/gated", "hf_stranger", "org/gated@main: access to this dataset has to be asked"),
    "private": ("hub: org/private", "hf_stranger", "org/private@main: the hub has no such dataset"),
    "bad token": ("hub: org/plain", "hf_expired", "org/plain@main: the hub refuses: Invalid credentials"),
    "a hub that fails": ("hub: org/fails", "", "org/fails@main: the hub cannot be reached: Server error '500 "),
    "a portal's page": ("hub: org/portal", "", "org/portal@main: the hub cannot be reached: Expecting value"),
    "no answer for the card": ("hub: org/cardless", "", "org/cardless@main: the download failed: "),
    "no answer for the data": ("hub: org/dataless", "", "org/dataless@main: the download failed: "),
}
FAULTS = (
    {"match": "/api/.*/org/fails", "status": 500},
    {"match": "/api/.*/org/portal", "status": 200},
    # neither 5xx nor 429: after those the client tries again for half a minute
    {"match": "/org/cardless/resolve/", "status": 410},
    {"match": "/org/dataless/resolve/.*parquet", "status": 410},
)
MANY = """if True:
    import json, os, sys
    from click.testing import CliRunner
    from taskmix.cli import main
    for name, token in json.loads(sys.argv[1]):
        os.environ["HF_TOKEN"] = token
        done = CliRunner().invoke(main, ["build", "--catalog", name + ".yaml", "--out", "mixtures/all"])
        print(json.dumps([done.exit_code, done.stdout, done.stderr]))
"""


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ended]]:
    """How the builds of REFUSED end; one process runs them all, since what takes long is to import the clients."""
    folder = tmp_path_factory.mktemp("refused")
    with running(tmp_path_factory.mktemp("hub")) as hub:
        hub.add_token("hf_stranger", "stranger")
        hub.repository("org/two").commit(TWO)
        for name in ("plain", "fails", "portal", "cardless", "dataless"):
            hub.repository(f"org/{name}").commit(TRAIN)
        hub.repository("org/empty").commit({"README.md": "Nothing yet.\n"})
        hub.repository("org/damaged").commit({"train.parquet": parquet(("dull", 0))[:-20]})
        hub.repository("org/cut").commit({"train.jsonl": jsonl({"text": "dull", "label": 0})[:-5]})
        hub.repository("org/counted").commit({"README.md": COUNTED, **TRAIN})
        hub.repository("org/script").commit({"script.py": "", **TRAIN})
        hub.repository("org/gated", gated=True, readers=("friend",)).commit(TRAIN)
        hub.repository("org/private", private=True, readers=("friend",)).commit(TRAIN)
        hub.fail(*FAULTS)
        home = Home(folder, hub)
        for name, (source, _, _) in REFUSED.items():
            home.write_catalog(f"{name}.yaml", [source])
        done = home.run("-c", MANY, json.dumps([(name, token) for name, (_, token, _) in REFUSED.items()]))
        assert done.code == 0, done.stderr
        assert home.cached() == []
        ended = [Ended(*json.loads(line), folder) for line in done.stdout.splitlines()]
        yield dict(zip(REFUSED, ended, strict=True))


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_had_is_one_clear_message(refused: Mapping[str, Ended], case: str) -> None:
    assert REFUSED[case][2] in refused[case].refusal()


def test_a_download_that_breaks_off_leaves_nothing_that_is_taken_for_whole(home: Home) -> None:
    home.hub.repository("org/reviews").commit(TRAIN)
    home.hub.fail({"match": "GET /objects/", "cut": 100, "times": 1}, {"match": "GET /objects/", "status": 500})
    broken = home.build("hub: org/reviews").refusal()
    assert "org/reviews@main: the download failed: " in broken
    assert home.cached() == []
    home.hub.fail()
    assert home.build("hub: org/reviews").rows() == {"a": [("dull", "bad"), ("fine", "good")]}


def test_a_download_that_breaks_off_once_is_tried_again(home: Home) -> None:
    home.hub.repository("org/reviews").commit(TRAIN)
    home.hub.fail({"match": "GET /objects/", "cut": 100, "times": 1})
    assert home.build("hub: org/reviews").rows() == {"a": [("dull", "bad"), ("fine", "good")]}
    assert [asked.status for asked in home.hub.asked("storage")] == [200, 200]


def test_a_commit_is_never_replaced_by_another_that_the_client_has_cached(home: Home) -> None:
    repository = home.hub.repository("org/reviews")
    repository.commit({"train.jsonl": jsonl({"text": "old", "label": 0})})
    assert home.run("-c", "import datasets; datasets.load_dataset('org/reviews')").code == 0
    new = repository.commit({"train.jsonl": jsonl({"text": "new", "label": 0})})
    # the commit is known, but its files are not to be had: the client would then take the rows that it has
    home.hub.fail({"match": "/resolve/", "status": 410})
    message = home.build(f"hub: org/reviews, revision: {new}", labels=["bad", "good"]).refusal()
    assert "the download failed" in message


def test_a_folder_with_the_name_of_the_dataset_is_not_taken_for_it(home: Home) -> None:
    home.hub.repository("org/reviews").commit({"train.jsonl": jsonl({"text": "from the hub", "label": 0})})
    local = home.folder / "org" / "reviews"
    local.mkdir(parents=True)
    (local / "train.jsonl").write_text(jsonl({"text": "from the disk", "label": 0}))
    assert home.build("hub: org/reviews", labels=["bad"]).rows() == {"a": [("from the hub", "bad")]}


def test_what_a_killed_build_left_is_removed_and_not_taken_for_whole(home: Home) -> None:
    commit = home.hub.repository("org/reviews").commit(TRAIN)
    place = home.cache / "hub" / "org--reviews" / "default"
    left = place / ".part-killed" / "final"
    left.mkdir(parents=True)
    (left / "train-00000-of-00001.parquet").write_bytes(b"half")
    assert home.build("hub: org/reviews").rows() == {"a": [("dull", "bad"), ("fine", "good")]}
    assert [path.name for path in place.iterdir()] == [commit]


def test_the_token_goes_to_the_hub_alone_and_into_no_file_or_output(home: Home, tmp_path: Path) -> None:
    canary = "hf_canaryFjqWmLd"
    home.hub.add_token(canary, "friend")
    home.hub.repository("org/gated", gated=True, readers=("friend",)).commit(TRAIN)
    home.hub.repository("org/closed", gated=True).commit(TRAIN)
    built = home.build("hub: org/gated", HF_TOKEN=canary)
    assert built.rows() == {"a": [("dull", "bad"), ("fine", "good")]}
    assert {asked.authorization for asked in home.hub.asked("hub")} == {f"Bearer {canary}"}
    assert {asked.authorization for asked in home.hub.asked("storage")} == {None}

    refused = home.build("hub: org/closed", HF_TOKEN=canary)
    assert "has to be asked for" in refused.refusal()
    home.hub.fail({"match": ".", "status": 500})
    failed = home.build("hub: org/other", HF_TOKEN=canary)
    assert "500" in failed.refusal()
    home.hub.stop()
    unreached = home.build("hub: org/gated", "hub: org/other", HF_TOKEN=canary)
    unreached.refusal()

    runs = (built, refused, failed, unreached)
    assert not any(canary in run.stdout + run.stderr for run in runs)
    files = [path for path in home.folder.rglob("*") if path.is_file()]
    assert {"mix.lock.json", "README.md"} <= {path.name for path in files}
    assert [path for path in files if canary.encode() in path.read_bytes()] == []


def test_splits_are_found_by_the_names_that_a_download_gives_them(tmp_path: Path) -> None:
    names = [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
        "validation_matched-00000-of-00001.parquet",
        "test.v2-00000-of-00001.parquet",
        "train_00010-00000-of-00001.parquet",
    ]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    found = {split: [path.name for path in paths] for split, paths in find_splits(tmp_path).items()}
    assert found == {
        "train": names[:2],
        "validation_matched": [names[2]],
        "test.v2": [names[3]],
        "train_00010": [names[4]],
    }

"""Hub datasets, through the real clients: a server on loopback speaks the hub's protocol to child processes.

`HF_ENDPOINT` is read when the clients are imported, so every build here is a process of its own.
"""

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taskmix.errors import SourceError
from taskmix.sources.finding import find_splits
from taskmix.sources.hub import fetch
from tests.hub.running import Hub, running

TEMPLATE = '- {name: judge, instruction: "Judge.", input: "{{ text }}", output: "{{ choices[label] }}"}'
MIX = "from taskmix.cli import main; main()"
# Importing the clients takes longer than a build: one process does it, and each build is a fork of that.
FORKS = """
import json, os, sys
import datasets, huggingface_hub, taskmix.building, taskmix.cli.display, taskmix.cli.progress
from taskmix.cli import main
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(job["folder"])
        os.environ.update(job["environment"])
        for stream, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), stream)
        main(job["arguments"], prog_name="mix")
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
Rows = list[tuple[str, str]]
Files = dict[str, str | bytes]


@dataclass(frozen=True)
class Ended:
    """How a run ended, and the folder that it ran in."""

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
        _, error, message = self.stderr.partition("error: ")
        assert error, self.stderr
        assert len(message.splitlines()) <= 2, self.stderr
        assert not (self.folder / "mixtures/all").exists()
        return message


@dataclass(frozen=True)
class Clients:
    """The hub, a process that has imported its clients, and the clients' own cache."""

    hub: Hub
    cache: Path
    forks: "subprocess.Popen[str]"


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    """The clients of all tests here: which hub they ask is settled when they are imported."""
    cache = tmp_path_factory.mktemp("huggingface")
    with running(tmp_path_factory.mktemp("hub")) as hub:
        command = [sys.executable, "-c", FORKS]
        settings = environment(hub.url, cache)
        with subprocess.Popen(command, env=settings, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as forks:
            yield Clients(hub, cache, forks)
            assert forks.stdin is not None
            forks.stdin.close()


def environment(url: str, cache: Path) -> dict[str, str]:
    """Return an environment in which the hub at this address is the only one that there is."""
    foreign = re.compile(r"(HF_|HUGGING_?FACE|TASKMIX_).*|.*_proxy", re.IGNORECASE)
    return {name: value for name, value in os.environ.items() if not foreign.fullmatch(name)} | {
        "HF_ENDPOINT": url,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    }


@dataclass(frozen=True)
class Home:
    """A project and an empty cache, whose builds ask the hub."""

    folder: Path
    clients: Clients

    @property
    def hub(self) -> Hub:
        return self.clients.hub

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def build(self, *sources: str, labels: Sequence[str] = (), **env: str) -> Ended:
        """Run `mix build` over tasks a, b, … with these sources, in a flow mapping's words: "hub: org/reviews"."""
        self.write_catalog(sources, labels)
        return self.mix("build", "all", **env)

    def mix(self, *arguments: str, **env: str) -> Ended:
        """Run `mix` over what is there."""
        job = {
            "folder": str(self.folder),
            "arguments": arguments,
            "environment": {"TASKMIX_CACHE": str(self.cache), **env},
        }
        forks = self.clients.forks
        assert forks.stdin is not None
        assert forks.stdout is not None
        print(json.dumps(job), file=forks.stdin, flush=True)
        code = int(forks.stdout.readline())
        stdout, stderr = ((self.folder / name).read_text("utf-8") for name in ("stdout", "stderr"))
        return Ended(code, stdout, stderr, self.folder)

    def build_anew(self, *sources: str, **env: str) -> Ended:
        """Run `mix build` as `build` does, but in a process that starts from nothing."""
        self.write_catalog(sources, ())
        return self.run(MIX, "build", "all", **env)

    def run(self, script: str, *arguments: str, **env: str) -> Ended:
        """Run a script in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            cwd=self.folder,
            env=environment(self.hub.url, self.clients.cache) | {"TASKMIX_CACHE": str(self.cache)} | env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Ended(done.returncode, done.stdout, done.stderr, self.folder)

    def write_catalog(self, sources: Sequence[str], labels: Sequence[str]) -> None:
        """Write a catalog of tasks a, b, … and forget what was built."""
        (self.folder / "templates").mkdir(exist_ok=True)
        (self.folder / "templates" / "judge.yaml").write_text(TEMPLATE)
        words = f", labels: [{', '.join(labels)}]" if labels else ""
        common = f"kind: text-classification, cluster: sentiment, templates: judge{words}"
        tasks = [f"  {chr(97 + index)}: {{source: {{{each}}}, {common}}}\n" for index, each in enumerate(sources)]
        catalog = f"version: 1\ntasks:\n{''.join(tasks)}mixtures: {{all: {{tasks: ['*']}}}}\n"
        (self.folder / "catalog.yaml").write_text(catalog)
        shutil.rmtree(self.folder / "mixtures", ignore_errors=True)

    def cached(self) -> list[str]:
        """Return the data files below the cache."""
        return sorted(path.name for path in self.cache.rglob("*.parquet"))


@pytest.fixture
def home(tmp_path: Path, clients: Clients) -> Home:
    """A project; nothing is cached, nothing was asked, and nothing goes wrong."""
    shutil.rmtree(clients.cache, ignore_errors=True)
    clients.hub.fail()
    clients.hub.forget()
    return Home(tmp_path, clients)


@pytest.fixture
def nowhere() -> str:
    """An address at which nothing answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


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


TRAIN: Files = {"data/train-00000-of-00001.parquet": parquet(("dull", 0), ("fine", 1))}


def test_the_unmodified_client_loads_a_dataset_from_the_server(home: Home) -> None:
    home.hub.repository("org/reviews").commit(TRAIN)
    script = "import datasets; print(datasets.load_dataset('org/reviews', split='train').to_list())"
    done = home.run(script)
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
    done = home.run(script)
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
    files: Files = {
        "README.md": "A card without front matter.\n",
        "data/train-00000-of-00002.parquet": parquet(("dull", 0), ("fine", 1)),
        "data/train-00001-of-00002.parquet": parquet(("vivid", 1)),
        "data/validation-00000-of-00001.parquet": parquet(("weak", 0)),
        "data/test-00000-of-00001.parquet": parquet(("unused", 0)),
    }
    commit = home.hub.repository("org/reviews").commit(files)
    built = home.build_anew("hub: org/reviews")
    assert built.rows() == {"a": [("dull", "bad"), ("fine", "good"), ("vivid", "good")]}
    assert built.rows("validation") == {"a": [("weak", "bad")]}
    assert built.commits() == {"a": commit}
    # no bars, no remarks of the clients: only what the build itself reports
    own = re.compile(r"(read )?[\d,]+ (source rows;|of )|downloading org/reviews@main$|compared: ")
    assert [line for line in built.stderr.splitlines() if not own.match(line)] == []


def test_a_configuration_is_honoured_and_text_formats_are_read(home: Home) -> None:
    card = """---
configs:
- {config_name: english, data_files: [{split: train, path: en/train.jsonl}]}
- {config_name: german, default: true, data_files: [{split: train, path: [de/a.jsonl, de/b.jsonl]}]}
- {config_name: plain, data_files: [{split: train, path: plain.jsonl}]}
---
"""
    files: Files = {
        "README.md": card,
        "en/train.jsonl": jsonl({"text": "dull", "label": 0}),
        "de/a.jsonl": jsonl({"text": "fad", "label": 0}),
        "de/b.jsonl": jsonl({"text": "fein", "label": 1}),
        "plain.jsonl": jsonl({"text": "plain", "label": 1}),
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
    repository.point("refs/heads/draft/half", second)
    third = repository.commit({path: parquet(("third", 0))})
    revisions = ("v1.0", "draft/half", first, "main")
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


def test_what_is_cached_is_not_downloaded_again_and_serves_without_the_hub(home: Home, nowhere: str) -> None:
    commit = home.hub.repository("org/reviews").commit(TRAIN)
    pinned = f"hub: org/reviews, revision: {commit}"
    first = home.build("hub: org/reviews").rows()
    shutil.rmtree(home.clients.cache)  # the clients' own cache shall not help

    home.hub.forget()
    assert home.build("hub: org/reviews").rows() == first
    assert [asked.path for asked in home.hub.asked()] == ["/api/datasets/org/reviews/revision/main"]

    home.hub.forget()
    assert home.build(pinned).rows() == first
    assert home.hub.asked() == []

    offline = home.build_anew(pinned, HF_ENDPOINT=nowhere)
    assert offline.rows() == first
    assert "warning" not in offline.stderr
    fallen_back = home.build_anew("hub: org/reviews", HF_ENDPOINT=nowhere)
    assert fallen_back.rows() == first
    assert fallen_back.commits() == {"a": commit}
    (warning,) = [line for line in fallen_back.stderr.splitlines() if "warning" in line]
    assert "org/reviews@main: the hub cannot be reached: [Errno 111] Connection refused" in warning
    assert f"taking commit {commit}" in warning


@pytest.mark.parametrize("revision", ["main", "deadbeef" * 5])
def test_without_a_hub_what_was_never_fetched_is_an_error(home: Home, revision: str, nowhere: str) -> None:
    message = home.build_anew(f"hub: org/reviews, revision: {revision}", HF_ENDPOINT=nowhere).refusal()
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
TWO: Files = {
    "README.md": CONFIGS,
    "en/train.jsonl": jsonl({"text": "dull", "label": 0}),
    "de/train.jsonl": jsonl({"text": "fad", "label": 0}),
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
    "a card that counts other rows": ("hub: org/counted", "", "org/counted@main: its card names other splits or sizes"),
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


@pytest.mark.parametrize(("source", "token", "expected"), REFUSED.values(), ids=list(REFUSED))
def test_what_cannot_be_had_is_one_clear_message(home: Home, source: str, token: str, expected: str) -> None:
    hub = home.hub
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
    ended = home.build(source, **{"HF_TOKEN": token} if token else {})
    assert expected in ended.refusal()
    assert home.cached() == []


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
    assert home.run("import datasets; datasets.load_dataset('org/reviews')").code == 0
    new = repository.commit({"train.jsonl": jsonl({"text": "new", "label": 0})})
    # the commit is known, but its files are not to be had: the client would then take the rows that it has
    home.hub.fail({"match": "/resolve/", "status": 410})
    message = home.build(f"hub: org/reviews, revision: {new}", labels=["bad", "good"]).refusal()
    assert "the download failed: Client error '410 Gone'" in message


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


def test_the_token_goes_to_the_hub_alone_and_into_no_file_or_output(home: Home, nowhere: str) -> None:
    canary = "hf_canaryFjqWmLd"
    home.hub.add_token(canary, "friend")
    home.hub.repository("org/gated", gated=True, readers=("friend",)).commit(TRAIN)
    home.hub.repository("org/closed", gated=True).commit(TRAIN)
    refused = home.build("hub: org/closed", HF_TOKEN=canary)
    assert "has to be asked for" in refused.refusal()
    unreached = home.build_anew("hub: org/gated", HF_TOKEN=canary, HF_ENDPOINT=nowhere)
    assert "cannot be reached" in unreached.refusal()
    built = home.build("hub: org/gated", HF_TOKEN=canary)
    assert built.rows() == {"a": [("dull", "bad"), ("fine", "good")]}
    assert {asked.authorization for asked in home.hub.asked("hub")} == {f"Bearer {canary}"}
    assert {asked.authorization for asked in home.hub.asked("storage")} == {None}

    assert not any(canary in run.stdout + run.stderr for run in (refused, unreached, built))
    files = [path for top in (home.folder, home.clients.cache) for path in top.rglob("*") if path.is_file()]
    assert {"mix.lock.json", "README.md", "train-00000-of-00001.parquet"} <= {path.name for path in files}
    assert [path for path in files if canary.encode() in path.read_bytes()] == []


def test_large_splits_are_kept_as_shards_in_order_and_the_bars_return(home: Home) -> None:
    # the client looks at the size after every thousand rows
    texts = [[f"{file:02} {row:03}" for row in range(1000)] for file in range(12)]
    files = {f"train-{file:02}.jsonl": "".join(jsonl({"text": text}) for text in texts[file]) for file in range(12)}
    home.hub.repository("org/large").commit(files)
    script = """if True:
        import json, datasets, huggingface_hub.utils
        from taskmix.sources import files, hub
        from taskmix.sources.finding import find_splits
        datasets.config.MAX_SHARD_SIZE = 1
        splits = find_splits(hub.fetch("org/large", None, "main").folder)
        rows = files.scan(splits["train"]).collect()["text"].to_list()
        bars = [each.are_progress_bars_disabled() for each in (datasets, huggingface_hub.utils)]
        print(json.dumps([{split: len(paths) for split, paths in splits.items()}, rows, bars]))
    """
    done = home.run(script)
    assert done.code == 0, done.stderr
    shards, rows, bars = json.loads(done.stdout)
    assert shards == {"train": 12}
    assert rows == [text for file in texts for text in file]
    assert bars == [False, False]


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TASKMIX_CACHE", str(tmp_path / "file"))
    with pytest.raises(SourceError, match=r"the cache cannot be written: Not a directory\n  \$TASKMIX_CACHE names"):
        fetch("org/reviews", None, "main")


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


# What a lock pins


def test_an_unchanged_branch_is_asked_for_and_nothing_is_built(home: Home) -> None:
    repository = home.hub.repository("org/reviews")
    repository.commit(TRAIN)
    assert home.build("hub: org/reviews").code == 0
    assert home.mix("build", "all").stdout == f"mixtures/all: unchanged, {len(home_rows(home))} rows\n"
    repository.commit({"train.jsonl": jsonl({"text": "new", "label": 1})})
    moved = home.mix("build", "all")
    assert "unchanged" not in moved.stdout
    assert moved.rows() != {}


def test_a_lock_builds_from_its_commit_though_the_branch_moved(home: Home) -> None:
    repository = home.hub.repository("org/reviews")
    repository.commit(TRAIN)
    first = home.build("hub: org/reviews")
    commits, rows = first.commits(), first.rows()
    shutil.copy(home.folder / "mixtures/all/mix.lock.json", home.folder / "kept.json")
    repository.commit({"train.jsonl": jsonl({"text": "new", "label": 1})})
    # on another machine, where nothing is cached
    for folder in ("mixtures", "cache"):
        shutil.rmtree(home.folder / folder)
    again = home.mix("build", "all", "--lock", "kept.json")
    assert (again.rows(), again.commits()) == (rows, commits)
    lock = (home.folder / "mixtures/all/mix.lock.json").read_bytes()
    assert lock == (home.folder / "kept.json").read_bytes()
    file = next((home.folder / "mixtures/all/data").glob("train-*"))
    explained = home.mix("explain", "mixtures/all", pl.read_parquet(file)["id"][0])
    assert "rendered again: the same bytes" in explained.stdout


@pytest.mark.parametrize(
    ("file", "damage"),
    [("train-00000-of-00001.parquet", "flip"), ("train-00000-of-00001.parquet", "remove"), (".sha256.json", "cut")],
)
def test_a_download_that_was_damaged_in_the_cache_is_fetched_again(home: Home, file: str, damage: str) -> None:
    home.hub.repository("org/reviews").commit(TRAIN)
    rows = home.build("hub: org/reviews").rows()
    (path,) = home.cache.rglob(file)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    if damage != "remove":
        path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    again = home.build("hub: org/reviews")
    assert again.rows() == rows
    assert "is damaged and downloaded again" in again.stderr


def home_rows(home: Home) -> list[tuple[str, str]]:
    """Return the rows of the mixture that was built."""
    return [row for rows in Ended(0, "", "", home.folder).rows().values() for row in rows]

"""What tests of `mix push` share: a hub, its clients, and small mixtures to push."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import taskmix
from tests.forks import Ended, Forks, Run, forking
from tests.hub.running import Hub, running

TOKEN = "hf_canaryFjqWmLdKbzTQwYvNs"
CLIENTS = "huggingface_hub.hf_api,taskmix.cli.progress,taskmix.sharing.pushing,taskmix.sharing.fetching"
_FOREIGN = re.compile(r"(HF_|HUGGING_?FACE|TASKMIX_|AWS_).*|.*_proxy", re.IGNORECASE)
_CATALOG = """\
version: 1
tasks:
  toy:
    kind: text-classification
    cluster: sentiment
    source: {path: toy.jsonl}
    splits: {train: train, validation: {from: train, fraction: 0.25}}
    labels: [negative, positive]
    license: cc0-1.0
    language: en
    templates: toy
mixtures:
  a: {tasks: [toy], evaluation: {rows: 4}}
  b: {tasks: [toy], evaluation: {rows: 5}}
  c: {tasks: [toy], seed: 1}
"""
_TEMPLATES = '- {name: verdict, instruction: Good or bad?, input: "{{ text }}", output: "{{ choices[label] }}"}\n'
TRAIN = "data/train-00000-of-00001.parquet"
VALIDATION = "data/validation-00000-of-00001.parquet"
FILES = ("README.md", TRAIN, VALIDATION, "mix.lock.json")


@dataclass(frozen=True)
class Mixtures:
    """Small mixtures by name: B has other validation rows than A and the same train rows, C other rows of both."""

    root: Path

    def __getitem__(self, name: str) -> Path:
        return self.root / name

    def files(self, name: str, below: str = "") -> dict[str, bytes]:
        """Return the contents of a mixture's files by path, as they lie in a repository."""
        found = [path for path in self[name].rglob("*") if path.is_file()]
        return {below + path.relative_to(self[name]).as_posix(): path.read_bytes() for path in found}


def make_mixtures(root: Path) -> Mixtures:
    """Build the mixtures."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "catalog.yaml").write_text(_CATALOG)
    (root / "templates").mkdir()
    (root / "templates" / "toy.yaml").write_text(_TEMPLATES)
    rows = [{"text": f"row {number}", "label": number % 2} for number in range(40)]
    (root / "toy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    catalog = taskmix.load_catalog(root / "catalog.yaml")
    for name in "abc":
        taskmix.build(name, catalog=catalog, out=root / name)
    return Mixtures(root)


@dataclass(frozen=True)
class World:
    """A hub, runs of `mix` that know it and may write to `org`, and mixtures."""

    hub: Hub
    forks: Forks
    mixtures: Mixtures

    def push(self, name: str, destination: str, *options: str, **environment: str) -> Ended:
        """Push a mixture."""
        return self.begin_push(name, destination, *options, **environment).end()

    def begin_push(self, name: str, destination: str, *options: str, **environment: str) -> Run:
        """Begin to push a mixture."""
        return self.forks.begin("push", str(self.mixtures[name]), destination, *options, **environment)

    def files(self, id: str, ref: str = "refs/heads/main") -> Mapping[str, bytes]:
        """Return the files of a repository."""
        return self.hub.find(id).files(ref)

    def name_of(self, id: str, ref: str = "refs/heads/main") -> str:
        """Return the name of the mixture that a ref holds whole; else what else it holds."""
        found = self.files(id, ref)
        if not found:
            return "nothing"
        return next((name for name in "abc" if self.mixtures.files(name) == found), "a blend")


@contextmanager
def world(root: Path, mixtures: Mixtures, modules: str = CLIENTS) -> Iterator[World]:
    """Start a hub and a process for its clients, with these modules imported; `tests.haste` shortens their waits."""
    with running(root / "hub") as hub:
        hub.add_token(TOKEN, "someone", "org")
        settled = environment(hub.url, root / "huggingface") | {"TASKMIX_TEST_HASTE": "1"}
        own = {"TASKMIX_CACHE": str(root / "cache"), "TASKMIX_HUB_TIMEOUT": "1", "HF_TOKEN": TOKEN}
        with forking(root / "work", settled, modules, **own) as forks:
            yield World(hub, forks, mixtures)


def environment(url: str, home: Path) -> dict[str, str]:
    """Return an environment in which the hub at this address is the only one that there is."""
    return {name: value for name, value in os.environ.items() if not _FOREIGN.fullmatch(name)} | {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    }

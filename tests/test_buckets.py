"""Sources in object stores: S3 as moto's server speaks it, and what a catalog's URL may not do."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import taskmix
from taskmix.caching.stock import take_stock
from taskmix.catalog.loading import load_catalog
from taskmix.cli import main
from taskmix.engines import packing
from taskmix.engines.recipes import recipes
from taskmix.errors import CatalogError, SourceError, TaskmixError
from taskmix.mixing.holdout import origins
from taskmix.mixing.plan import make_plan
from taskmix.output.lock import read_lock
from taskmix.sources import buckets
from taskmix.sources.finding import find_source
from taskmix.urls import object_store, opened
from tests.moto_server import serving
from tests.test_all_or_nothing import digests
from tests.workers import WORKERS

CATALOG = """\
version: 1
tasks:
  toy:
    kind: text-classification
    cluster: sentiment
    source: {{path: "{path}"}}
    labels: [negative, positive]
{more}mixtures:
  tiny: {{tasks: [toy]}}
"""
TEMPLATES = """\
- name: plain
  instruction: "{{ text }}"
  output: "{{ choices[label] }}"
"""
Project = Callable[..., Path]


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    """An S3 server that this process knows, without any other credentials."""
    with serving(os.environ) as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def bucket(server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The file system of an empty bucket `data`; copies are kept in the test's own cache."""
    monkeypatch.setenv("TASKMIX_CACHE", str(tmp_path / "cache"))
    files, _ = opened("s3://data", SourceError)
    if files.exists("data"):
        files.rm("data", recursive=True)
    files.mkdir("data")
    return files


def rows(count: int, what: str = "row") -> str:
    return "".join(json.dumps({"text": f"{what} {row}", "label": row % 2}) + "\n" for row in range(count))


def fill(bucket: Any, files: dict[str, str]) -> None:
    for name, text in files.items():
        bucket.pipe_file(f"data/{name}", text.encode())


TOY = {"toy/train.jsonl": rows(40), "toy/validation.jsonl": rows(10, "other"), "toy/unused.jsonl": "no data\n"}


def written(project: Project, path: str, more: str = "") -> Path:
    return project(CATALOG.format(path=path, more=more), {"templates/toy.yaml": TEMPLATES})


def build(catalog: Path, out: str) -> tuple[str, str]:
    done = CliRunner().invoke(
        main, ["build", "tiny", "--catalog", str(catalog), "--out", str(catalog.parent / out)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


def test_a_folder_in_a_store_gives_what_a_folder_gives(bucket: Any, project: Project, tmp_path: Path) -> None:
    fill(bucket, TOY)
    catalog = written(project, "s3://data/toy/")
    assert "copying s3://data/toy" in build(catalog, "a")[1]
    for name, text in TOY.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    catalog.write_text(CATALOG.format(path="toy", more=""))
    build(catalog, "b")
    data = {name: digest for name, digest in digests(tmp_path / "a").items() if name.startswith("data/")}
    assert data == {name: digest for name, digest in digests(tmp_path / "b").items() if name.startswith("data/")}
    ours, local = (read_lock(tmp_path / out)["tasks"]["toy"]["files"] for out in "ab")
    assert ours == local
    assert set(ours) == {"train.jsonl", "validation.jsonl"}


def test_nothing_is_copied_twice_and_what_changed_is(
    bucket: Any, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bucket, TOY)
    catalog = written(project, "s3://data/toy")
    build(catalog, "a")
    assert "unchanged" in build(catalog, "a")[0]
    with monkeypatch.context() as patch:
        patch.setattr(buckets, "_copy", None)
        build(catalog, "b")
        # no split that the task reads
        fill(bucket, {"toy/unused.jsonl": "other data\n"})
        assert "unchanged" in build(catalog, "a")[0]
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    fill(bucket, {"toy/train.jsonl": rows(39)})
    out, said = build(catalog, "a")
    assert "unchanged" not in out
    assert "tasks.toy.files" in said
    assert {kept.kind: kept.entries for kept in take_stock(tmp_path / "cache").kinds}["stores"] == 2


def test_a_damaged_copy_is_made_anew(bucket: Any, project: Project, tmp_path: Path) -> None:
    fill(bucket, TOY)
    catalog = written(project, "s3://data/toy")
    build(catalog, "a")
    (copy,) = (tmp_path / "cache" / "stores").rglob("train.jsonl")
    copy.write_text(rows(40, "raw"))
    assert "is damaged and copied again" in build(catalog, "b")[1]
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("s3://data/toy", {"train": 2, "validation": 1, "unused": 0}),
        ("s3://data/toy/train-00000-of-00002.jsonl", {"train": 1}),
        ("s3://data/toy/train-*.jsonl", {"train": 2}),
        ("s3a://data/toy/*[0-9].jsonl", {"train": 2}),
    ],
)
def test_a_folder_a_file_and_a_pattern_are_found(
    bucket: Any, project: Project, path: str, expected: dict[str, int]
) -> None:
    shards = {f"toy/train-0000{number}-of-00002.jsonl": rows(5) for number in range(2)}
    fill(bucket, {**shards, "toy/validation.jsonl": rows(2), "toy/unused.jsonl": rows(2), "toy/inside/x.jsonl": ""})
    found = find_source(load_catalog(written(project, path)).task("toy"), None)
    assert {split: sum(file.is_file() for file in files) for split, files in found.splits.items()} == expected
    assert found.label == path


def test_a_folder_a_file_and_a_pattern_of_one_dataset_are_relatives(bucket: Any, project: Project) -> None:
    fill(bucket, TOY)

    def known(path: str) -> frozenset[str]:
        return origins(load_catalog(written(project, path)).task("toy")) - {"toy"}

    folder = known("s3://data/toy")
    assert folder & known("s3a://data/toy/train.jsonl")
    assert folder & known("s3://data/toy/tr*.jsonl")
    assert folder & known("s3://data/toy/")
    assert not folder & known("s3://data/other")
    assert not known("s3://data/toy/train.jsonl") & known("s3://data/toy/validation.jsonl")


def test_an_object_that_changes_while_it_is_copied_is_no_source(bucket: Any, project: Project) -> None:
    fill(bucket, TOY)
    listing = buckets.listed("s3://data/toy")
    fill(bucket, {"toy/train.jsonl": rows(41)})
    with pytest.raises(SourceError, match=r"'train.jsonl' changed while it was copied"):
        buckets.fetch(listing)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("s3://data/nothing", "there is nothing"),
        ("s3://data/outer", "there are no files\n  data lies in the folder itself"),
        ("s3://no-such-bucket/toy", "there is nothing"),
        ("s3://data/notes", "the folder holds no data files"),
        ("s3://data/toy/*.parquet", "there are no files"),
        ("gs://data/toy", "pip install 'taskmix[gcs]'"),
    ],
)
def test_where_nothing_is_the_message_says_so(bucket: Any, project: Project, path: str, said: str) -> None:
    fill(bucket, {**TOY, "outer/inner/train.jsonl": rows(2), "notes/readme.md": "notes"})
    with pytest.raises(SourceError) as error:
        find_source(load_catalog(written(project, path)).task("toy"), None)
    assert said in str(error.value)
    assert "task toy" in error.value.where


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError("Access Denied"), "the store failed: Access Denied\n  credentials are found"),
        (type("NoCredentialsError", (Exception,), {})("Unable to locate credentials"), "credentials are found"),
        (OSError("away ?X-Amz-Signature=secret"), "the store failed: away"),
    ],
)
def test_what_a_store_refuses_is_one_message(
    bucket: Any, project: Project, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(*given: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(bucket, "ls", fail)
    with pytest.raises(SourceError) as found:
        find_source(load_catalog(written(project, "s3://data/toy")).task("toy"), None)
    assert said in str(found.value)
    assert "secret" not in str(found.value)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc",
        "local:///etc",
        "memory://x",
        "http://host/x",
        "https://host/x",
        "ftp://host/x",
        "sftp://host/x",
        "github://org:name@main/x",
        "python://x",
        "reference://x",
        "dir://x",
        "simplecache::s3://data/toy",
        "filecache::file:///etc/passwd",
        "zip://x::s3://data/toy.zip",
        "s3://data/x::file:///etc/passwd",
        "S3://data/x",
        "s3://",
        "s3:///etc",
        "s3://data/../other",
        "s3://data/a//b",
        "s3://data/*/x.jsonl",
        "s3://data/x\\u0000",
        "s3://key:secret@data/x",
        "abfs://data@elsewhere.example.com/x",
    ],
)
def test_a_catalog_names_no_other_place(project: Project, url: str) -> None:
    with pytest.raises(CatalogError, match="a URL of data") as error:
        load_catalog(written(project, url))
    assert "catalog.yaml:6" in str(error.value)


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("s3://data", "s3://data"),
        ("s3a://data/x/", "s3://data/x"),
        ("gcs://data/x", "gs://data/x"),
        ("abfss://data@account.dfs.core.windows.net/x/y", "abfs://data@account.dfs.core.windows.net/x/y"),
        ("s3://my-data.v1/a b/ü?[0-9]*.jsonl", "s3://my-data.v1/a b/ü?[0-9]*.jsonl"),
    ],
)
def test_the_forms_of_an_address_are_one(url: str, same: str) -> None:
    assert object_store(url) == same


def test_an_object_with_the_name_of_no_file_is_refused(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    about = {"type": "file", "name": "data/toy/..", "size": 1}
    monkeypatch.setattr(bucket, "ls", lambda *given, **more: [about])
    with pytest.raises(SourceError, match="cannot be copied into a file of its name"):
        buckets.listed("s3://data/toy")


def test_a_node_copies_for_itself_and_refuses_another_state(
    bucket: Any, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bucket, TOY)
    plan = make_plan(taskmix.load_catalog(written(project, "s3://data/toy")), "tiny", workers=WORKERS)
    found, _ = recipes(plan, "train")
    packed = packing.pack(found[0])
    here = packing.unpack(packed.content).posing.task.source
    assert here.root == found[0].posing.task.source.root
    # another machine, with a cache of its own
    shutil.move(tmp_path / "cache", tmp_path / "elsewhere")
    packing.unpack.cache_clear()
    there = packing.unpack(packed.content)
    assert there.posing.task.source.splits["train"][0].is_file()
    assert packing.other_copies(there, packed.stamps).keys() <= {"train.jsonl", "validation.jsonl"}
    shutil.rmtree(tmp_path / "cache")
    fill(bucket, {"toy/train.jsonl": rows(39)})
    packing.unpack.cache_clear()
    with pytest.raises(TaskmixError, match="the store has other objects for the node"):
        packing.unpack(packed.content)


def test_lint_asks_no_store(project: Project) -> None:
    catalog = written(project, "s3://no-such-bucket/x")
    done = CliRunner().invoke(main, ["lint", "--catalog", str(catalog)])
    assert done.exit_code == 0, done.output
    assert "the data of 1 task is not at hand (toy)" in done.output


def test_add_looks_into_no_store(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["add", "s3://data/toy/train.parquet", "--catalog", str(tmp_path / "catalog.yaml")])
    assert done.exit_code == 2
    assert "an object store is not looked into: 's3://data/toy/train.parquet'" in done.stderr

"""`mix push` to what fsspec knows: a folder, a store in memory, and S3 as moto's server speaks it."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest

from taskmix.errors import OutputError, PushError, TaskmixError, UsageError
from taskmix.output.lock import verify
from taskmix.sharing.fetching import fetch
from taskmix.sharing.places import FolderPlace, HubPlace, StorePlace, destination_of, place_of
from taskmix.sharing.pushed import Options, Reporter
from taskmix.sharing.pushing import push
from taskmix.sharing.store import Store
from taskmix.sharing.stores import MARK
from tests.forks import Forks, forking
from tests.moto_server import serving
from tests.pushes import FILES, TRAIN, VALIDATION, Mixtures, environment, make_mixtures

LOCK = "mix.lock.json"


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory: pytest.TempPathFactory) -> Mixtures:
    """Small mixtures."""
    return make_mixtures(tmp_path_factory.mktemp("mixtures"))


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder in a store in memory; downloads are kept in the test's own folder."""
    monkeypatch.setenv("TASKMIX_CACHE", str(tmp_path / "cache"))
    return f"memory://{tmp_path.as_posix()}"


def content(url: str) -> dict[str, bytes]:
    """Return what a store holds below a URL."""
    fs, root = fsspec.core.url_to_fs(url)
    return {path.removeprefix(f"{root}/"): fs.cat_file(path) for path in fs.find(root)}


def test_places_are_told_apart() -> None:
    assert destination_of("org/name") == HubPlace("org/name")
    assert destination_of("./org/name") == FolderPlace(Path("org/name"))
    assert place_of("org/name") == FolderPlace(Path("org/name"))
    assert place_of("file:///tmp/x") == FolderPlace(Path("/tmp/x"))
    assert place_of("s3://bucket/x/") == StorePlace("s3://bucket/x")
    assert place_of("hf://datasets/org/name") == HubPlace("org/name")
    assert place_of("hf://datasets/org/name@v1.0/small") == HubPlace("org/name", "v1.0", "small")
    assert place_of("hf://datasets/org/name@refs/pr/3/small") == HubPlace("org/name", "refs/pr/3", "small")
    assert place_of("hf://datasets/org/name@draft%2Ftwo") == HubPlace("org/name", "draft/two")
    assert HubPlace("org/name", "draft/two", "small").url == "hf://datasets/org/name@draft%2Ftwo/small"
    for bad in ("hf://datasets/name", "hf://models/org/name", "https://host/x", "hf://datasets/org/name@v1/data"):
        with pytest.raises(UsageError):
            place_of(bad)


def test_a_push_to_a_folder_appears_whole_and_a_second_one_changes_nothing(mixtures: Mixtures, tmp_path: Path) -> None:
    place = FolderPlace(tmp_path / "there")
    assert set(push(mixtures["a"], place).sent) == set(FILES)
    before = (tmp_path / "there").stat().st_ino
    assert not push(mixtures["a"], place).is_change
    assert (tmp_path / "there").stat().st_ino == before
    push(mixtures["b"], place)
    assert verify(tmp_path / "there") == verify(mixtures["b"])
    assert fetch(str(tmp_path / "there")).folder == tmp_path / "there"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    with pytest.raises(OutputError, match="the folder is not a mixture"):
        push(mixtures["a"], FolderPlace(tmp_path / "other"))
    with pytest.raises(UsageError, match="there already"):
        push(mixtures["a"], FolderPlace(mixtures["a"]))


def test_a_store_gets_data_first_and_the_lock_last(
    mixtures: Mixtures, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, real = list[str](), Store.send

    def send(store: Store, name: str, *given: Any) -> None:
        written.append(name)
        real(store, name, *given)

    monkeypatch.setattr(Store, "send", send)
    push(mixtures["a"], StorePlace(url))
    assert written == [TRAIN, VALIDATION, "README.md", LOCK]
    assert content(url) == mixtures.files("a")
    assert not push(mixtures["a"], StorePlace(url)).is_change
    assert len(written) == 4
    assert set(push(mixtures["b"], StorePlace(url)).sent) == {VALIDATION, "README.md", LOCK}
    assert content(url) == mixtures.files("b")
    assert fetch(url).lock == verify(mixtures["b"])


def test_a_dry_run_writes_nothing_and_bytes_are_counted(mixtures: Mixtures, url: str) -> None:
    assert set(push(mixtures["a"], StorePlace(url), Options(dry_run=True)).sent) == set(FILES)
    assert content(url) == {}
    told = list[int]()
    done = push(mixtures["a"], url, report=Reporter(start=told.append, sent=told.append))
    assert told[0] == done.bytes == sum(told[1:]) > 0


@pytest.mark.parametrize("number", range(1, 11))
def test_a_push_to_a_store_that_breaks_off_anywhere_is_seen_and_completed(
    mixtures: Mixtures, url: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    push(mixtures["a"], StorePlace(url))
    calls = 0

    def breaking(name: str) -> None:
        real = getattr(Store, name)

        def call(*given: object) -> object:
            nonlocal calls
            calls += 1
            if calls == number:
                raise OSError("the store went away")
            return real(*given)

        monkeypatch.setattr(Store, name, call)

    for name in ("write", "send", "sha256", "remove"):
        breaking(name)
    with pytest.raises(PushError, match="the store went away"):
        push(mixtures["c"], StorePlace(url))
    left = {path: data for path, data in content(url).items() if path != MARK}
    if left not in (mixtures.files("a"), mixtures.files("c")):
        with pytest.raises(TaskmixError):
            fetch(url)
    monkeypatch.undo()
    push(mixtures["c"], StorePlace(url))
    assert content(url) == mixtures.files("c")


def test_what_the_mixture_no_longer_has_is_deleted_and_other_files_stay(mixtures: Mixtures, url: str) -> None:
    push(mixtures["a"], StorePlace(url))
    fs, root = fsspec.core.url_to_fs(url)
    fs.pipe_file(f"{root}/data/train-00000-of-00002.parquet", b"old")
    fs.pipe_file(f"{root}/notes.txt", b"mine")
    with pytest.raises(TaskmixError, match="is not of the mixture"):
        fetch(url)
    assert push(mixtures["a"], StorePlace(url)).deleted == ("data/train-00000-of-00002.parquet",)
    assert content(url) == {**mixtures.files("a"), "notes.txt": b"mine"}


def test_another_dataset_is_not_overwritten(mixtures: Mixtures, url: str) -> None:
    fs, root = fsspec.core.url_to_fs(url)
    fs.pipe_file(f"{root}/train.csv", b"a,b")
    with pytest.raises(PushError, match=r"the folder is no mixture: it has files, but no mix.lock.json"):
        push(mixtures["a"], StorePlace(url))


@pytest.mark.parametrize("when", [TRAIN, "README.md"])
def test_of_two_pushes_to_a_store_the_first_notices_the_second(
    mixtures: Mixtures, url: str, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    real, nested = Store.send, False

    def send(store: Store, name: str, *given: Any) -> None:
        nonlocal nested
        if name == when and not nested:
            nested = True
            push(mixtures["b"], StorePlace(url))
        real(store, name, *given)

    monkeypatch.setattr(Store, "send", send)
    with pytest.raises(PushError, match="in conflict: "):
        push(mixtures["a"], StorePlace(url))
    monkeypatch.undo()
    push(mixtures["b"], StorePlace(url))
    assert content(url) == mixtures.files("b")


def test_a_damaged_object_is_refused_and_named(mixtures: Mixtures, url: str) -> None:
    push(mixtures["a"], StorePlace(url))
    fs, root = fsspec.core.url_to_fs(url)
    fs.pipe_file(f"{root}/{TRAIN}", mixtures.files("a")[TRAIN][:-1])
    with pytest.raises(OutputError, match=rf"{TRAIN}: [\d,]+ bytes, not"):
        fetch(url)
    fs.pipe_file(f"{root}/{LOCK}", mixtures.files("a")[LOCK].replace(b'"seed": 0', b'"seed": 1'))
    with pytest.raises(OutputError, match="the lock was changed since it was written"):
        fetch(url)


@pytest.mark.parametrize("name", ["../../escaped", "/etc/passwd", "data/.hidden", "a//b", "data/x\\y"])
def test_a_lock_that_names_files_elsewhere_is_refused(mixtures: Mixtures, url: str, tmp_path: Path, name: str) -> None:

    lock = json.loads((mixtures["a"] / LOCK).read_bytes())
    del lock["lock_sha256"]
    lock["outputs"][name] = {"sha256": "0" * 64, "bytes": 1}
    digest = hashlib.sha256(json.dumps(lock, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
    text = json.dumps({**lock, "lock_sha256": digest}, indent=1, ensure_ascii=False) + "\n"
    fs, root = fsspec.core.url_to_fs(url)
    fs.pipe_file(f"{root}/{LOCK}", text.encode())
    with pytest.raises(TaskmixError, match="the lock names a file that no mixture has"):
        fetch(url)


def test_a_store_that_is_not_known_or_lacks_its_package_is_an_error(mixtures: Mixtures) -> None:
    with pytest.raises(PushError, match="no such store: Protocol not known: nosuch"):
        push(mixtures["a"], StorePlace("nosuch://x"))
    with pytest.raises(PushError, match=r"a package is missing: (?s:.*)pip install 'taskmix\[gcs\]'"):
        push(mixtures["a"], StorePlace("gs://bucket/x"))


# S3


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Runs of `mix` that know an S3 server on loopback, with the bucket `mixtures`."""
    root = tmp_path_factory.mktemp("s3")
    own = environment("http://127.0.0.1:9", root / "huggingface")
    modules = "s3fs,taskmix.cli.progress,taskmix.sharing.pushing,taskmix.sharing.fetching"
    with (
        serving(own) as found,
        forking(root / "work", {**own, **found}, modules, TASKMIX_CACHE=str(root / "cache")) as forks,
    ):
        made = forks.script("import s3fs; s3fs.S3FileSystem().mkdir('mixtures')")
        assert made.code == 0, made.output
        yield forks


def test_a_push_to_s3_is_read_back_by_datasets_and_polars(s3: Forks, mixtures: Mixtures) -> None:
    url = "s3://mixtures/one/first"
    done = s3.mix("push", str(mixtures["a"]), url, "--json")
    assert done.code == 0, done.output
    assert set(json.loads(done.stdout)["sent"]) == set(FILES)
    again = s3.mix("push", str(mixtures["a"]), url)
    assert "nothing was sent" in again.stdout, again.output
    changed = s3.mix("push", str(mixtures["b"]), url, "--json")
    assert set(json.loads(changed.stdout)["sent"]) == {VALIDATION, "README.md", LOCK}, changed.output
    verified = s3.mix("verify", url, "--json")
    assert json.loads(verified.stdout) == {"ok": True, "files": 3, "rows": 35}, verified.output
    script = f"""
import datasets, json, os, polars as pl
endpoint = os.environ["AWS_ENDPOINT_URL"]
options = {{"aws_endpoint_url": endpoint, "aws_region": "us-east-1", "aws_allow_http": "true"}}
frame = pl.read_parquet("{url}/data/validation-*.parquet", storage_options=options)
files = {{split: f"{url}/data/{{split}}-*.parquet" for split in ("train", "validation")}}
loaded = datasets.load_dataset("parquet", data_files=files, storage_options={{"endpoint_url": endpoint}})
print(json.dumps([frame.to_dicts(), loaded["validation"].to_list(), loaded["train"].num_rows]))
"""
    read = s3.script(script)
    assert read.code == 0, read.output
    by_polars, by_datasets, train = json.loads(read.stdout.splitlines()[-1])
    local = pl.read_parquet(mixtures["b"] / VALIDATION).to_dicts()
    assert by_polars == by_datasets == local
    assert train == 30


def test_s3_without_a_bucket_or_without_an_answer_is_one_clear_message(s3: Forks, mixtures: Mixtures) -> None:
    missing = s3.mix("push", str(mixtures["a"]), "s3://no-such-bucket/x")
    assert missing.code == 1, missing.output
    assert "error: s3://no-such-bucket/x: the store failed: The specified bucket does not exist" in missing.stderr
    assert "Traceback" not in missing.output

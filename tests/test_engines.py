"""A plan that is carried out in pieces, by processes that know nothing of each other, gives the same bytes."""

import hashlib
import pickle
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import numpy as np
import pytest

import taskmix
from taskmix.catalog.builtin import catalog_path
from taskmix.catalog.loading import Catalog
from taskmix.engines import nodes, pieces, session
from taskmix.engines.nodes import Site
from taskmix.engines.packing import other_copies, pack, unpack
from taskmix.engines.recipes import recipes
from taskmix.errors import OutputError, SourceError, TaskmixError, UsageError
from taskmix.mixing.plan import make_plan
from taskmix.output import shards
from taskmix.output.folder import LOCK
from taskmix.output.places import WORK, Bucket, Folder
from taskmix.output.publishing import UNFINISHED
from taskmix.rowsets import RowSet
from taskmix.sources import opening
from taskmix.sources.opening import Source
from taskmix.templates.rowwise import Workers

T = TypeVar("T")
ROW_WISE = """\
version: 1
tasks:
  letters:
    kind: text-generation
    cluster: letters
    source: {path: data}
    columns: {input: "{{ word.upper() }}", target: word}
    where: "{{ word != 'row 13' }}"
    language: en
    license: CC0-1.0
mixtures:
  letters:
    tasks: [letters]
    styles: {few_shot: {share: 0.5, k: [1, 3]}, options: 0.3}
    sampling: {passes: 2}
    evaluation: {rows: 20}
"""
ROW_WISE_TEMPLATES = """\
- name: wrapped
  instruction: "{{ input | wordwrap(3) }}"
  output: "{{ target }}"
- name: plain
  instruction: "In lower case: {{ input }}"
  output: "{{ target }}"
"""


@dataclass(frozen=True)
class Processes:
    """In the place of a cluster's session: what is sent to a task is pickled, and every task is done twice."""

    width: int = 3

    def share(self, value: object) -> Any:
        return value

    def each(self, work: Callable[..., T | TaskmixError], calls: Iterable[tuple[object, ...]]) -> Iterator[T]:
        for call in calls:
            sent = pickle.dumps(call)
            for _ in range(2):
                found = work(*pickle.loads(sent))
            answer = pickle.loads(pickle.dumps(found))
            if isinstance(answer, TaskmixError):
                raise answer
            yield answer


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine ray do its tasks here, in small pieces and small shards."""

    @contextmanager
    def joined(address: str | None, width: int | None) -> Iterator[Processes]:
        yield Processes(width or 3)

    monkeypatch.setattr(session, "session", joined)
    monkeypatch.setattr(pieces, "_LEAST", 7)
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", 300)


@pytest.fixture
def letters(project: Callable[..., Path]) -> Catalog:
    rows = "".join(f'{{"word": "row {number}"}}\n' for number in range(200))
    files = {"data/train.jsonl": rows, "data/validation.jsonl": rows, "templates/letters.yaml": ROW_WISE_TEMPLATES}
    return taskmix.load_catalog(project(ROW_WISE, files))


def starter() -> Catalog:
    return taskmix.load_catalog(catalog_path())


def digests(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def behind(url: str) -> dict[str, str]:
    """Return the SHA-256 of all files behind a URL by their names."""
    bucket = Bucket(url)
    return {name: hashlib.sha256(bucket.read(name) or b"").hexdigest() for name in bucket.names()}


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("workers", [1, 9])
@pytest.mark.parametrize("memory", [1, 1 << 30])
def test_pieces_give_the_bytes_of_the_local_engine(tmp_path: Path, workers: int, memory: int) -> None:
    taskmix.build("starter", catalog=starter(), limit=40, out=tmp_path / "local")
    found = taskmix.build(
        "starter", catalog=starter(), limit=40, out=tmp_path / "ray", engine="ray", workers=workers, memory=memory
    )
    assert digests(tmp_path / "ray") == digests(tmp_path / "local")
    assert len(digests(tmp_path / "ray")) > 10
    assert found.rows == sum(part.rows for part in found.parts)


@pytest.mark.usefixtures("processes")
def test_what_jinja_renders_and_worked_examples_are_the_same_in_pieces(tmp_path: Path, letters: Catalog) -> None:
    local = taskmix.build("letters", catalog=letters, out=tmp_path / "local")
    found = taskmix.build("letters", catalog=letters, out=tmp_path / "ray", engine="ray")
    assert digests(tmp_path / "ray") == digests(tmp_path / "local")
    assert found.parts == local.parts
    assert any(part.row_wise for part in found.parts)


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("scheme", ["memory://", "file://"])
def test_a_url_gets_the_same_files(tmp_path: Path, scheme: str) -> None:
    taskmix.build("starter", catalog=starter(), limit=40, out=tmp_path / "local")
    url = f"{scheme}{tmp_path}/far"
    taskmix.build("starter", catalog=starter(), limit=40, out=url, seed=5, engine="ray")
    other = behind(url)
    Bucket(url).move(min(name for name in other if name.startswith("data/")), "data/train-of-an-older-mixture.parquet")
    taskmix.build("starter", catalog=starter(), limit=40, out=url, engine="ray")
    assert behind(url) == digests(tmp_path / "local") != other


@pytest.mark.usefixtures("processes")
def test_behind_a_url_a_build_that_fails_while_it_renders_leaves_what_was_there(
    tmp_path: Path, letters: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://{tmp_path}"
    taskmix.build("letters", catalog=letters, out=url, engine="ray")
    before = behind(url)
    monkeypatch.setattr(Source, "check_unchanged", failing)
    with pytest.raises(SourceError):
        taskmix.build("letters", catalog=letters, out=url, engine="ray", seed=3)
    assert behind(url) == before


@pytest.mark.usefixtures("processes")
def test_behind_a_url_a_build_that_fails_while_it_writes_leaves_no_lock_and_can_be_done_again(
    tmp_path: Path, letters: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://{tmp_path}"
    taskmix.build("letters", catalog=letters, out=url, engine="ray")
    before = behind(url)
    with monkeypatch.context() as broken:
        broken.setattr(nodes, "write_shard", failing)
        with pytest.raises(SourceError):
            taskmix.build("letters", catalog=letters, out=url, engine="ray", seed=3)
    left = Bucket(url).names()
    assert LOCK not in left
    assert UNFINISHED in left
    taskmix.build("letters", catalog=letters, out=url, engine="ray")
    assert behind(url) == before


def failing(*_: object) -> None:
    raise SourceError("broken on purpose")


@pytest.mark.usefixtures("processes")
def test_behind_a_url_files_that_are_no_mixture_are_not_touched(tmp_path: Path, letters: Catalog) -> None:
    url = f"memory://{tmp_path}"
    with fsspec.open(f"{url}/notes.txt", "w") as file:
        file.write("mine")
    with pytest.raises(OutputError, match="not a mixture"):
        taskmix.build("letters", catalog=letters, out=url, engine="ray")
    assert Bucket(url).names() == ["notes.txt"]


def test_the_local_engine_writes_no_urls(tmp_path: Path, letters: Catalog) -> None:
    with pytest.raises(UsageError, match="--engine ray"):
        taskmix.build("letters", catalog=letters, out=f"memory://{tmp_path}")


def test_an_address_is_for_the_engine_ray(tmp_path: Path, letters: Catalog) -> None:
    with pytest.raises(UsageError, match="--engine ray"):
        taskmix.build("letters", catalog=letters, out=tmp_path / "out", ray_address="127.0.0.1:6379")


def test_a_url_that_nothing_opens_is_named(letters: Catalog) -> None:
    with pytest.raises(UsageError, match="nowhere://x"):
        taskmix.build("letters", catalog=letters, out="nowhere://x", engine="ray")


def test_without_ray_the_error_says_what_to_install(
    tmp_path: Path, letters: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'taskmix\[ray\]'"):
        taskmix.build("letters", catalog=letters, out=tmp_path / "out", engine="ray")
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_is_not_there_is_named_at_once() -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.2", 0))
        address = f"127.0.0.2:{found.getsockname()[1]}"
    with pytest.raises(UsageError, match=f"{address}: nothing answers there"):
        session._check_listening(address)


def test_a_node_must_see_the_place_as_the_build_left_it(tmp_path: Path) -> None:
    site = Site(Folder(tmp_path), "a token")
    with pytest.raises(OutputError, match="does not see this folder"):
        site.check()
    site.open()
    site.check()
    Site(Folder(tmp_path), "another build's").open()
    with pytest.raises(OutputError, match="does not see this folder"):
        site.check()


def test_a_node_must_have_the_same_versions(tmp_path: Path) -> None:
    site = Site(Folder(tmp_path), "a token", {"polars": "0.1"})
    site.open()
    with pytest.raises(OutputError, match=r"has polars .*, the build 0\.1"):
        site.check()


def test_a_node_without_the_data_says_so(letters: Catalog) -> None:
    with Workers(1) as workers:
        plan = make_plan(letters, workers=workers, mixture="letters")
    packed = pack(recipes(plan, "train")[0][0])
    shutil.rmtree(letters.path.parent / "data")
    with pytest.raises(SourceError, match="on a file system that all of them share"):
        unpack(packed.content)


def test_a_copy_of_the_data_is_hashed_where_it_may_differ(letters: Catalog) -> None:
    with Workers(1) as workers:
        plan = make_plan(letters, workers=workers, mixture="letters")
    (recipe,), _ = recipes(plan, "train")
    packed, file = pack(recipe), letters.path.parent / "data" / "train.jsonl"
    assert other_copies(recipe, packed.stamps) == {}
    file.write_text(file.read_text() + '{"word": "one more"}\n')
    assert other_copies(recipe, packed.stamps) == {"train.jsonl": hashlib.sha256(file.read_bytes()).hexdigest()}


def test_what_a_try_left_behind_is_removed(tmp_path: Path) -> None:
    site = Site(Folder(tmp_path), "a token")
    site.open()
    with Folder(tmp_path).create(f"{site.attempt()}/00000.arrow") as file:
        file.write(b"half a run")
    Folder(tmp_path).remove(WORK)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("numbers", [[], [0], [7], [8, 9, 4_000], [3, 64_001]])
def test_a_set_of_rows_is_the_same_after_it_was_sent(numbers: list[int]) -> None:
    rows = RowSet.of([np.array(numbers, np.uint64)])
    again = pickle.loads(pickle.dumps(rows))
    assert [int(n) for chunk in again.chunks() for n in chunk] == numbers
    assert rows.span == again.span == ((numbers[0], numbers[-1] + 1) if numbers else (0, 0))
    assert len(rows.within(8, 4_000)) == sum(8 <= number < 4_000 for number in numbers)


def test_few_rows_are_few_bytes() -> None:
    assert len(pickle.dumps(RowSet.of([np.array([10**8], np.uint64)]))) < 200


@pytest.mark.parametrize("kind", [TaskmixError, SourceError, UsageError])
def test_errors_are_the_same_after_they_were_sent(kind: type[TaskmixError]) -> None:
    error = kind("what", where="where", hint="hint", more=[SourceError("and more", where="there")])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl", "arrow"])
def test_a_span_of_rows_is_read_alone(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import polars as pl

    monkeypatch.setattr(opening, "_PIECE_ROWS", 10)
    rows = pl.DataFrame({"text": [f"row {number}" for number in range(100)]})
    writers: dict[str, Callable[[Path], object]] = {
        "parquet": rows.write_parquet,
        "csv": rows.write_csv,
        "jsonl": rows.write_ndjson,
        "arrow": rows.write_ipc,
    }
    paths = tuple(tmp_path / f"train-{part:05}-of-00002.{suffix}" for part in range(2))
    for path in paths:
        writers[suffix](path)
    source = Source("rows", tmp_path, {"train": paths})
    found = pl.concat(source.batches("train", ["text"], (95, 107)))
    assert found["source_row"].to_list() == list(range(95, 107))
    assert found["text"].to_list() == [f"row {number % 100}" for number in range(95, 107)]


def test_recipes_hold_nothing_of_a_process(letters: Catalog) -> None:
    with Workers(1) as workers:
        plan = make_plan(letters, workers=workers, mixture="letters")
        (recipe,), _ = recipes(plan, "train")
        again = unpack(pack(recipe).content)
    task = again.posing.task
    assert task.workers is not workers
    assert task.held.budget == 0
    assert again.posing.exemplars is not None
    assert again.posing.exemplars.task is task
    assert [each.spec for each in again.posing.templates] == [each.spec for each in recipe.posing.templates]
    assert task.kind is recipe.posing.task.kind

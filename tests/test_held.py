"""Rows that were read once are kept as long as they fit, and then need not be read again."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pytest

import taskmix
from taskmix.output.lock import read_lock
from taskmix.sources.opening import Source
from taskmix.tasks.held import Held

CATALOG = """\
version: 1
tasks:
  toy:
    kind: text-classification
    cluster: sentiment
    source: {path: toy.jsonl}
    columns: {text: words, extra: note}
    splits: {train: train, validation: {from: train, fraction: 0.25}}
    where: "{{ label != 2 }}"
    labels: [negative, positive, neither]
mixtures:
  tiny: {tasks: [toy]}
"""
TEMPLATES = """\
- {name: verdict, instruction: Good or bad?, input: "{{ text }} {{ extra }}", output: "{{ choices[label] }}"}
- {name: judge, instruction: "Judge: {{ words }}", output: "{{ choices[label] }}"}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    frame = pl.DataFrame(
        {"words": [f"text {n}" for n in range(400)], "note": ["a note"] * 400, "label": [n % 3 for n in range(400)]}
    )
    frame.write_ndjson(tmp_path / "toy.jsonl")
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "toy.yaml").write_text(TEMPLATES, "utf-8")
    (tmp_path / "catalog.yaml").write_text(CATALOG, "utf-8")
    return tmp_path


@pytest.mark.parametrize(("memory", "readings"), [(1 << 30, 2), (50_000, 4)], ids=["room", "no-room"])
def test_a_split_that_fits_is_read_once(
    project: Path, monkeypatch: pytest.MonkeyPatch, memory: int, readings: int
) -> None:
    read, original = list[str](), Source.batches

    def counted(
        self: Source, split: str, columns: Sequence[str], span: tuple[int, int] | None = None
    ) -> Iterator[pl.DataFrame]:
        read.extend([split] if "words" in columns else [])
        return original(self, split, columns, span)

    catalog = taskmix.load_catalog(project / "catalog.yaml")
    plain = taskmix.build("tiny", catalog=catalog, out=project / "plain", memory=1)
    monkeypatch.setattr(Source, "batches", counted)
    built = taskmix.build("tiny", catalog=catalog, out=project / "out", memory=memory)
    # which rows are the same as others is known from the first build
    assert len(read) == readings
    assert built.lock == plain.lock == read_lock(project / "out")


def test_frames_of_one_key_are_kept_all_or_none() -> None:
    frame = pl.DataFrame({"text": ["a" * 100] * 10})
    held = Held(3_000)
    for key, count in (("fits", 1), ("too many", 3), ("fits too", 1)):
        keeping = held.keeping(key, ["text"])
        for _ in range(count):
            keeping.add(frame, frame)
        assert held.frames(key, ["text"]) is None
        keeping.finish()
    assert held.frames("fits", ["text"]) == [frame]
    assert held.frames("fits too", []) == [frame]
    assert held.frames("too many", []) is None
    assert held.frames("fits", ["text", "label"]) is None

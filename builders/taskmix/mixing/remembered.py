"""What was found when a split was compared, with evaluation rows and with itself, found again in the cache.

What decides it is the key: the files of the split and the words of the catalog that make rows of them, which of its
rows may be used, the same of every evaluation split and the limits of what is near, and the versions of all that runs.
So an edit to a template compares nothing anew, and one to a task's data that task alone, unless rows that are evaluated
follow from it.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from taskmix.caching.entries import Cache
from taskmix.caching.fingerprints import Fingerprints
from taskmix.caching.place import COMPARISONS
from taskmix.errors import SourceError
from taskmix.mixing.contamination import Limits
from taskmix.mixing.parts import OutSplit
from taskmix.rowsets import RowSet
from taskmix.tasks.task import Split, Task
from taskmix.text import shown
from taskmix.versions import versions

_DECIDE_NOTHING = {"source", "templates", "cluster", "derived_from", "language", "license", "citation", "note"}
"""What a task's entry says that no row follows from; of its source the files are hashed."""
_NAMED_AT_MOST = 5


@dataclass(frozen=True)
class Evaluated:
    """Rows of a task's split that are in an evaluation split of the mixture."""

    task: Task
    split: Split
    name: OutSplit
    rows: RowSet


@dataclass(frozen=True)
class Looked:
    """What is known of a split: rows that are those of evaluation splits, and rows that are the same as an earlier one.

    Either is None as long as nobody has looked. The keys are those under which they are kept, "" for neither.
    """

    task: Task
    split: Split
    rows: RowSet
    hits: pl.DataFrame | None
    same: RowSet | None
    hits_key: str = ""
    same_key: str = ""

    @property
    def is_known(self) -> bool:
        """Whether both are known."""
        return self.hits is not None and self.same is not None


@dataclass(frozen=True)
class Memory:
    """What the cache knows of comparisons with some evaluation rows.

    Attributes:
        cache: where it is kept, None for nowhere.
        evaluated: the evaluation rows.
        limits: when a training row is near one of them.
    """

    cache: Cache | None
    evaluated: Sequence[Evaluated]
    limits: Limits
    _head: str = field(init=False, default="")

    def __post_init__(self) -> None:
        if self.cache is not None:
            evaluated = [[each.name, *self._made_of(each.task, each.split, each.rows)] for each in self.evaluated]
            object.__setattr__(self, "_head", _digest([asdict(self.limits), evaluated]))

    def look(self, task: Task, split: Split, rows: RowSet) -> Looked:
        """Return what is known of a split. Raises SourceError if a file of it cannot be read."""
        if self.cache is None:
            return Looked(task, split, rows, None, None)
        own = self._made_of(task, split, rows)
        hits_key, same_key = _digest(["hits", self._head, own]), _digest(["same", own])
        hits, same = self._read(hits_key), self._read(same_key)
        known = None if same is None else RowSet(same["bits"].to_numpy())
        return Looked(task, split, rows, hits, known, hits_key, same_key)

    def keep(self, before: Looked, now: Looked) -> None:
        """Keep what was not known before, unless a file was changed meanwhile: the hash may be of other rows."""
        sources = [before.task.source, *(each.task.source for each in self.evaluated)]
        if self.cache is None or any(source.changed() for source in sources):
            return
        if before.hits is None and now.hits is not None:
            self.cache.put(COMPARISONS, now.hits_key, _packed(now.hits))
        if before.same is None and now.same is not None:
            self.cache.put(COMPARISONS, now.same_key, _packed(pl.DataFrame({"bits": now.same.bits})))

    def _read(self, key: str) -> pl.DataFrame | None:
        content = None if self.cache is None else self.cache.get(COMPARISONS, key)
        return None if content is None else pl.read_ipc(io.BytesIO(content))

    def _made_of(self, task: Task, split: Split, rows: RowSet) -> list[object]:
        """Return all that the canonical columns of a split's rows follow from, as JSON has it."""
        spec = task.entry.spec.model_dump(mode="json", by_alias=True, exclude=_DECIDE_NOTHING)
        bits = hashlib.sha256(np.trim_zeros(rows.bits, "b").tobytes()).hexdigest()
        return [task.name, spec, split.source_split, split.low, split.high, bits, list(self._hashes(task))]

    def _hashes(self, task: Task) -> Iterator[tuple[str, str, str]]:
        """Yield each file of a task with its split: labels and types of one split may follow from another."""
        assert self.cache is not None
        used = sorted({split.source_split for split in task.splits.values()})
        files = [(name, file) for name in used for file in task.source.splits[name]]
        try:
            hashes = Fingerprints(self.cache).of(file for _, file in files)
        except OSError as error:
            where = shown(Path(error.filename)) if error.filename else task.source.label
            raise SourceError(f"cannot be read: {error.strerror or error}", where=where) from None
        return ((name, file.suffix, hashes[file]) for name, file in files)


def remark(looked: Sequence[Looked]) -> str:
    """Return what the log says of splits, before those of which something is not known are compared."""
    anew = [each.task.name for each in looked if not each.is_known]
    text = f"compared: {len(looked) - len(anew):,} of {len(looked):,} training splits came from the cache"
    more = [f"{len(anew) - _NAMED_AT_MOST:,} more"] if len(anew) > _NAMED_AT_MOST else []
    return f"{text}; compared anew: {', '.join([*anew[:_NAMED_AT_MOST], *more])}" if anew else text


def _digest(value: object) -> str:
    # in the order of keys, by which labels are numbered
    return hashlib.sha256(json.dumps([value, dict(versions())], ensure_ascii=False).encode()).hexdigest()


def _packed(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="zstd")
    return buffer.getvalue()

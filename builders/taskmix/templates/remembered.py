"""Texts that Jinja rendered row by row, found again in the cache.

What decides the texts is the key: the template without the place where it stands, the rows' variables and draws, what
evaluation lists, and the versions of all that runs. Compiled templates are not kept: to run one takes less time than
to read its texts back.
"""

import dataclasses
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock

import polars as pl

from taskmix.caching.entries import Cache
from taskmix.caching.place import RENDERS
from taskmix.frames import DRAW
from taskmix.templates.files import Template
from taskmix.templates.rows import Alternatives, RowTemplate, row_template, sent
from taskmix.templates.rowwise import Workers
from taskmix.versions import versions

BATCH_ROWS = 4_096
"""Rows an entry."""
_PLACES = frozenset(("file", "line", "where"))
"""Fields that say where something stands in a file; no text depends on them."""
_NAMED_AT_MOST = 5


@dataclass
class Renders:
    """Rendered batches by what decides them, and how many of each task × template were found or made."""

    cache: Cache
    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    made: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)

    def render(
        self, rows: pl.DataFrame, template: Template, task: str, alternatives: Alternatives | None, workers: Workers
    ) -> pl.DataFrame:
        """Return what `Workers.render` does, of which it is asked only for what is not in the cache. Raises as it."""
        batches = list(rows.iter_slices(BATCH_ROWS))
        head = _head(row_template(template, alternatives))
        names = [name for name in rows.columns if name in sent(template, alternatives)]
        keys = [_key(head, batch.select(*names, DRAW)) for batch in batches]
        known = [self._read(key) for key in keys]
        if sum(frame.estimated_size() for frame in known if frame is not None) > workers.allowed(rows):
            # near the bound on the characters of a call, which is for the workers to tell
            known = [None] * len(keys)
        missing = [batch for batch, frame in zip(batches, known, strict=True) if frame is None]
        self._count(task, template.name, len(known) - len(missing), len(missing))
        if not missing:
            return pl.concat(frame for frame in known if frame is not None)
        made = _cut(workers.render(pl.concat(missing), template, task, alternatives), missing)
        return pl.concat(
            [self._kept(key, made) if frame is None else frame for key, frame in zip(keys, known, strict=True)]
        )

    def remark(self) -> str:
        """Return what the log says of the batches; empty if Jinja had none."""
        made, found = self.made.total(), self.found.total()
        if not made + found:
            return ""
        text = f"row by row: {found:,} of {found + made:,} batches came from the cache"
        named = [f"{task} × {template} ({count:,})" for (task, template), count in sorted(self.made.items()) if count]
        more = [f"{len(named) - _NAMED_AT_MOST:,} more"] if len(named) > _NAMED_AT_MOST else []
        return f"{text}; rendered anew: {', '.join([*named[:_NAMED_AT_MOST], *more])}" if named else text

    def _count(self, task: str, template: str, found: int, made: int) -> None:
        with self._lock:
            self.found[task, template] += found
            self.made[task, template] += made

    def _read(self, key: str) -> pl.DataFrame | None:
        content = self.cache.get(RENDERS, key)
        return None if content is None else pl.read_ipc(io.BytesIO(content))

    def _kept(self, key: str, made: Iterator[pl.DataFrame]) -> pl.DataFrame:
        """Keep the next batch that was made, and return it."""
        frame, buffer = next(made), io.BytesIO()
        frame.write_ipc(buffer, compression="zstd")
        self.cache.put(RENDERS, key, buffer.getvalue())
        return frame


def _cut(made: pl.DataFrame, batches: Sequence[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield the rows that belong to each batch."""
    first = 0
    for batch in batches:
        yield made.slice(first, len(batch))
        first += len(batch)


def _head(template: RowTemplate) -> bytes:
    """Return what decides the texts of any rows, as bytes."""
    return json.dumps([_plain(template), dict(versions())], sort_keys=True).encode()


def _plain(value: object) -> object:
    """Return a template's parts as JSON, without the places where they stand."""
    if dataclasses.is_dataclass(value):
        fields = [each.name for each in dataclasses.fields(value) if each.init and each.name not in _PLACES]
        return {"is": type(value).__name__, **{name: _plain(getattr(value, name)) for name in fields}}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    assert value is None or isinstance(value, str | int), value
    return value


def _key(head: bytes, rows: pl.DataFrame) -> str:
    """Return the key of a batch: a hash of the template and of the rows in Arrow's form."""
    buffer = io.BytesIO()
    rows.rechunk().write_ipc_stream(buffer, compat_level=pl.CompatLevel.oldest())
    digest = hashlib.sha256(head)
    digest.update(buffer.getbuffer())
    return digest.hexdigest()

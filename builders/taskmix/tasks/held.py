"""Rows that were read to be checked, kept for when they are rendered, as long as there is room."""

from collections.abc import Collection, Hashable
from dataclasses import dataclass, field
from threading import Lock

import polars as pl

_VIEW = 16
"""Bytes that Polars has for each value of a text column beside its characters."""


@dataclass
class Held:
    """Frames by what they are of; all together have at most `budget` bytes. Several threads may use it."""

    budget: int = 0
    _kept: "dict[Hashable, Keeping]" = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def keeping(self, key: Hashable, names: Collection[str]) -> "Keeping":
        """Return what takes the frames of `key` one after the other, in which these names are."""
        return Keeping(self, key, frozenset(names))

    def frames(self, key: Hashable, names: Collection[str]) -> list[pl.DataFrame] | None:
        """Return all frames of `key`, if they were kept and have these names."""
        kept = self._kept.get(key)
        return kept.frames if kept is not None and kept.names >= frozenset(names) else None

    def _take(self, size: int) -> bool:
        with self._lock:
            fits = size <= self.budget
            self.budget -= size if fits else 0
            return fits


@dataclass
class Keeping:
    """Frames that are being read. Those of one key are kept all or none."""

    held: Held
    key: Hashable
    names: frozenset[str]
    frames: list[pl.DataFrame] = field(default_factory=list)
    _size: int = 0
    _fits: bool = True

    def add(self, frame: pl.DataFrame, batch: pl.DataFrame) -> None:
        """Take a frame, of which the texts may be those of a batch."""
        size = int(batch.estimated_size()) + _VIEW * batch.width * len(batch)
        if self._fits and self.held._take(size):
            self.frames.append(frame)
            self._size += size
        elif self._fits:
            self.held._take(-self._size)
            self.frames, self._fits = [], False

    def finish(self) -> None:
        """Keep the frames, if all fitted."""
        if self._fits:
            self.held._kept[self.key] = self

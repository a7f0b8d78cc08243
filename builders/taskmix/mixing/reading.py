"""The splits that a mixture reads: which rows of each may be used, and what becomes of the others."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Event, Lock
from typing import TYPE_CHECKING, TypeVar

from taskmix.errors import SourceError
from taskmix.frames import SOURCE_ROW
from taskmix.mixing.examples import Progress, names_read
from taskmix.rowsets import RowSet
from taskmix.tasks.task import Split, Task
from taskmix.templates.rowwise import Workers
from taskmix.threads import in_order

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")
Key = tuple[str, Split]


@dataclass(frozen=True)
class Counts:
    """What became of a source split's rows.

    `usable` rows are left after those of another split (`cut`), those that `where` drops and, in train, those that are
    `duplicates`, that are in an evaluation split too (`contaminated`, by how they were found), or whose example is
    outside the length limits or left empty by its template. The last two are counted as examples in evaluation splits.
    """

    source: int = 0
    cut: int = 0
    where: int = 0
    duplicates: int = 0
    contaminated: Mapping[str, int] = field(default_factory=dict)
    too_short_or_long: int = 0
    empty: int = 0
    usable: int = 0


@dataclass(frozen=True)
class Usable:
    """The rows of a split that may be used, and what became of the others."""

    rows: RowSet
    counts: Counts


@dataclass
class Reader:
    """Reads splits on several threads, and checks every row."""

    progress: Progress
    workers: Workers
    _lock: Lock = field(default_factory=Lock)
    _stopped: Event = field(default_factory=Event)

    def read(self, wanted: Sequence[tuple[Task, Split]]) -> Mapping[Key, Usable]:
        """Return what each split has that may be used. Raises what is wrong with the first of them in order."""
        found = self.each([partial(self._check, *each) for each in wanted])
        return {(task.name, split): usable for (task, split), usable in zip(wanted, found, strict=True)}

    def each(self, jobs: Sequence[Callable[[], T]]) -> Iterator[T]:
        """Run jobs that look at `stopped` now and then."""
        return in_order(iter(jobs), self.workers.count, self._stopped.set)

    def stopped(self) -> bool:
        """Whether another thread failed, so that nobody waits for what this one does."""
        return self._stopped.is_set()

    def _check(self, task: Task, split: Split) -> Usable:
        cut = where = 0
        names = names_read(task, task.templates, evaluation=True).union(task.asked(), task.compared())

        def numbers() -> "Iterator[NDArray[np.uint64]]":
            nonlocal cut, where
            for batch, dropped in task.check(split, names):
                if self.stopped():
                    return
                cut, where = cut + dropped.cut, where + dropped.where
                with self._lock:
                    self.progress(task.name, len(batch) + dropped.cut + dropped.where)
                yield batch[SOURCE_ROW].to_numpy()

        # bit by bit: all numbers at once would be eight bytes a row
        rows = RowSet.of(numbers())
        total = len(rows) + cut + where
        if not len(rows):
            why = "is empty" if not total else f"has no row left of {total:,} ({where:,} dropped by `where`)"
            raise SourceError(
                f"the split {split.source_split!r} of {task.source.label} {why}",
                where=f"{task.entry.where()}: task {task.name}",
                hint="map another split, or change `where`",
            )
        return Usable(rows, Counts(source=total, cut=cut, where=where, usable=len(rows)))

"""A build, from a catalog to a mixture on disk: plan, render, shuffle, shards, card, lock."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import polars as pl
import pyarrow as pa

from taskmix import hashing
from taskmix.catalog.loading import Catalog, load_catalog
from taskmix.errors import UsageError
from taskmix.mixing.examples import Job, Progress, jobs, lengths, no_progress
from taskmix.mixing.plan import SPLITS, Part, Plan, make_plan
from taskmix.output import card, lock
from taskmix.output.folder import LOCK, check_target, replacing
from taskmix.output.formats import narrow, origins, widen
from taskmix.output.shards import WrittenSplit, shard_count, sync, write_shards
from taskmix.output.shuffle import MEMORY, Shuffle

T = TypeVar("T")


@dataclass(frozen=True)
class PartSummary:
    """What one task gave to one split. `share` is that of the split's rows; lengths are mean characters."""

    task: str
    cluster: str
    split: str
    rows: int
    templates: int
    share: float
    prompt_chars: float
    completion_chars: float


@dataclass(frozen=True)
class Built:
    """A finished build: where it lies, its lock, and what each task gave."""

    out: Path
    lock: lock.Json
    parts: tuple[PartSummary, ...]

    @property
    def rows(self) -> int:
        """Return the number of examples in all splits."""
        return sum(part.rows for part in self.parts)


@dataclass(frozen=True)
class Reporters:
    """What is called while a build works: with rows just read in planning, just rendered, just written.

    `start` is called when the plan is made, with the number of examples to come.
    """

    read: Progress = no_progress
    start: Callable[[int], None] = lambda rows: None
    rendered: Progress = no_progress
    written: Progress = no_progress


def build(
    mixture: str | None = None,
    *,
    catalog: Catalog | None = None,
    out: Path | None = None,
    mirror: Path | None = None,
    seed: int | None = None,
    limit: int | None = None,
    workers: int = 1,
    memory: int = MEMORY,
    reporters: Reporters | None = None,
) -> Built:
    """Build a mixture into a folder, all or nothing.

    Args:
        mixture: its name; by default the catalog's default mixture.
        catalog: where it and its tasks are described; by default the one that `load_catalog` finds.
        out: the folder; by default `mixtures/NAME` in the working folder.
        mirror: a folder with copies of hub datasets, `DIR/org/name/[config/]SPLIT*.parquet`.
        seed: replaces the mixture's seed.
        limit: at most so many source rows a task and split.
        workers: threads that render; the result does not depend on it.
        memory: bytes of rows that are shuffled in memory; more go through disk, with the same result.
        reporters: what to call while it works.

    Raises:
        TaskmixError: of the kind that fits; an earlier mixture in `out` is untouched.
    """
    if workers < 1 or (limit is not None and limit < 1):
        raise UsageError("workers and limit are at least 1")
    report = reporters or Reporters()
    catalog = catalog or load_catalog()
    if out is None:
        out = Path("mixtures") / catalog.mixture(mixture)[0]
    check_target(out)
    plan = make_plan(catalog, mixture, mirror=mirror, seed=seed, limit=limit, progress=report.read)
    report.start(sum(len(part.rows) for part in plan.parts))
    with replacing(out) as folder:
        summaries: list[PartSummary] = []
        written: dict[str, WrittenSplit] = {}
        spill = folder / ".shuffle"
        spill.mkdir()
        for split in SPLITS:
            if plan.rows(split):
                found, written[split] = _write_split(plan, split, folder, spill, workers, memory, report)
                summaries += found
        spill.rmdir()
        _write(folder / "README.md", card.make_card(plan, written))
        made = lock.make_lock(plan, written, folder / "README.md")
        _write(folder / LOCK, lock.dump(made))
        sync(folder / "data")
    return Built(out, made, tuple(summaries))


def _write_split(
    plan: Plan, split: str, folder: Path, spill: Path, workers: int, memory: int, report: Reporters
) -> tuple[list[PartSummary], WrittenSplit]:
    """Render, shuffle and write one split."""
    parts, total = plan.parts_of(split), plan.rows(split)
    shuffle, table = Shuffle(spill, shard_count(total), memory), pl.concat(map(origins, parts))
    summaries, first = [], 0
    for part in parts:
        chars: Counter[str] = Counter()
        finish = partial(_finish, plan, part, table, first)
        first += len(part.templates) or 1
        for rows, lengths_of in _run((partial(finish, job) for job in _part_jobs(part, plan.seed)), workers):
            shuffle.add(rows)
            chars.update(lengths_of)
            report.rendered(part.task.name, len(rows))
        summaries.append(_summary(part, total, chars))
    for part in parts:
        part.task.source.check_unchanged()
    shards = (widen(rows, table) for rows in shuffle.sorted_shards())
    return summaries, write_shards(shards, shuffle.shards, split, folder, partial(report.written, split))


def _finish(plan: Plan, part: Part, table: pl.DataFrame, first: int, job: Job) -> tuple[pa.Table, Mapping[str, int]]:
    """Run a job; return its rows as the shuffle takes them, and the sums of their lengths.

    `first` is the number of the part's first origin in `table`.
    """
    examples = job()
    number = first + examples["template"][0]
    shuffle_key = hashing.key(plan.seed, "shuffle", part.split)
    key = table["high"][number]
    rows = narrow(examples, plan.spec.format, number, key, shuffle_key, evaluation=part.is_evaluation)
    return rows, lengths(examples).sum().row(0, named=True)


def _summary(part: Part, total: int, chars: Mapping[str, int]) -> PartSummary:
    """Return what a part gave to a split of `total` rows; `chars` are the sums of its lengths."""
    rows = len(part.rows)
    return PartSummary(
        task=part.task.name,
        cluster=part.task.entry.spec.cluster,
        split=part.split,
        rows=rows,
        templates=len(part.templates),
        share=rows / total,
        prompt_chars=chars["prompt"] / rows,
        completion_chars=chars["completion"] / rows,
    )


def _part_jobs(part: Part, seed: int) -> Iterator[Job]:
    return jobs(part.task, part.source, part.templates, part.rows, seed, evaluation=part.is_evaluation)


def _run(pending: Iterator[Callable[[], T]], workers: int) -> Iterator[T]:
    """Run jobs on threads, a few ahead, and yield their results in order."""
    with ThreadPoolExecutor(max(workers, 2)) as pool:
        running: deque[Future[T]] = deque()
        try:
            for job in pending:
                running.append(pool.submit(job))
                if len(running) > 2 * workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8"))
    sync(path)

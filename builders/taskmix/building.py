"""A build, from a catalog to a mixture on disk: plan, render, shuffle, shards, card, lock."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from taskmix.catalog.loading import Catalog, load_catalog
from taskmix.errors import UsageError
from taskmix.mixing.examples import Job, Progress, jobs, lengths, no_progress
from taskmix.mixing.plan import SPLITS, Part, Plan, make_plan
from taskmix.output import card, lock
from taskmix.output.folder import LOCK, check_target, replacing
from taskmix.output.formats import format_examples
from taskmix.output.shards import Buckets, WrittenSplit, sync
from taskmix.templates.rowwise import Workers


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
    """What is called while a build works: with the rows just read in planning, and those just rendered.

    `start` is called in between, with the number of examples to come.
    """

    read: Progress = no_progress
    start: Callable[[int], None] = lambda rows: None
    rendered: Progress = no_progress


def build(
    mixture: str | None = None,
    *,
    catalog: Catalog | None = None,
    out: Path | None = None,
    mirror: Path | None = None,
    seed: int | None = None,
    limit: int | None = None,
    workers: int | None = None,
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
        workers: processes that render what Jinja has to, by default one a CPU; the result does not depend on it.
        reporters: what to call while it works.

    Raises:
        TaskmixError: of the kind that fits; an earlier mixture in `out` is untouched.
    """
    if (workers is not None and workers < 1) or (limit is not None and limit < 1):
        raise UsageError("workers and limit are at least 1")
    report = reporters or Reporters()
    catalog = catalog or load_catalog()
    if out is None:
        out = Path("mixtures") / catalog.mixture(mixture)[0]
    check_target(out)
    with Workers(workers) as pool:
        return _build(catalog, mixture, out, mirror, seed, limit, pool, report)


def _build(
    catalog: Catalog,
    mixture: str | None,
    out: Path,
    mirror: Path | None,
    seed: int | None,
    limit: int | None,
    workers: Workers,
    report: Reporters,
) -> Built:
    plan = make_plan(catalog, mixture, workers=workers, mirror=mirror, seed=seed, limit=limit, progress=report.read)
    report.start(sum(len(part.rows) for part in plan.parts))
    with replacing(out) as folder:
        summaries: list[PartSummary] = []
        written: dict[str, WrittenSplit] = {}
        spill = folder / ".buckets"
        spill.mkdir()
        for split in SPLITS:
            if plan.rows(split):
                found, written[split] = _write_split(plan, split, folder, spill, workers.count, report)
                summaries += found
        spill.rmdir()
        _write(folder / "README.md", card.make_card(plan, written))
        made = lock.make_lock(plan, written, folder / "README.md")
        _write(folder / LOCK, lock.dump(made))
        sync(folder / "data")
    return Built(out, made, tuple(summaries))


def _write_split(
    plan: Plan, split: str, folder: Path, spill: Path, workers: int, report: Reporters
) -> tuple[list[PartSummary], WrittenSplit]:
    """Render, shuffle and write one split."""
    buckets, total = Buckets(spill, split, plan.rows(split)), plan.rows(split)
    summaries = []
    for part in plan.parts_of(split):
        chars: Counter[str] = Counter()
        for examples in _run(_part_jobs(part, plan.seed), workers):
            chars.update(lengths(examples).sum().row(0, named=True))
            buckets.add(format_examples(examples, part, plan.spec.format, plan.seed))
            report.rendered(part.task.name, len(examples))
        summaries.append(_summary(part, total, chars))
    for part in plan.parts_of(split):
        part.task.source.check_unchanged()
    return summaries, buckets.write_shards(folder)


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


def _run(pending: Iterator[Job], workers: int) -> Iterator[pl.DataFrame]:
    """Run jobs on threads, a few ahead, and yield their results in order."""
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[pl.DataFrame]] = deque()
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

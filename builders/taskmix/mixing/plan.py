"""A mixture resolved against its sources: which rows, which template each, and why others are left out.

Everything that picks is a hash of (seed, task, source split, row, purpose): see `taskmix.hashing`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from taskmix import hashing
from taskmix.catalog.loading import Catalog
from taskmix.catalog.models import LengthSpec, MixtureSpec
from taskmix.catalog.selection import select
from taskmix.errors import CatalogError, SourceError
from taskmix.frames import SOURCE_ROW
from taskmix.mixing.examples import Progress, examples, lengths, names_read, no_progress
from taskmix.mixing.holdout import assign_roles
from taskmix.tasks.held import Held
from taskmix.tasks.opening import open_task
from taskmix.tasks.task import Split, Task
from taskmix.templates.files import Template
from taskmix.templates.rowwise import Workers
from taskmix.threads import in_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

OutSplit = Literal["train", "validation", "heldout", "heldout_templates"]
SPLITS: tuple[OutSplit, ...] = ("train", "validation", "heldout", "heldout_templates")
_DRAWN_AT_ONCE = 200_000
"""Rows: a draw takes many times the memory of a row's number while it is worked out."""
CONVERSATION_FORMATS = frozenset(("messages", "sharegpt"))


@dataclass(frozen=True)
class Counts:
    """What became of a source split's rows.

    `usable` rows are left after those of another split (`cut`), those that `where` drops and, in train, those
    outside the length limits or dropped by their template for being `empty`; both are counted as rows in train and
    as examples in evaluation splits.
    """

    source: int = 0
    cut: int = 0
    where: int = 0
    too_short_or_long: int = 0
    empty: int = 0
    usable: int = 0


@dataclass(frozen=True)
class Part:
    """What one task gives to one split of the mixture.

    `rows` has `source_row` (UInt64, ascending) and `template` (UInt32, the index into `templates`).
    """

    task: Task
    split: OutSplit
    source: Split
    templates: tuple[Template, ...]
    rows: pl.DataFrame
    counts: Counts

    @property
    def is_evaluation(self) -> bool:
        """Whether the part is of a split to evaluate on."""
        return self.split != "train"


@dataclass(frozen=True)
class Plan:
    """A mixture, resolved. `excluded` maps relatives of held-out tasks to what they are related to."""

    mixture: str
    spec: MixtureSpec
    catalog: Catalog
    parts: tuple[Part, ...]
    heldout: tuple[str, ...]
    excluded: Mapping[str, str]
    refused: Mapping[str, str]
    limit: int | None = None

    @property
    def seed(self) -> int:
        """Return the seed of every draw."""
        return self.spec.seed

    def parts_of(self, split: str) -> tuple[Part, ...]:
        """Return the parts of a split."""
        return tuple(part for part in self.parts if part.split == split)

    def rows(self, split: str) -> int:
        """Return the number of examples in a split."""
        return sum(len(part.rows) for part in self.parts_of(split))


Usable = tuple[pl.DataFrame, Counts]
"""The numbers of a split's rows that may be used, and what became of the others."""


def splits_read(task: Task, *, heldout: bool) -> tuple[Split, ...]:
    """Return the splits of a task that a mixture reads: of a held-out one its validation rows, or train for want."""
    found = [task.splits[name] for name in ("train", "validation") if name in task.splits]
    return tuple(found[-1:] if heldout else found)


@dataclass
class _Reader:
    """Reads splits on several threads, and checks every row."""

    progress: Progress
    _lock: Lock = field(default_factory=Lock)
    _stopped: Event = field(default_factory=Event)

    def read(self, wanted: Sequence[tuple[Task, Split]], workers: Workers) -> Mapping[tuple[str, Split], Usable]:
        """Return what each split has that may be used. Raises what is wrong with the first of them in order."""
        found = in_order((partial(self._check, *each) for each in wanted), workers.count, self._stopped.set)
        return {(task.name, split): usable for (task, split), usable in zip(wanted, found, strict=True)}

    def _check(self, task: Task, split: Split) -> Usable:
        kept: list[pl.DataFrame] = []
        cut = where = 0
        for batch, dropped in task.check(split, names_read(task, task.templates, evaluation=True)):
            if self._stopped.is_set():
                break
            kept.append(batch.select(SOURCE_ROW))
            cut, where = cut + dropped.cut, where + dropped.where
            with self._lock:
                self.progress(task.name, len(batch) + dropped.cut + dropped.where)
        rows = pl.concat(kept) if kept else pl.DataFrame(schema={SOURCE_ROW: pl.UInt64})
        total = len(rows) + cut + where
        if not len(rows):
            why = "is empty" if not total else f"has no row left of {total:,} ({where:,} dropped by `where`)"
            raise SourceError(
                f"the split {split.source_split!r} of {task.source.label} {why}",
                where=f"{task.entry.where()}: task {task.name}",
                hint="map another split, or change `where`",
            )
        return rows, Counts(source=total, cut=cut, where=where, usable=len(rows))


@dataclass
class _Planner:
    """Plans the parts of one task after the other."""

    spec: MixtureSpec
    limit: int | None
    usable: Mapping[tuple[str, Split], Usable]
    parts: list[Part] = field(default_factory=list)

    def seen_task(self, task: Task) -> None:
        """Plan a task that trains: train, validation, and its withheld phrasings."""
        kept, withheld = self._withhold(task)
        if "train" not in task.splits:
            raise CatalogError(
                f"the task {task.name} trains in this mixture, but has no train split",
                where=task.entry.where("splits"),
                hint="map one, `train: …`, or hold the task out",
            )
        self._train(task, task.splits["train"], kept)
        if "validation" in task.splits:
            self._evaluation(task, "validation", task.splits["validation"], self._scored(kept))
            if withheld:
                self._evaluation(task, "heldout_templates", task.splits["validation"], withheld)

    def unseen_task(self, task: Task) -> None:
        """Plan a held-out task: its validation rows, or those of train where it has no other."""
        (split,) = splits_read(task, heldout=True)
        scored = self._scored(task.templates)
        if not scored and task.templates:
            raise _no_plain_template(task)
        self._evaluation(task, "heldout", split, scored)

    def _withhold(self, task: Task) -> tuple[tuple[Template, ...], tuple[Template, ...]]:
        """Return the templates that stay and the N that no training row may have."""
        plain = [template for template in task.templates if template.style == "zero-shot"]
        count = self.spec.holdout.templates
        if not count or len(plain) <= count:
            return task.templates, ()
        seed = self.spec.seed
        order = sorted(plain, key=lambda each: (hashing.key(seed, task.name, "withhold", each.name), each.name))
        withheld = {template.name for template in order[:count]}
        kept = tuple(each for each in task.templates if each.name not in withheld)
        return kept, tuple(each for each in task.templates if each.name in withheld)

    def _scored(self, templates: Sequence[Template]) -> tuple[Template, ...]:
        """Return the templates to evaluate with: plain ones, and chain-of-thought where training has it."""
        styles = {"zero-shot"} | ({"chain-of-thought"} if self.spec.styles.chain_of_thought else set())
        return tuple(template for template in templates if template.style in styles)

    def _train(self, task: Task, split: Split, templates: tuple[Template, ...]) -> None:
        usable, counts = self.usable[task.name, split]
        rows = self._assign(task, split, templates, usable)
        counts_after, rows = self._drop(task, split, templates, rows, counts)
        cap = min((n for n in (self.spec.sampling.cap, self.limit) if n is not None), default=None)
        order = hashing.draws(self._key(task, split, "sample"), pl.col(SOURCE_ROW))
        if cap is not None and cap < len(rows):
            rows = rows.with_columns(order=order).sort("order").head(cap).drop("order").sort(SOURCE_ROW)
        self.parts.append(Part(task, "train", split, templates, rows, counts_after))

    def _evaluation(self, task: Task, name: OutSplit, split: Split, templates: tuple[Template, ...]) -> None:
        usable, counts = self.usable[task.name, split]
        limit = min(n for n in (self.spec.evaluation.rows, self.limit) if n is not None)
        order = hashing.draws(self._key(task, split, "evaluate"), pl.col(SOURCE_ROW))
        chosen = usable.with_columns(order=order).sort("order").head(limit).drop("order")
        numbers = pl.DataFrame({"template": pl.Series(range(max(1, len(templates))), dtype=pl.UInt32)})
        rows = chosen.join(numbers, how="cross").sort(SOURCE_ROW, "template")
        counts, rows = self._drop(task, split, templates, rows, counts, usable=len(usable))
        self.parts.append(Part(task, name, split, templates, rows, counts))

    def _assign(self, task: Task, split: Split, templates: Sequence[Template], rows: pl.DataFrame) -> pl.DataFrame:
        """Give every row a style by the shares of the mixture, and a template of that style."""
        if not templates:
            return rows.with_columns(template=pl.lit(0, pl.UInt32))
        shares = {
            "inverted": self.spec.styles.inverted,
            "chain-of-thought": self.spec.styles.chain_of_thought,
        }
        groups = {
            style: [i for i, each in enumerate(templates) if each.style == style] for style in ("zero-shot", *shares)
        }
        if not groups["zero-shot"]:
            raise _no_plain_template(task)
        template_key, style_key = (np.uint64(self._key(task, split, each)) for each in ("template", "style"))

        def drawn(numbers: "NDArray[np.uint64]") -> "NDArray[np.uint32]":
            draw, style_draw = hashing.draw(template_key, numbers), hashing.draw(style_key, numbers)
            chosen = _pick(draw, groups["zero-shot"])
            edge = sum(shares[style] for style in shares if groups[style])
            for style, share in reversed(shares.items()):
                if groups[style]:
                    chosen = np.where(style_draw < hashing.threshold(edge), _pick(draw, groups[style]), chosen)
                    edge -= share
            return chosen

        pieces = rows.iter_slices(_DRAWN_AT_ONCE)
        return pl.concat(
            piece.with_columns(template=pl.Series(drawn(piece[SOURCE_ROW].to_numpy()))) for piece in pieces
        )

    def _drop(
        self,
        task: Task,
        split: Split,
        templates: tuple[Template, ...],
        rows: pl.DataFrame,
        counts: Counts,
        usable: int | None = None,
    ) -> tuple[Counts, pl.DataFrame]:
        """Drop the examples that their template leaves empty, and those that are too short or too long."""
        limits = self.spec.length
        if limits is None and not any(template.drops_empty for template in templates):
            return counts, rows
        empty, found = 0, [rows.clear()]
        for frame in examples(task, split, templates, rows, self.spec.seed, evaluation=False):
            full = frame if "messages" in frame.columns else frame.filter(pl.col("output").is_not_null())
            empty += len(frame) - len(full)
            fitting = full if limits is None else full.filter(_fits(full, limits))
            found.append(fitting.select(SOURCE_ROW, "template"))
        kept = pl.concat(found).sort(SOURCE_ROW, "template")
        lost = len(rows) - len(kept) - empty
        if not len(kept):
            raise CatalogError(
                f"no row of the task {task.name} is left of {len(rows):,}: {empty:,} are empty, "
                f"{lost:,} outside the limits of `length`",
                where=task.entry.where(),
                hint="change `length` or the templates, or take the task out of the mixture",
            )
        left = len(kept) if usable is None else usable
        return replace(counts, too_short_or_long=lost, empty=empty, usable=left), kept

    def _key(self, task: Task, split: Split, purpose: str) -> int:
        return hashing.key(self.spec.seed, task.name, split.source_split, purpose)


def _no_plain_template(task: Task) -> CatalogError:
    return CatalogError(
        f"the task {task.name} has only templates with a style, none to use without",
        where=task.entry.where("templates"),
        hint="add a template without `style`",
    )


def _pick(draws: "NDArray[np.uint64]", group: Sequence[int]) -> "NDArray[np.uint32]":
    """Return the template index that each draw picks from a group."""
    picked: NDArray[np.uint32] = np.array(group, np.uint32)[draws % len(group)]
    return picked


def _fits(frame: pl.DataFrame, limits: LengthSpec) -> pl.Series:
    length = lengths(frame).sum_horizontal()
    fits = length >= limits.min_chars
    return fits if limits.max_chars is None else fits & (length <= limits.max_chars)


def make_plan(
    catalog: Catalog,
    mixture: str | None = None,
    *,
    workers: Workers,
    mirror: Path | None = None,
    seed: int | None = None,
    limit: int | None = None,
    memory: int = 0,
    progress: Progress = no_progress,
) -> Plan:
    """Resolve a mixture against its sources: read every split that it uses once, and check every row.

    Args:
        catalog: the catalog that has the mixture and its tasks.
        mixture: its name; by default the catalog's default mixture.
        workers: the processes that run templates and expressions where Jinja has to, now and when it is rendered.
        mirror: a folder with copies of hub datasets.
        seed: replaces the mixture's seed.
        limit: at most so many source rows a task and split.
        memory: so many bytes of rows are kept for when they are rendered; the others are read again.
        progress: called with a task's name and a number of rows just read.

    Raises:
        TaskmixError: of the kind that fits, before anything is written.
    """
    name, spec = catalog.mixture(mixture)
    if seed is not None:
        spec = spec.model_copy(update={"seed": seed})
    selection = select(catalog, name)
    roles = assign_roles(catalog, name, selection.tasks)
    held, names = Held(memory), (*roles.train, *roles.heldout)
    tasks = {each: open_task(catalog.tasks[each], mirror, workers, held) for each in names}
    _check_format(catalog, name, spec, tasks.values())
    wanted = [
        (task, split) for each, task in tasks.items() for split in splits_read(task, heldout=each in roles.heldout)
    ]
    planner = _Planner(spec, limit, _Reader(progress).read(wanted, workers))
    for each in roles.train:
        planner.seen_task(tasks[each])
    for each in roles.heldout:
        planner.unseen_task(tasks[each])
    parts = tuple(sorted(planner.parts, key=lambda part: (SPLITS.index(part.split), part.task.name)))
    return Plan(name, spec, catalog, parts, roles.heldout, roles.excluded, selection.refused, limit)


def _check_format(catalog: Catalog, mixture: str, spec: MixtureSpec, tasks: Iterable[Task]) -> None:
    if spec.format in CONVERSATION_FORMATS:
        return
    for task in tasks:
        if task.kind.name == "conversation":
            raise CatalogError(
                f"the conversations of the task {task.name} do not fit into the format {spec.format}",
                where=catalog.where("mixtures", mixture, "format"),
                hint=f"use one of {', '.join(sorted(CONVERSATION_FORMATS))}, or leave the task out",
            )

"""A mixture resolved against its sources: which rows, which template each, and why others are left out.

Everything that picks is a hash of (seed, task, source split, row, purpose): see `taskmix.hashing`. A plan holds sets of
rows, at a bit a row, and what follows from them; examples are worked out when they are rendered.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from taskmix.caching.entries import Cache
from taskmix.catalog.loading import Catalog
from taskmix.catalog.models import MixtureSpec, TokensSpec
from taskmix.catalog.selection import overridden, select
from taskmix.errors import CatalogError
from taskmix.mixing.cleaning import clean
from taskmix.mixing.examples import Progress, no_progress
from taskmix.mixing.holdout import Roles, assign_roles
from taskmix.mixing.judging import Judging, chosen, splits_read
from taskmix.mixing.parts import SPLITS, Part
from taskmix.mixing.reading import Key, Reader, Usable
from taskmix.mixing.remembered import Evaluated
from taskmix.mixing.tokens import Counter, open_tokenizer
from taskmix.mixing.training import train
from taskmix.tasks.held import Held
from taskmix.tasks.opening import open_task
from taskmix.tasks.task import Split, Task
from taskmix.templates.rowwise import Workers

CONVERSATION_FORMATS = frozenset(("messages", "sharegpt"))


@dataclass(frozen=True)
class Plan:
    """A mixture, resolved. `excluded` maps relatives of held-out tasks to what they are related to.

    `tokenizer` is the hash of the tokenizer that its budget is counted by; `dropped` has the rows that leave train for
    being in an evaluation split, see `cleaning.Cleaned`.
    """

    mixture: str
    spec: MixtureSpec
    catalog: Catalog
    parts: tuple[Part, ...]
    heldout: tuple[str, ...]
    excluded: Mapping[str, str]
    refused: Mapping[str, str]
    limit: int | None = None
    tokenizer: str | None = None
    dropped: pl.DataFrame = field(default_factory=pl.DataFrame, repr=False, compare=False)

    @property
    def seed(self) -> int:
        """Return the seed of every draw."""
        return self.spec.seed

    def parts_of(self, split: str) -> tuple[Part, ...]:
        """Return the parts of a split."""
        return tuple(part for part in self.parts if part.split == split)

    def rows(self, split: str) -> int:
        """Return the number of examples in a split."""
        return sum(map(len, self.parts_of(split)))


def make_plan(
    catalog: Catalog,
    mixture: str | None = None,
    *,
    workers: Workers,
    mirror: Path | None = None,
    seed: int | None = None,
    limit: int | None = None,
    memory: int = 0,
    cache: Cache | None = None,
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
        cache: may know what comes of comparing training rows with evaluation rows, and is told.
        progress: called with a task's name and a number of rows just read.

    Raises:
        TaskmixError: of the kind that fits, before anything is written.
    """
    name, spec = catalog.mixture(mixture)
    spec = overridden(spec, seed, limit)
    selection = select(catalog, name)
    roles = assign_roles(catalog, name, selection.tasks)
    held, names = Held(memory), (*roles.train, *roles.heldout)
    tasks = {each: open_task(catalog.tasks[each], mirror, workers, held) for each in names}
    _check_format(catalog, name, spec, tasks.values())
    _check_train(tasks[each] for each in roles.train)
    reader = Reader(progress, workers)
    usable = reader.read(_wanted(spec, tasks, roles.heldout))
    evaluated = _evaluated(spec, limit, tasks, roles, usable)
    cleaned = clean(spec, reader, evaluated, _trained_on(spec, tasks, roles, usable), usable, cache)
    judging = Judging(spec, limit, usable, cleaned.usable)
    parts = [part for each in roles.train for part in judging.seen(tasks[each])]
    parts += [judging.unseen(tasks[each]) for each in roles.heldout]
    tokens = _tokens(catalog, name, spec)
    parts += train(spec, [tasks[each] for each in roles.train], cleaned.usable, selection.weights, tokens)
    parts.sort(key=lambda part: (SPLITS.index(part.split), part.task.name))
    tokenizer = None if tokens is None else tokens.sha256
    found = selection.refused, limit, tokenizer, cleaned.dropped
    return Plan(name, spec, catalog, tuple(parts), roles.heldout, roles.excluded, *found)


def _tokens(catalog: Catalog, mixture: str, spec: MixtureSpec) -> Counter | None:
    """Return what counts tokens, if the mixture's size is in tokens."""
    if not isinstance(spec.sampling.size, TokensSpec):
        return None
    where = catalog.where("mixtures", mixture, "sampling", "size")
    return open_tokenizer(spec.sampling.size.tokenizer, catalog.path.parent, where)


def _wanted(spec: MixtureSpec, tasks: Mapping[str, Task], heldout: Collection[str]) -> list[tuple[Task, Split]]:
    """Return the splits to read; of a held-out task that of its worked examples too, if the mixture shows them."""
    shown = _shows_heldout(spec)
    return [
        (task, split)
        for name, task in tasks.items()
        for split in splits_read(task, heldout=name in heldout and not shown)
    ]


def _evaluated(
    spec: MixtureSpec, limit: int | None, tasks: Mapping[str, Task], roles: Roles, usable: Mapping[Key, Usable]
) -> list[Evaluated]:
    """Return the rows of all evaluation splits."""
    splits = [(tasks[name], "validation") for name in roles.train if "validation" in tasks[name].splits]
    splits += [(tasks[name], "heldout") for name in roles.heldout]
    found = list[Evaluated]()
    for task, name in splits:
        (split,) = splits_read(task, heldout=True)
        rows = chosen(spec, limit, task, split, usable[task.name, split])
        found.append(Evaluated(task, split, "validation" if name == "validation" else "heldout", rows))
    return found


def _trained_on(
    spec: MixtureSpec, tasks: Mapping[str, Task], roles: Roles, usable: Mapping[Key, Usable]
) -> list[tuple[Task, Split]]:
    """Return the splits whose rows train, or are shown as worked examples."""
    names = (*roles.train, *(roles.heldout if _shows_heldout(spec) else ()))
    splits = [(tasks[name], tasks[name].splits["train"]) for name in names if "train" in tasks[name].splits]
    return [(task, split) for task, split in splits if (task.name, split) in usable]


def _shows_heldout(spec: MixtureSpec) -> bool:
    """Whether evaluation shows worked examples of held-out tasks."""
    return spec.evaluation.few_shot is not None and "heldout" in spec.evaluation.few_shot.splits


def _check_train(tasks: Iterable[Task]) -> None:
    for task in tasks:
        if "train" not in task.splits:
            raise CatalogError(
                f"the task {task.name} trains in this mixture, but has no train split",
                where=task.entry.where("splits"),
                hint="map one, `train: …`, or hold the task out",
            )


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

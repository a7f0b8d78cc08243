"""What one task gives to one split of a mixture, and the draws that decide it."""

from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Literal

from taskmix import hashing
from taskmix.catalog.models import MixtureSpec
from taskmix.errors import CatalogError
from taskmix.mixing.assignment import PLAIN
from taskmix.mixing.examples import Posing, Turn
from taskmix.mixing.rates import Ration
from taskmix.mixing.reading import Counts
from taskmix.rowsets import RowSet
from taskmix.tasks.task import Split, Task
from taskmix.templates.files import Template

OutSplit = Literal["train", "validation", "heldout", "heldout_templates"]
SPLITS: tuple[OutSplit, ...] = ("train", "validation", "heldout", "heldout_templates")


@dataclass(frozen=True)
class Part:
    """What one task gives to one split of the mixture: `turns` of rows, and how they are posed.

    `ration` says what the mixture's rates give the task, and `phrasings` how many examples a row has in one pass, in
    train.
    """

    split: OutSplit
    posing: Posing
    turns: tuple[Turn, ...]
    counts: Counts
    ration: Ration | None = None
    phrasings: int = 1

    @property
    def task(self) -> Task:
        """Return the task."""
        return self.posing.task

    @property
    def source(self) -> Split:
        """Return the source's split."""
        return self.posing.split

    @property
    def templates(self) -> tuple[Template, ...]:
        """Return the templates that its examples have."""
        return self.posing.templates

    @property
    def is_evaluation(self) -> bool:
        """Whether the part is of a split to evaluate on."""
        return self.split != "train"

    def __len__(self) -> int:
        """Return the number of examples."""
        return sum(len(turn.rows) for turn in self.turns)

    @property
    def rows(self) -> RowSet:
        """Return the source's rows that are used."""
        return reduce(or_, (turn.rows for turn in self.turns))


def figures(part: Part) -> dict[str, object]:
    """Return the figures of a part, as the lock and `mix build --plan` have them.

    `rows` are its examples, `used` the source's rows that they are made of, `capped` those that a cap leaves out.
    """
    counts, used = part.counts, len(part.rows)
    found: dict[str, object] = {
        "split": part.split,
        "task": part.task.name,
        "source_split": part.source.source_split,
        "rows": len(part),
        "templates": [template.name for template in part.templates],
        "source_rows": counts.source,
        "cut": counts.cut,
        "dropped": {
            "where": counts.where,
            "duplicates": counts.duplicates,
            "contaminated": dict(counts.contaminated),
            "length": counts.too_short_or_long,
            "empty": counts.empty,
        },
        "usable": counts.usable,
        "used": used,
    }
    if part.ration is not None:
        passes = len(part) / (used * part.phrasings) if used else 0.0
        found |= {"rate": part.ration.rate, "share": part.ration.share, "passes": round(passes, 6)}
    return found


def key(spec: MixtureSpec, task: Task, split: Split, purpose: str, *more: object) -> int:
    """Return the key of draws on the rows of a task's split for a purpose."""
    return hashing.key(spec.seed, task.name, split.source_split, purpose, *more)


def withheld(spec: MixtureSpec, task: Task) -> frozenset[str]:
    """Return the names of the N templates of a task that no training row may have."""
    plain = [template.name for template in task.templates if template.style == PLAIN]
    count = spec.holdout.templates
    if not count or len(plain) <= count:
        return frozenset()
    return frozenset(
        sorted(plain, key=lambda name: (hashing.key(spec.seed, task.name, "withhold", name), name))[:count]
    )


def without_plain(task: Task) -> CatalogError:
    """Return the error that a task has no template to use where no style is asked for."""
    return CatalogError(
        f"the task {task.name} has only templates with a style, none to use without",
        where=task.entry.where("templates"),
        hint="add a template without `style`",
    )

"""The evaluation splits of a mixture: a few rows of each, under every template that scores."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from taskmix.catalog.models import MixtureSpec
from taskmix.mixing.assignment import PLAIN, EveryTemplate
from taskmix.mixing.examples import Exemplars, Posing, Turn
from taskmix.mixing.fitting import fit, nothing_left
from taskmix.mixing.parts import OutSplit, Part, key, withheld, without_plain
from taskmix.mixing.reading import Key, Usable
from taskmix.rowsets import RowSet, lowest
from taskmix.tasks.task import Split, Task
from taskmix.templates.files import Template


def splits_read(task: Task, *, heldout: bool) -> tuple[Split, ...]:
    """Return the splits of a task that a mixture reads: of a held-out one its validation rows, or train for want."""
    found = [task.splits[name] for name in ("train", "validation") if name in task.splits]
    return tuple(found[-1:] if heldout else found)


def scored(spec: MixtureSpec, templates: Iterable[Template]) -> tuple[Template, ...]:
    """Return the templates to evaluate with: plain ones, and chain-of-thought where training has it."""
    styles = {PLAIN} | ({"chain-of-thought"} if spec.styles.chain_of_thought else set())
    return tuple(template for template in templates if template.style in styles)


def chosen(spec: MixtureSpec, limit: int | None, task: Task, split: Split, usable: Usable) -> RowSet:
    """Return the rows of a split that are evaluated: those with the smallest hashes."""
    count = min(n for n in (spec.evaluation.rows, limit) if n is not None)
    return lowest([usable.rows], [key(spec, task, split, "evaluate")], count)[0]


@dataclass(frozen=True)
class Judging:
    """Plans the evaluation splits: a few rows of each, under every template that scores.

    `usable` is what all splits have, `clean` what of it may be shown as worked examples.
    """

    spec: MixtureSpec
    limit: int | None
    usable: Mapping[Key, Usable]
    clean: Mapping[Key, Usable]

    def seen(self, task: Task) -> list[Part]:
        """Return the parts of a task that trains, under the templates it trains with, and under withheld ones."""
        if "validation" not in task.splits:
            return []
        out = withheld(self.spec, task)
        split, train = task.splits["validation"], task.splits.get("train")
        kept = scored(self.spec, (each for each in task.templates if each.name not in out))
        parts = [self._part(task, "validation", split, kept, train)]
        if out:
            hidden = tuple(each for each in task.templates if each.name in out)
            parts.append(self._part(task, "heldout_templates", split, hidden, train))
        return parts

    def unseen(self, task: Task) -> Part:
        """Return the part of a held-out task: its validation rows, or those of train where it has no other."""
        (split,) = splits_read(task, heldout=True)
        templates = scored(self.spec, task.templates)
        if not templates and task.templates:
            raise without_plain(task)
        return self._part(task, "heldout", split, templates, task.splits.get("train"))

    def _part(
        self, task: Task, name: OutSplit, split: Split, templates: tuple[Template, ...], train: Split | None
    ) -> Part:
        usable = self.usable[task.name, split]
        rows = chosen(self.spec, self.limit, task, split, usable)
        exemplars = self._exemplars(task, name, split, rows, templates, train)
        shots = self._shots(exemplars, templates)
        posing = Posing(
            task, split, templates, EveryTemplate(shots), self.spec.seed, exemplars=exemplars, evaluation=True
        )
        turns = tuple(Turn(index, rows) for index in range(max(1, len(templates))))
        fitting, lost = fit(posing, turns, self.spec.length)
        if not sum(len(turn.rows) for turn in fitting):
            raise nothing_left(task, sum(len(turn.rows) for turn in turns), lost)
        counts = replace(usable.counts, too_short_or_long=lost.length, empty=lost.empty)
        return Part(name, posing, fitting, counts)

    def _exemplars(
        self,
        task: Task,
        name: OutSplit,
        split: Split,
        rows: RowSet,
        templates: tuple[Template, ...],
        train: Split | None,
    ) -> Exemplars | None:
        few = self.spec.evaluation.few_shot
        if few is None or name not in few.splits or not templates:
            return None
        if train is None or (task.name, train) not in self.clean:
            return None
        source = self.clean[task.name, train].rows
        shown = source - rows if train == split else source
        draws = key(self.spec, task, train, "sample")
        return Exemplars(task, train, templates, self.spec.seed, self.spec.styles.listing, shown, draws)

    def _shots(self, exemplars: Exemplars | None, templates: tuple[Template, ...]) -> tuple[int, ...]:
        """Return how many worked examples there are before the rows of each template."""
        few = self.spec.evaluation.few_shot
        if exemplars is None or few is None:
            return ()
        return tuple(min(few.k, exemplars.most(template)) for template in templates)

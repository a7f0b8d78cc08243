"""The training split of a mixture: what each task has, and the examples that its rates give it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import or_

from taskmix.catalog.models import MixtureSpec, TokensSpec
from taskmix.errors import CatalogError
from taskmix.mixing.assignment import PLAIN, Assignment, NoTemplate, drawn
from taskmix.mixing.examples import Exemplars, Posing, Turn, takes_options
from taskmix.mixing.fitting import fit, nothing_left
from taskmix.mixing.parts import Part, key, withheld, without_plain
from taskmix.mixing.rates import Ration, Supply, rations
from taskmix.mixing.reading import Counts, Key, Usable
from taskmix.mixing.tokens import Counter
from taskmix.rowsets import RowSet, lowest
from taskmix.tasks.task import Task
from taskmix.templates.files import Template


@dataclass(frozen=True)
class Training:
    """What a task may give to train.

    Attributes:
        spec: the mixture's.
        posing: how rows become examples in the first pass.
        assignment: how they do in so many passes.
        phrasings: the examples of a row in one pass.
        rows: the source's rows that are used.
        first: the examples of the first pass.
        counts: what became of the other rows.
    """

    spec: MixtureSpec
    posing: Posing
    assignment: Callable[[int], Assignment]
    phrasings: int
    rows: RowSet
    first: tuple[Turn, ...]
    counts: Counts

    @property
    def examples(self) -> int:
        """Return the number of examples in the first pass."""
        return sum(len(turn.rows) for turn in self.first)

    def part(self, ration: Ration) -> Part:
        """Return so many examples: of every row one after the other, and the last of those rows that a hash picks."""
        turns, missing, number = list[Turn](), ration.examples, 0
        while missing:
            for turn in self._pass(number):
                draws = key(self.spec, self.posing.task, self.posing.split, "pass", turn.slot)
                (rows,) = lowest([turn.rows], [draws], missing)
                turns += [Turn(turn.slot, rows)] if len(rows) else []
                missing -= len(rows)
            number += 1
        passes = max((turn.slot for turn in turns), default=0) + 1
        posing = replace(self.posing, assignment=self.assignment(passes))
        return Part("train", posing, tuple(turns), self.counts, ration, self.phrasings)

    def _pass(self, number: int) -> tuple[Turn, ...]:
        """Return the examples of one more pass."""
        if not number:
            return self.first
        posing = replace(self.posing, assignment=self.assignment((number + 1) * self.phrasings))
        turns, lost = fit(posing, turns_of(number, self.phrasings, self.rows), self.spec.length)
        if not sum(len(turn.rows) for turn in turns):
            raise nothing_left(self.posing.task, len(self.rows), lost)
        return turns


def turns_of(number: int, phrasings: int, rows: RowSet) -> tuple[Turn, ...]:
    """Return the slots of a pass over rows."""
    return tuple(Turn(slot, rows) for slot in range(number * phrasings, (number + 1) * phrasings))


def training(spec: MixtureSpec, task: Task, usable: Usable) -> Training:
    """Return what a task may give to train."""
    if not len(usable.rows):
        found = sum(usable.counts.contaminated.values())
        raise CatalogError(
            f"all {found:,} rows of the task {task.name} are in evaluation splits too",
            where=task.entry.where(),
            hint="see docs/contamination.md; or hold the task out, or set `decontamination: off`",
        )
    split, out = task.splits["train"], withheld(spec, task)
    templates = tuple(template for template in task.templates if template.name not in out)
    phrasings = _phrasings(spec, task, templates)
    sample, cap = key(spec, task, split, "sample"), spec.sampling.cap or len(usable.rows)
    exemplars = None
    if spec.styles.few_shot is not None and templates:
        shown = lowest([usable.rows], [sample], cap)[0]
        exemplars = Exemplars(task, split, templates, spec.seed, spec.styles.listing, shown, sample)
    most = tuple(exemplars.most(template) for template in templates) if exemplars is not None else ()
    assignment = partial(_assignment, spec, task, templates, most)
    posing = Posing(task, split, templates, assignment(phrasings), spec.seed, spec.styles.listing, exemplars)
    turns, lost = fit(posing, turns_of(0, phrasings, usable.rows), spec.length)
    fitting = reduce(or_, (turn.rows for turn in turns))
    if not len(fitting):
        raise nothing_left(task, len(usable.rows), lost)
    (rows,) = lowest([fitting], [sample], cap)
    first = tuple(Turn(turn.slot, turn.rows & rows) for turn in turns)
    counts = replace(usable.counts, too_short_or_long=lost.length, empty=lost.empty, usable=len(fitting))
    return Training(spec, posing, assignment, phrasings, rows, first, counts)


def _phrasings(spec: MixtureSpec, task: Task, templates: Sequence[Template]) -> int:
    """Return how many templates each row has in a pass."""
    plain, asked = sum(template.style == PLAIN for template in templates), spec.sampling.templates
    if templates and not plain:
        raise without_plain(task)
    return max(1, plain if asked == "all" else min(asked, plain))


def _assignment(
    spec: MixtureSpec, task: Task, templates: Sequence[Template], shown: Sequence[int], passes: int
) -> Assignment:
    if not templates:
        return NoTemplate(passes)
    names = (spec.seed, task.name, task.splits["train"].source_split)
    optional = [takes_options(task, template) for template in templates]
    return drawn(names, templates, spec.styles, optional, shown, passes)


def train(
    spec: MixtureSpec,
    tasks: Sequence[Task],
    usable: Mapping[Key, Usable],
    weights: Mapping[str, float],
    tokens: Counter | None = None,
) -> list[Part]:
    """Return what the tasks give to train: of what each has as much as the mixture's rates take.

    `tokens` counts those of examples, where the mixture's size is in tokens.
    """
    each = [training(spec, task, usable[task.name, task.splits["train"]]) for task in tasks]
    given = _rations(spec, each, weights, tokens)
    return [one.part(ration) for one, ration in zip(each, given, strict=True) if ration.examples]


def _rations(
    spec: MixtureSpec, each: Sequence[Training], weights: Mapping[str, float], tokens: Counter | None
) -> list[Ration]:
    sampling = spec.sampling
    supplies = [
        Supply(
            one.posing.task.name,
            one.examples,
            weights.get(one.posing.task.name, 1.0),
            tokens.mean(one.posing, one.first) if tokens is not None else None,
        )
        for one in each
    ]
    if sampling.size is None:
        return [replace(found, examples=found.examples * sampling.passes) for found in rations(supplies)]
    size = sampling.size.tokens if isinstance(sampling.size, TokensSpec) else sampling.size
    return rations(supplies, sampling.strategy, sampling.max_rate, sampling.temperature, size)

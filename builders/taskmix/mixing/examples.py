"""From planned rows to rendered examples, a bounded number at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from operator import or_
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from taskmix import hashing
from taskmix.catalog.models import OptionsSpec
from taskmix.compiler.templates import RowWise
from taskmix.frames import DRAW, SOURCE_ROW
from taskmix.mixing.assignment import OPTIONS, SHOTS, SLOT, TEMPLATE, Assignment, EveryTemplate
from taskmix.mixing.styles import Shown, can_be_shown, has_letters, option_lists, places, worked_examples
from taskmix.rendering import Rendered, render
from taskmix.rowsets import RowSet, lowest
from taskmix.tasks.task import Split, Task
from taskmix.templates.files import Template
from taskmix.templates.rows import Alternatives

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.uint64]

Progress = Callable[[str, int], None]
_LABEL_NAMES = frozenset(("label", "choices"))
_EXEMPLARS = 61
"""Rows of a task that are shown before others, of which a few are drawn each time: a prime number."""
_NO_ROW = 2**64 - 1
_SHOWN_BYTES = 64 << 20
"""Worked examples of the rows that are posed at once: each is copied into every prompt that shows it."""


@dataclass(frozen=True)
class Turn:
    """Rows of a source split that give an example each: those of one slot (see `assignment`)."""

    slot: int
    rows: RowSet


@dataclass(frozen=True)
class Posing:
    """How the rows of one split of a task become examples.

    Attributes:
        task: the task.
        split: the source's split.
        templates: what the assignment chooses from; none for conversations.
        assignment: which template and style each example has.
        seed: the mixture's.
        options: how lists of options look.
        exemplars: what is shown before examples that are posed so.
        evaluation: whether choices, answer and references are listed.
    """

    task: Task
    split: Split
    templates: tuple[Template, ...]
    assignment: Assignment
    seed: int
    options: OptionsSpec = field(default_factory=lambda: OptionsSpec(share=0.0))
    exemplars: "Exemplars | None" = None
    evaluation: bool = False

    def key(self, purpose: str, *more: object) -> int:
        """Return the key of draws for a purpose."""
        return hashing.key(self.seed, self.task.name, self.split.source_split, purpose, *more)


@dataclass(frozen=True)
class Examples:
    """Rendered examples of one template of a task (its index), and how: see `rendering.Rendered`.

    `rows` has `source_row`, `slot`, `template`, `shots`, `options`, `prompt`, `instruction`, `input`, `output`,
    `ending`, and in evaluation `choices`, `answer`, `references`. Conversations have `messages` instead of the texts.
    """

    rows: pl.DataFrame
    template: int = 0
    handed_back: int = 0
    row_wise: RowWise | None = None


Job = Callable[[], Examples]


def no_progress(task: str, rows: int) -> None:
    """Report nothing."""


def jobs(posing: Posing, turns: Sequence[Turn]) -> Iterator[Job]:
    """Yield the work of rendering planned rows, cut into pieces that do not depend on each other.

    Each job gives examples of one template.
    """
    task, templates = posing.task, posing.templates
    names = names_read(task, templates, evaluation=posing.evaluation or posing.options.share > 0)
    wanted = reduce(or_, (turn.rows for turn in turns))
    for frame in task.rows(posing.split, wanted, names):
        planned = _planned(posing.assignment, turns, frame[SOURCE_ROW])
        if not templates:
            yield partial(_conversations, frame, planned)
            continue
        # both are in the order of the source's rows, and the frame has each of them once
        for (index, _), group in planned.group_by(TEMPLATE, OPTIONS, maintain_order=True):
            assert isinstance(index, int), index
            for piece in group.iter_slices(_rows_at_once(posing, templates[index], group)):
                yield partial(_posed, posing, index, frame[frame[SOURCE_ROW].search_sorted(piece[SOURCE_ROW])], piece)


def _rows_at_once(posing: Posing, template: Template, planned: pl.DataFrame) -> int:
    """Return of how many rows the worked examples together stay within bounds."""
    if posing.exemplars is None or not planned[SHOTS].max():
        return len(planned)
    texts = posing.exemplars.shown(template, options=planned[OPTIONS][0]).looks[-1]
    each = int(texts.str.len_bytes().sum()) // max(1, len(texts)) * int(planned[SHOTS].to_numpy().max()) + 1
    return max(1, _SHOWN_BYTES // each)


def _planned(assignment: Assignment, turns: Sequence[Turn], numbers: pl.Series) -> pl.DataFrame:
    """Return what the turns make of the rows between the first and the last number."""
    first, end = numbers[0], numbers[-1] + 1
    found = pl.concat(assignment(turn.rows.between(first, end), turn.slot) for turn in turns)
    return found if len(turns) == 1 else found.sort(SOURCE_ROW, SLOT, TEMPLATE)


def names_read(task: Task, templates: Sequence[Template], *, evaluation: bool) -> frozenset[str]:
    """Return the variables that the templates of a task need, and in evaluation those of the alternatives."""
    names = frozenset().union(*(template.names for template in templates))
    if evaluation:
        names |= {"label", "choices", *(task.kind.answer or ())} & task.kind.names
    return names | ({"messages"} if task.kind.name == "conversation" else set())


def takes_options(task: Task, template: Template) -> bool:
    """Whether a list of options may follow a template: its output is that of one label, and it lists none itself."""
    used, asked = template.output.names, template.instruction.names | template.input.names
    by_label = _alternatives(task).by_label and "label" in used and used <= _LABEL_NAMES
    return template.spec.options and by_label and "choices" not in asked


def posed(posing: Posing, turns: Sequence[Turn]) -> Iterator[pl.DataFrame]:
    """Yield what the jobs give, one after the other."""
    for job in jobs(posing, turns):
        yield job().rows


def examples(
    task: Task, split: Split, templates: Sequence[Template], rows: RowSet, seed: int, *, evaluation: bool
) -> Iterator[pl.DataFrame]:
    """Yield plain examples of rows under every template."""
    posing = Posing(task, split, tuple(templates), EveryTemplate(), seed, evaluation=evaluation)
    return posed(posing, [Turn(index, rows) for index in range(max(1, len(templates)))])


def _posed(posing: Posing, index: int, rows: pl.DataFrame, planned: pl.DataFrame) -> Examples:
    """Render one template on rows of one task, and wrap it in the styles that are planned."""
    template, listed = posing.templates[index], bool(planned[OPTIONS][0])
    rendered = _rendered(posing, template, rows, alternatives=listed or posing.evaluation)
    texts = _styled(posing, template, rendered.rows, planned)
    if not posing.evaluation:
        texts = texts.drop("choices", "answer", "references", strict=False)
    whole = texts.with_columns(planned.get_columns())
    return Examples(whole, index, rendered.handed_back, rendered.row_wise)


def _rendered(posing: Posing, template: Template, rows: pl.DataFrame, *, alternatives: bool) -> Rendered:
    draws = hashing.draw(np.uint64(posing.key(template.name, "choice")), rows[SOURCE_ROW].to_numpy())
    task, rule = posing.task, _alternatives(posing.task) if alternatives else None
    return render(rows.with_columns(pl.Series(DRAW, draws)), template, task.name, rule, task.workers, task.facts)


def _alternatives(task: Task) -> Alternatives:
    by_label = task.kind.labelled == "label" and not task.view.multi_label
    return Alternatives(by_label, task.kind.answer, task.kind.by_word)


def _styled(posing: Posing, template: Template, rendered: pl.DataFrame, planned: pl.DataFrame) -> pl.DataFrame:
    """Add `prompt` and `ending` to rendered texts, with the options and worked examples that are planned."""
    if planned[OPTIONS][0]:
        rendered = _with_options(posing, template, rendered, planned)
    if posing.exemplars is not None and planned[SHOTS].max():
        rendered = _with_shots(posing, posing.exemplars, template, rendered, planned)
    return rendered.with_columns(prompt(rendered, template), pl.lit(template.ending).alias("ending"))


def _with_options(posing: Posing, template: Template, rendered: pl.DataFrame, planned: pl.DataFrame) -> pl.DataFrame:
    draws = _slot_draws(posing, "options", template, planned)
    lists = option_lists(rendered["choices"], draws, posing.options)
    inside = pl.col("input") != ""
    return rendered.with_columns(
        input=pl.when(inside).then(pl.concat_str("input", lists)).otherwise(pl.lit("")),
        instruction=pl.when(inside).then("instruction").otherwise(pl.concat_str("instruction", lists)),
    )


def _with_shots(
    posing: Posing, exemplars: "Exemplars", template: Template, rendered: pl.DataFrame, planned: pl.DataFrame
) -> pl.DataFrame:
    look = np.zeros(len(planned), np.intp)
    if listed := bool(planned[OPTIONS][0]):
        look = has_letters(_slot_draws(posing, "options", template, planned), posing.options).astype(np.intp)
    shots = _shots(posing, exemplars, template, planned)
    shown = worked_examples(*shots, exemplars.shown(template, options=listed), look)
    first = pl.when(pl.col("instruction") == "")
    return rendered.with_columns(
        instruction=first.then(pl.lit("")).otherwise(pl.concat_str(shown, "instruction")),
        input=first.then(pl.concat_str(shown, "input")).otherwise("input"),
    )


def _shots(
    posing: Posing, exemplars: "Exemplars", template: Template, planned: pl.DataFrame
) -> tuple["NDArray[np.uint8]", "Numbers", "Numbers"]:
    """Return how many worked examples rows have, the draws that they follow from, and the rows they must not be."""
    own = planned[SOURCE_ROW].to_numpy()
    if exemplars.split != posing.split:
        own = np.full(len(planned), _NO_ROW, np.uint64)
    return planned[SHOTS].to_numpy(), _slot_draws(posing, "shots", template, planned), own


def shown_rows(posing: Posing, planned: pl.DataFrame) -> list[int]:
    """Return the rows of the worked examples before one planned example, in their order."""
    if posing.exemplars is None or not planned[SHOTS][0]:
        return []
    template = posing.templates[planned[TEMPLATE][0]]
    rows = posing.exemplars.shown(template, options=planned[OPTIONS][0]).rows
    found = places(*_shots(posing, posing.exemplars, template, planned), rows)
    return [int(rows[place[0]]) for place, use in found if use[0]]


def _slot_draws(posing: Posing, purpose: str, template: Template, planned: pl.DataFrame) -> "Numbers":
    key = np.uint64(posing.key(purpose, template.name))
    return hashing.draw(planned[SLOT].to_numpy().astype(np.uint64), hashing.draw(key, planned[SOURCE_ROW].to_numpy()))


def prompt(rendered: pl.DataFrame, template: Template) -> pl.Expr:
    """Return the expression of the prompts of what was rendered: instruction, separator, input, ending.

    The separator stands only between two parts that are not empty.
    """
    both = rendered.select((pl.col("instruction") != "") & (pl.col("input") != "")).to_series()
    separator = pl.lit(template.separator if both.any() else "")
    if both.any() and not both.all():
        separator = pl.when(both).then(separator).otherwise(pl.lit(""))
    return pl.concat_str("instruction", separator, "input", pl.lit(template.ending)).alias("prompt")


def lengths(examples: pl.DataFrame) -> pl.DataFrame:
    """Return the characters of every example's `prompt` and `completion` (UInt32).

    Of a conversation the last turn is the completion, and all before it are the prompt.
    """
    if "messages" not in examples.columns:
        return examples.select(pl.col("prompt").str.len_chars(), pl.col("output").str.len_chars().alias("completion"))
    chars = pl.col("messages").list.eval(pl.element().struct.field("content").str.len_chars()).list
    return examples.select((chars.sum() - chars.last()).alias("prompt"), chars.last().alias("completion"))


def _conversations(rows: pl.DataFrame, planned: pl.DataFrame) -> Examples:
    """Return conversations as examples: nothing is rendered."""
    chosen = rows["messages"].gather(rows[SOURCE_ROW].search_sorted(planned[SOURCE_ROW]))
    return Examples(planned.with_columns(chosen))


@dataclass
class Exemplars:
    """Worked examples of a task: a few rows that train, or could, under each template.

    Attributes:
        task: the task.
        split: the source's split that they are from.
        templates: those that they can be shown under.
        seed: the mixture's.
        options: how lists of options look.
        rows: those to choose from; the few are the same for all examples, so that only they have to be read.
        key: of the draws that choose them.
    """

    task: Task
    split: Split
    templates: tuple[Template, ...]
    seed: int
    options: OptionsSpec
    rows: RowSet
    key: int
    _frame: pl.DataFrame | None = None
    _shown: dict[tuple[str, bool], Shown] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def most(self, template: Template) -> int:
        """Return how many can be shown under a template before any row, which is none of them itself."""
        if not template.spec.few_shot:
            return 0
        if template.drops_empty:
            return self.shown(template, options=False).most
        return can_be_shown(min(len(self.rows), _EXEMPLARS))

    @property
    def few(self) -> RowSet:
        """Return the rows that are shown."""
        return lowest([self.rows], [self.key], _EXEMPLARS)[0]

    def shown(self, template: Template, *, options: bool) -> Shown:
        """Return prompt and completion of each under a template: in one look, or with lists of options in two.

        The first of the two has dashes before the options, the second letters.
        """
        with self._lock:
            if (template.name, options) not in self._shown:
                self._shown[template.name, options] = self._pose(template, options=options)
            return self._shown[template.name, options]

    def _pose(self, template: Template, *, options: bool) -> Shown:
        if self._frame is None:
            self._frame = pl.concat(
                self.task.rows(self.split, self.few, names_read(self.task, self.templates, evaluation=True))
            )
        plain = Posing(self.task, self.split, self.templates, EveryTemplate(), self.seed)
        rendered = _rendered(plain, template, self._frame, alternatives=options).rows
        numbers = self._frame[SOURCE_ROW].to_numpy()
        planned = EveryTemplate()(numbers, 0).with_columns(pl.lit(options).alias(OPTIONS))
        full = rendered["output"].is_not_null()
        looks = []
        for lettered in (0.0, 1.0) if options else (0.0,):
            posing = replace(plain, options=self.options.model_copy(update={"lettered": lettered}))
            posed = _styled(posing, template, rendered, planned).filter(full)
            looks.append(posed.select(pl.concat_str("prompt", "output")).to_series())
        return Shown(numbers[full.to_numpy()], tuple(looks))

"""Which template an example has, and in which style it is posed: hashes of the row and of which of its examples it is.

The examples of one row are numbered by `slot`, from 0. One row's examples under the templates of one style take these
in turn, so that none comes again before all have come.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl

from taskmix import hashing
from taskmix.catalog.models import StylesSpec
from taskmix.frames import SOURCE_ROW
from taskmix.templates.files import Template

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.uint64]

SLOT = "slot"
TEMPLATE = "template"
SHOTS = "shots"
OPTIONS = "options"
PLAIN = "zero-shot"
_WRAPPERS = ("few-shot", "options")
VARIANTS = 1 << len(_WRAPPERS)


class Assignment(Protocol):
    """What each example of a slot is."""

    @property
    def passes(self) -> int:
        """Return how many examples of one row may have the same template, at most."""

    def __call__(self, numbers: "Numbers", slot: int) -> pl.DataFrame:
        """Return `source_row`, `slot`, `template` (its index), `shots` (their number) and `options` of rows."""


@dataclass(frozen=True)
class EveryTemplate:
    """Slots are templates: as in evaluation, where each row comes under every one.

    `shots` has the number of worked examples for each template; empty, there are none.
    """

    shots: tuple[int, ...] = ()
    passes: int = 1

    def __call__(self, numbers: "Numbers", slot: int) -> pl.DataFrame:
        """Return what `Assignment` says."""
        shots = self.shots[slot] if self.shots else 0
        return _frame(numbers, 0, np.uint32(slot), np.uint8(shots), np.False_)


@dataclass(frozen=True)
class NoTemplate:
    """Rows that are examples already, as conversations are."""

    passes: int = 1

    def __call__(self, numbers: "Numbers", slot: int) -> pl.DataFrame:
        """Return what `Assignment` says."""
        return _frame(numbers, slot, np.uint32(0), np.uint8(0), np.False_)


@dataclass(frozen=True)
class Drawn:
    """Templates and styles by their shares.

    Attributes:
        names: what the hashes depend on: seed, task, source split.
        groups: the indices of the templates of each style.
        shares: the share of each style but the plain one.
        few_shot: the share of examples after worked ones, the least and the most of these.
        shown: how many worked examples there are of each template.
        options: the share of lists of options, and which templates may have one.
        passes: the number of slots.
    """

    names: tuple[object, ...]
    groups: Mapping[str, tuple[int, ...]]
    shares: Mapping[str, float]
    few_shot: tuple[float, int, int]
    shown: tuple[int, ...]
    options: tuple[float, tuple[bool, ...]]
    passes: int = 1

    def __call__(self, numbers: "Numbers", slot: int) -> pl.DataFrame:
        """Return what `Assignment` says."""
        template = self._templates(numbers, slot)
        shots = self._shots(numbers, slot, template)
        listed, may = self.options
        options = np.zeros(len(numbers), np.bool_)
        if listed:
            options = (self._draw("options", numbers, slot) < hashing.threshold(listed)) & np.array(may)[template]
        return _frame(numbers, slot, template, shots, options)

    def _templates(self, numbers: "Numbers", slot: int) -> "NDArray[np.uint32]":
        draw = self._draw("template", numbers)
        chosen, free = np.zeros(len(numbers), np.uint32), np.ones(len(numbers), np.bool_)
        turn, rest = np.full(len(numbers), slot, np.uint64), 1.0
        for name, share in self.shares.items():
            before, here = _turns(turn, share / rest, self._draw("style", numbers, name))
            chosen = np.where(free & here, _pick(draw, before, self.groups[name]), chosen)
            free, turn, rest = free & ~here, turn - before, rest - share
        return np.where(free, _pick(draw, turn, self.groups[PLAIN]), chosen)

    def _shots(self, numbers: "Numbers", slot: int, template: "NDArray[np.uint32]") -> "NDArray[np.uint8]":
        share, least, most = self.few_shot
        if not share:
            return np.zeros(len(numbers), np.uint8)
        draw = self._draw("few-shot", numbers, slot)
        upto = np.minimum(most, np.array(self.shown, np.int64)[template])
        range_ = np.maximum(upto - least + 1, 1).astype(np.uint64)
        count = np.uint64(least) + hashing.draw(np.uint64(1), draw) % range_
        return np.where((draw < hashing.threshold(share)) & (upto >= least), count, 0).astype(np.uint8)

    def _draw(self, purpose: str, numbers: "Numbers", *more: object) -> "Numbers":
        return hashing.draw(np.uint64(hashing.key(*self.names, purpose, *more)), numbers)


def _turns(turn: "Numbers", share: float, draws: "Numbers") -> "tuple[Numbers, NDArray[np.bool_]]":
    """Return how many of a row's turns before this one take a share of them, and whether this one does.

    They are spread evenly from where the draw begins: of any n turns in a row the share takes n * share, rounded down
    or up. In numbers of 32 bits after the point.
    """
    step = np.uint64(min(round(share * 2**32), 2**32))
    place = turn * step + (draws >> np.uint64(32))
    before = place >> np.uint64(32)
    return before, (place + step) >> np.uint64(32) > before


def _pick(draws: "Numbers", turn: "Numbers", group: Sequence[int]) -> "NDArray[np.uint32]":
    """Return the template index that each draw picks from a group, or that many further on."""
    count = np.uint64(len(group))
    picked: NDArray[np.uint32] = np.array(group, np.uint32)[(draws % count + turn) % count]
    return picked


def _frame(numbers: "Numbers", slot: int, template: object, shots: object, options: object) -> pl.DataFrame:
    columns = {SLOT: np.uint32(slot), TEMPLATE: template, SHOTS: shots, OPTIONS: options}
    whole = {name: np.broadcast_to(np.asarray(value), numbers.shape) for name, value in columns.items()}
    return pl.DataFrame({SOURCE_ROW: numbers, **whole})


def drawn(
    names: tuple[object, ...],
    templates: Sequence[Template],
    styles: StylesSpec,
    optional: Sequence[bool],
    shown: Sequence[int],
    passes: int,
) -> Drawn:
    """Return how a mixture's styles fall on the templates of a task.

    Args:
        names: what the hashes depend on.
        templates: those that train.
        styles: the mixture's.
        optional: which templates may be followed by a list of options.
        shown: how many worked examples of each template there are to show, beside a row itself.
        passes: the number of slots.
    """
    shares = {"inverted": styles.inverted, "chain-of-thought": styles.chain_of_thought}
    groups = {
        style: tuple(index for index, each in enumerate(templates) if each.style == style) for style in (PLAIN, *shares)
    }
    few = (0.0, 0, 0)
    if styles.few_shot is not None:
        few = (styles.few_shot.share, styles.few_shot.k[0], styles.few_shot.k[1])
    given = {style: share for style, share in shares.items() if share and groups[style]}
    return Drawn(names, groups, given, few, tuple(shown), (styles.listing.share, tuple(optional)), passes)


def style_name(style: str, variant: int) -> str:
    """Return the name of a style: that of the template with what is wrapped around it, sorted words joined by `+`.

    The `variant` has a bit for each wrapper: worked examples (1), options (2).
    """
    words = [word for bit, word in enumerate(_WRAPPERS) if variant >> bit & 1]
    return "+".join(sorted([*words, *([] if style == PLAIN else [style])])) or PLAIN


def variant() -> pl.Expr:
    """Return the expression of the variant of assigned examples."""
    return (pl.col(SHOTS) > 0).cast(pl.UInt32) + 2 * pl.col(OPTIONS).cast(pl.UInt32)

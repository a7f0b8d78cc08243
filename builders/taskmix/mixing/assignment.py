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
    """Slots are templates: as in evaluation, where each row comes under every one, after so many worked examples."""

    shots: int = 0
    passes: int = 1

    def __call__(self, numbers: "Numbers", slot: int) -> pl.DataFrame:
        """Return what `Assignment` says."""
        return _frame(numbers, 0, np.uint32(slot), np.uint8(self.shots), np.False_)


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
        options: the share of lists of options, and which templates may have one.
        passes: the number of slots.
    """

    names: tuple[object, ...]
    groups: Mapping[str, tuple[int, ...]]
    shares: Mapping[str, float]
    few_shot: tuple[float, int, int]
    options: tuple[float, tuple[bool, ...]]
    passes: int = 1

    def __call__(self, numbers: "Numbers", slot: int) -> pl.DataFrame:
        """Return what `Assignment` says."""
        template = self._templates(numbers, slot)
        share, least, most = self.few_shot
        shots = np.zeros(len(numbers), np.uint8)
        if share:
            draw = self._draw("few-shot", numbers, slot)
            count = least + hashing.draw(np.uint64(1), draw) % np.uint64(most - least + 1)
            shots = np.where(draw < hashing.threshold(share), count, 0).astype(np.uint8)
        listed, may = self.options
        options = np.zeros(len(numbers), np.bool_)
        if listed:
            options = (self._draw("options", numbers, slot) < hashing.threshold(listed)) & np.array(may)[template]
        return _frame(numbers, slot, template, shots, options)

    def _templates(self, numbers: "Numbers", slot: int) -> "NDArray[np.uint32]":
        draw = self._draw("template", numbers)
        chosen, edge = _pick(draw, slot, self.groups[PLAIN]), sum(self.shares.values())
        if self.shares:
            style = self._draw("style", numbers, slot)
        for name, share in reversed([*self.shares.items()]):
            chosen = np.where(style < hashing.threshold(edge), _pick(draw, slot, self.groups[name]), chosen)
            edge -= share
        return chosen

    def _draw(self, purpose: str, numbers: "Numbers", *more: object) -> "Numbers":
        return hashing.draw(np.uint64(hashing.key(*self.names, purpose, *more)), numbers)


def _pick(draws: "Numbers", slot: int, group: Sequence[int]) -> "NDArray[np.uint32]":
    """Return the template index that each draw picks from a group, or that many further on."""
    count = np.uint64(len(group))
    picked: NDArray[np.uint32] = np.array(group, np.uint32)[(draws % count + np.uint64(slot)) % count]
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
    exemplars: int,
    passes: int,
) -> Drawn:
    """Return how a mixture's styles fall on the templates of a task.

    Args:
        names: what the hashes depend on.
        templates: those that train.
        styles: the mixture's.
        optional: which templates may be followed by a list of options.
        exemplars: how many worked examples there are to show, beside a row itself.
        passes: the number of slots.
    """
    shares = {"inverted": styles.inverted, "chain-of-thought": styles.chain_of_thought}
    groups = {
        style: tuple(index for index, each in enumerate(templates) if each.style == style) for style in (PLAIN, *shares)
    }
    few = (0.0, 0, 0)
    if styles.few_shot is not None and styles.few_shot.k[0] <= exemplars:
        few = (styles.few_shot.share, styles.few_shot.k[0], min(styles.few_shot.k[1], exemplars))
    given = {style: share for style, share in shares.items() if share and groups[style]}
    return Drawn(names, groups, given, few, (styles.listing.share, tuple(optional)), passes)


def style_name(style: str, variant: int) -> str:
    """Return the name of a style: that of the template with what is wrapped around it, sorted words joined by `+`.

    The `variant` has a bit for each wrapper: worked examples (1), options (2).
    """
    words = [word for bit, word in enumerate(_WRAPPERS) if variant >> bit & 1]
    return "+".join(sorted([*words, *([] if style == PLAIN else [style])])) or PLAIN


def variant() -> pl.Expr:
    """Return the expression of the variant of assigned examples."""
    return (pl.col(SHOTS) > 0).cast(pl.UInt32) + 2 * pl.col(OPTIONS).cast(pl.UInt32)

"""A guess: the kind of a dataset, and which of its columns is which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Mapped = str | Sequence[str]
LabelWords = Sequence[str] | Mapping[str | int | bool, str]


@dataclass(frozen=True)
class Guess:
    """What a dataset may be.

    `columns` maps canonical columns to the source's; `where` holds conditions; `missing` are canonical columns that
    nothing was found for; `remarks` say, by the catalog's key, why something was guessed and what could not be.
    """

    kind: str
    columns: Mapping[str, Mapped] = field(default_factory=dict)
    labels: LabelWords | None = None
    where: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    remarks: tuple[tuple[str, str], ...] = ()

"""Two mixtures compared: their locks, then the rows of those splits that are not the same."""

from dataclasses import dataclass
from pathlib import Path

from taskmix.comparing.locks import LockChanges, compare_locks
from taskmix.comparing.rows import Mixture, SplitRows, compare_rows
from taskmix.output.lock import read_lock


@dataclass(frozen=True)
class Comparison:
    """What changed from the mixture in folder `a` to the one in `b`; `same_format`: whether texts are compared."""

    a: Path
    b: Path
    any: bool
    same_format: bool
    locks: LockChanges
    rows: tuple[SplitRows, ...]


def compare(a: Path, b: Path, examples: int = 5) -> Comparison:
    """Compare two mixtures.

    Args:
        a: the folder of the earlier one.
        b: the folder of the later one.
        examples: so many rows at most whose prompt or completion changed.

    Raises:
        OutputError: one of them is no mixture, or cannot be read.
    """
    first, second = Mixture(a, read_lock(a)), Mixture(b, read_lock(b))
    differ = first.lock["lock_sha256"] != second.lock["lock_sha256"]
    same_format = first.lock["spec"]["format"] == second.lock["spec"]["format"]
    rows = compare_rows(first, second, examples)
    return Comparison(a, b, differ, same_format, compare_locks(first.lock, second.lock), rows)

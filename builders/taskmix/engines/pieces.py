"""How the parts of a plan are cut for a cluster: by rows of the source, into pieces of about the same size."""

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import or_

from taskmix.mixing.examples import Turn
from taskmix.mixing.plan import Plan

_A_CPU = 4
"""How many pieces there are for each CPU, so that none waits long for the last."""
_LEAST, _MOST = 20_000, 1_000_000
"""Rows of a source in a piece: a task costs some milliseconds, a run in each band of hashes a read."""


def step(plan: Plan, cpus: int) -> int:
    """Return how many rows of a source make a piece. What the mixture holds does not depend on it."""
    rows = sum(part.rows.span[1] - part.rows.span[0] for part in plan.parts)
    return min(max(rows // (_A_CPU * cpus), _LEAST), _MOST)


def cut(turns: Sequence[Turn], rows: int) -> Iterator[tuple[Turn, ...]]:
    """Yield turns in pieces of so many rows of the source; none is empty."""
    first, end = reduce(or_, (turn.rows for turn in turns)).span
    for low in range(first, end, rows):
        inside = (Turn(turn.slot, turn.rows.within(low, min(low + rows, end))) for turn in turns)
        if piece := tuple(turn for turn in inside if len(turn.rows)):
            yield piece

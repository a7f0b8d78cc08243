"""The processes that train together, as `torchrun` or accelerate starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


def world() -> int:
    """Return how many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return the number of this one, from 0; the first one writes and prints."""
    return int(os.environ.get("RANK", "0"))


@contextmanager
def first_goes_first(*, on_cpu: bool) -> Iterator[None]:
    """Let the first process do the block before the others, which then find what it made.

    Where it fails, the others wait until whoever started them ends them, as torchrun does.
    """
    if world() == 1:
        yield
        return
    from accelerate import PartialState

    # without being told of the CPU it sees no other processes there, and would wait for none
    with PartialState(cpu=on_cpu).main_process_first():
        yield

"""Work on several threads, whose results come in the order in which it was given."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def in_order(jobs: Iterator[Callable[[], T]], threads: int, stop: Callable[[], None] = lambda: None) -> Iterator[T]:
    """Run jobs on threads, a few ahead, and yield their results in order.

    Args:
        jobs: what to run; the next is asked for when a thread is about to be free.
        threads: how many run at a time.
        stop: called when a job fails or the results are no longer wanted, to end those that still run.
    """
    with ThreadPoolExecutor(threads) as pool:
        running: deque[Future[T]] = deque()
        try:
            for job in jobs:
                running.append(pool.submit(job))
                if len(running) > threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except BaseException:
            # leaving the block waits for the threads
            stop()
            raise
        finally:
            for future in running:
                future.cancel()

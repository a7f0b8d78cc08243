"""A session with a Ray cluster: tasks go there, their results come back in order."""

import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from taskmix.errors import TaskmixError, UsageError

T = TypeVar("T")

_RETRIES = 5
"""How often a task is begun again after its process or node was lost, or a file system gave an error."""
_AHEAD = 2
"""Tasks under way for each CPU: one runs, the next is there when it ends."""
_ENVIRONMENT = {"POLARS_MAX_THREADS": "1"}
"""A task is given one CPU."""
_PATIENCE = 10.0
_HINT = "--ray-address, or $RAY_ADDRESS, is HOST:PORT of a cluster's head, with the Ray that is installed here"
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Set to 0, a Ray that is started here listens on the loopback address alone, on Linux too."""


@dataclass(frozen=True)
class Session:
    """A connection to a cluster. `width`: how many tasks may run at a time."""

    ray: Any
    width: int

    def share(self, value: object) -> Any:
        """Return a reference to a value that many tasks take, so that it is sent to a node once."""
        return self.ray.put(value)

    def each(self, work: Callable[..., T | TaskmixError], calls: Iterable[tuple[object, ...]]) -> Iterator[T]:
        """Run a function with the arguments of each call, some at a time, and yield the results in order.

        What is still under way is broken off when a task fails, or when the results are no longer wanted.

        Raises:
            TaskmixError: what a function gave as its result, or a task that was lost again and again.
        """
        remote = self.ray.remote(max_retries=_RETRIES, retry_exceptions=[OSError])(work)
        running: deque[Any] = deque()
        try:
            for call in calls:
                running.append(remote.remote(*call))
                if len(running) >= self.width * _AHEAD:
                    yield self._result(running.popleft())
            while running:
                yield self._result(running.popleft())
        except BaseException:
            for reference in running:
                self.ray.cancel(reference, force=True)
            raise

    def _result(self, reference: Any) -> Any:
        errors = self.ray.exceptions
        try:
            found = self.ray.get(reference)
        except errors.RayTaskError as error:
            if not isinstance(error.cause, OSError):
                raise
            hint = f"it was tried {_RETRIES + 1} times"
            raise TaskmixError(f"a task of the cluster failed: {error.cause}", hint=hint) from None
        except errors.RayError as error:
            message = f"a task of the cluster was lost {_RETRIES + 1} times: {_first_line(error)}"
            raise TaskmixError(message, hint="have its nodes memory enough? --workers runs fewer at a time") from None
        if isinstance(found, TaskmixError):
            raise found
        return found


@contextmanager
def session(address: str | None = None, width: int | None = None) -> Iterator[Session]:
    """Connect to a Ray cluster for as long as the block lasts, or start one on this machine.

    Args:
        address: the cluster's; by default $RAY_ADDRESS, and without it none.
        width: how many tasks may run at a time; by default one a CPU of the cluster.

    Raises:
        UsageError: Ray is not installed, or the cluster does not answer.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    ray = _imported(address)
    joined = ray.is_initialized()
    if not joined:
        _connect(ray, address, width)
    try:
        yield Session(ray, width or max(1, int(ray.cluster_resources().get("CPU", 1))))
    finally:
        if not joined:
            ray.shutdown()


def _imported(address: str) -> Any:
    # these are read when Ray is imported. Whoever wants to send statistics to its makers can say so
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == "local" and "ray" not in sys.modules:
        os.environ.setdefault(_LOOPBACK, "0")
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise UsageError("the engine ray needs Ray", hint="pip install 'taskmix[ray]'") from None
    return ray


def _connect(ray: Any, address: str, width: int | None) -> None:
    _check_listening(address)
    own: dict[str, Any] = {}
    if address == "local":
        own = {"include_dashboard": False, "num_cpus": width}
    try:
        ray.init(
            address=address,
            logging_level=logging.ERROR,
            log_to_driver=False,
            runtime_env={"env_vars": _ENVIRONMENT},
            **own,
        )
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise UsageError(f"the Ray cluster does not answer: {_first_line(error)}", where=address, hint=_HINT) from None


def _check_listening(address: str) -> None:
    """Raise UsageError if nothing listens at HOST:PORT on another machine: Ray itself tries for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    # of its own address Ray makes that of the machine's network
    if not host or not port.isdecimal() or host in ("127.0.0.1", "localhost", "[::1]"):
        return
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"nothing answers there: {error}", where=address, hint=_HINT) from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

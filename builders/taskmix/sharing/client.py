"""The hub's own client, made safe: every request ends, and the token goes to the hub alone.

`huggingface_hub` gives most of its requests no timeout, tries some of them again and others not, and logs addresses
that carry signatures. Here all of its requests pass a guard, and what is not tried again by itself is by `retried`.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from taskmix.errors import PushError, TaskmixError
from taskmix.text import visible

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
_LONGEST_WAIT = 330.0
"""Seconds; the hub counts requests in windows of five minutes."""
_RESET = re.compile(r"r\s*=\s*0\s*;\s*t\s*=\s*(\d+)")


@dataclass(frozen=True)
class Patience:
    """How long an answer is waited for, in seconds, and how often a request is tried that got none."""

    timeout: float = 60.0
    tries: int = 5

    @property
    def once(self) -> "Patience":
        """Return the patience for what the client itself tries again: it does so five times, within half a minute."""
        return replace(self, tries=1)

    def pauses(self) -> Iterator[float]:
        """Yield the seconds before each further try."""
        for number in range(self.tries - 1):
            yield min(1.0, self.timeout / 10) * 2**number


def default_patience() -> Patience:
    """Return the patience for commands: $TASKMIX_HUB_TIMEOUT seconds a request, or a minute."""
    try:
        return Patience(timeout=max(1.0, float(os.environ["TASKMIX_HUB_TIMEOUT"])))
    except (KeyError, ValueError):
        return Patience()


@contextmanager
def connected(patience: Patience) -> Iterator["HfApi"]:
    """Yield the hub's client, guarded: see the module. It uses the token of HF_TOKEN or of the login cache."""
    import huggingface_hub
    from huggingface_hub import HfApi
    from huggingface_hub.utils import _http

    api = HfApi(library_name="taskmix")
    # there is no way to ask for it, and a program that calls us may have set its own, with its proxies
    made: Callable[[], Any] = getattr(_http, "_GLOBAL_CLIENT_FACTORY", _http.default_client_factory)

    def guarded() -> Any:
        client = made()
        client.event_hooks["request"].append(_guard(api.endpoint, patience.timeout))
        return client

    huggingface_hub.set_client_factory(guarded)
    try:
        with _quiet():
            yield api
    finally:
        huggingface_hub.set_client_factory(made)


def _guard(home: str, timeout: float) -> Callable[[Any], None]:
    """Return what is done to each request before it is sent, those after a redirect too."""
    from urllib.parse import urlsplit

    limits = dict.fromkeys(("connect", "read", "write", "pool"), timeout) | {"connect": min(timeout, 20.0)}

    def guard(request: Any) -> None:
        asked = request.extensions.get("timeout") or {}
        request.extensions["timeout"] = limits | {name: value for name, value in asked.items() if value is not None}
        if _origin(urlsplit(str(request.url))) != _origin(urlsplit(home)):
            request.headers.pop("Authorization", None)

    return guard


def _origin(url: Any) -> tuple[str, str | None, int | None]:
    return url.scheme, url.hostname, url.port or {"http": 80, "https": 443}.get(url.scheme)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep bars and the addresses in the client's log from the user; what it waits for is passed on."""
    import huggingface_hub.utils

    bars: Any = huggingface_hub.utils
    log, relay = logging.getLogger("huggingface_hub"), _Relay()
    before = (log.handlers, log.propagate, log.level)
    shown = not bars.are_progress_bars_disabled()
    log.handlers, log.propagate = [relay], False
    log.setLevel(logging.WARNING)
    try:
        if shown:
            bars.disable_progress_bars()
        yield
    finally:
        log.handlers, log.propagate = before[:2]
        log.setLevel(before[2])
        if shown:
            bars.enable_progress_bars()


class _Relay(logging.Handler):
    """Passes on that the client waits, and nothing else: its other messages name addresses."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith(("Retrying in", "Rate limited")):
            _LOG.info("the hub did not answer well: %s", visible(text))


def retried(
    where: str,
    doing: str,
    action: Callable[[], T],
    patience: Patience,
    expected: tuple[type[Exception], ...] = (),
) -> T:
    """Return what an action gives that may be done more than once; tried again while its failure may pass.

    Raises:
        PushError: with what the hub said last. Errors that are `expected` are raised as they are.
    """
    for pause in (*patience.pauses(), None):
        try:
            return action()
        except expected:
            raise
        except Exception as error:
            if pause is None or not may_pass(error):
                raise meaning(error, where, doing) from None
            wait(error, pause)
    raise AssertionError(patience)


def wait(error: Exception, pause: float) -> None:
    """Wait as long as the hub asks for in an answer, or for `pause` seconds."""
    headers = getattr(getattr(_cause(error), "response", None), "headers", {})
    after, window = headers.get("Retry-After", ""), _RESET.search(headers.get("RateLimit", ""))
    asked = float(after) if after.isdigit() else float(window[1]) if window else 0.0
    seconds = min(max(pause, asked), _LONGEST_WAIT)
    _LOG.info("%s; trying again in %.0f s", reason(error), seconds)
    time.sleep(seconds)


def status_of(error: BaseException) -> int | None:
    """Return the status of the answer that an error is about; None if there was no answer."""
    response = getattr(_cause(error), "response", None)
    return getattr(response, "status_code", None)


def may_pass(error: BaseException) -> bool:
    """Return whether the same request may succeed later: no answer, a busy or broken hub, a page of something else."""
    found = _cause(error)
    # `OfflineModeIsEnabled` is what HF_HUB_OFFLINE makes of every request
    if isinstance(found, TaskmixError) or type(found).__name__ == "OfflineModeIsEnabled":
        return False
    if (status := status_of(found)) is not None:
        return status in _PASSING
    # its transport's errors have no class that lasts from one version of the client to the next
    module = type(found).__module__.partition(".")[0]
    return module in ("httpx", "httpx2", "httpcore", "httpcore2", "json") or isinstance(found, OSError)


def _cause(error: BaseException) -> BaseException:
    """Return what the client's remark that an upload failed was raised from."""
    return error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error


def meaning(error: Exception, where: str, doing: str) -> TaskmixError:
    """Return the error to show a user for one of the client."""
    if isinstance(error, TaskmixError):
        return error
    status = status_of(error)
    hint = "try again later: what was sent is not sent again"
    if status in (401, 403):
        hint = "log in with `hf auth login`, or set HF_TOKEN, with a token that may write there"
    elif status is not None and not may_pass(error):
        hint = ""
    return PushError(f"{doing} failed: {reason(error)}", where=where, hint=hint)


def reason(error: BaseException) -> str:
    """Return what went wrong in one line: without signatures in addresses, and never with the token."""
    from huggingface_hub import get_token

    found = _cause(error)
    text = " ".join(str(getattr(found, "server_message", None) or found).split())
    if token := get_token():
        text = text.replace(token, "(token)")
    text = re.sub(r"\?[^\s'\"]+", "", text)[:300]
    if (status := status_of(found)) is not None and str(status) not in text:
        text = f"{text} (status {status})"
    return visible(text or type(found).__name__)

"""One commit, on the parent that it was planned on, and what became of it when the answer does not say.

The hub takes a commit whole or not at all, and refuses it with 412 when the branch has moved from the parent. So a
commit can be tried again: a second one on the same parent cannot land after the first. After an answer that leaves it
open (none, or a failure of the server) the branch is asked: the mixture's lock, at the commit that came first after the
parent, is ours if and only if our commit landed.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taskmix.errors import PushError
from taskmix.sharing import pulls
from taskmix.sharing.client import may_pass, meaning, status_of, wait
from taskmix.sharing.remote import Head, Hub, Landed, LocalFile
from taskmix.text import visible

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

_LOG = logging.getLogger(__name__)
_MOVED = 412


@dataclass(frozen=True)
class Commit:
    """What a commit is to do: `lock` is the file by which it is known, on `parent`."""

    parent: Head
    files: "Sequence[CommitOperationAdd]"
    deletes: Sequence[str]
    lock: LocalFile
    message: str
    create_pr: bool = False


class ConflictError(PushError):
    """Somebody else pushed first."""


def commit(hub: Hub, what: Commit) -> Landed:
    """Make a commit, exactly once.

    Raises:
        PushError: it is not on the hub: refused, in conflict with somebody else's, or without an answer for too long.
    """
    before = pulls.numbers(hub) if what.create_pr else frozenset[int]()
    open_since: Exception | None = None
    for pause in (*hub.patience.pauses(), None):
        try:
            return _send(hub, what)
        except Exception as error:
            failure = error
        if _is_refusal(failure) and open_since is None:
            raise _failed(hub, failure, "is unchanged")
        if landed := _settled(hub, what, before):
            return landed
        if status_of(failure) == _MOVED:
            raise _conflict(hub, what, hub.commit_of(hub.place.revision))
        if pause is None or not may_pass(failure):
            raise _failed(hub, failure, "was unchanged when it was looked at after that")
        open_since = open_since or failure
        wait(failure, pause)
    raise AssertionError(what)


def _send(hub: Hub, what: Commit) -> Landed:
    from huggingface_hub import CommitOperationDelete

    operations: list[Any] = [*what.files, *(CommitOperationDelete(path, is_folder=False) for path in what.deletes)]
    with _remarks():
        done = hub.api.create_commit(
            hub.id,
            operations,
            commit_message=what.message,
            repo_type="dataset",
            revision=hub.place.revision,
            parent_commit=what.parent.commit,
            create_pr=what.create_pr,
        )
    return Landed(done.oid, done.pr_num)


@contextmanager
def _remarks() -> Iterator[None]:
    """Log what the client warns of, such as what the hub remarks on the card."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield
    for each in found:
        _LOG.warning("warning: %s", visible(" ".join(str(each.message).split())))


def _is_refusal(error: Exception) -> bool:
    """Return whether an error says that nothing was committed: what is wrong is the card, or the request."""
    status = status_of(error)
    if status is None:
        return isinstance(error, ValueError) and "Invalid metadata" in str(error)
    return 400 <= status < 500 and status != _MOVED and not may_pass(error)


def _failed(hub: Hub, error: Exception, branch: str) -> PushError:
    told = meaning(error, str(hub.place), "the commit")
    return PushError(f"{told.message}; {hub.place.revision} {branch}", where=told.where, hint=told.hint)


def _settled(hub: Hub, what: Commit, before: frozenset[int]) -> Landed | None:
    """Return what `_settle` does, or say that nobody knows."""
    try:
        return _settle(hub, what, before)
    except PushError as error:
        if isinstance(error, ConflictError):
            raise
        message = f"no answer to the commit, and none to whether it landed: {error.message}"
        hint = "push again: that looks first, and commits only if it did not land"
        raise PushError(message, where=error.where, hint=hint) from None


def _settle(hub: Hub, what: Commit, before: frozenset[int]) -> Landed | None:
    """Return what became of a commit that got no clear answer; None if it is not there.

    Raises:
        PushError: somebody else's commit is on the parent, so that ours can no longer come.
    """
    if what.create_pr:
        return pulls.find(hub, what.lock, pulls.numbers(hub) - before)
    now = hub.commit_of(hub.place.revision)
    if now == what.parent.commit:
        return None
    first = hub.first_after(hub.place.revision, what.parent.commit) or now
    found = hub.one_file(first, what.lock.path)
    if found is None or not found.holds(what.lock):
        raise _conflict(hub, what, now)
    return Landed(first, behind=None if first == now else now)


def _conflict(hub: Hub, what: Commit, now: str) -> ConflictError:
    branch, parent = hub.place.revision, what.parent.commit
    return ConflictError(
        f"{branch} has moved from {parent[:10]} to {now[:10]} since this push began: somebody else pushed",
        where=str(hub.place),
        hint="nothing of this push is on it; look at what is there, then push again",
    )

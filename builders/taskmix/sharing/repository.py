"""The repository and the branch that a push goes to: found, or made."""

import time
from dataclasses import dataclass

from taskmix.errors import PushError
from taskmix.sharing.client import meaning, retried
from taskmix.sharing.remote import Head, Hub


@dataclass(frozen=True)
class Target:
    """What is there before a push. `makes` names what a push has to make first: a repository, a branch."""

    head: Head | None
    makes: tuple[str, ...] = ()


def look(hub: Hub, *, private: bool) -> Target:
    """Return what is at the hub's place now.

    Raises:
        PushError: nobody is logged in, the place cannot be pushed to, or the repository is public although it is to
            be private.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    if get_token() is None:
        hint = "run `hf auth login`, or set HF_TOKEN to a token that may write"
        raise PushError("nobody is logged in to the hub", where=str(hub.place), hint=hint)
    try:
        target = Target(hub.head(hub.place.revision))
    except RevisionNotFoundError:
        target = _without_branch(hub)
    except RepositoryNotFoundError as error:
        if getattr(error.response, "status_code", 404) == 401:
            raise meaning(error, str(hub.place), "reading the repository") from None
        target = Target(None, (f"the {'private' if private else 'public'} repository {hub.id}", *_branch(hub)))
    if private and target.head is not None and not target.head.private:
        hint = "push to another repository, or make it private in its settings first"
        raise PushError("the repository is public, and --private was asked for", where=str(hub.place), hint=hint)
    return target


def _without_branch(hub: Hub) -> Target:
    """Return what a branch will start from that is not there yet."""
    from huggingface_hub.errors import RevisionNotFoundError

    branch = hub.place.revision
    if branch.startswith("refs/"):
        raise PushError(f"the repository has no {branch}", where=str(hub.place), hint="--create-pr opens a new one")
    try:
        return Target(hub.head("main"), _branch(hub))
    except RevisionNotFoundError:
        raise PushError("the repository has no branch main to start from", where=str(hub.place)) from None


def _branch(hub: Hub) -> tuple[str, ...]:
    return () if hub.place.revision == "main" else (f"the branch {hub.place.revision}",)


def make(hub: Hub, target: Target, *, private: bool) -> Head:
    """Make the repository and the branch that are not there, and return what the branch holds then."""
    if not target.makes:
        assert target.head is not None
        return target.head
    if target.head is None:
        _create_repository(hub, private=private)
    if branch := _branch(hub):
        retried(str(hub.place), f"making {branch[0]}", lambda: _create_branch(hub), hub.patience)
    return _head_of_new(hub)


def _create_repository(hub: Hub, *, private: bool) -> None:
    """Make the repository; if an earlier answer was lost, it exists already, which is as well."""

    def create() -> None:
        hub.api.create_repo(hub.id, repo_type="dataset", private=private, exist_ok=True)

    retried(str(hub.place), "making the repository", create, hub.patience)


def _create_branch(hub: Hub) -> None:
    hub.api.create_branch(hub.id, branch=hub.place.revision, revision="main", repo_type="dataset", exist_ok=True)


def _head_of_new(hub: Hub) -> Head:
    """Return what a branch holds that was just made: for a moment, the hub may not know of it."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    for pause in (*hub.patience.pauses(), None):
        try:
            return hub.head(hub.place.revision)
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            if pause is None:
                raise meaning(error, str(hub.place), "reading the new repository") from None
            time.sleep(pause)
    raise AssertionError(hub.place)

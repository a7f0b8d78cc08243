"""Tags: one that is there stays where it is."""

import re

from taskmix.errors import PushError, UsageError
from taskmix.sharing.client import retried
from taskmix.sharing.remote import Hub, LocalFile
from taskmix.text import quoted

_NAME = re.compile(r"(?!.*(\.\.|\.lock$|/$|//))[A-Za-z0-9_][\w./+-]*")


def check_name(tag: str | None) -> None:
    """Raise UsageError if a tag cannot have this name."""
    if tag is not None and not _NAME.fullmatch(tag):
        raise UsageError(f"a tag cannot be named {quoted(tag)}", hint="letters, digits, `.`, `_`, `-`, `+` and `/`")


def check_free(hub: Hub, tag: str, lock: LocalFile) -> None:
    """Raise PushError if a tag is there and its commit holds anything but the mixture with this lock."""
    commit = _target(hub, tag)
    if commit is None:
        return
    found = hub.one_file(commit, lock.path)
    if found is None or not found.holds(lock):
        hint = "a tag is never moved: choose another name"
        raise PushError(f"the tag {tag} is there already, on commit {commit[:10]}", where=str(hub.place), hint=hint)


def make(hub: Hub, tag: str, commit: str, lock: LocalFile) -> None:
    """Tag a commit. A tag that is there already, on a commit with the same mixture, is as well.

    Raises:
        PushError: the tag could not be made, or somebody else took it.
    """

    def create() -> None:
        hub.api.create_tag(hub.id, tag=tag, revision=commit, repo_type="dataset", exist_ok=True)

    try:
        retried(str(hub.place), f"tagging {tag}", create, hub.patience)
        check_free(hub, tag, lock)
    except PushError as error:
        message = f"the mixture is pushed, as commit {commit[:10]}, but without the tag {tag}: {error.message}"
        raise PushError(message, where=error.where, hint=error.hint or "push again to tag it") from None


def _target(hub: Hub, tag: str) -> str | None:
    refs = retried(
        str(hub.place), "listing the tags", lambda: hub.api.list_repo_refs(hub.id, repo_type="dataset"), hub.patience
    )
    return next((each.target_commit for each in refs.tags if each.name == tag), None)

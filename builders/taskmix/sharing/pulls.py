"""Pull requests: the open ones, and the one that proposes a mixture."""

from collections.abc import Collection

from taskmix.sharing.client import retried
from taskmix.sharing.remote import Hub, Landed, LocalFile


def numbers(hub: Hub) -> frozenset[int]:
    """Return the numbers of the open pull requests."""

    def listed() -> frozenset[int]:
        found = hub.api.get_repo_discussions(
            hub.id, repo_type="dataset", discussion_type="pull_request", discussion_status="open"
        )
        return frozenset(each.num for each in found if each.is_pull_request and each.status == "open")

    return retried(str(hub.place), "listing the pull requests", listed, hub.patience)


def find(hub: Hub, lock: LocalFile, among: Collection[int]) -> Landed | None:
    """Return the newest pull request whose head has this lock; None if none of them has."""
    from huggingface_hub.errors import RevisionNotFoundError

    for number in sorted(among, reverse=True):
        try:
            commit, _ = hub.ask(f"refs/pr/{number}")
        except RevisionNotFoundError:
            continue
        found = hub.one_file(commit, lock.path)
        if found is not None and found.holds(lock):
            return Landed(commit, number)
    return None

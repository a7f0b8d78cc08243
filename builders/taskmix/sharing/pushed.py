"""What is asked of a push, what it tells while it works, and what it did."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from taskmix.sharing.uploading import no_progress


@dataclass(frozen=True)
class Options:
    """How to push. All but `dry_run` concern the hub alone."""

    private: bool = False
    tag: str | None = None
    create_pr: bool = False
    message: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Reporter:
    """What is called while bytes are sent: with how many there will be, how many went just now, and at the end."""

    start: Callable[[int], None] = no_progress
    sent: Callable[[int], None] = no_progress
    finish: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Pushed:
    """What a push did, or with `dry_run` would do.

    `commit` holds the mixture, on the hub; `behind` is what the branch has moved on to since, `pull` the number of
    the pull request. `sent` gives the bytes of each file that was not there, `stored` how many bytes of them the hub
    had all the same, from a push that broke off or under another name; `kept` counts the files that were there.
    """

    place: str
    url: str
    sent: Mapping[str, int]
    deleted: tuple[str, ...]
    kept: int
    stored: int = 0
    commit: str | None = None
    behind: str | None = None
    pull: int | None = None
    tag: str | None = None
    made: tuple[str, ...] = ()
    dry_run: bool = False

    @property
    def is_change(self) -> bool:
        """Return whether there was anything to do, but for a tag."""
        return bool(self.sent or self.deleted)

    @property
    def bytes(self) -> int:
        """Return the bytes of all that was sent."""
        return sum(self.sent.values())

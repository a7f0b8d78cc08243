"""A push to the hub, step by step: look, plan, make, upload, commit, check, tag."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskmix.errors import PushError, UsageError
from taskmix.sharing import cards, committing, planning, pulls, repository, tagging, uploading
from taskmix.sharing.client import Patience, connected
from taskmix.sharing.places import HubPlace
from taskmix.sharing.pushed import Options, Pushed, Reporter
from taskmix.sharing.remote import Head, Hub, Landed, LocalFile
from taskmix.text import visible

_SHOWN = 5


@dataclass
class _Tally:
    """Counts the bytes that go, from several threads."""

    report: Callable[[int], None]
    bytes: int = 0
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def add(self, size: int) -> None:
        """Count bytes, and pass on how many."""
        with self._counting:
            self.bytes += size
        self.report(size)


@dataclass(frozen=True)
class _Done:
    """What a push did: the change, where it is, and the bytes that the hub had stored already."""

    change: planning.Change
    landed: Landed | None
    stored: int = 0


@dataclass(frozen=True)
class _Push:
    """A push: to where, what, known by the mixture's lock, and how."""

    hub: Hub
    files: Sequence[LocalFile]
    lock: LocalFile
    mixture: str
    options: Options
    report: Reporter

    def plan(self, head: Head | None) -> planning.Change:
        """Return what is to be done to a head."""
        return planning.plan(self.files, head, self.hub.place.folder)


def push(
    folder: Path, lock: Mapping[str, Any], place: HubPlace, options: Options, report: Reporter, patience: Patience
) -> Pushed:
    """Push a verified mixture to a repository, in one commit or, if it is there already, none.

    Raises:
        PushError: it is not there; the message says what is.
        UsageError: the options contradict each other.
    """
    check_options(place, options)
    with connected(patience) as api:
        hub = Hub(api, place, patience)
        target = repository.look(hub, private=options.private)
        planning.check_layout(place, target.head)
        own = planning.local_files(folder, lock, place.folder)
        files = [*own, *cards.root_card(hub, target.head, folder)]
        what = _Push(hub, files, own[-1], lock["mixture"], options, report)
        if options.tag and target.head:
            tagging.check_free(hub, options.tag, what.lock)
        if options.dry_run:
            return _result(what, _Done(what.plan(target.head), None), target.makes)
        done = _land(what, repository.make(hub, target, private=options.private))
        if options.tag and done.landed:
            tagging.make(hub, options.tag, done.landed.commit, what.lock)
        return _result(what, done, target.makes)


def check_options(place: HubPlace, options: Options) -> None:
    """Raise UsageError for what cannot be asked for together."""
    tagging.check_name(options.tag)
    if place.is_commit:
        raise UsageError("nothing can be pushed to a commit", where=str(place), hint="--revision names a branch")
    if options.create_pr and options.tag:
        raise UsageError("--tag does not go with --create-pr", hint="tag it when the pull request is merged")
    if options.create_pr and place.revision != "main":
        raise UsageError("--create-pr proposes a change of main", hint="leave out --revision")


def _land(what: _Push, head: Head) -> _Done:
    """Do what a push has to do."""
    change = what.plan(head)
    if not change:
        return _Done(change, Landed(head.commit))
    if what.options.create_pr and (found := pulls.find(what.hub, what.lock, pulls.numbers(what.hub))):
        return _Done(planning.Change((), (), what.files), found)
    landed, stored = _send(what, head, change)
    _check(what.hub, landed.commit, what.files)
    return _Done(change, landed, stored)


def _send(what: _Push, head: Head, change: planning.Change) -> tuple[Landed, int]:
    """Upload, and commit; return also how many bytes the hub had stored already."""
    hub, create_pr = what.hub, what.options.create_pr
    tally = _Tally(what.report.sent)
    what.report.start(change.size)
    before = uploading.stamps(change.sends)
    additions = uploading.additions(change.sends, tally.add)
    uploading.upload(hub, additions, hub.place.revision, create_pr=create_pr)
    if uploading.stamps(change.sends) != before:
        raise PushError("the folder was changed while it was pushed", where=str(hub.place), hint="push again")
    counted = sum(file.size for file in change.sends if isinstance(file.source, Path))
    message = what.options.message or f"Push the mixture {visible(what.mixture)}"
    commit = committing.Commit(head, additions, change.deletes, what.lock, message, create_pr)
    landed = committing.commit(hub, commit)
    what.report.finish()
    return landed, max(0, counted - tally.bytes)


def _check(hub: Hub, commit: str, files: Sequence[LocalFile]) -> None:
    """Check the hub's own hash of every file against the lock. Raises PushError if one differs, or cannot be known."""
    try:
        there = hub.files(commit)
    except PushError as error:
        message = f"the mixture is on the hub, as commit {commit[:10]}, but could not be checked: {error.message}"
        raise PushError(message, where=error.where, hint="push again: it checks what is there") from None
    wrong = [file.path for file in files if file.path not in there or not there[file.path].holds(file)]
    if wrong:
        named = ", ".join(wrong[:_SHOWN]) + (", …" if len(wrong) > _SHOWN else "")
        raise PushError(
            f"the commit {commit[:10]} is on the hub, but holds something else than the lock says: {named}",
            where=str(hub.place),
            hint="push again; if it stays so, do not use this commit",
        )


def _result(what: _Push, done: _Done, makes: Sequence[str]) -> Pushed:
    place, options, landed = what.hub.place, what.options, done.landed
    return Pushed(
        place=str(place),
        url=place.url,
        commit=landed.commit if landed else None,
        behind=landed.behind if landed else None,
        pull=landed.pull if landed else None,
        tag=options.tag,
        sent={file.path: file.size for file in done.change.sends},
        stored=done.stored,
        deleted=tuple(done.change.deletes),
        kept=len(done.change.kept),
        made=tuple(makes),
        dry_run=options.dry_run,
    )

"""What a dataset repository holds at a commit, by the hub's own hashes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from taskmix.errors import PushError
from taskmix.sharing.client import Patience, meaning, retried
from taskmix.sharing.places import HubPlace

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True)
class LocalFile:
    """A file to be in the repository at `path`: its bytes lie in `source`, or are `source`."""

    path: str
    source: Path | bytes
    sha256: str
    size: int

    @cached_property
    def blob(self) -> str:
        """Return git's name of the content, which is all that the hub tells of a small file."""
        content = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class RemoteFile:
    """A file of a commit: `sha256` of its content if the hub stores it as a large one, else git's `blob`."""

    path: str
    size: int
    blob: str
    sha256: str | None

    def holds(self, file: LocalFile) -> bool:
        """Return whether this is the same content."""
        if self.size != file.size:
            return False
        return self.sha256 == file.sha256 if self.sha256 is not None else self.blob == file.blob


@dataclass(frozen=True)
class Head:
    """The commit that a revision names, and its files by path."""

    commit: str
    private: bool
    files: Mapping[str, RemoteFile] = field(repr=False)


@dataclass(frozen=True)
class Landed:
    """A commit that is on the hub; `pull` is the number of the pull request that holds it, if it is in one.

    `behind` is the commit that the branch has moved on to since, if it has.
    """

    commit: str
    pull: int | None = None
    behind: str | None = None


@dataclass(frozen=True)
class Hub:
    """A repository on the hub, and the client that asks about it."""

    api: "HfApi"
    place: HubPlace
    patience: Patience

    @property
    def id(self) -> str:
        """Return `org/name`."""
        return self.place.repository

    def commit_of(self, revision: str) -> str:
        """Return the commit that a revision names. Raises PushError if the hub does not say."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        try:
            return self.ask(revision)[0]
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise meaning(error, str(self.place), "reading the repository") from None

    def ask(self, revision: str) -> tuple[str, bool]:
        """Return the commit that a revision names, and whether the repository is private.

        Raises:
            RepositoryNotFoundError, RevisionNotFoundError: of the client, as they are.
            PushError: the hub does not say.
        """
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

        timeout = self.patience.timeout
        try:
            info = retried(
                str(self.place),
                "reading the repository",
                lambda: self.api.dataset_info(self.id, revision=revision, timeout=timeout),
                self.patience,
                (RepositoryNotFoundError, RevisionNotFoundError),
            )
        except GatedRepoError as error:
            raise meaning(error, str(self.place), "reading the repository") from None
        if info.sha is None:
            raise PushError("the hub names no commit", where=str(self.place))
        return info.sha, bool(info.private)

    def head(self, revision: str) -> Head:
        """Return what a revision holds now; raises as `ask`."""
        commit, private = self.ask(revision)
        return Head(commit, private, self.files(commit))

    def files(self, commit: str) -> Mapping[str, RemoteFile]:
        """Return the files of a commit by path."""
        from huggingface_hub import RepoFile

        listed = retried(
            str(self.place),
            "listing the repository",
            lambda: list(self.api.list_repo_tree(self.id, recursive=True, revision=commit, repo_type="dataset")),
            self.patience.once,
        )
        found = [each for each in listed if isinstance(each, RepoFile)]
        return {
            each.path: RemoteFile(each.path, each.size, each.blob_id, each.lfs.sha256 if each.lfs else None)
            for each in found
        }

    def one_file(self, commit: str, path: str) -> RemoteFile | None:
        """Return a file of a commit; None if it has none of the name."""
        from huggingface_hub import RepoFile

        found = retried(
            str(self.place),
            "reading the repository",
            lambda: self.api.get_paths_info(self.id, [path], revision=commit, repo_type="dataset"),
            self.patience,
        )
        for each in found:
            if isinstance(each, RepoFile):
                return RemoteFile(each.path, each.size, each.blob_id, each.lfs.sha256 if each.lfs else None)
        return None

    def first_after(self, revision: str, parent: str) -> str | None:
        """Return the commit of a revision that came right after `parent`; None if there is none."""
        listed = retried(
            str(self.place),
            "listing the commits",
            lambda: self.api.list_repo_commits(self.id, revision=revision, repo_type="dataset"),
            self.patience.once,
        )
        commits = [each.commit_id for each in listed]
        position = commits.index(parent) if parent in commits else 0
        return commits[position - 1] if position else None

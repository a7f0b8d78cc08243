"""What a hub holds, as files: repositories with commits and refs, and the contents of their files."""

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

DATE = "2024-01-01T00:00:00.000Z"
MAIN = "refs/heads/main"


class Entry(TypedDict):
    """A file of a commit. `oid` is git's name of what git holds: the content, or the pointer to a large file."""

    oid: str
    sha256: str
    size: int
    lfs: bool


class Commit(TypedDict):
    """A commit: all of its files by path."""

    parent: str | None
    message: str
    files: dict[str, Entry]


class Pull(TypedDict):
    """A pull request; its commits are on `refs/pr/N`."""

    title: str
    author: str
    status: str


class Access(TypedDict):
    """Who may read a repository."""

    private: bool
    gated: bool
    readers: list[str]


class State(Access):
    """A repository: who may read it, its commits by sha, the commit of each ref (`refs/heads/main`), pull requests."""

    commits: dict[str, Commit]
    refs: dict[str, str]
    pulls: dict[str, Pull]


@dataclass(frozen=True)
class Repository:
    """A dataset repository below a server's folder; tests change it directly, the server when it is asked to."""

    root: Path
    id: str

    @property
    def path(self) -> Path:
        return self.root / "repositories" / f"{self.id}.json"

    def create(self, *, private: bool = False, gated: bool = False, readers: tuple[str, ...] = ()) -> "Repository":
        """Write a repository without commits. `readers` are the users who may read a private or gated one."""
        access: Access = {"private": private, "gated": gated, "readers": list(readers)}
        self.write({**access, "commits": {}, "refs": {}, "pulls": {}})
        return self

    def read(self) -> State:
        state: State = json.loads(self.path.read_text("utf-8"))
        return state

    def write(self, state: State) -> None:
        replace(self.path, json.dumps(state))

    def commit(self, files: Mapping[str, bytes | str | None], ref: str = MAIN, message: str = "Change files") -> str:
        """Add a commit on a ref and return its sha; a file that is None is deleted, one not named stays."""
        state = self.read()
        changes = {path: None if content is None else self.store(path, content) for path, content in files.items()}
        sha = self.add(state, changes, ref, state["refs"].get(ref), message)
        self.write(state)
        return sha

    def add(self, state: State, changes: Mapping[str, Entry | None], ref: str, parent: str | None, message: str) -> str:
        """Add a commit to a state and return its sha; a file that is None is deleted."""
        kept = dict(state["commits"][parent]["files"]) if parent else {}
        for path, entry in changes.items():
            kept.pop(path, None)
            if entry is not None:
                kept[path] = entry
        commit: Commit = {"parent": parent, "message": message, "files": kept}
        sha = hashlib.sha1(json.dumps([self.id, ref, commit], sort_keys=True).encode()).hexdigest()
        state["commits"][sha] = commit
        state["refs"][ref] = sha
        return sha

    def log(self, ref: str = MAIN) -> list[str]:
        """Return the messages of the commits that lead to a ref, the last first."""
        state = self.read()
        found, sha = [], state["refs"].get(ref)
        while sha:
            found.append(state["commits"][sha]["message"])
            sha = state["commits"][sha]["parent"]
        return found

    def files(self, ref: str = MAIN) -> dict[str, bytes]:
        """Return the contents of the files at a ref by path, but for .gitattributes."""
        state = self.read()
        entries = state["commits"][state["refs"][ref]]["files"]
        contents = {path: (self.root / "objects" / entry["sha256"]).read_bytes() for path, entry in entries.items()}
        return {path: content for path, content in contents.items() if path != ".gitattributes"}

    def point(self, ref: str, revision: str) -> None:
        """Make a branch (`refs/heads/…`) or a tag (`refs/tags/…`), or move it."""
        state = self.read()
        commit = find_commit(state, revision)
        assert commit, revision
        state["refs"][ref] = commit
        self.write(state)

    def store(self, path: str, content: bytes | str) -> Entry:
        """Keep a content, and return its file at a path."""
        data = content.encode() if isinstance(content, str) else content
        sha256 = hashlib.sha256(data).hexdigest()
        replace(self.root / "objects" / sha256, data)
        if is_large(path, len(data)):
            return large(sha256, len(data))
        return {"oid": git_oid(data), "sha256": sha256, "size": len(data), "lfs": False}


def large(sha256: str, size: int) -> Entry:
    """Return a large file: git holds a pointer to it."""
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
    return {"oid": git_oid(pointer), "sha256": sha256, "size": size, "lfs": True}


def is_large(path: str, size: int) -> bool:
    """Return whether git holds a pointer: .gitattributes says so of every binary data format, the hub of all else."""
    return path.endswith((".parquet", ".arrow", ".zip")) or size > 10_000_000


def find_commit(state: State, revision: str) -> str | None:
    """Return the commit that a sha, a branch, a tag or a full ref names."""
    if revision in state["commits"]:
        return revision
    names = (revision, f"refs/heads/{revision}", f"refs/tags/{revision}")
    return next((state["refs"][name] for name in names if name in state["refs"]), None)


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def replace(path: Path, content: str | bytes) -> None:
    """Write a file so that whoever reads it meanwhile sees the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{threading.get_ident()}.part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    part.replace(path)


def load(path: Path, default: Any) -> Any:
    return json.loads(path.read_text("utf-8")) if path.is_file() else default

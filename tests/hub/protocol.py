"""A request to the hub and an answer, whatever they are about."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

from tests.hub.state import Repository, State, find_commit, load

API = r"/api/datasets/(?P<id>[^/]+/[^/]+)"


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """Carries the answer to a request that cannot be met."""

    def __init__(
        self, status: int, code: str, message: str, more: Mapping[str, str] | None = None, **headers: str
    ) -> None:
        body = json.dumps({"error": message, **(more or {})}).encode()
        codes = {"X-Error-Code": code} if code else {}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer = Answer(status, body, {**codes, "X-Error-Message": message, **named})
        super().__init__(message)


@dataclass(frozen=True)
class Request:
    """What a route's function is given: the parts of the path that its pattern names are in `parts`, unquoted."""

    folder: Path
    hub_url: str
    storage_url: str
    method: str
    parts: Mapping[str, str]
    query: Mapping[str, list[str]]
    headers: Message
    body: bytes

    def user(self) -> str | None:
        """Return who asks. Raises RefusedError for a token that nobody has."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token:
            return None
        users: dict[str, str] = load(self.folder / "tokens.json", {})
        if token not in users:
            raise RefusedError(401, "", "Invalid credentials in Authorization header")
        return users[token]

    def writer(self, id: str) -> str:
        """Return who asks, if they may write to this repository. Raises RefusedError if not."""
        user = self.user()
        if user is None:
            raise RefusedError(401, "", "Invalid username or password.")
        if id.split("/")[0] not in (user, *load(self.folder / "orgs.json", {}).get(user, ())):
            raise RefusedError(403, "", "You don't have the rights to write to this repository")
        return user

    @property
    def stored(self) -> Repository:
        """Return the repository that the path names; it need not exist."""
        return Repository(self.folder, self.parts["id"])

    def repository(self) -> tuple[State, bool]:
        """Return the repository that the path names, and whether its files may be read."""
        user = self.user()
        state: State | None = load(self.stored.path, None)
        if state is None or (state["private"] and user not in state["readers"]):
            # who is logged in learns that it is not there; others, that they would have to log in
            raise RefusedError(404 if user else 401, "RepoNotFound", "Repository not found")
        return state, not state["gated"] or user in state["readers"]

    def commit(self, state: State) -> str:
        """Return the commit that the path's `revision` names. Raises RefusedError if there is none."""
        revision = self.parts.get("revision", "main")
        sha = find_commit(state, revision)
        if sha is None:
            raise RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def setting(self, name: str, default: int) -> int:
        """Return what a test chose for the whole server."""
        return int(load(self.folder / "settings.json", {}).get(name, default))

    def json(self) -> Any:
        """Return the body's value."""
        return json.loads(self.body)


def answered(value: object, **headers: str) -> Answer:
    """Return an answer of JSON."""
    return Answer(200, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


Route = tuple[str, str, str, Callable[[Request], Answer]]
"""Origin, method (HEAD asks what GET gives), the quoted path, and what answers; all else is not found."""

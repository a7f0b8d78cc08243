"""What a hub does for those who write to it: repositories, uploads, commits, branches and tags.

Every function runs while no other does (`Server` sees to it), as the real hub orders the changes of a repository.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

from tests.hub.cards import faults_of_card
from tests.hub.protocol import API, Answer, RefusedError, Request, Route, answered
from tests.hub.state import Entry, Repository, State, find_commit, git_oid, is_large, large, replace

SIGNED = "signature=given-by-the-hub"
"""What the storage wants to see in an address, as S3 does: the hub gave it to somebody who may write."""


def create(request: Request) -> Answer:
    """Make a repository with one commit, of .gitattributes."""
    asked = request.json()
    assert asked["type"] == "dataset", asked
    user = request.user()
    id = f"{asked['organization'] or user}/{asked['name']}"
    request.writer(id)
    repository, url = Repository(request.folder, id), f"{request.hub_url}/datasets/{id}"
    if repository.path.is_file():
        raise RefusedError(409, "", "You already created this dataset repo", {"url": url})
    repository.create(private=asked.get("visibility") == "private", readers=(str(user),))
    repository.commit({".gitattributes": "*.parquet filter=lfs diff=lfs merge=lfs -text\n"}, message="initial commit")
    return answered({"url": url, "name": id, "id": "0123456789abcdef"})


def validate_yaml(request: Request) -> Answer:
    errors, warnings = faults_of_card(request.json()["content"])
    found = {"errors": [{"message": each} for each in errors], "warnings": [{"message": each} for each in warnings]}
    body = json.dumps(found).encode()
    return Answer(400 if errors else 200, body, {"Content-Type": "application/json"})


def preupload(request: Request) -> Answer:
    """Say of each file whether it is a large one, and what the revision has under its name."""
    state, _ = request.repository()
    if "create_pr" not in request.query:
        request.writer(request.parts["id"])
    there = state["commits"][request.commit(state)]["files"]
    files = []
    for file in request.json()["files"]:
        mode = "lfs" if is_large(file["path"], file["size"]) else "regular"
        entry = there.get(file["path"])
        oid = None if entry is None else entry["sha256"] if entry["lfs"] else entry["oid"]
        files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return answered({"files": files})


def batch(request: Request) -> Answer:
    """Say where the bytes of each large file are to be put; nowhere if they are stored already."""
    request.repository()
    if request.user() is None:
        raise RefusedError(401, "", "Invalid username or password.")
    asked = request.json()
    assert asked["operation"] == "upload", asked
    assert asked["hash_algo"] == "sha256", asked
    objects = [{**each, **_actions(request, each["oid"], each["size"])} for each in asked["objects"]]
    return Answer(200, json.dumps({"transfer": "basic", "objects": objects}).encode(), {"Content-Type": _LFS})


_LFS = "application/vnd.git-lfs+json"


def _actions(request: Request, oid: str, size: int) -> dict[str, Any]:
    if _is_known(request, oid):
        return {}
    place = f"{request.storage_url}/incoming/{oid}"
    part = request.setting("part", 5 << 30)
    upload: dict[str, Any] = {"href": f"{place}?{SIGNED}"}
    if size > part:
        urls = {str(number + 1): f"{place}/{number + 1}?{SIGNED}" for number in range(ceil(size / part))}
        upload = {"href": f"{request.hub_url}/api/complete/{oid}?{SIGNED}", "header": {"chunk_size": str(part), **urls}}
    verify = {"href": f"{request.hub_url}/datasets/{request.parts['id']}.git/info/lfs/objects/verify"}
    return {"actions": {"upload": upload, "verify": verify}}


def put(request: Request) -> Answer:
    """Take the bytes of a large file, or of a part of one."""
    _check_signed(request)
    if "Authorization" in request.headers:
        raise RefusedError(400, "", "InvalidArgument: only one auth mechanism is allowed")
    part = request.parts.get("part")
    replace(request.folder / "incoming" / request.parts["oid"] / (part or "whole"), request.body)
    return Answer(200, b"", {"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})


def complete(request: Request) -> Answer:
    """Put the parts of a large file together."""
    _check_signed(request)
    place = request.folder / "incoming" / request.parts["oid"]
    parts = []
    for number, part in enumerate(request.json()["parts"], 1):
        content = (place / str(number)).read_bytes()
        assert part == {"partNumber": number, "etag": f'"{hashlib.md5(content).hexdigest()}"'}, part
        parts.append(content)
    replace(place / "whole", b"".join(parts))
    return answered({"success": True})


def _check_signed(request: Request) -> None:
    if request.query.get("signature") != [SIGNED.partition("=")[2]]:
        raise RefusedError(403, "", "AccessDenied")


def verify(request: Request) -> Answer:
    """Keep the bytes that were put, if they are what was announced."""
    request.repository()
    asked = request.json()
    whole = request.folder / "incoming" / asked["oid"] / "whole"
    content = whole.read_bytes() if whole.is_file() else b""
    if len(content) != asked["size"] or hashlib.sha256(content).hexdigest() != asked["oid"]:
        raise RefusedError(422, "", "the object is not what was announced")
    replace(request.folder / "objects" / asked["oid"], content)
    replace(_known(request, asked["oid"]), b"")
    return answered({})


def _known(request: Request, oid: str) -> Path:
    """Return the mark that a repository was given an object: what another has is no concern of it."""
    return request.folder / "known" / request.parts["id"] / oid


def _is_known(request: Request, oid: str) -> bool:
    commits = request.stored.read()["commits"].values()
    committed = any(file["sha256"] == oid for commit in commits for file in commit["files"].values())
    return committed or _known(request, oid).is_file()


def commit(request: Request) -> Answer:
    """Add a commit to a branch, or to a new pull request; all of it or nothing."""
    state, _ = request.repository()
    id, parent, user = request.parts["id"], request.commit(state), request.user()
    header, *lines = [json.loads(line) for line in request.body.splitlines()]
    assert header["key"] == "header", header
    if "create_pr" not in request.query:
        request.writer(id)
    elif user is None:
        raise RefusedError(401, "", "Invalid username or password.")
    if (wanted := header["value"].get("parentCommit", parent)) != parent:
        if "create_pr" not in request.query:
            raise RefusedError(412, "", "A commit has happened since. Please refresh and try again.")
        parent = wanted
    there = state["commits"][parent]["files"]
    changes: dict[str, Entry | None] = {}
    for line in lines:
        changes |= _change(request, line["key"], line["value"], there)
    ref, pull = _target(request, state, str(user), header["value"]["summary"])
    sha = request.stored.add(state, changes, ref, parent, header["value"]["summary"])
    request.stored.write(state)
    url = f"{request.hub_url}/datasets/{id}"
    pulled = {"pullRequestUrl": f"{url}/discussions/{pull}"} if pull else {}
    return answered({"success": True, "commitUrl": f"{url}/commit/{sha}", "commitOid": sha, **pulled})


def _target(request: Request, state: State, user: str, title: str) -> tuple[str, int | None]:
    """Return the ref that a commit goes to, and the number of the pull request that it opens."""
    revision = request.parts["revision"]
    if "create_pr" in request.query:
        number = len(state["pulls"]) + 1
        state["pulls"][str(number)] = {"title": title, "author": user, "status": "open"}
        return f"refs/pr/{number}", number
    ref = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
    if ref not in state["refs"]:
        raise RefusedError(400, "", f"{revision} is not a branch")
    return ref, None


def _change(
    request: Request, key: str, value: Mapping[str, Any], there: Mapping[str, Entry]
) -> dict[str, Entry | None]:
    """Return what a line of a commit does to the files."""
    path = value["path"]
    if key == "file":
        content = base64.b64decode(value["content"])
        entry = request.stored.store(path, content)
        return {path: {**entry, "oid": git_oid(content), "lfs": False}}
    if key == "lfsFile":
        if not _is_known(request, value["oid"]):
            raise RefusedError(400, "", f"{path}: LFS pointer pointed to a file that does not exist")
        return {path: large(value["oid"], value["size"])}
    below = [each for each in there if each == path or each.startswith(f"{path.rstrip('/')}/")]
    if not below or (key == "deletedFile" and path not in there):
        raise RefusedError(404, "EntryNotFound", "A file with this name doesn't exist")
    return dict.fromkeys(below)


def tag(request: Request) -> Answer:
    return _point(request, f"refs/tags/{request.json()['tag']}", request.parts["revision"])


def branch(request: Request) -> Answer:
    start = (request.json() if request.body else {}).get("startingPoint", "main")
    return _point(request, f"refs/heads/{request.parts['name']}", start)


def _point(request: Request, ref: str, revision: str) -> Answer:
    state, _ = request.repository()
    request.writer(request.parts["id"])
    sha = find_commit(state, revision)
    if sha is None:
        raise RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    if ref in state["refs"]:
        raise RefusedError(409, "", f"Reference already exists: {ref}")
    state["refs"][ref] = sha
    request.stored.write(state)
    return answered({"ok": True})


_GIT = r"/datasets/(?P<id>[^/]+/[^/]+)\.git/info/lfs/objects"
ROUTES: tuple[Route, ...] = (
    ("hub", "POST", r"/api/repos/create", create),
    ("hub", "POST", r"/api/validate-yaml", validate_yaml),
    ("hub", "POST", API + r"/preupload/(?P<revision>[^/]+)", preupload),
    ("hub", "POST", _GIT + r"/batch", batch),
    ("hub", "POST", _GIT + r"/verify", verify),
    ("hub", "POST", r"/api/complete/(?P<oid>[0-9a-f]{64})", complete),
    ("hub", "POST", API + r"/commit/(?P<revision>[^/]+)", commit),
    ("hub", "POST", API + r"/tag/(?P<revision>[^/]+)", tag),
    ("hub", "POST", API + r"/branch/(?P<name>[^/]+)", branch),
    ("storage", "PUT", r"/incoming/(?P<oid>[0-9a-f]{64})(/(?P<part>\d+))?", put),
)

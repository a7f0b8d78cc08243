"""What a hub answers to those who read from it."""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode

from tests.hub.protocol import API, Answer, RefusedError, Request, Route, answered
from tests.hub.state import DATE, State, git_oid, load


def info(request: Request) -> Answer:
    state, _ = request.repository()
    sha = request.commit(state)
    siblings = [{"rfilename": path} for path in sorted(state["commits"][sha]["files"])]
    name = request.parts["id"]
    about = {"id": name, "author": name.split("/")[0], "sha": sha, "siblings": siblings, "lastModified": DATE}
    access = {"private": state["private"], "gated": "manual" if state["gated"] else False}
    return answered({**about, **access, "disabled": False, "downloads": 0, "likes": 0, "tags": [], "createdAt": DATE})


def tree(request: Request) -> Answer:
    """List a folder, a page at a time."""
    state, _ = request.repository()
    sha = request.commit(state)
    folder = request.parts.get("path", "")
    prefix = f"{folder}/" if folder else ""
    found = {path: each for path, each in _entries(state, sha, _is_true(request.query)).items() if path != folder}
    below = {path: each for path, each in found.items() if path.startswith(prefix)}
    if not below:
        raise RefusedError(404, "EntryNotFound", f"{folder} does not exist on {sha}", X_Repo_Commit=sha)
    if request.query.get("recursive", ["false"])[0].lower() != "true":
        below = {path: each for path, each in below.items() if "/" not in path[len(prefix) :]}
    first, size = int(request.query.get("cursor", ["0"])[0]), request.setting("page", 1000)
    names = sorted(below)
    page = [below[path] for path in names[first : first + size]]
    if first + size >= len(names):
        return answered(page)
    query = urlencode({**{name: values[0] for name, values in request.query.items()}, "cursor": first + size})
    path = "/".join(quote(part, safe="") for part in (sha, *folder.split("/")) if part)
    url = f"{request.hub_url}/api/datasets/{request.parts['id']}/tree/{path}?{query}"
    return answered(page, Link=f'<{url}>; rel="next"')


def paths_info(request: Request) -> Answer:
    """Tell what is known of the paths in the body's form; those that do not exist are left out."""
    state, _ = request.repository()
    form = parse_qs(request.body.decode())
    entries = _entries(state, request.commit(state), _is_true(form))
    return answered([entries[path] for path in form.get("paths", []) if path in entries])


def refs(request: Request) -> Answer:
    state, _ = request.repository()
    found: dict[str, list[dict[str, str]]] = {"branches": [], "converts": [], "tags": [], "pullRequests": []}
    kinds = {"refs/heads/": "branches", "refs/convert/": "converts", "refs/tags/": "tags", "refs/pr/": "pullRequests"}
    for ref, sha in sorted(state["refs"].items()):
        prefix = next(prefix for prefix in kinds if ref.startswith(prefix))
        found[kinds[prefix]].append({"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": sha})
    if "include_prs" not in request.query:
        del found["pullRequests"]
    return answered(found)


def commits(request: Request) -> Answer:
    """List the commits that lead to a revision, the last first."""
    state, _ = request.repository()
    found, sha = [], request.commit(state) if state["commits"] else None
    while sha:
        commit = state["commits"][sha]
        found.append({"id": sha, "title": commit["message"], "message": "", "authors": [], "date": DATE})
        sha = commit["parent"]
    return answered(found)


def resolve(request: Request) -> Answer:
    """Give a file's bytes, or for a large one the address of its bytes in the storage."""
    state, readable = request.repository()
    if not readable:
        status = 403 if request.user() else 401
        raise RefusedError(status, "GatedRepo", "Access to this dataset is restricted: ask for it on its page")
    sha, path = request.commit(state), request.parts["path"]
    entry = state["commits"][sha]["files"].get(path)
    if entry is None:
        raise RefusedError(404, "EntryNotFound", f"{path} does not exist on {sha}", X_Repo_Commit=sha)
    headers = {"X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
    if entry["lfs"]:
        linked = {"X-Linked-Etag": f'"{entry["sha256"]}"', "X-Linked-Size": str(entry["size"])}
        location = f"{request.storage_url}/objects/{entry['sha256']}"
        return Answer(302, b"", {**headers, **linked, "ETag": f'"{entry["oid"]}"', "Location": location})
    return _content(request, entry["sha256"], {**headers, "ETag": f'"{entry["oid"]}"'})


def whoami(request: Request) -> Answer:
    user = request.user()
    if user is None:
        raise RefusedError(401, "", "Invalid username or password.")
    orgs = [{"name": name, "roleInOrg": "write"} for name in load(request.folder / "orgs.json", {}).get(user, ())]
    return answered({"type": "user", "name": user, "orgs": orgs, "auth": {"type": "access_token"}})


def discussions(request: Request) -> Answer:
    """List pull requests, the newest first, all in one page."""
    state, _ = request.repository()
    wanted = request.query.get("status", ["all"])[0]
    found = [
        {"num": int(number), "title": pull["title"], "author": {"name": pull["author"]}, "status": pull["status"]}
        | {"createdAt": DATE, "isPullRequest": True, "repo": {"name": request.parts["id"], "type": "dataset"}}
        for number, pull in state["pulls"].items()
        if wanted in ("all", pull["status"])
    ]
    return answered({"discussions": found[::-1], "count": len(found), "start": 0})


def stored(request: Request) -> Answer:
    sha256 = request.parts["sha256"]
    return _content(request, sha256, {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"})


ROUTES: tuple[Route, ...] = (
    ("hub", "GET", r"/api/whoami-v2", whoami),
    ("hub", "GET", API + r"/discussions", discussions),
    ("hub", "GET", API + r"(/revision/(?P<revision>[^/]+))?", info),
    ("hub", "GET", API + r"/tree/(?P<revision>[^/]+)(/(?P<path>.+))?", tree),
    ("hub", "POST", API + r"/paths-info/(?P<revision>[^/]+)", paths_info),
    ("hub", "GET", API + r"/refs", refs),
    ("hub", "GET", API + r"/commits/(?P<revision>[^/]+)", commits),
    ("hub", "GET", r"/datasets/(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", resolve),
    ("storage", "GET", r"/objects/(?P<sha256>[0-9a-f]{64})", stored),
)


def _entries(state: State, sha: str, expand: bool) -> dict[str, dict[str, object]]:
    """Return the hub's descriptions of the files and folders of a commit by path."""
    last = {"lastCommit": {"id": sha, "title": state["commits"][sha]["message"], "date": DATE}} if expand else {}
    found: dict[str, dict[str, object]] = {}
    for path, entry in state["commits"][sha]["files"].items():
        large = {"oid": entry["sha256"], "size": entry["size"], "pointerSize": 134}
        lfs = {"lfs": large} if entry["lfs"] else {}
        found[path] = {"type": "file", "path": path, "oid": entry["oid"], "size": entry["size"], **lfs, **last}
        for parent in (parent.as_posix() for parent in Path(path).parents if parent.name):
            oid = git_oid(parent.encode())
            found[parent] = {"type": "directory", "path": parent, "oid": oid, "size": 0, **last}
    return found


def _is_true(fields: Mapping[str, list[str]]) -> bool:
    return fields.get("expand", ["false"])[0].lower() == "true"


def content_of(request: Request, sha256: str) -> bytes:
    """Return a stored content. Raises RefusedError if there is none."""
    path = request.folder / "objects" / sha256
    if not path.is_file():
        raise RefusedError(404, "", "NoSuchKey")
    return path.read_bytes()


def _content(request: Request, sha256: str, headers: Mapping[str, str]) -> Answer:
    content = content_of(request, sha256)
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if not asked:
        return Answer(200, content, headers)
    start, end = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
    if start > end:
        return Answer(416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"})
    span = {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
    return Answer(206, content[start : end + 1], {**headers, **span})

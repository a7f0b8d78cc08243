"""A dataset hub on loopback: the hub's read protocol, spoken to the unmodified `datasets` and `huggingface_hub`.

It runs as a process of its own, `python tests/hub_server.py FOLDER`, and prints its two addresses as one line of
JSON: the hub's, and that of the storage which the hub sends clients on to for large files, as the real one does.
It ends when its standard input does. All that it knows lies in FOLDER and is read again for each request, so that a
test may change it while it runs:

    repositories/ORG/NAME.json   commits, refs, and who may read (a `Repository`)
    objects/SHA256               the contents of files
    tokens.json                  {token: user}
    faults.json                  what is to go wrong: [{"match": "GET .*parquet", "status": 500, "times": 1}]
    requests.jsonl               what was asked, one request a line, written before it is answered

To serve more of the protocol, add a function to ROUTES.
"""

import hashlib
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import parse_qs, unquote, urlsplit

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


class State(TypedDict):
    """A repository: who may read it, its commits by sha, and the commit of each ref (`refs/heads/main`)."""

    private: bool
    gated: bool
    readers: list[str]
    commits: dict[str, Commit]
    refs: dict[str, str]


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
        self.write({"private": private, "gated": gated, "readers": list(readers), "commits": {}, "refs": {}})
        return self

    def read(self) -> State:
        state: State = json.loads(self.path.read_text("utf-8"))
        return state

    def write(self, state: State) -> None:
        _replace(self.path, json.dumps(state))

    def commit(self, files: Mapping[str, bytes | str | None], ref: str = MAIN, message: str = "Change files") -> str:
        """Add a commit on a ref and return its sha; a file that is None is deleted, one not named stays."""
        state = self.read()
        parent = state["refs"].get(ref)
        kept = dict(state["commits"][parent]["files"]) if parent else {}
        for path, content in files.items():
            kept.pop(path, None)
            if content is not None:
                kept[path] = self._store(path, content.encode() if isinstance(content, str) else content)
        commit: Commit = {"parent": parent, "message": message, "files": kept}
        sha = hashlib.sha1(json.dumps([self.id, commit], sort_keys=True).encode()).hexdigest()
        state["commits"][sha] = commit
        state["refs"][ref] = sha
        self.write(state)
        return sha

    def point(self, ref: str, revision: str) -> None:
        """Make a branch (`refs/heads/…`) or a tag (`refs/tags/…`), or move it."""
        state = self.read()
        commit = find_commit(state, revision)
        assert commit, revision
        state["refs"][ref] = commit
        self.write(state)

    def _store(self, path: str, content: bytes) -> Entry:
        sha256 = hashlib.sha256(content).hexdigest()
        objects = self.root / "objects"
        objects.mkdir(parents=True, exist_ok=True)
        (objects / sha256).write_bytes(content)
        # the hub decides by .gitattributes, which says so of every binary data format
        lfs = path.endswith((".parquet", ".arrow", ".zip"))
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n".encode()
        return {"oid": _git_oid(pointer if lfs else content), "sha256": sha256, "size": len(content), "lfs": lfs}


def find_commit(state: State, revision: str) -> str | None:
    """Return the commit that a sha, a branch, a tag or a full ref names."""
    if revision in state["commits"]:
        return revision
    names = (revision, f"refs/heads/{revision}", f"refs/tags/{revision}")
    return next((state["refs"][name] for name in names if name in state["refs"]), None)


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _replace(path: Path, text: str) -> None:
    """Write a file so that whoever reads it meanwhile sees the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, "utf-8")
    part.replace(path)


# What tests hold: a server in a process of its own.


@dataclass(frozen=True)
class Asked:
    """A request as the server saw it; `origin` is "hub" or "storage"."""

    origin: str
    method: str
    path: str
    authorization: str | None
    status: int


@dataclass
class Hub:
    """A running server, seen from a test."""

    folder: Path
    url: str
    storage_url: str
    process: "subprocess.Popen[str]"

    def repository(self, id: str, **access: Any) -> Repository:
        """Make a repository; `access` as in `Repository.create`."""
        return Repository(self.folder, id).create(**access)

    def add_token(self, token: str, user: str) -> None:
        """Make a token known; one that is not is refused."""
        _replace(self.folder / "tokens.json", json.dumps({**_load(self.folder / "tokens.json", {}), token: user}))

    def asked(self, origin: str | None = None) -> list[Asked]:
        """Return what was asked since the last `forget`."""
        log = self.folder / "requests.jsonl"
        lines = log.read_text("utf-8").splitlines() if log.is_file() else []
        every = [Asked(**json.loads(line)) for line in lines]
        return [each for each in every if origin in (None, each.origin)]

    def forget(self) -> None:
        """Empty the list of what was asked."""
        (self.folder / "requests.jsonl").unlink(missing_ok=True)

    def fail(self, *faults: Mapping[str, object]) -> None:
        """Let requests that match go wrong from now on, the first matching fault deciding; none heals all.

        Keys: `match`, a pattern found in "METHOD PATH"; `status`, to answer nothing but it; `cut`, to close the
        connection after so many bytes of the body; `times`, how often, by default always.
        """
        _replace(self.folder / "faults.json", json.dumps(faults))

    def stop(self) -> None:
        """End the server: its port then refuses connections."""
        self.process.terminate()
        self.process.wait(10)


@contextmanager
def running(folder: Path) -> Iterator[Hub]:
    """Start a server over a folder and yield it, answering."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(Path(__file__)), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())
        hub = Hub(folder, address["hub"], address["storage"], process)
        try:
            yield hub
        finally:
            hub.stop()


# What the server's process runs.


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """Carries the answer to a request that cannot be met."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        body = json.dumps({"error": message}).encode()
        codes = {"X-Error-Code": code} if code else {}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer = Answer(status, body, {**codes, "X-Error-Message": message, **named})
        super().__init__(message)


@dataclass(frozen=True)
class Request:
    """What a route's function is given: the parts of the path that its pattern names are in `parts`, unquoted."""

    server: "Server"
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
        users: dict[str, str] = _load(self.server.folder / "tokens.json", {})
        if token not in users:
            raise RefusedError(401, "", "Invalid credentials in Authorization header")
        return users[token]

    def repository(self) -> tuple[State, bool]:
        """Return the repository that the path names, and whether its files may be read."""
        user = self.user()
        path = Repository(self.server.folder, self.parts["id"]).path
        state: State | None = json.loads(path.read_text("utf-8")) if path.is_file() else None
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


def info(request: Request) -> Answer:
    state, _ = request.repository()
    sha = request.commit(state)
    siblings = [{"rfilename": path} for path in sorted(state["commits"][sha]["files"])]
    name = request.parts["id"]
    about = {"id": name, "author": name.split("/")[0], "sha": sha, "siblings": siblings, "lastModified": DATE}
    access = {"private": state["private"], "gated": "manual" if state["gated"] else False}
    return _json({**about, **access, "disabled": False, "downloads": 0, "likes": 0, "tags": [], "createdAt": DATE})


def tree(request: Request) -> Answer:
    """List a folder. All in one page: the hub's pages hold 1000 entries, more than any test has."""
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
    return _json([below[path] for path in sorted(below)])


def paths_info(request: Request) -> Answer:
    """Tell what is known of the paths in the body's form; those that do not exist are left out."""
    state, _ = request.repository()
    form = parse_qs(request.body.decode())
    entries = _entries(state, request.commit(state), _is_true(form))
    return _json([entries[path] for path in form.get("paths", []) if path in entries])


def refs(request: Request) -> Answer:
    state, _ = request.repository()
    found: dict[str, list[dict[str, str]]] = {"branches": [], "converts": [], "tags": [], "pullRequests": []}
    kinds = {"refs/heads/": "branches", "refs/convert/": "converts", "refs/tags/": "tags"}
    for ref, sha in sorted(state["refs"].items()):
        prefix = next(prefix for prefix in kinds if ref.startswith(prefix))
        found[kinds[prefix]].append({"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": sha})
    return _json(found)


def commits(request: Request) -> Answer:
    """List the commits that lead to a revision, the last first."""
    state, _ = request.repository()
    found, sha = [], request.commit(state) if state["commits"] else None
    while sha:
        commit = state["commits"][sha]
        found.append({"id": sha, "title": commit["message"], "message": "", "authors": [], "date": DATE})
        sha = commit["parent"]
    return _json(found)


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
        location = f"{request.server.storage_url}/objects/{entry['sha256']}"
        return Answer(302, b"", {**headers, **linked, "ETag": f'"{entry["oid"]}"', "Location": location})
    return _content(request, entry["sha256"], {**headers, "ETag": f'"{entry["oid"]}"'})


def stored(request: Request) -> Answer:
    sha256 = request.parts["sha256"]
    return _content(request, sha256, {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"})


_API = r"/api/datasets/(?P<id>[^/]+/[^/]+)"
ROUTES: tuple[tuple[str, str, str, Callable[[Request], Answer]], ...] = (
    ("hub", "GET", _API + r"(/revision/(?P<revision>[^/]+))?", info),
    ("hub", "GET", _API + r"/tree/(?P<revision>[^/]+)(/(?P<path>.+))?", tree),
    ("hub", "POST", _API + r"/paths-info/(?P<revision>[^/]+)", paths_info),
    ("hub", "GET", _API + r"/refs", refs),
    ("hub", "GET", _API + r"/commits/(?P<revision>[^/]+)", commits),
    ("hub", "GET", r"/datasets/(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", resolve),
    ("storage", "GET", r"/objects/(?P<sha256>[0-9a-f]{64})", stored),
)
"""Origin, method (HEAD asks what GET gives), the quoted path, and what answers; all else is not found."""


def _entries(state: State, sha: str, expand: bool) -> dict[str, dict[str, object]]:
    """Return the hub's descriptions of the files and folders of a commit by path."""
    last = {"lastCommit": {"id": sha, "title": state["commits"][sha]["message"], "date": DATE}} if expand else {}
    found: dict[str, dict[str, object]] = {}
    for path, entry in state["commits"][sha]["files"].items():
        large = {"oid": entry["sha256"], "size": entry["size"], "pointerSize": 134}
        lfs = {"lfs": large} if entry["lfs"] else {}
        found[path] = {"type": "file", "path": path, "oid": entry["oid"], "size": entry["size"], **lfs, **last}
        for parent in (parent.as_posix() for parent in Path(path).parents if parent.name):
            oid = _git_oid(parent.encode())
            found[parent] = {"type": "directory", "path": parent, "oid": oid, "size": 0, **last}
    return found


def _is_true(fields: Mapping[str, list[str]]) -> bool:
    return fields.get("expand", ["false"])[0].lower() == "true"


def _content(request: Request, sha256: str, headers: Mapping[str, str]) -> Answer:
    content = (request.server.folder / "objects" / sha256).read_bytes()
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if not asked:
        return Answer(200, content, headers)
    start, end = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
    if start > end:
        return Answer(416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"})
    span = {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
    return Answer(206, content[start : end + 1], {**headers, **span})


def _json(value: object) -> Answer:
    return Answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})


def _load(path: Path, default: Any) -> Any:
    return json.loads(path.read_text("utf-8")) if path.is_file() else default


class Handler(BaseHTTPRequestHandler):
    """Finds the route of a request, answers, and writes both down."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        self._serve("GET")

    def do_HEAD(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def _serve(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.next_fault(f"{self.command} {self.path}")
        try:
            answer = Answer(fault["status"]) if "status" in fault else self._find(method, body)
        except RefusedError as error:
            answer = error.answer
        self.server.note(self.command, self.path, self.headers.get("Authorization"), answer.status)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: fault.get("cut")])
        if "cut" in fault:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def _find(self, method: str, body: bytes) -> Answer:
        url = urlsplit(self.path)
        for origin, verb, pattern, answer in ROUTES:
            found = re.fullmatch(pattern, url.path)
            if found and (origin, verb) == (self.server.origin, method):
                parts = {name: unquote(part) for name, part in found.groupdict().items() if part is not None}
                return answer(Request(self.server, method, parts, parse_qs(url.query), self.headers, body))
        raise RefusedError(404, "", "Not found")

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: requests.jsonl says it."""


class Server(ThreadingHTTPServer):
    """One of the two origins."""

    daemon_threads = True
    _noting = threading.Lock()

    def __init__(self, folder: Path, origin: str, storage_url: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.origin = folder, origin
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.storage_url = storage_url
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def note(self, method: str, path: str, authorization: str | None, status: int) -> None:
        """Write a request down."""
        asked = Asked(self.origin, method, path, authorization, status)
        with self._noting, (self.folder / "requests.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(vars(asked)) + "\n")

    def next_fault(self, request: str) -> dict[str, Any]:
        """Return the fault that strikes a request, if any, and count it."""
        path = self.folder / "faults.json"
        with self._noting:
            faults: list[dict[str, Any]] = _load(path, [])
            fault = next((each for each in faults if re.search(each["match"], request)), {})
            if "times" in fault:
                fault["times"] -= 1
                _replace(path, json.dumps([each for each in faults if each.get("times") != 0]))
        return fault


def main() -> None:
    """Serve a folder until standard input ends."""
    folder = Path(sys.argv[1])
    storage = Server(folder, "storage")
    hub = Server(folder, "hub", storage.url)
    print(json.dumps({"hub": hub.url, "storage": storage.url}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()

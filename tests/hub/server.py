"""The process of a hub: two origins, one of the hub and one of its storage. See the package."""

import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub import faults, reading, writing
from tests.hub.protocol import Answer, RefusedError, Request, Route
from tests.hub.state import load, replace

ROUTES: tuple[Route, ...] = reading.ROUTES + writing.ROUTES
"""To serve more of the protocol, add a function there."""

Fault = dict[str, Any]


class Handler(BaseHTTPRequestHandler):
    """Finds the route of a request, answers, and writes both down."""

    protocol_version = "HTTP/1.1"
    # head and body are two packets, and the second would wait for the first to be acknowledged
    disable_nagle_algorithm = True
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
        fault = self.server.next_fault(f"{self.command} {self.path}")
        kind = fault.get("kind", "")
        if kind in ("reset-before", "hang", "kill-before") or (kind == "reset-during" and self._has_body()):
            self._break_off(kind)
            return
        if kind == "wait":
            faults.wait_for_test(self.server.folder)
        answer = self._answer(method, fault)
        self._note(answer.status)
        if kind == "lost-wait":
            faults.wait_for_test(self.server.folder)
        if kind in ("lost", "lost-wait", "kill-after"):
            self._break_off(kind)
            return
        self._send(answer, fault)

    def _answer(self, method: str, fault: Fault) -> Answer:
        body = self._body()
        if "redirect" in fault:
            return Answer(307, b"", {"Location": fault["redirect"]})
        if "status" in fault:
            wait = {"Retry-After": str(fault["retry_after"])} if "retry_after" in fault else {}
            said = {"X-Error-Message": fault["message"]} if "message" in fault else {}
            return Answer(fault["status"], b"", {**wait, **said})
        try:
            return self._find(method, body)
        except RefusedError as error:
            return error.answer

    def _break_off(self, kind: str) -> None:
        """Do what a fault does that is struck before an answer."""
        self.close_connection = True
        if kind in ("reset-before", "reset-during", "hang", "kill-before"):
            self._note(0)
        if kind == "reset-during":
            self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
        if kind == "hang":
            faults.hang(self.connection)
        if kind.startswith("kill"):
            faults.kill_client(self.server.folder)
        if kind.startswith("reset"):
            faults.reset(self.connection)

    def _has_body(self) -> bool:
        return bool(int(self.headers.get("Content-Length") or 0))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = list[bytes]()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _send(self, answer: Answer, fault: Fault) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        if fault.get("kind") in ("reset-during", "reset-after"):
            # half of the answer: all of its head but the line that ends it, if there is no body
            if answer.body and self.command != "HEAD":
                self.end_headers()
                self.wfile.write(answer.body[: len(answer.body) // 2])
            else:
                self.flush_headers()
            self.wfile.flush()
            self.close_connection = True
            faults.reset(self.connection)
            return
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: fault.get("cut")])
        if "cut" in fault:
            self.wfile.flush()
            self.close_connection = True

    def _find(self, method: str, body: bytes) -> Answer:
        url = urlsplit(self.path)
        for origin, verb, pattern, answer in ROUTES:
            found = re.fullmatch(pattern, url.path)
            if found and (origin, verb) == (self.server.origin, method):
                parts = {name: unquote(part) for name, part in found.groupdict().items() if part is not None}
                query = parse_qs(url.query, keep_blank_values=True)
                server = self.server
                urls = (server.hub_url or server.url, server.storage_url or server.url)
                request = Request(server.folder, *urls, method, parts, query, self.headers, body)
                with server.working:
                    return answer(request)
        raise RefusedError(404, "", "Not found")

    def _note(self, status: int) -> None:
        self.server.note(self.command, self.path, self.headers.get("Authorization"), status)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: requests.jsonl says it."""


class Server(ThreadingHTTPServer):
    """One of the two origins."""

    daemon_threads = True
    working = threading.Lock()
    _noting = threading.Lock()

    def __init__(self, folder: Path, origin: str, storage_url: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.origin = folder, origin
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.storage_url, self.hub_url = storage_url, ""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say what broke, unless it was the client that went away."""
        if not isinstance(sys.exception(), OSError | ValueError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def note(self, method: str, path: str, authorization: str | None, status: int) -> None:
        """Write a request down; the status of one that got no answer is 0."""
        asked = {"origin": self.origin, "method": method, "path": path}
        line = json.dumps({**asked, "authorization": authorization, "status": status})
        with self._noting, (self.folder / "requests.jsonl").open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    def next_fault(self, request: str) -> Fault:
        """Return the fault that strikes a request, if any, and count both."""
        path = self.folder / "faults.json"
        with self._noting:
            planned: dict[str, Any] = load(path, {"seen": 0, "faults": []})
            planned["seen"] += 1
            fault: Fault = next((each for each in planned["faults"] if _strikes(each, request, planned["seen"])), {})
            if "times" in fault:
                fault["times"] -= 1
            planned["faults"] = [each for each in planned["faults"] if each.get("times") != 0]
            replace(path, json.dumps(planned))
        return fault


def _strikes(fault: Fault, request: str, number: int) -> bool:
    counted = fault.get("number", number) == number and number >= fault.get("from", 1)
    return counted and bool(re.search(fault.get("match", ""), request))


def main() -> None:
    """Serve a folder until standard input ends."""
    folder = Path(sys.argv[1])
    storage = Server(folder, "storage")
    hub = Server(folder, "hub", storage.url)
    print(json.dumps({"hub": hub.url, "storage": storage.url}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()

"""What tests hold of a hub: a server in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hub.state import Repository, load, replace

ROOT = Path(__file__).parent.parent.parent


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

    def find(self, id: str) -> Repository:
        """Return a repository that was made before, by a test or by a client."""
        return Repository(self.folder, id)

    def add_token(self, token: str, user: str, *organisations: str) -> None:
        """Make a token known; one that is not is refused. Who has it may write to these organisations."""
        for name, entry in (("tokens", {token: user}), ("orgs", {user: organisations})):
            path = self.folder / f"{name}.json"
            replace(path, json.dumps({**load(path, {}), **entry}))

    def set(self, **settings: int) -> None:
        """Choose `part`, the bytes from which uploads come in parts, or `page`, the entries a page of a tree."""
        replace(self.folder / "settings.json", json.dumps(settings))

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

        Keys: `match`, a pattern found in "METHOD PATH"; `number`, to strike that request alone, counted from 1 since
        the last `fail`; `from`, to strike that one and all after it; `times`, how often, by default always. What
        happens is one of

        - `status`: an answer of nothing but it, with the header Retry-After if there is `retry_after`, and with what
          the hub says if there is a `message`; nothing is done
        - `redirect`: the client is sent on to this address
        - `cut`: the connection is closed after so many bytes of the answer's body
        - `kind`: see `tests.hub.faults`
        """
        replace(self.folder / "faults.json", json.dumps({"seen": 0, "faults": faults}))

    def stop(self) -> None:
        """End the server: its port then refuses connections."""
        self.process.terminate()
        self.process.wait(10)


@contextmanager
def running(folder: Path) -> Iterator[Hub]:
    """Start a server over a folder and yield it, answering."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.hub.server", str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())
        hub = Hub(folder, address["hub"], address["storage"], process)
        try:
            yield hub
        finally:
            hub.stop()

"""The parts of a push that need no hub: what is counted, waited for, shown, and kept from others."""

import hashlib
import importlib
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taskmix.errors import PushError
from taskmix.sharing import client
from taskmix.sharing.client import Patience, default_patience, may_pass, reason, retried, wait
from taskmix.sharing.places import HubPlace
from taskmix.sharing.planning import check_layout, plan
from taskmix.sharing.remote import Head, LocalFile, RemoteFile
from taskmix.sharing.uploading import MeteredFile, additions

PLACE = HubPlace("org/name")


def failure(status: int, message: str = "", **headers: str) -> Exception:
    """Return an error as the hub's client raises it."""
    from huggingface_hub import errors

    # its transport's name differs from one version of the client to the next
    transport: Any = importlib.import_module(errors.HTTPError.__module__.partition(".")[0])  # type: ignore[attr-defined]
    request = transport.Request("GET", "https://hub/x?signature=abc")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = transport.Response(status, request=request, headers=named)
    return errors.HfHubHTTPError(message or f"Error {status} for {request.url}", response=response)


# What is counted


def test_what_is_read_again_is_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1000))
    told = list[int]()
    file = MeteredFile(path)
    assert len(file.read()) == 1000
    file.seek(0)
    file.count(told.append)
    assert len(file.read(600)) == 600
    assert file.seek(0) == 0
    assert [len(file.read(600)), len(file.read(600)), file.read(600)] == [600, 400, b""]
    assert sum(told) == 1000
    assert file.seek(0, io.SEEK_END) == 1000


def test_a_file_that_changed_since_it_was_verified_is_not_added(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"now")
    with pytest.raises(PushError, match="data/x: changed while it was pushed"):
        additions([LocalFile("data/x", path, "0" * 64, 3)], lambda size: None)


# What is waited for


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({}, 1.0), ({"Retry_After": "7"}, 7.0), ({"RateLimit": '"api";r=0;t=55'}, 55.0), ({"Retry_After": "9999"}, 330.0)],
)
def test_a_wait_is_as_long_as_the_hub_asks_for(
    headers: dict[str, str], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = list[float]()
    monkeypatch.setattr("taskmix.sharing.client.time.sleep", slept.append)
    wait(failure(429, **headers), 1.0)
    assert slept == [seconds]


def test_a_failure_that_may_pass_is_tried_again_and_no_other() -> None:
    tried = 0

    def action(error: Exception, succeeds_at: int) -> int:
        nonlocal tried
        tried += 1
        if tried < succeeds_at:
            raise error
        return tried

    quick = Patience(timeout=0.001, tries=3)
    assert retried("here", "asking", lambda: action(failure(503), 3), quick) == 3
    tried = 0
    with pytest.raises(PushError, match="here: asking failed: no: 404"):
        retried("here", "asking", lambda: action(failure(404, "no: 404"), 9), quick)
    assert tried == 1
    tried = 0
    with pytest.raises(PushError, match="try again later"):
        retried("here", "asking", lambda: action(ConnectionResetError("reset"), 9), quick)
    assert tried == 3


def test_which_failures_may_pass() -> None:
    from huggingface_hub.errors import OfflineModeIsEnabled

    assert all(may_pass(failure(status)) for status in (408, 429, 500, 502, 503, 504))
    assert not any(may_pass(failure(status)) for status in (400, 401, 403, 404, 409, 412, 413))
    assert not may_pass(OfflineModeIsEnabled("offline"))
    assert not may_pass(KeyError("commitOid"))


def test_the_timeout_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKMIX_HUB_TIMEOUT", "7.5")
    assert default_patience().timeout == 7.5
    monkeypatch.setenv("TASKMIX_HUB_TIMEOUT", "soon")
    assert default_patience().timeout == 60.0


# What is shown, and to whom the token goes


def test_an_error_shows_neither_the_token_nor_a_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    # at the place where a long message is cut, half of it would be left
    shown = reason(failure(400, "x" * 292 + " hf_secretsecret and https://hub/x?signature=abc"))
    assert "hf_s" not in shown
    assert "signature" not in reason(failure(500))


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://hub.example/api/x", True),
        ("https://hub.example:443/api/x", True),
        ("http://hub.example/api/x", False),
        ("https://hub.example:8443/api/x", False),
        ("https://hub.example.evil/api/x", False),
        ("https://storage.example/x", False),
    ],
)
def test_only_the_hub_itself_is_given_the_token_and_every_request_ends(url: str, kept: bool) -> None:
    asked: dict[str, Any] = {"connect": 3.0, "read": None, "write": None, "pool": None}
    request = SimpleNamespace(url=url, headers={"Authorization": "Bearer x"}, extensions={"timeout": asked})
    client._guard("https://hub.example", 30.0)(request)
    assert ("Authorization" in request.headers) == kept
    assert request.extensions["timeout"] == {"connect": 3.0, "read": 30.0, "write": 30.0, "pool": 30.0}


# What is sent and deleted


def local(path: str, content: bytes = b"x") -> LocalFile:
    return LocalFile(path, content, hashlib.sha256(content).hexdigest(), len(content))


def head(*files: RemoteFile) -> Head:
    return Head("0" * 40, False, {file.path: file for file in files})


def test_a_plan_sends_what_differs_and_deletes_only_data_of_the_same_mixture() -> None:
    same, other, card = local("a/data/same.parquet"), local("a/data/other.parquet"), local("a/README.md")
    there = head(
        RemoteFile(same.path, 1, "pointer", same.sha256),
        RemoteFile(other.path, 1, "pointer", "0" * 64),
        RemoteFile(card.path, 1, card.blob, None),
        RemoteFile("a/data/old.parquet", 1, "", None),
        RemoteFile("b/data/theirs.parquet", 1, "", None),
        RemoteFile("LICENSE", 1, "", None),
    )
    change = plan([same, other, card], there, "a/")
    assert change.sends == [other]
    assert change.kept == [same, card]
    assert change.deletes == ["a/data/old.parquet"]
    assert not plan([same], head(RemoteFile(same.path, 1, "pointer", same.sha256)), "a/")


def test_a_file_of_the_same_size_and_another_content_is_another_file() -> None:
    assert not RemoteFile("x", 1, local("x", b"a").blob, None).holds(local("x", b"b"))
    assert RemoteFile("x", 1, local("x", b"a").blob, None).holds(local("x", b"a"))


def test_one_mixture_and_several_are_not_mixed_up() -> None:
    single = head(RemoteFile("mix.lock.json", 1, "", None))
    several = head(RemoteFile("small/mix.lock.json", 1, "", None))
    check_layout(PLACE, single)
    check_layout(HubPlace("org/name", config="large"), several)
    with pytest.raises(PushError, match="holds mixtures as configurations"):
        check_layout(PLACE, several)
    with pytest.raises(PushError, match="holds one mixture, not several"):
        check_layout(HubPlace("org/name", config="large"), single)

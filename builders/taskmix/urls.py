"""Folders behind URLs, as fsspec opens them: which there may be, what their state is, and what their errors mean.

A URL in a catalog may be somebody else's words: only object stores are opened for it, by a closed list of protocols.
fsspec knows many more, among them such as read files of this machine (`file://`), and such as unpack or keep what
another URL names (`simplecache::`). An address that is given with a command may have those.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from taskmix.errors import TaskmixError
from taskmix.text import visible

_MARK = "://"
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}
"""Object stores by protocol, and the extra of taskmix that has the package which speaks to them."""
_BUCKET = r"[A-Za-z0-9][\w.-]*(?:@[\w-]+\.(?:dfs|blob)\.core\.windows\.net)?"
_STORE = re.compile(rf"(?P<protocol>[a-z0-9]+)://(?P<bucket>{_BUCKET})(?P<key>(?:/[^/\x00-\x1f\x7f]+)*)/?")
_STATE = ("size", "ETag", "etag", "generation", "md5Hash", "LastModified", "last_modified", "mtime", "created")
_LONGEST = 300


def is_url(text: object) -> bool:
    """Whether what was given as a place is a URL, not a path."""
    return isinstance(text, str) and _MARK in text


def object_store(url: str) -> str:
    """Return the address of a folder, an object or a glob in an object store, in one form of its several.

    Raises:
        ValueError: it is none, with what it may be.
    """
    found, may_be = _STORE.fullmatch(url), ", ".join(f"{each}://" for each in _EXTRAS)
    if found is None or "::" in url or found["protocol"] not in _EXTRAS:
        raise ValueError(f"a URL of data is PROTOCOL://BUCKET/FOLDER, one of {may_be}; a file's path has no file://")
    *folders, last = found["key"].split("/")
    if {".", ".."} & {*folders, last} or any(mark in folder for mark in "*?[" for folder in folders):
        raise ValueError("a URL of data has no `.` or `..` in it, and patterns only after its last slash")
    same = {"s3a": "s3", "gcs": "gs", "az": "abfs", "abfss": "abfs"}.get(found["protocol"], found["protocol"])
    return f"{same}://{found['bucket']}{found['key']}"


def opened(url: str, failure: type[TaskmixError]) -> tuple[Any, str]:
    """Return the file system of fsspec that a URL names, and the path in it. What an object store lists is not kept.

    Raises:
        TaskmixError: fsspec does not know the protocol, or lacks the package; of the class `failure`.
    """
    from fsspec.core import url_to_fs

    extra = _EXTRAS.get(url.partition(_MARK)[0])
    try:
        files, root = url_to_fs(url, **({"use_listings_cache": False} if extra else {}))
    except ImportError as error:
        hint = f"pip install 'taskmix[{extra}]'" if extra else ""
        raise failure(f"a package is missing: {error}", where=visible(url), hint=hint) from None
    except ValueError as error:
        raise failure(f"no such store: {error}", where=visible(url)) from None
    return files, str(root)


def state(about: Mapping[str, Any]) -> str:
    """Return what changes when an object is written again, as far as the store tells."""
    return repr([about.get(key) for key in _STATE])


@contextmanager
def understood(url: str, failure: type[TaskmixError], hint: str) -> Iterator[None]:
    """Turn what a store's client raises, whose classes are its own, into one error that names the URL."""
    try:
        yield
    except TaskmixError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        # what follows a question mark may be a signature
        reason = re.sub(r"\?[^\s'\"]+", "", lines[0])[:_LONGEST] if lines else ""
        message = f"the store failed: {visible(reason) or type(error).__name__}"
        if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
            hint = "credentials are found as the store's own tools do, such as in $AWS_PROFILE and ~/.aws"
        raise failure(message, where=visible(url), hint=hint) from None

"""Where a mixture may lie: a folder, a repository on the dataset hub, or a store that fsspec knows."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from taskmix.errors import UsageError
from taskmix.text import quoted, visible

HUB = "hf://datasets/"
_PART = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}")
_ADDRESS = re.compile(
    rf"(?P<repository>{_PART}/{_PART})"
    r"(?:@(?P<revision>refs/(?:pr|convert)/[^/]+|[^/]+))?"
    r"(?:/(?P<config>[^/]+))?/?"
)
CONFIG = re.compile(r"\w[\w.+-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubPlace:
    """A mixture in a dataset repository: all of it, or one configuration of several, at a revision."""

    repository: str
    revision: str = "main"
    config: str | None = None

    def __str__(self) -> str:
        inside = f"/{self.config}" if self.config else ""
        return visible(f"{self.repository}@{self.revision}{inside}")

    @property
    def folder(self) -> str:
        """Return the folder of the repository that holds the mixture, with a slash at its end; empty for all of it."""
        return f"{self.config}/" if self.config else ""

    @property
    def url(self) -> str:
        """Return the address that `datasets`, Polars and taskmix read."""
        at = "" if self.revision == "main" else f"@{quote(self.revision, safe='')}"
        return f"{HUB}{self.repository}{at}" + (f"/{self.config}" if self.config else "")

    @property
    def is_commit(self) -> bool:
        """Return whether the revision is a commit, which nothing can be pushed to."""
        return _COMMIT.fullmatch(self.revision) is not None


@dataclass(frozen=True)
class StorePlace:
    """A folder in a store of fsspec, such as `s3://bucket/mixtures/first`."""

    url: str

    def __str__(self) -> str:
        return visible(self.url)


@dataclass(frozen=True)
class FolderPlace:
    """A folder on this machine."""

    path: Path

    def __str__(self) -> str:
        return visible(str(self.path))


Place = HubPlace | StorePlace | FolderPlace


def place_of(text: str) -> Place:
    """Return the place that an address names: `hf://datasets/…`, another URL, or the path of a folder.

    Raises:
        UsageError: it is none of these.
    """
    if text.startswith(HUB):
        return _on_the_hub(text)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return FolderPlace(Path(text))
    if scheme in ("file", "local"):
        return FolderPlace(Path(rest))
    if scheme in ("http", "https") or scheme == "hf":
        hint = f"a repository on the hub is {HUB}ORG/NAME, with @REVISION if it is not main"
        raise UsageError(f"not a place for a mixture: {quoted(text)}", hint=hint)
    return StorePlace(text.rstrip("/"))


def destination_of(text: str) -> Place:
    """Return the place that `mix push` writes to: as `place_of`, but `ORG/NAME` is a repository on the hub."""
    return HubPlace(text) if _REPOSITORY.fullmatch(text) else place_of(text)


def _on_the_hub(text: str) -> HubPlace:
    found = _ADDRESS.fullmatch(text.removeprefix(HUB))
    if not found:
        raise UsageError(f"not the address of a dataset: {quoted(text)}", hint=f"it looks like {HUB}ORG/NAME@REVISION")
    revision = unquote(found["revision"]) if found["revision"] else "main"
    return HubPlace(found["repository"], revision, check_config(found["config"]))


def check_config(name: str | None) -> str | None:
    """Return the name of a configuration if it can be one. Raises UsageError if not."""
    if name is not None and (not CONFIG.fullmatch(name) or name in ("data", "default")):
        hint = "letters, digits, `_`, `-`, `.` and `+`, but not `data` or `default`"
        raise UsageError(f"a configuration cannot be named {quoted(name)}", hint=hint)
    return name

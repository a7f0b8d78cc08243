"""Hub datasets: a revision pinned to its commit, downloaded once by `datasets`, kept as Parquet."""

import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock

from taskmix.caching.entries import mark_used, open_cache
from taskmix.caching.fingerprints import Fingerprints
from taskmix.caching.place import HUB, cache_folder
from taskmix.caching.sealed import damaged, seal
from taskmix.errors import SourceError
from taskmix.text import visible

_COMMIT = re.compile(r"[0-9a-f]{40}")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pinned:
    """A hub dataset at one commit, as a folder of Parquet files."""

    folder: Path
    commit: str


class _NoAnswerError(SourceError):
    """The hub cannot be reached, or fails: what was fetched before may serve instead."""


def fetch(hub: str, config: str | None, revision: str) -> Pinned:
    """Return a hub dataset's folder, downloading it if this commit is not cached yet.

    Raises:
        SourceError: the hub has no such dataset, revision or configuration, cannot be reached, or the dataset
            needs a script to be run.
    """
    base = cache_folder() / HUB / hub.replace("/", "--")
    try:
        base.mkdir(parents=True, exist_ok=True)
        with FileLock(base / ".lock"):
            commit = _resolve(hub, revision, base / "refs" / quote(revision, safe=""))
            folder = base / (f"config-{config}" if config else "default") / commit
            if folder.is_dir() and (name := damaged(folder, Fingerprints(open_cache()))) is not None:
                _LOG.warning("warning: %s is damaged and downloaded again", folder / name)
                shutil.rmtree(folder)
            if not folder.is_dir():
                _download(hub, config, revision, commit, folder)
            mark_used(folder)
    except OSError as error:
        hint = "$TASKMIX_CACHE names the folder that downloads are kept in"
        raise SourceError(
            f"the cache cannot be written: {error.strerror or error}", where=str(base), hint=hint
        ) from None
    return Pinned(folder, commit)


def fetched(hub: str, config: str | None, revision: str) -> str | None:
    """Return the commit of a revision that was fetched before and is in the cache; the hub is not asked."""
    base = cache_folder() / HUB / hub.replace("/", "--")
    seen = base / "refs" / quote(revision, safe="")
    try:
        commit = revision if _COMMIT.fullmatch(revision) else seen.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return None
    folder = base / (f"config-{config}" if config else "default") / commit
    return commit if _COMMIT.fullmatch(commit) and folder.is_dir() else None


def readme(hub: str, commit: str) -> str | None:
    """Return the text of a dataset's card; None if it has none, or the hub gives no answer."""
    from huggingface_hub import hf_hub_download

    with tempfile.TemporaryDirectory() as folder, _without_bars():
        try:
            path = hf_hub_download(hub, "README.md", repo_type="dataset", revision=commit, local_dir=folder)
        except Exception as error:
            _LOG.info("%s: its card cannot be read: %s", hub, _first_line(error))
            return None
        return Path(path).read_text("utf-8", errors="replace")


def _resolve(hub: str, revision: str, seen: Path) -> str:
    """Return the commit that a revision names; where the hub gives no answer, the one that it named last time."""
    if _COMMIT.fullmatch(revision):
        return revision
    try:
        commit = _ask(hub, revision)
    except _NoAnswerError as error:
        if not seen.is_file():
            raise
        commit = seen.read_text("ascii")
        _LOG.warning("warning: %s: %s; taking commit %s, as last time", error.where, error.message, commit)
        return commit
    seen.parent.mkdir(exist_ok=True)
    part = seen.with_name(".part")
    part.write_text(commit, "ascii")
    part.replace(seen)
    return commit


def _ask(hub: str, revision: str) -> str:
    """Ask the hub for the commit that a revision names."""
    from huggingface_hub import HfApi

    with _explained(f"{hub}@{revision}", "the hub cannot be reached"):
        commit: str | None = HfApi().dataset_info(hub, revision=revision, timeout=30).sha
    if commit is None or not _COMMIT.fullmatch(commit):
        raise SourceError("the hub names no commit", where=f"{hub}@{revision}")
    return commit


def _download(hub: str, config: str | None, revision: str, commit: str, folder: Path) -> None:
    """Download and convert a dataset beside its final folder, then rename it into place."""
    if revision == commit:
        # a commit was not asked for yet, and the errors of `datasets` say less about what is missing
        _ask(hub, commit)
    where = f"{hub}{f' ({config})' if config else ''}@{revision}"
    _LOG.info("downloading %s", where)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(".part-*"):
        shutil.rmtree(left)  # by a build that was killed: the lock is ours
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-") as part:
        with _explained(where, "the download failed"), _without_bars():
            made = _convert(hub, config, commit, Path(part))
        final = Path(part) / "final"
        final.mkdir()
        for split, shards in made.items():
            assert shards, split
            for index, shard in enumerate(shards):
                shard.rename(final / f"{split}-{index:05}-of-{len(shards):05}.parquet")
        seal(final)
        final.rename(folder)


def _convert(hub: str, config: str | None, commit: str, work: Path) -> dict[str, list[Path]]:
    """Let `datasets` download a commit and write it as Parquet below `work`; return the files of each split."""
    import datasets

    # by its full address, or a folder of the same name would be taken instead; with a cache of its own, or, where
    # the hub gives no answer, whatever commit was loaded last
    address, cache, made = f"hf://datasets/{hub}", work / "cache", work / "made"
    builder = datasets.load_dataset_builder(address, config, revision=commit, cache_dir=str(cache))
    builder.download_and_prepare(str(made), file_format="parquet")
    files = {}
    for split in builder.info.splits:
        name = f"{builder.dataset_name}-{split}"
        files[split] = sorted(made.glob(f"{name}.parquet")) or sorted(made.glob(f"{name}-?????-of-?????.parquet"))
    return files


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the bars of `datasets` and `huggingface_hub` out of stderr, and a remark on cards that has no use here."""
    import datasets
    import huggingface_hub.utils

    cards = logging.getLogger("huggingface_hub.repocard")
    level = cards.level
    shown = [each for each in (datasets, huggingface_hub.utils) if not each.are_progress_bars_disabled()]
    try:
        cards.setLevel(logging.ERROR)
        for each in shown:
            each.disable_progress_bars()
        yield
    finally:
        cards.setLevel(level)
        for each in shown:
            each.enable_progress_bars()


@contextmanager
def _explained(where: str, failure: str) -> Iterator[None]:
    """Turn the errors of `datasets` and `huggingface_hub` into what they mean for a catalog."""
    try:
        yield
    except SourceError:
        raise
    except Exception as error:
        raise _meaning(error, where, failure) from None


def _meaning(error: Exception, where: str, failure: str) -> SourceError:
    """Return the error to raise. Some of those of `datasets` can be told apart by their words alone."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    reason = _first_line(error.__cause__ or error)
    if isinstance(error, GatedRepoError) or "is a gated dataset" in reason:
        hint = "accept its terms on the hub, then log in with `hf auth login` or set HF_TOKEN"
        return SourceError("access to this dataset has to be asked for", where=where, hint=hint)
    if isinstance(error, RevisionNotFoundError):
        return SourceError("the dataset has no such revision", where=where)
    if isinstance(error, RepositoryNotFoundError):
        hint = "check the id; a private dataset needs `hf auth login` or HF_TOKEN"
        return SourceError("the hub has no such dataset", where=where, hint=hint)
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
        hint = "check HF_TOKEN, or log in again with `hf auth login`"
        return SourceError(f"the hub refuses: {visible(error.server_message or reason)}", where=where, hint=hint)
    if "scripts are no longer supported" in reason:
        return SourceError(
            "the dataset runs a script of its own, which is never run here",
            where=where,
            hint="use the hub's own conversion, `revision: refs/convert/parquet`, or a Parquet copy of the dataset",
        )
    if isinstance(error, ValueError) and reason.startswith(("BuilderConfig", "Config name")):
        # it lists the configurations that there are, in the first line or the second
        listed = visible(" ".join(str(error).splitlines()[:2]))
        return SourceError(listed, where=where, hint="`config:` names one")
    if type(error).__module__.startswith("datasets.") and "Splits" in type(error).__name__:
        return SourceError(f"its card names other splits or sizes than its files have: {reason}", where=where)
    if type(error).__module__.startswith("datasets.") or (
        isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError)
    ):
        return SourceError(f"cannot be read: {reason}", where=where)
    # the rest is transport: its errors have no common class that lasts from one version of the client to the next,
    # and what `datasets` makes of them speaks of anything but the cause; JSON is what a portal's page is not
    hint = "try again, give --mirror DIR to read a local copy, or `source: {path: …}`"
    return _NoAnswerError(f"{failure}: {_first_line(_root(error))}", where=where, hint=hint)


def _first_line(error: BaseException) -> str:
    return visible(next(iter(str(error).strip().splitlines()), type(error).__name__))[:300]


def _root(error: BaseException) -> BaseException:
    """Return the system's or the hub's own error that the others were raised from or after."""
    found = error
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
        found = error if isinstance(error, OSError) else found
    return found

"""Hub datasets: a revision pinned to its commit, downloaded once by `datasets`, kept as Parquet."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock

from taskmix.errors import SourceError
from taskmix.text import visible

_COMMIT_LENGTH = 40


@dataclass(frozen=True)
class Pinned:
    """A hub dataset at one commit, as a folder of Parquet files."""

    folder: Path
    commit: str


def cache_folder() -> Path:
    """Return $TASKMIX_CACHE, else the platform's cache folder for taskmix."""
    variable = os.environ.get("TASKMIX_CACHE")
    return Path(variable) if variable else Path(platformdirs.user_cache_dir("taskmix"))


def fetch(hub: str, config: str | None, revision: str) -> Pinned:
    """Return a hub dataset's folder, downloading it if this commit is not cached yet.

    Raises:
        SourceError: the hub has no such dataset, revision or configuration, cannot be reached, or the dataset
            needs a script to be run.
    """
    base = cache_folder() / "hub" / hub.replace("/", "--")
    base.mkdir(parents=True, exist_ok=True)
    with FileLock(base / ".lock"):
        commit = _resolve(hub, revision, base)
        folder = base / (config or "default") / commit
        if not folder.is_dir():
            with _explained(hub, config, revision):
                _download(hub, config, commit, folder)
    return Pinned(folder, commit)


def _resolve(hub: str, revision: str, base: Path) -> str:
    """Return the commit that a revision names; without a network, the one that it named last time."""
    if len(revision) == _COMMIT_LENGTH and all(character in "0123456789abcdef" for character in revision):
        return revision
    from huggingface_hub import HfApi

    seen = base / "refs" / revision.replace("/", "--")
    try:
        with _explained(hub, None, revision):
            commit = HfApi().dataset_info(hub, revision=revision, timeout=30).sha
    except SourceError:
        raise
    except Exception as error:
        # no answer: the client's transport errors have no common class that lasts from one version to the next
        if seen.is_file():
            return seen.read_text().strip()
        raise SourceError(
            f"the hub cannot be reached: {visible(str(error))}",
            where=f"{hub}@{revision}",
            hint="give --mirror DIR to read a local copy, or `source: {path: …}`",
        ) from None
    if not commit:
        raise SourceError("the hub names no commit", where=f"{hub}@{revision}")
    seen.parent.mkdir(exist_ok=True)
    seen.write_text(commit)
    return commit


def _download(hub: str, config: str | None, commit: str, folder: Path) -> None:
    """Download and convert a dataset beside its final folder, then rename it into place."""
    import datasets

    folder.parent.mkdir(parents=True, exist_ok=True)
    builder = datasets.load_dataset_builder(hub, config, revision=commit)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-") as part:
        made = Path(part) / "made"
        builder.download_and_prepare(str(made), file_format="parquet")
        final = Path(part) / "final"
        final.mkdir()
        for split in builder.info.splits or {}:
            shards = sorted(made.glob(f"{builder.dataset_name}-{split}.parquet")) or sorted(
                made.glob(f"{builder.dataset_name}-{split}-?????-of-?????.parquet")
            )
            for index, shard in enumerate(shards):
                shutil.move(shard, final / f"{split}-{index:05}-of-{len(shards):05}.parquet")
        final.rename(folder)


@contextmanager
def _explained(hub: str, config: str | None, revision: str) -> Iterator[None]:
    """Say what the errors of `datasets` and `huggingface_hub` mean for a catalog."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    where = f"{hub}{f' ({config})' if config else ''}@{revision}"
    try:
        yield
    except GatedRepoError:
        hint = "accept its terms on the hub, then log in with `hf auth login` or set HF_TOKEN"
        raise SourceError("access to this dataset has to be asked for", where=where, hint=hint) from None
    except RevisionNotFoundError:
        raise SourceError("the dataset has no such revision", where=where) from None
    except RepositoryNotFoundError:
        hint = "check the id; a private dataset needs `hf auth login` or HF_TOKEN"
        raise SourceError("the hub has no such dataset", where=where, hint=hint) from None
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
        raise SourceError(
            "the dataset runs a script of its own, which is never run here",
            where=where,
            hint="use the hub's own conversion, `revision: refs/convert/parquet`, or a Parquet copy of the dataset",
        ) from None
    except ValueError as error:
        # an unknown configuration: `datasets` lists those that there are
        raise SourceError(visible(str(error).splitlines()[0]), where=where, hint="`config:` names one") from None

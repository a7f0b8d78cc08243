"""What is trained on or evaluated: a raw task of the catalog, a mixture, or tokens that were prepared before."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from taskmix.errors import UsageError, nearest
from taskmix.output.folder import LOCK
from taskmix.text import quoted
from taskmix_trainer.tokens.folder import MANIFEST, Manifest, read_manifest

if TYPE_CHECKING:
    from taskmix.catalog.loading import Catalog, CatalogTask

Form = Literal["raw", "instruct"]
_LOG = logging.getLogger("taskmix.trainer")


@dataclass(frozen=True)
class RawTask:
    """A task of the catalog in its raw form."""

    entry: "CatalogTask"
    mirror: Path | None

    @property
    def name(self) -> str:
        """Return the task's name."""
        return self.entry.name

    def source_sha256(self) -> str:
        """Return a hash of what its rows follow from: what the catalog says, and the files. Raises SourceError."""
        commit, files = self.files()
        spec = self.entry.spec.model_dump(mode="json", by_alias=True, exclude={"note", "citation", "templates"})
        text = json.dumps([self.name, spec, commit, files], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def files(self) -> tuple[str | None, dict[str, str]]:
        """Return the commit of its source, if it has one, and the hash of each file, as a lock has them.

        Raises:
            SourceError: there is no such source.
        """
        from taskmix.caching.entries import open_cache
        from taskmix.caching.fingerprints import Fingerprints
        from taskmix.output.inputs import task_inputs
        from taskmix.sources.finding import find_source

        made = task_inputs(self.entry, find_source(self.entry, self.mirror), {})
        hashes = Fingerprints(open_cache()).of(made.files)
        return made.commit, {path.relative_to(made.root).as_posix(): digest for path, digest in hashes.items()}


@dataclass(frozen=True)
class Mixture:
    """A mixture's folder, which is what its lock says."""

    folder: Path
    lock: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Return the mixture's name."""
        return str(self.lock["mixture"])

    @property
    def format(self) -> str:
        """Return the format of its rows."""
        return str(self.lock["spec"]["format"])

    def source_sha256(self) -> str:
        """Return a hash of its rows."""
        content = {name: split["content_sha256"] for name, split in self.lock["splits"].items()}
        return hashlib.sha256(json.dumps([self.format, content], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class PreparedTokens:
    """A folder of tokens."""

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """Return what the tokens were made from."""
        return self.manifest.target


Target = RawTask | Mixture | PreparedTokens


def resolve(
    target: str, *, catalog: Path | None = None, mirror: Path | None = None, form: Form | None = None
) -> Target:
    """Return what a target names.

    Args:
        target: a folder of tokens or of a mixture, an address such as `hf://datasets/ORG/NAME`, or the name of a task
            or mixture of the catalog. A mixture that is not built is built, into `mixtures/NAME`.
        catalog: the catalog file.
        mirror: a folder with copies of hub datasets.
        form: `instruct` makes a mixture of a task alone; `raw` insists on a task.

    Raises:
        UsageError: nothing has that name, or it has no such form.
        TaskmixError: it cannot be built, fetched or read.
    """
    folder = Path(target)
    if (folder / MANIFEST).is_file():
        found = PreparedTokens(folder, read_manifest(folder))
        _check_form(target, form, found.manifest.form)
        return found
    if "://" in target or (folder / LOCK).is_file():
        from taskmix.sharing.fetching import fetch

        _check_form(target, form, "instruct")
        fetched = fetch(target)
        return Mixture(fetched.folder, fetched.lock)
    from taskmix.catalog.loading import load_catalog

    loaded = load_catalog(catalog)
    return _of_catalog(loaded, target, mirror, form)


def _of_catalog(catalog: "Catalog", name: str, mirror: Path | None, form: Form | None) -> Target:
    if name in catalog.tasks and (form != "instruct" or name not in catalog.mixtures):
        if name in catalog.mixtures and form is None:
            raise UsageError(f"{quoted(name)} is a task and a mixture", hint="say --as raw or --as instruct")
        if form == "instruct":
            return _built(*_alone(catalog, name), mirror)
        return RawTask(catalog.tasks[name], mirror)
    if name in catalog.mixtures:
        _check_form(name, form, "instruct")
        return _built(catalog, name, mirror)
    known = [*catalog.tasks, *catalog.mixtures]
    raise UsageError(
        f"no task, mixture or folder {quoted(name)}; the catalog is {catalog.path}", hint=nearest(name, known)
    )


def _check_form(target: str, wanted: Form | None, is_form: str) -> None:
    if wanted is not None and wanted != is_form:
        raise UsageError(f"{target} is {is_form}, not {wanted}", hint=f"leave out --as, or say --as {is_form}")


def _alone(catalog: "Catalog", task: str) -> "tuple[Catalog, str]":
    """Return the catalog with a mixture of one task, and its name."""
    from taskmix.catalog.models import MixtureSpec

    name = f"only-{task}"
    return replace(catalog, mixtures={**catalog.mixtures, name: MixtureSpec(tasks=[task])}), name


def _built(catalog: "Catalog", name: str, mirror: Path | None) -> Mixture:
    """Build a mixture, unless it is there and unchanged."""
    from taskmix.building import build
    from taskmix.output.lock import verify

    built = build(name, catalog=catalog, mirror=mirror)
    if not built.unchanged:
        _LOG.info("%s: built, %s rows", built.out, f"{built.rows:,}")
    return Mixture(built.out, built.lock if built.unchanged else verify(built.out))

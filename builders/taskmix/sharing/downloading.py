"""Files from the hub, each checked: by the hub's own hash, which the lock's must equal."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

from taskmix import hashing
from taskmix.errors import SourceError
from taskmix.sharing.client import retried
from taskmix.sharing.remote import Hub, LocalFile, RemoteFile

_TRIES = 2
"""Once more after a damaged download: what was damaged on the way may come whole."""


def download(hub: Hub, commit: str, file: RemoteFile, target: Path) -> str:
    """Download a file of a commit to a path, and return the sha256 of its bytes.

    Raises:
        SourceError: what came, twice, is not what the hub says it has; nothing is left of it.
        PushError: it did not come.
    """
    from huggingface_hub import hf_hub_download

    target.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_TRIES):
        # a folder of its own for each try: what came damaged is kept nowhere
        with TemporaryDirectory(dir=target.parent, prefix=".download-") as folder:
            path = retried(
                str(hub.place),
                f"downloading {file.path}",
                lambda folder=folder: hf_hub_download(  # type: ignore[misc]
                    hub.id, file.path, repo_type="dataset", revision=commit, local_dir=folder
                ),
                hub.patience,
            )
            came = Path(path)
            sha256, size = hashing.file_sha256(came), came.stat().st_size
            if file.holds(LocalFile(file.path, came, sha256, size)):
                came.replace(target)
                return sha256
    raise SourceError(
        f"{file.path} came damaged: {size:,} bytes with the sha256 {sha256[:16]}…, which is not what the hub has",
        where=str(hub.place),
        hint="try again; if it stays so, something between the hub and this machine changes what comes",
    )


def content(hub: Hub, commit: str, file: RemoteFile) -> bytes:
    """Return the bytes of a small file of a commit; raises as `download`."""
    with TemporaryDirectory() as folder:
        target = Path(folder) / "content"
        sha256 = download(hub, commit, file, target)
        found = target.read_bytes()
    assert hashlib.sha256(found).hexdigest() == sha256, file
    return found

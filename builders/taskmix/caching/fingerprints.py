"""SHA-256 of files, each worked out once for each state that the file is in.

A state is what the system says of a file: where it lies, its size, its inode, and when its content and its inode last
changed, in nanoseconds. A file that was changed moments ago may change once more without another time, since the
clock of a file system is coarse: its hash is not kept. Nor is that of a file whose times lie in the future.
"""

import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from taskmix import hashing
from taskmix.caching.entries import Cache
from taskmix.caching.place import FILES
from taskmix.threads import in_order

SETTLED_NS = 2_000_000_000
"""So long ago a file must have changed for its hash to be kept."""
_THREADS = 4


@dataclass(frozen=True)
class Fingerprints:
    """The hashes of files; of those that the cache knows nothing is read."""

    cache: Cache

    def sha256(self, file: Path) -> str:
        """Return the SHA-256 of a file's bytes, in hex. Raises OSError if it cannot be read."""
        before = file.stat()
        key = _key(file, before)
        known = self.cache.get(FILES, key)
        if known is not None:
            return known.decode("ascii")
        now, found = time.time_ns(), hashing.file_sha256(file)
        is_same = _key(file, file.stat()) == key
        if is_same and now - max(before.st_mtime_ns, before.st_ctime_ns) > SETTLED_NS:
            self.cache.put(FILES, key, found.encode("ascii"))
        return found

    def of(self, files: Iterable[Path]) -> Mapping[Path, str]:
        """Return the SHA-256 of each file, several of which are read at a time."""
        paths = list(dict.fromkeys(files))
        found = in_order((partial(self.sha256, path) for path in paths), _THREADS)
        return dict(zip(paths, found, strict=True))


def _key(file: Path, state: os.stat_result) -> str:
    place = os.path.realpath(file)
    numbers = (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_dev, state.st_ino)
    return hashlib.sha256("\0".join([place, *map(str, numbers)]).encode("utf-8", "surrogateescape")).hexdigest()

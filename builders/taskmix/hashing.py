"""All of taskmix's randomness: a hash of (seed, task, row, purpose), never a stream of draws.

A row's draw depends on what the row is, not on the order, the process or the engine that reads it.
`Expr.hash` of Polars is not used: it may change from one version to the next. The mixing function is the
finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Keys = np.uint64 | NDArray[np.uint64]

_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_MASK = 2**64 - 1
_BLOCK = 1 << 20


def key(*parts: object) -> int:
    """Return a 64-bit key of the parts: the first eight bytes of BLAKE2b over their texts.

    Parts are told apart by their lengths, so that ("ab", "c") and ("a", "bc") differ.
    """
    texts = [str(part).encode() for part in parts]
    framed = b"".join(len(text).to_bytes(8, "little") + text for text in texts)
    return int.from_bytes(hashlib.blake2b(framed, digest_size=8).digest(), "little")


@overload
def draw(key: int, row: int) -> int: ...
@overload
def draw(key: "Keys", row: "NDArray[np.uint64]") -> "NDArray[np.uint64]": ...
def draw(key: Any, row: Any) -> Any:
    """Return the 64-bit draw of one row, in plain Python, or of each of a NumPy array of rows (uint64).

    On arrays that fit into the processor's cache this takes a fraction of the time of `draws`. The key may be an array
    too, with one for each row.
    """
    x = (row ^ key) & _MASK
    x = ((x ^ (x >> 30)) * _MULTIPLIERS[0]) & _MASK
    x = ((x ^ (x >> 27)) * _MULTIPLIERS[1]) & _MASK
    return x ^ (x >> 31)


def draws(key: "int | pl.Expr", rows: "pl.Expr") -> "pl.Expr":
    """Return what `draw` does of an expression of row numbers (UInt64), under one key or one a row (UInt64).

    Polars multiplies unsigned integers modulo 2**64, and has no shift: dividing by a power of two is one.
    """
    # not above: the processes that render templates start without Polars
    import polars as pl

    first, second = (pl.lit(m, dtype=pl.UInt64) for m in _MULTIPLIERS)
    x = rows.cast(pl.UInt64) ^ (pl.lit(key, dtype=pl.UInt64) if isinstance(key, int) else key)
    x = (x ^ (x // (1 << 30))) * first
    x = (x ^ (x // (1 << 27))) * second
    return x ^ (x // (1 << 31))


def threshold(share: float) -> int:
    """Return the draw below which a share (0 to 1) of all draws lies."""
    return min(int(share * 2**64), _MASK)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()

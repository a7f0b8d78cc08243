"""How the cache looks on a terminal, and as JSON."""

from typing import Any

from rich.text import Text

from taskmix.caching.place import COMPARISONS, FILES, HUB, RENDERS, STORES, TOKENS
from taskmix.caching.stock import Stock
from taskmix.cli.tables import printed, table

_MEANINGS = {
    FILES: "hashes of source files and shards",
    RENDERS: "batches that Jinja rendered row by row",
    COMPARISONS: "splits compared with evaluation rows",
    TOKENS: "what the trainer made of rows",
    HUB: "hub datasets, as Parquet",
    STORES: "copies of data in object stores",
}
_HEAD = [("what", ""), ("", ""), ("entries", "right"), ("size", "right"), ("unused for", "right")]


def as_json(stock: Stock) -> dict[str, Any]:
    """Return a stock as plain values."""
    kinds = {
        kept.kind: {"entries": kept.entries, "bytes": kept.bytes, "oldest_days": kept.oldest_days}
        for kept in stock.kinds
    }
    return {"folder": str(stock.folder), "kinds": kinds}


def text(stock: Stock) -> str:
    """Return what `mix cache` prints."""
    return printed(Text(f"{stock.folder}\n"), table(_HEAD, _rows(stock)))


def pruned(stock: Stock) -> str:
    """Return what `mix cache prune` prints."""
    removed = sum(kept.entries for kept in stock.kinds)
    size = sum(kept.bytes for kept in stock.kinds)
    return printed(Text(f"{stock.folder}: entries removed: {removed:,}, {_size(size)}"))


def _rows(stock: Stock) -> list[tuple[str, ...]]:
    return [
        (
            kept.kind,
            _MEANINGS[kept.kind],
            f"{kept.entries:,}",
            _size(kept.bytes),
            "" if kept.oldest_days is None else f"{kept.oldest_days:,.0f} days",
        )
        for kept in stock.kinds
    ]


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 10**6 else f"{count / 1e3:,.1f} kB"

"""Budgets in tokens: how many tokens an example of a task has, on average, by a named tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from taskmix import hashing
from taskmix.errors import CatalogError, UsageError
from taskmix.mixing.examples import Posing, Turn, posed
from taskmix.rowsets import lowest
from taskmix.text import quoted, visible

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SAMPLE = 1_000
"""Examples of a task that are counted; the mean of so many is within a few hundredths of that of all."""


@dataclass(frozen=True)
class Counter:
    """Counts tokens by the `tokenizer.json` at `path`."""

    path: Path

    @cached_property
    def sha256(self) -> str:
        """Return the hash of the tokenizer's file."""
        return hashing.file_sha256(self.path)

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        from tokenizers import Tokenizer

        try:
            return Tokenizer.from_file(str(self.path))
        except Exception as error:  # the library raises Exception itself
            raise CatalogError(f"not a tokenizer.json: {visible(str(error))}", where=str(self.path)) from None

    def mean(self, posing: Posing, turns: Sequence[Turn]) -> float:
        """Return the mean number of tokens, special ones apart, of prompt + completion of a sample of examples."""
        keys = [posing.key("tokens", turn.slot) for turn in turns]
        few = lowest([turn.rows for turn in turns], keys, SAMPLE)
        frames = posed(posing, [Turn(turn.slot, rows) for turn, rows in zip(turns, few, strict=True) if len(rows)])
        texts = [text for frame in frames for text in _texts(frame)]
        found = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return max(1.0, sum(len(each.ids) for each in found) / max(1, len(texts)))


def _texts(frame: pl.DataFrame) -> list[str]:
    if "messages" in frame.columns:
        turns = pl.col("messages").list.eval(pl.element().struct.field("content")).list.join("\n")
        return frame.select(turns).to_series().to_list()
    return frame.select(pl.concat_str("prompt", "output")).to_series().drop_nulls().to_list()


def open_tokenizer(name: str, root: Path, where: str) -> Counter:
    """Return the counter of a tokenizer: a file, relative to the catalog's folder, or a model on the hub.

    Raises:
        UsageError: the package `tokenizers` is not installed.
        CatalogError: there is no such tokenizer; with the catalog's line.
    """
    try:
        import tokenizers  # noqa: F401
    except ImportError:
        raise UsageError("a budget in tokens needs a tokenizer", hint="pip install 'taskmix[tokens]'") from None
    if (root / name).is_file():
        return Counter(root / name)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Counter(Path(hf_hub_download(name, "tokenizer.json")))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise CatalogError(
            f"no tokenizer {quoted(name)}: {type(error).__name__}",
            where=where,
            hint="name a tokenizer.json, relative to the catalog, or a model on the hub that has one",
        ) from None

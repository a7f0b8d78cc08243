"""From a target to tokens on disk, in the cache or in a folder of the user's."""

import hashlib
import inspect
import itertools
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from taskmix.caching.entries import PART, mark_used
from taskmix.caching.place import TOKENS, cache_folder
from taskmix.errors import OutputError, SourceError, UsageError
from taskmix_trainer import heads, reading
from taskmix_trainer.errors import ModelError, TrainError
from taskmix_trainer.heads import HEAD_OF_KIND, HEADS, Encoder, Head, Tally
from taskmix_trainer.heads.base import Rows
from taskmix_trainer.models.opening import ModelName, open_tokenizer, tokens_that_fit
from taskmix_trainer.targets import Mixture, RawTask
from taskmix_trainer.tokens import beginnings, texts
from taskmix_trainer.tokens.folder import MANIFEST, Manifest, SplitTokens, read_manifest, write_manifest, writing

TOKENIZER = "tokenizer"
KEPT = "rows"
"""The folder of what scoring needs beside tokens: a JSON line for each row of an evaluation split."""
_TEXTS_TO_LEARN_FROM = 20_000
_LOG = logging.getLogger("taskmix.trainer")
Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Wanted:
    """How a target is to be tokenised. What is None follows from the head and the model."""

    model: ModelName
    head: str | None = None
    max_length: int | None = None
    stride: int = 128
    too_long: Literal["drop", "cut"] = "drop"
    limit: int | None = None
    splits: tuple[str, ...] = ("train", "validation")


def no_progress(split: str, rows: int) -> None:
    """Do nothing with the number of rows that were tokenised."""


def prepare(
    target: RawTask | Mixture, wanted: Wanted, folder: Path | None = None, progress: Progress = no_progress
) -> Path:
    """Return the folder of a target's tokens; in the cache, those that were made before are used again.

    Args:
        target: a raw task or a mixture.
        wanted: how.
        folder: where to write; by default the cache. It appears whole or not at all.
        progress: called with the split and the rows that were tokenised.

    Raises:
        TrainError: nothing is left to train on.
        OutputError: the folder has other files.
        TaskmixError: the target or the tokenizer cannot be read.
    """
    if folder is not None and folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise OutputError("the folder has other files", where=str(folder), hint="choose an empty one")
    with _opened(target) as source:
        head = choose_head(source.kind, wanted)
        # a tokenizer of its own is learnt from what it is to read
        learnt_from = source.texts() if wanted.model.size is not None else ()
        tokenizer = open_tokenizer(wanted.model, head, learnt_from)
        if source.is_chat:
            texts.ensure_chat_template(tokenizer)
        encoder = Encoder(
            tokenizer,
            _max_length(wanted, head, tokenizer),
            source.labels,
            source.multi_label,
            wanted.stride,
            wanted.too_long,
        )
        final = folder or _cached(target, wanted, head, encoder)
        if folder is None and (final / MANIFEST).is_file():
            mark_used(final)
            return final
        manifest = Manifest(
            target=target.name,
            form="raw" if isinstance(target, RawTask) else "instruct",
            head=head.name,
            kind=source.kind,
            labels=source.labels,
            multi_label=source.multi_label,
            max_length=encoder.max_length,
            format=target.format if isinstance(target, Mixture) else "",
            model=wanted.model.name,
            source=target.source_sha256(),
            stride=wanted.stride,
            lock_sha256=str(target.lock["lock_sha256"]) if isinstance(target, Mixture) else "",
        )
        _write(final, manifest, head, encoder, source, wanted, progress, is_cached=folder is None)
    return final


@dataclass(frozen=True)
class _Source:
    """A target that is open."""

    kind: str
    labels: tuple[str, ...]
    multi_label: bool
    is_chat: bool
    splits: tuple[str, ...]
    rows: Callable[[str, int | None], Iterator[Rows]]

    def texts(self) -> Iterator[str]:
        """Yield texts of the first rows of the first split."""
        found = itertools.chain.from_iterable(map(_texts, self.rows(self.splits[0], _TEXTS_TO_LEARN_FROM)))
        yield from found


def _texts(rows: Rows) -> Iterator[str]:
    for name, values in rows.items():
        if name != "row":
            for value in values:
                yield from _inside(value)


def _inside(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _inside(list(value.values()))
    elif isinstance(value, list):
        if value and all(isinstance(each, str) for each in value):
            yield " ".join(value)
        else:
            for each in value:
                yield from _inside(each)


@contextmanager
def _opened(target: RawTask | Mixture) -> Iterator[_Source]:
    if isinstance(target, Mixture):
        is_chat = target.format in ("messages", "sharegpt")
        yield _Source(
            kind="",
            labels=(),
            multi_label=False,
            is_chat=is_chat,
            splits=reading.mixture_splits(target),
            rows=lambda split, limit: reading.mixture_rows(target, split, limit),
        )
        return
    with reading.open_raw(target) as reader:
        is_chat = reader.kind == "conversation"
        yield _Source(reader.kind, reader.labels, reader.multi_label, is_chat, reader.splits, reader.rows)


def choose_head(kind: str, wanted: Wanted) -> Head:
    """Return the head for a kind of raw task, or for a mixture (no kind): what its model is.

    Raises:
        UsageError: the head that is asked for is none that the target can have.
    """
    classic = HEAD_OF_KIND.get(kind)
    fitting = [classic] if classic else [heads.language.CAUSAL.name, heads.language.SEQ2SEQ.name]
    if wanted.head is not None:
        if wanted.head not in fitting:
            what = f"a {kind} task" if kind else "a mixture"
            raise UsageError(f"{what} is not trained with the head {wanted.head}", hint=f"known: {', '.join(fitting)}")
        return HEADS[wanted.head]
    if classic:
        return HEADS[classic]
    return heads.language.SEQ2SEQ if is_seq2seq(wanted.model) else heads.language.CAUSAL


def is_seq2seq(model: ModelName) -> bool:
    """Whether a model answers a text rather than going on after it. Raises ModelError if it cannot be opened."""
    if model.size is not None:
        return False
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(model.name, revision=model.revision or "main", trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be opened: {str(error).splitlines()[0]}", where=model.name) from None
    return bool(config.is_encoder_decoder)


def _max_length(wanted: Wanted, head: Head, tokenizer: Any) -> int:
    """Return the most tokens of a feature: what is asked for, or the head's own, as far as the model can read."""
    fits = tokens_that_fit(tokenizer, None)
    if wanted.max_length is None:
        return min(head.recipe.max_length, fits or head.recipe.max_length)
    if fits is not None and wanted.max_length > fits:
        raise UsageError(
            f"the model reads {fits:,} tokens, not {wanted.max_length:,}", hint=f"--max-length {fits} at most"
        )
    return wanted.max_length


def _cached(target: RawTask | Mixture, wanted: Wanted, head: Head, encoder: Encoder) -> Path:
    """Return where a target's tokens lie in the cache, whether they are there or not."""
    key = _key(target, wanted, head, encoder)
    return cache_folder() / TOKENS / key[:2] / key[2:]


def _key(target: RawTask | Mixture, wanted: Wanted, head: Head, encoder: Encoder) -> str:
    """Return a hash of all that the tokens follow from, the code among it."""
    tokenizer = encoder.tokenizer
    modules = (beginnings, texts, reading, heads.base, sys.modules[head.encode.__module__])
    parts = [
        target.source_sha256(),
        hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        wanted.model.name,
        tokenizer.chat_template,
        tokenizer.special_tokens_map,
        head.name,
        encoder.max_length,
        encoder.stride,
        encoder.too_long,
        wanted.limit,
        wanted.splits,
        [inspect.getsource(module) for module in modules],
    ]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]


def _write(
    final: Path,
    manifest: Manifest,
    head: Head,
    encoder: Encoder,
    source: _Source,
    wanted: Wanted,
    progress: Progress,
    *,
    is_cached: bool,
) -> None:
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=final.parent, prefix=PART) as part:
            made = Path(part) / "tokens"
            made.mkdir()
            encoder.tokenizer.save_pretrained(made / TOKENIZER)
            splits = {}
            for split in (name for name in wanted.splits if name in source.splits):
                kept = made / KEPT / f"{split}.jsonl" if split != "train" else None
                splits[split] = _write_split(
                    made / f"{split}.arrow", source.rows(split, wanted.limit), head, encoder, kept, split, progress
                )
            if "train" in wanted.splits and not (splits.get("train") and splits["train"].features):
                raise _nothing(manifest, splits.get("train"))
            write_manifest(made, replace(manifest, splits=splits))
            if is_cached and (final / MANIFEST).is_file():
                # another process was quicker, and may be reading what it made, which is the same
                return
            if final.exists():
                shutil.rmtree(final)
            made.rename(final)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", where=str(final)) from None


def _nothing(manifest: Manifest, split: SplitTokens | None) -> TrainError:
    if split is None:
        return TrainError(f"{manifest.target} has no train split", hint="give the task one in the catalog")
    why = ", ".join(f"{count:,} {name}" for name, count in split.tally.items() if count)
    hint = f"of {split.rows:,} rows: {why}; the limit is {manifest.max_length} tokens (--max-length, --too-long cut)"
    return TrainError(f"nothing of {manifest.target} is left to train on", hint=hint)


def _write_split(
    path: Path, rows: Iterable[Rows], head: Head, encoder: Encoder, kept: Path | None, split: str, progress: Progress
) -> SplitTokens:
    """Tokenise a split; of an evaluation split keep the rows themselves too, for scoring."""
    tally, read, tokens, longest, features = Tally(), 0, 0, 0, 0
    if kept is not None:
        kept.parent.mkdir(exist_ok=True)
        kept.touch()
    with writing(path) as writer:
        for batch in rows:
            encoded, lost = head.encode(batch, encoder)
            writer.add(encoded)
            read += len(batch["row"])
            tally.update(lost)
            if kept is not None and head.name in HEAD_OF_KIND.values():
                with kept.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in _by_row(batch))
            progress(split, len(batch["row"]))
        for lengths in writer.lengths:
            tokens += int(lengths.sum())
            longest = max(longest, int(lengths.max()))
            features += len(lengths)
    return SplitTokens(read, features, tokens, longest, {name: count for name, count in tally.items() if count})


def _by_row(batch: Rows) -> Iterator[dict[str, Any]]:
    for values in zip(*batch.values(), strict=True):
        yield dict(zip(batch, values, strict=True))


def kept_rows(folder: Path, split: str) -> list[dict[str, Any]]:
    """Return the rows of an evaluation split of a classic head, as the task has them."""
    with (folder / KEPT / f"{split}.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def saved_tokenizer(folder: Path) -> Any:
    """Return the tokenizer that a folder of tokens was made with. Raises SourceError if it is damaged."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder / TOKENIZER, trust_remote_code=False)
    except Exception:  # tokenizers raises no narrower one
        where, hint = str(folder / TOKENIZER), "prepare the tokens again"
        raise SourceError("the tokenizer of the tokens cannot be read", where=where, hint=hint) from None


__all__: Sequence[str] = ["Wanted", "kept_rows", "prepare", "read_manifest", "saved_tokenizer"]

"""Folders of tiny models with random weights, sharp enough that their answers differ from row to row; mixtures."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers.models import WordPiece

from taskmix.building import build
from taskmix.catalog.loading import load_catalog
from taskmix.output.folder import LOCK
from taskmix_trainer.heads import HEADS
from taskmix_trainer.models import scratch
from taskmix_trainer.models.opening import ModelName, open_model
from taskmix_trainer.targets import Mixture


def save_model(
    folder: Path,
    head: str,
    texts: Sequence[str],
    labels: Sequence[str] = (),
    *,
    multi_label: bool = False,
    seed: int = 7,
) -> ModelName:
    """Write a model of the size `tiny` and a tokenizer trained on texts; return its name."""
    tokenizer = _tokenizer(head, texts)
    torch.manual_seed(seed)
    model: Any = open_model(ModelName("scratch:tiny"), HEADS[head], tokenizer, labels, multi_label=multi_label)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.4)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ModelName(str(folder))


def _tokenizer(head: str, texts: Sequence[str]) -> Any:
    """Return a tokenizer that is the same every time, which WordPiece's trainer does not promise."""
    tokenizer = scratch.train_tokenizer("tiny", head, texts)
    if head in scratch.READS:
        text = " ".join(texts).lower()
        words = Counter(re.findall(r"\w+|[^\w\s]", text))
        pieces = [f"{mark}{letter}" for letter in sorted(set(text) - {" "}) for mark in ("", "##")]
        common = sorted(words, key=lambda word: (-words[word], word))[:400]
        vocabulary = dict.fromkeys([*SPECIAL, *pieces, *common])
        tokenizer.backend_tokenizer.model = WordPiece(
            vocab={word: at for at, word in enumerate(vocabulary)}, unk_token=scratch.UNKNOWN
        )
    return tokenizer


SPECIAL = ("[PAD]", scratch.UNKNOWN, "[CLS]", "[SEP]", "[MASK]")


def build_mixture(catalog: Path, name: str) -> Mixture:
    """Build a mixture of a catalog beside it."""
    made = build(name, catalog=load_catalog(catalog), out=catalog.parent / "mixtures" / name)
    return Mixture(made.out, json.loads((made.out / LOCK).read_text("utf-8")))

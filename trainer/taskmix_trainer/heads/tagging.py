"""Token classification: a tag for each word, which its first sub-word bears and nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from taskmix_trainer.heads.base import (
    IGNORED,
    Batch,
    Encoder,
    Features,
    Head,
    Padding,
    Recipe,
    Rows,
    Tally,
    pad,
    pad_inputs,
    were_cut,
)


def encode(rows: Rows, encoder: Encoder) -> tuple[Features, Tally]:
    """Return the tokens of the words, with labels on first sub-words alone.

    A word that gives no token, such as a lone control character, or that lies beyond the limit has no label. `words`
    are the positions of the words that tokens are the first of, -1 for all others; `tags` the ids of all words.
    """
    index = {word: at for at, word in enumerate(encoder.labels)}
    tags = [[index[tag] for tag in row] for row in rows["tags"]]
    encoded = encoder.tokenizer(
        [list(row) for row in rows["tokens"]], is_split_into_words=True, truncation=True, max_length=encoder.max_length
    )
    words = [_first_pieces(encoded.word_ids(at)) for at in range(len(tags))]
    labels = [[IGNORED if word < 0 else own[word] for word in places] for places, own in zip(words, tags, strict=True)]
    features = {
        "input_ids": encoded["input_ids"],
        "labels": labels,
        "words": words,
        "tags": tags,
        "row": rows["row"],
    }
    if "token_type_ids" in encoded:
        features["token_type_ids"] = encoded["token_type_ids"]
    return features, Tally({"cut": were_cut(encoded)})


def _first_pieces(words: Sequence[int | None]) -> list[int]:
    """Return for each token the word that it begins, or -1."""
    found, last = [], None
    for word in words:
        found.append(-1 if word is None or word == last else word)
        last = word
    return found


def collate(features: Sequence[Mapping[str, Any]], padding: Padding) -> Batch:
    """Return inputs and `labels`: (rows, length)."""
    batch = pad_inputs(features, padding)
    length = batch["input_ids"].shape[1]
    batch["labels"] = pad([feature["labels"] for feature in features], IGNORED, length)
    return batch


def loss(outputs: Any, batch: Batch) -> Tensor:
    """Return the sum over first sub-words of the cross-entropy."""
    logits = outputs.logits.float()
    return functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), reduction="sum")


def count(labels: Sequence[Sequence[int]]) -> list[int]:
    """Return how many labels each row has."""
    return [sum(1 for label in row if label != IGNORED) for row in labels]


def predicted_tags(best: Sequence[int], words: Sequence[int], length: int, labels: Sequence[str]) -> list[str]:
    """Return the tag of each of `length` words from the best label of each token; `O` where a word has no token."""
    outside = "O" if "O" in labels else labels[0]
    tags = [outside] * length
    for label, word in zip(best, words, strict=True):
        if word >= 0:
            tags[word] = labels[label]
    return tags


HEAD = Head(
    name="token-classification",
    model_class="AutoModelForTokenClassification",
    encode=encode,
    collate=collate,
    loss=loss,
    count=count,
    counted="labels",
    recipe=Recipe(learning_rate=5e-5, epochs=3, max_length=512, batch_size=16),
    metric="entity_f1",
)

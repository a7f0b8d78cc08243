"""Language modelling: a causal model that goes on after the prompt, or a sequence-to-sequence one that answers it.

Only the completion is trained on, with the token that ends it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
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
)
from taskmix_trainer.tokens import texts


def encode_causal(rows: Rows, encoder: Encoder) -> tuple[Features, Tally]:
    """Return the tokens of instruction examples, and in `trained` the spans that are trained on.

    Rows have `prompt` and `completion`, `messages`, or `text`.
    """
    tokenizer = encoder.tokenizer
    if "messages" in rows:
        made = texts.chats(tokenizer, rows["messages"])
    elif "text" in rows:
        made = texts.whole_texts(tokenizer, rows["text"])
    else:
        made = texts.join(tokenizer, rows["prompt"], rows["completion"])
    tally, kept = Tally(), []
    for row, tokens in zip(rows["row"], made, strict=True):
        fitting = _fitting(tokens, encoder)
        if fitting is None:
            tally["too long"] += 1
        elif not fitting.trained:
            tally["nothing to train on"] += 1
        else:
            tally["cut"] += fitting is not tokens
            kept.append((row, fitting))
    return {
        "input_ids": [tokens.ids for _, tokens in kept],
        "trained": [tokens.trained for _, tokens in kept],
        "row": [row for row, _ in kept],
    }, tally


def _fitting(tokens: texts.Tokens, encoder: Encoder) -> texts.Tokens | None:
    """Return an example within the limit: as it is, or with the beginning of its prompt cut; None if it is dropped."""
    over = len(tokens.ids) - encoder.max_length
    if over <= 0:
        return tokens
    # the end of the prompt says what to do as often as its beginning, and a completion without its end teaches to go on
    kept = tokens.before
    if encoder.too_long == "drop" or not tokens.trained or tokens.trained[0] - over < max(kept, 1):
        return None
    return texts.Tokens(tokens.ids[:kept] + tokens.ids[kept + over :], [at - over for at in tokens.trained], kept)


def count_trained(spans: Sequence[Sequence[int]]) -> list[int]:
    """Return how many tokens of each example are trained on."""
    return [sum(row[1::2]) - sum(row[::2]) for row in spans]


def _tensor(ids: Sequence[int]) -> Tensor:
    """Return a copy: tokens on disk are not to be written."""
    return torch.from_numpy(np.array(ids, dtype=np.int64))


def _targets(feature: Mapping[str, Any]) -> Tensor:
    """Return for each token the next one, where that is trained on. (length,) int64."""
    ids = _tensor(feature["input_ids"])
    targets = torch.full_like(ids, IGNORED)
    spans = feature["trained"]
    for start, end in zip(spans[::2], spans[1::2], strict=True):
        targets[int(start) - 1 : int(end) - 1] = ids[int(start) : int(end)]
    return targets


def collate_causal(features: Sequence[Mapping[str, Any]], padding: Padding) -> Batch:
    """Return `input_ids` and `labels`, the next token of each: (examples, length), filled up on the right.

    There is no mask: what fills up comes after all that counts, and a causal model does not look there.
    """
    length = padding.length([len(feature["input_ids"]) for feature in features])
    return {
        "input_ids": pad([feature["input_ids"] for feature in features], padding.token, length),
        "labels": torch.stack(
            [functional.pad(row, (0, length - len(row)), value=IGNORED) for row in map(_targets, features)]
        ),
    }


@dataclass(frozen=True)
class Shape:
    """The shape that rows of examples side by side are filled up to, so that it does not vary.

    Attributes:
        tokens: tokens of a row.
        examples: examples of a row, those that fill it up among them.
        longest: the most tokens of an example.
    """

    tokens: int
    examples: int
    longest: int


def pack_causal(features: Sequence[Mapping[str, Any]], padding: Padding, shape: Shape | None = None) -> Batch:
    """Return examples side by side in one row: `input_ids`, `position_ids` and `labels` are (1, tokens).

    `cu_seq_lens_q` are the ends of the examples, from 0; it is what keeps their attention apart. With a `shape` the row
    is filled up with examples without a label, none longer than the longest, and then with empty ones.
    """
    ids = [_tensor(feature["input_ids"]) for feature in features]
    targets = [_targets(feature) for feature in features]
    if shape is not None:
        rest = shape.tokens - sum(map(len, ids))
        fillers = [min(shape.longest, rest - at) for at in range(0, rest, shape.longest)]
        ids += [torch.full((length,), padding.token) for length in fillers]
        targets += [torch.full((length,), IGNORED) for length in fillers]
    ends = torch.tensor([0, *map(len, ids)]).cumsum(0)
    if shape is not None:
        ends = functional.pad(ends, (0, shape.examples + 1 - len(ends)), value=shape.tokens)
    return {
        "input_ids": torch.cat(ids)[None],
        "position_ids": torch.cat([torch.arange(len(row)) for row in ids])[None],
        "labels": torch.cat(targets)[None],
        "cu_seq_lens_q": ends.to(torch.int32),
    }


def encode_seq2seq(rows: Rows, encoder: Encoder) -> tuple[Features, Tally]:
    """Return the tokens of the prompt, its end cut at the limit or dropped, and in `labels` those of the completion."""
    tokenizer = encoder.tokenizer
    if "text" in rows:
        raise ValueError("a sequence-to-sequence model needs prompts and completions, not one text")
    prompts, completions = _asked_and_told(rows)
    end = texts.end_token(tokenizer)
    sources = tokenizer([prompt.rstrip() for prompt in prompts])["input_ids"]
    targets = tokenizer(text_target=list(completions), add_special_tokens=False)["input_ids"]
    tally, features = Tally(), {"input_ids": list[Any](), "labels": list[Any](), "row": list[Any]()}
    for row, source, target in zip(rows["row"], sources, targets, strict=True):
        over = len(source) - encoder.max_length
        if len(target) + 1 > encoder.max_length or (over > 0 and encoder.too_long == "drop"):
            tally["too long"] += 1
            continue
        tally["cut"] += over > 0
        features["input_ids"].append(source[max(over, 0) :])
        features["labels"].append([*target, end])
        features["row"].append(row)
    return features, tally


def _asked_and_told(rows: Rows) -> tuple[Sequence[str], Sequence[str]]:
    if "messages" not in rows:
        return rows["prompt"], rows["completion"]
    prompts, completions = [], []
    for messages in rows["messages"]:
        *before, last = messages
        prompts.append("\n\n".join(message["content"] for message in before))
        completions.append(last["content"])
    return prompts, completions


def collate_seq2seq(features: Sequence[Mapping[str, Any]], padding: Padding) -> Batch:
    """Return inputs and `labels`: (examples, longest completion)."""
    batch = pad_inputs(features, padding)
    labels = [feature["labels"] for feature in features]
    batch["labels"] = pad(labels, IGNORED, padding.length([len(row) for row in labels]))
    return batch


def loss(outputs: Any, batch: Batch) -> Tensor:
    """Return the sum over labelled tokens of the cross-entropy, from whole logits."""
    logits, labels = outputs.logits, batch["labels"].flatten()
    found = labels != IGNORED
    return functional.cross_entropy(logits.flatten(0, 1)[found].float(), labels[found], reduction="sum")


_INSTRUCT: dict[str, Any] = {
    "epochs": 2,
    "max_length": 2048,
    "batch_tokens": 32768,
    "warmup": 0.03,
    "weight_decay": 0.0,
}
CAUSAL = Head(
    name="causal-language-model",
    model_class="AutoModelForCausalLM",
    encode=encode_causal,
    collate=collate_causal,
    loss=loss,
    count=count_trained,
    counted="trained",
    recipe=Recipe(learning_rate=2e-5, schedule="cosine", **_INSTRUCT),
    packs=True,
)
SEQ2SEQ = Head(
    name="sequence-to-sequence",
    model_class="AutoModelForSeq2SeqLM",
    encode=encode_seq2seq,
    collate=collate_seq2seq,
    loss=loss,
    count=lambda labels: [len(row) for row in labels],
    counted="labels",
    # Chung et al. 2022, table 22: 5e-4 (Adafactor, constant) for T5; with AdamW a fifth of it
    recipe=Recipe(learning_rate=1e-4, schedule="linear", **_INSTRUCT),
)

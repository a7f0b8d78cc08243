"""Opening a model and its tokenizer: from the hub, from a folder, or random weights.

Weights are read from safetensors alone, and no code that comes with a model is run.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from taskmix.errors import nearest
from taskmix.text import quoted, visible
from taskmix_trainer.errors import ModelError
from taskmix_trainer.heads.base import Head
from taskmix_trainer.models import scratch
from taskmix_trainer.quiet import without_future_warnings

ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_LOG = logging.getLogger("taskmix.trainer")
_LONGEST = 1_000_000
"""A tokenizer that knows no limit says a number above this."""


@dataclass(frozen=True)
class ModelName:
    """Where a model comes from: an id on the hub, a folder, or `scratch:SIZE`; with the revision of the first."""

    name: str
    revision: str | None = None

    @property
    def size(self) -> str | None:
        """Return the size of a model of random weights; None for others. Raises ModelError for an unknown size."""
        if not self.name.startswith("scratch:"):
            return None
        size = self.name.removeprefix("scratch:")
        if size not in scratch.SIZES:
            raise ModelError(f"no size {quoted(size)} of a model from scratch", hint=nearest(size, scratch.SIZES))
        return size


def open_tokenizer(model: ModelName, head: Head, texts: Iterable[str] = ()) -> Any:
    """Return a model's tokenizer; for `scratch:SIZE` one that is trained on `texts`.

    Raises:
        ModelError: there is none, or it is not a fast one.
    """
    from transformers import AutoTokenizer

    if model.size is not None:
        return scratch.train_tokenizer(model.size, head.name, texts)
    options: dict[str, Any] = {}
    if head.name == "token-classification" and _model_type(model) in _BYTE_LEVEL:
        # byte-level tokenizers must be told that words come without their spaces
        options["add_prefix_space"] = True
    tokenizer = _opened(AutoTokenizer.from_pretrained, model, "tokenizer", **options)
    if not tokenizer.is_fast:
        raise ModelError(
            "only fast tokenizers can be used", where=model.name, hint="choose a model with tokenizer.json"
        )
    if tokenizer.pad_token is None:
        # only ever where attention or labels leave it out, so the end token stays one that is learnt
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer


_BYTE_LEVEL = ("roberta", "xlm-roberta", "longformer", "gpt2", "bart", "modernbert", "deberta", "camembert")


def open_model(
    model: ModelName, head: Head, tokenizer: Any, labels: Sequence[str] = (), *, multi_label: bool = False
) -> Any:
    """Return a model with a head, in float32, in training mode as transformers gives it.

    Args:
        model: where it comes from.
        head: what stands on it; if the weights have none, a new one is drawn.
        tokenizer: the tokenizer that goes with it; the embeddings grow if it has more tokens.
        labels: the words of the labels, in order.
        multi_label: whether a row may have several.

    Raises:
        ModelError: there is no such model, or it cannot have the head.
    """
    import torch
    import transformers

    options: dict[str, Any] = {}
    if labels and head.name in ("sequence-classification", "token-classification"):
        options = {"id2label": dict(enumerate(labels)), "label2id": {word: at for at, word in enumerate(labels)}}
        options["num_labels"] = len(labels)
        if multi_label:
            options["problem_type"] = "multi_label_classification"
    maker = getattr(transformers, head.model_class)
    if model.size is not None:
        config = scratch.make_config(model.size, head.name, tokenizer, **options)
        return maker.from_config(config)
    folder = Path(model.name)
    if (folder / ADAPTER).is_file():
        return _with_adapter(model, head, tokenizer, labels, multi_label=multi_label)
    opened = _opened(
        maker.from_pretrained,
        model,
        f"{head.name} model",
        dtype=torch.float32,
        use_safetensors=True,
        ignore_mismatched_sizes=True,
        **options,
    )
    if len(tokenizer) > opened.get_input_embeddings().num_embeddings:
        opened.resize_token_embeddings(len(tokenizer))
    return opened


def _with_adapter(model: ModelName, head: Head, tokenizer: Any, labels: Sequence[str], *, multi_label: bool) -> Any:
    """Return the model that a LoRA adapter was trained on, with the adapter merged into it."""
    from peft import PeftModel

    folder = Path(model.name)
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(f"the adapter has no {ADAPTER_WEIGHTS}, and nothing else is read", where=model.name)
    base = _base_of(folder)
    if (Path(base.name) / ADAPTER).is_file():
        raise ModelError(f"the adapter is one of another adapter, {quoted(base.name)}", where=model.name)
    whole = open_model(base, head, tokenizer, labels, multi_label=multi_label)
    try:
        with without_future_warnings():
            return PeftModel.from_pretrained(whole, str(folder)).merge_and_unload()
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"the adapter cannot be used: {_first_line(error)}", where=model.name) from None


def _base_of(folder: Path) -> ModelName:
    """Return the model that an adapter was trained on."""
    try:
        config = json.loads((folder / ADAPTER).read_text("utf-8"))
        base, revision = config["base_model_name_or_path"], config.get("revision")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"the adapter cannot be read: {_first_line(error)}", where=str(folder)) from None
    if not isinstance(base, str) or not isinstance(revision, str | None):
        raise ModelError(f"{ADAPTER} does not say what model the adapter is for", where=str(folder))
    return ModelName(base, revision)


def tokens_that_fit(tokenizer: Any, config: Any) -> int | None:
    """Return how many tokens a model can read; None if nothing says so."""
    known = [
        value
        for value in (
            getattr(tokenizer, "model_max_length", None),
            getattr(config, "max_position_embeddings", None),
        )
        if isinstance(value, int) and 0 < value < _LONGEST
    ]
    return min(known, default=None)


def model_folder(name: str) -> Path | None:
    """Return the folder of a model that is one; None for hub ids and `scratch:SIZE`."""
    folder = Path(name)
    return folder if (folder / "config.json").is_file() or (folder / ADAPTER).is_file() else None


def _model_type(model: ModelName) -> str:
    from transformers import AutoConfig

    return str(_opened(AutoConfig.from_pretrained, model, "configuration").model_type)


def _opened(opener: Any, model: ModelName, what: str, **options: Any) -> Any:
    """Call one of transformers' openers; turn what it raises into words."""
    folder = Path(model.name)
    if model.name.startswith((".", "/", "~")) and not folder.is_dir():
        raise ModelError("there is no such folder", where=model.name)
    revision = {} if model.revision is None else {"revision": model.revision}
    try:
        return opener(model.name, trust_remote_code=False, **revision, **options)
    except Exception as error:  # tokenizers raises no narrower one for a file that is damaged
        if "trust_remote_code" in str(error):
            reason = "it needs code that comes with it, which is never run"
            raise ModelError(f"the {what} cannot be opened: {reason}", where=model.name) from None
        hint = "a model is an id on the hub, a folder, or scratch:tiny, scratch:small, scratch:base"
        raise ModelError(f"the {what} cannot be opened: {_first_line(error)}", where=model.name, hint=hint) from None


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return visible(text.splitlines()[0]) if text else type(error).__name__

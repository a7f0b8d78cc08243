"""The loss inside a model's forward pass, so that wrappers for several devices see one call, and no whole logits.

A language model's logits, tokens by vocabulary, are the largest thing in its memory. Here the last layer is left out
of the forward pass, only tokens with a label are kept, and `linear_cross_entropy` goes through them in chunks.
"""

import types
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from taskmix_trainer.heads.base import IGNORED, Batch, Head

LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier_scale")
"""Settings of models that do something to logits after the last layer."""
ITEMS = "items"
"""The entry of a batch that says by what the loss is divided: see `heads.base`."""
SEQ2SEQ = "sequence-to-sequence"
LANGUAGE = ("causal-language-model", SEQ2SEQ)
_CHUNK = 1 << 24
"""So many logits are there at a time where PyTorch does not do it itself."""
_LEAST_WORTH = 1 << 24
"""Below so many logits a batch (64 MiB in float32), going through them in chunks costs more than it saves."""


def install(model: Any, head: Head, longest: int | None = None) -> None:
    """Make a model return its loss, {"loss": scalar}, for batches that have `ITEMS`; others it answers as before.

    The loss is the sum over the batch divided by `ITEMS`. No example that lies beside others in a row is longer than
    `longest`.
    """
    original = model.forward
    is_language = head.name in LANGUAGE
    output = _output_layer(model) if is_language else None

    def forward(self: Any, **batch: Any) -> Any:
        items = batch.pop(ITEMS, None)
        if items is None:
            return original(**batch)
        if longest is not None and "cu_seq_lens_q" in batch:
            batch["max_length_q"] = longest
        given: Batch = {name: batch.pop(name) for name in head.labels}
        if is_language:
            batch["use_cache"] = False
        if head.name == SEQ2SEQ:
            batch["decoder_input_ids"] = self.prepare_decoder_input_ids_from_labels(given["labels"])
        if output is None:
            return {"loss": head.loss(original(**batch), {**batch, **given}) / items}
        with _Passing(output):
            hidden = original(**batch).logits
        return {"loss": linear_loss(hidden, output, given["labels"]) / items}

    model.forward = types.MethodType(forward, model)


def _output_layer(model: Any) -> nn.Linear | None:
    """Return the last layer of a language model; None if its logits are more than what that gives."""
    layer = model.get_output_embeddings()
    changed = any(getattr(model.config, name, None) not in (None, 1, 1.0) for name in LOGIT_CHANGES)
    if not isinstance(layer, nn.Linear) or changed or hasattr(model, "final_logits_bias"):
        return None
    return layer


class _Passing:
    """While in the block, a layer gives what it gets."""

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer

    def __enter__(self) -> None:
        # an attribute of the layer stands before the method of its class
        setattr(self.layer, "forward", _same)  # noqa: B010 - mypy takes no assignment to a method

    def __exit__(self, *error: object) -> None:
        delattr(self.layer, "forward")


def _same(hidden: Tensor) -> Tensor:
    return hidden


def linear_loss(hidden: Tensor, layer: nn.Linear, labels: Tensor) -> Tensor:
    """Return the sum of the cross-entropy of `layer(hidden)` where there are labels, without the whole of it.

    Args:
        hidden: (..., size).
        layer: size to vocabulary.
        labels: (...), `IGNORED` where there is none.
    """
    flat = labels.flatten()
    found = flat != IGNORED
    rows, targets = hidden.flatten(0, -2)[found], flat[found]
    if torch.is_autocast_enabled(rows.device.type):
        # the op is not known to autocast
        kind = torch.get_autocast_dtype(rows.device.type)
        weight, bias = layer.weight.to(kind), None if layer.bias is None else layer.bias.to(kind)
        rows = rows.to(kind)
    else:
        weight, bias = layer.weight, layer.bias
    if len(targets) * weight.shape[0] < _LEAST_WORTH or not len(targets):
        return functional.cross_entropy(functional.linear(rows, weight, bias).float(), targets, reduction="sum")
    if not hasattr(functional, "linear_cross_entropy"):
        chunked: Any = _Chunked
        loss: Tensor = chunked.apply(rows, weight, bias, targets)
        return loss
    options = torch.nn.LinearCrossEntropyOptions()
    return functional.linear_cross_entropy(rows, weight, targets, linear_bias=bias, reduction="sum", options=options)


class _Chunked(torch.autograd.Function):
    """The same for PyTorch before 2.13: gradients are worked out with the loss, chunk by chunk, and scaled later."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        needs = ctx.needs_input_grad
        total = torch.zeros((), device=rows.device, dtype=torch.float32)
        to_rows = torch.empty_like(rows) if needs[0] else None
        to_weight = torch.zeros_like(weight, dtype=torch.float32) if needs[1] else None
        to_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and needs[2] else None
        size = max(1, _CHUNK // weight.shape[0])
        for start in range(0, len(rows), size):
            some, labels = rows[start : start + size], targets[start : start + size]
            logits = functional.linear(some, weight, bias).float()
            total += functional.cross_entropy(logits, labels, reduction="sum")
            change = logits.softmax(-1)
            change[torch.arange(len(labels), device=labels.device), labels] -= 1.0
            moved = change.to(weight.dtype)
            if to_rows is not None:
                to_rows[start : start + size] = moved @ weight
            if to_weight is not None:
                to_weight += moved.t() @ some
            if to_bias is not None:
                to_bias += change.sum(0)
        ctx.types = weight.dtype, None if bias is None else bias.dtype
        ctx.save_for_backward(to_rows, to_weight, to_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *scales: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        to_rows, to_weight, to_bias = ctx.saved_tensors
        (scale,), (of_weight, of_bias) = scales, ctx.types
        return (
            None if to_rows is None else to_rows * scale.to(to_rows.dtype),
            None if to_weight is None else (to_weight * scale).to(of_weight),
            None if to_bias is None else (to_bias * scale).to(of_bias),
            None,
        )

"""Attention of examples that lie side by side in one row: each looks at itself alone.

On CUDA it is PyTorch's attention over sequences of different lengths, elsewhere one scaled dot-product attention an
example. Neither makes a mask of all tokens by all tokens, so what lies side by side costs no more than apart.
"""

import inspect
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "taskmix_packed"
_FLASH_TYPES = (torch.bfloat16, torch.float16)


def _find_varlen() -> tuple[Any, frozenset[str]]:
    """Return the attention of this version of PyTorch, and what it takes: 2.10 has no windows, later ones no GQA."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None, frozenset()
    return varlen_attn, frozenset(inspect.signature(varlen_attn).parameters)


# found here rather than where it is called, which `torch.compile` reads
_varlen_of_torch = _find_varlen()


def register() -> None:
    """Make the attention known to transformers under `NAME`; doing so again changes nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, _no_mask)


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """What keeps examples apart are their ends: there is no mask."""


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Return the attention of examples side by side.

    Args:
        module: the layer, which says whether it is causal.
        query: (1, heads, tokens, size); `key` and `value` may have fewer heads, which are then shared.
        key: see `query`.
        value: see `query`.
        attention_mask: none: see `_no_mask`.
        scaling: what scores are multiplied by.
        dropout: the share of weights that are dropped.
        cu_seq_lens_q: the ends of the examples, from 0 (int32); without them each row is an example.
        max_length_q: the most tokens of an example, or more.
        sliding_window: so many tokens, itself among them, are looked at.
        is_causal: whether tokens look back only; by default what the layer says.
        unused: what other attentions of transformers take.

    Returns:
        (1, tokens, heads, size), and no weights.

    """
    if cu_seq_lens_q is None:
        # examples one a row, as when the model is evaluated
        options: dict[str, Any] = {"dropout": dropout, "scaling": scaling, "is_causal": is_causal}
        options["sliding_window"] = sliding_window
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options, **unused)
    causal = is_causal if is_causal is not None else bool(getattr(module, "is_causal", True))
    query, key, value = _in_one_type(query, key, value)
    if query.is_cuda and query.dtype in _FLASH_TYPES and not dropout and _varlen_of_torch[0] is not None:
        # without it the row is an upper bound, which costs time alone; to ask the device would cost more
        longest = max_length_q or query.shape[2]
        return _varlen(query, key, value, scaling, cu_seq_lens_q, longest, sliding_window, causal), None
    each = []
    edges = cu_seq_lens_q.tolist()
    for start, end in pairwise(edges):
        if start == end:
            continue
        mask = _window(end - start, sliding_window, causal, query.device) if sliding_window else None
        each.append(
            functional.scaled_dot_product_attention(
                query[:, :, start:end],
                key[:, :, start:end],
                value[:, :, start:end],
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=causal and mask is None,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        )
    return torch.cat(each, dim=2).transpose(1, 2).contiguous(), None


def _in_one_type(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors in the type of autocast, as PyTorch's own attention does: norms and rotations give others."""
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind):
        return tensors
    return tuple(each.to(torch.get_autocast_dtype(kind)) for each in tensors)


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None,
    ends: Tensor,
    longest: int,
    window: int | None,
    causal: bool,
) -> Tensor:
    attention, options = _varlen_of_torch
    if query.shape[1] != key.shape[1] and "enable_gqa" not in options:
        times = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
    given: dict[str, Any] = {"scale": scaling}
    if "enable_gqa" in options:
        given["enable_gqa"] = query.shape[1] != key.shape[1]
    if "window_size" in options:
        back = -1 if window is None else window - 1
        given["window_size"] = (back, 0 if causal else back)
    elif window is None:
        given["is_causal"] = causal
    else:
        raise ValueError("this version of PyTorch has no windows in its attention over different lengths")
    rows = [each[0].transpose(0, 1).contiguous() for each in (query, key, value)]
    found = attention(*rows, ends, ends, longest, longest, **given)
    assert isinstance(found, Tensor)
    return found[None]


def _window(length: int, window: int, causal: bool, device: torch.device) -> Tensor | None:
    """Return which token looks at which, (length, length), where a window leaves some out."""
    if length <= window:
        return None
    at = torch.arange(length, device=device)
    behind = at[:, None] - at[None]
    return (behind >= 0) & (behind < window) if causal else behind.abs() < window

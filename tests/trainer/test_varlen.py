"""Attention and loss as they run on a GPU and under older versions of PyTorch, tried without either."""

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from taskmix_trainer.batches.loading import Batches
from taskmix_trainer.batches.plan import Budget, make_plan
from taskmix_trainer.heads import HEADS
from taskmix_trainer.heads.base import Padding
from taskmix_trainer.models import attention, losses
from tests.trainer.small import PAD, make_features, make_model

Varlen = Callable[..., Tensor]


def apart(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, *, causal: bool, scale: float
) -> Tensor:
    """Return the attention over sequences of different lengths, (tokens, heads, size), one after the other."""
    assert query.dtype == key.dtype == value.dtype
    assert int(ends.diff().max()) <= longest
    found = []
    for start, end in pairwise(ends.tolist()):
        if end > start:
            q, k, v = (each[start:end].transpose(0, 1)[None] for each in (query, key, value))
            found.append(
                functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale, enable_gqa=True)
            )
    return torch.cat([each[0].transpose(0, 1) for each in found])


def oldest(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, n: int, m: int, is_causal: bool = False, scale: Any = None
) -> Tensor:
    assert q.shape[1] == k.shape[1]
    return apart(q, k, v, a, n, causal=is_causal, scale=scale)


def newer(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    n: int,
    m: int,
    *,
    scale: Any = None,
    window_size: Any = (-1, -1),
) -> Tensor:
    assert q.shape[1] == k.shape[1]
    return apart(q, k, v, a, n, causal=window_size == (-1, 0), scale=scale)


def newest(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    n: int,
    m: int,
    *,
    scale: Any = None,
    window_size: Any = (-1, -1),
    enable_gqa: bool = False,
) -> Tensor:
    assert enable_gqa == (q.shape[1] != k.shape[1])
    return apart(q, k, v, a, n, causal=window_size == (-1, 0), scale=scale)


@pytest.mark.parametrize("version", [oldest, newer, newest])
def test_the_kernel_of_every_version_is_asked_for_the_same(version: Varlen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_varlen_of_torch", (version, frozenset(inspect.signature(version).parameters)))
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, 12, 8) for heads in (4, 2, 2))
    ends = torch.tensor([0, 5, 6, 12, 12], dtype=torch.int32)
    module = nn.Module()
    expected, _ = attention.packed_attention(module, query, key, value, None, cu_seq_lens_q=ends)
    found = attention._varlen(query, key, value, None, ends, 6, None, True)
    assert (found - expected).abs().max() < 1e-5


def test_autocast_gives_the_kernel_its_type() -> None:
    """Norms and rotations give float32 under autocast, which the kernel on a GPU does not take."""
    module = nn.Module()
    query, key, value = torch.randn(1, 4, 6, 8), torch.randn(1, 2, 6, 8), torch.randn(1, 2, 6, 8).bfloat16()
    ends = torch.tensor([0, 6], dtype=torch.int32)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = attention.packed_attention(module, query, key, value, None, cu_seq_lens_q=ends)
    assert found.dtype == torch.bfloat16


def test_micro_batches_of_a_plan_have_one_shape_and_no_example_longer_than_the_longest() -> None:
    features = make_features("causal-language-model", 23)
    tokens = _Tokens(features)
    plan = make_plan(tokens.lengths(), Budget(1, tokens=64, micro_tokens=32, pack=True), seed=0)
    assert len(plan.batch(len(plan) - 1)) == 0 or len(plan) % 2 == 0
    head = HEADS["causal-language-model"]
    counts = head.count([each["trained"] for each in features])
    batches = Batches(plan, tokens, head, Padding(PAD), counts)  # type: ignore[arg-type]
    made = [batches[at] for at in range(len(batches))]
    assert len({tuple((name, value.shape) for name, value in batch.items()) for batch in made}) == 1
    longest = int(tokens.lengths().max())
    for batch in made:
        ends = batch["cu_seq_lens_q"]
        assert int(ends.diff().max()) <= longest
        assert int(ends.diff().min()) >= 0
        assert int(ends[-1]) == 32


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("trained", [False, True])
def test_the_loss_in_chunks_is_the_loss(bias: bool, trained: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_LEAST_WORTH", 0)
    monkeypatch.setattr(losses, "_CHUNK", 100)
    monkeypatch.delattr(functional, "linear_cross_entropy", raising=False)
    torch.manual_seed(0)
    layer = nn.Linear(6, 30, bias=bias).requires_grad_(trained)
    hidden = torch.randn(2, 9, 6, requires_grad=True)
    labels = torch.randint(0, 30, (2, 9))
    labels[0, 3:6] = -100
    torch.autograd.backward(losses.linear_loss(hidden, layer, labels) / 7)
    assert hidden.grad is not None
    found = [hidden.grad.clone(), *(each.grad.clone() for each in layer.parameters() if each.grad is not None)]
    hidden.grad = None
    layer.zero_grad()
    whole = functional.cross_entropy(layer(hidden).flatten(0, 1), labels.flatten(), reduction="sum")
    torch.autograd.backward(whole / 7)
    assert abs(losses.linear_loss(hidden, layer, labels).item() - whole.item()) < 1e-4
    expected = [hidden.grad, *(each.grad for each in layer.parameters() if each.grad is not None)]
    assert len(found) == len(expected) == 1 + trained * (1 + bias)
    for one, other in zip(found, expected, strict=True):
        assert other is not None
        assert (one - other).abs().max() < 1e-5


def test_a_packed_model_trains_with_the_longest_example_named() -> None:
    from taskmix_trainer.heads.language import Shape, pack_causal
    from taskmix_trainer.models.packing import enable_packing

    features = make_features("causal-language-model")
    model = make_model("causal-language-model", "qwen3")
    assert enable_packing(model, nullcontext())
    losses.install(model, HEADS["causal-language-model"], longest=14)
    seen = []
    original = attention.packed_attention

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs.get("max_length_q"))
        return original(*args, **kwargs)

    from transformers import AttentionInterface

    AttentionInterface.register(attention.NAME, spy)
    try:
        batch = pack_causal(features, Padding(PAD), Shape(96, 20, 14))
        assert torch.isfinite(model(**batch, items=torch.tensor(1.0))["loss"])
    finally:
        attention.register()
    assert set(seen) == {14}


class _Tokens:
    """Features in memory, as `Tokens` has them on disk."""

    def __init__(self, features: list[dict[str, Any]]) -> None:
        import numpy as np

        self._features = features
        self._lengths = np.array([len(each["input_ids"]) for each in features], dtype=np.int64)

    def lengths(self) -> Any:
        return self._lengths

    def features(self, indices: Any) -> list[dict[str, Any]]:
        return [self._features[int(at)] for at in indices]

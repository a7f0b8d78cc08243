"""One loss rule for every head: what accumulates equals the large batch; what lies side by side, what lies apart."""

from contextlib import nullcontext

import pytest
import torch
from torch.nn import functional

from taskmix_trainer.heads import HEADS
from taskmix_trainer.heads.base import Padding
from taskmix_trainer.heads.language import Shape, pack_causal
from taskmix_trainer.models import losses
from taskmix_trainer.models.packing import enable_packing
from tests.trainer.small import CAUSAL, EVERY, PAD, batch_of, gradients, items_of, make_features, make_model


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    scale = max(float(each.abs().max()) for each in expected.values())
    for name, each in expected.items():
        assert (found[name] - each).abs().max().item() <= tolerance * scale, name


@pytest.mark.parametrize(("head", "family"), EVERY)
@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulated_gradients_are_those_of_the_large_batch(head: str, family: str, parts: int) -> None:
    model = make_model(head, family)
    losses.install(model, HEADS[head])
    features = make_features(head)
    whole = model(**batch_of(head, features))["loss"]
    whole.backward()
    expected = gradients(model)
    items = torch.tensor(float(items_of(HEADS[head], features)))
    total = 0.0
    for start in range(0, len(features), len(features) // parts):
        part = features[start : start + len(features) // parts]
        loss = model(**{**batch_of(head, part), "items": items})["loss"]
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(whole.item(), rel=1e-5)
    assert_same(gradients(model), expected)


def test_several_labels_accumulate_too() -> None:
    head = "sequence-classification"
    model = make_model(head, "bert")
    losses.install(model, HEADS[head])
    features = make_features(head, several=True)
    model(**batch_of(head, features, several=True))["loss"].backward()
    expected = gradients(model)
    for start in (0, 2, 4, 6):
        part = batch_of(head, features[start : start + 2], several=True)
        model(**{**part, "items": torch.tensor(8.0)})["loss"].backward()
    assert_same(gradients(model), expected)


@pytest.mark.parametrize(("head", "family"), EVERY)
def test_a_batch_of_one_example_gives_what_it_gives_among_others(head: str, family: str) -> None:
    """What fills a batch up has no influence."""
    model = make_model(head, family).eval()
    losses.install(model, HEADS[head])
    features = make_features(head)
    together = model(**{**batch_of(head, features), "items": torch.tensor(1.0)})["loss"].item()
    alone = sum(model(**{**batch_of(head, [each]), "items": torch.tensor(1.0)})["loss"].item() for each in features)
    assert together == pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize("family", CAUSAL)
def test_side_by_side_is_apart(family: str) -> None:
    head = "causal-language-model"
    features = make_features(head)
    model = make_model(head, family)
    losses.install(model, HEADS[head])
    for each in features:
        batch = batch_of(head, [each])
        model(**{**batch, "items": torch.tensor(float(items_of(HEADS[head], features)))})["loss"].backward()
    expected = gradients(model)

    assert enable_packing(model, nullcontext())
    longest = max(len(each["input_ids"]) for each in features)
    for shape in (None, Shape(96, len(features) + 20, longest)):
        packed = pack_causal(features, Padding(PAD), shape)
        items = torch.tensor(float(items_of(HEADS[head], features)))
        model(**packed, items=items)["loss"].backward()
        assert_same(gradients(model), expected, 2e-5)


@pytest.mark.parametrize("family", CAUSAL)
def test_logits_side_by_side_are_those_of_each_alone(family: str) -> None:
    model = make_model("causal-language-model", family).eval()
    features = make_features("causal-language-model")
    alone = [model(input_ids=torch.tensor([each["input_ids"]])).logits[0] for each in features]
    assert enable_packing(model, nullcontext())
    packed = pack_causal(features, Padding(PAD))
    packed.pop("labels")
    together = model(**packed, use_cache=False).logits[0]
    assert (together - torch.cat(alone)).abs().max().item() < 1e-5


def test_a_model_that_leaks_is_not_packed(caplog: pytest.LogCaptureFixture) -> None:
    """A model whose positions do not start anew is found out, and left as it was."""
    model = make_model("causal-language-model", "gpt2")
    original = model.transformer.forward
    model.transformer.forward = lambda *args, position_ids=None, **kwargs: original(*args, **kwargs)
    before = model.config._attn_implementation
    with caplog.at_level("INFO", "taskmix.trainer"):
        assert not enable_packing(model, nullcontext())
    assert model.config._attn_implementation == before
    assert "change each other" in caplog.text


@pytest.mark.parametrize("family", CAUSAL)
def test_the_loss_without_whole_logits_is_that_of_them(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_LEAST_WORTH", 0)
    head = HEADS["causal-language-model"]
    model = make_model(head.name, family)
    features = make_features(head.name)
    batch = batch_of(head.name, features)
    items, labels = batch.pop("items"), batch["labels"]
    logits = model(input_ids=batch["input_ids"]).logits
    (functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / items).backward()
    expected = gradients(model)
    losses.install(model, head)
    model(**batch, items=items)["loss"].backward()
    assert_same(gradients(model), expected)


def test_no_tensor_of_all_logits_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_LEAST_WORTH", 0)
    head = HEADS["causal-language-model"]
    model = make_model(head.name, "llama")
    losses.install(model, head)
    seen: list[tuple[int, ...]] = []
    model.lm_head.register_forward_hook(lambda layer, given, got: seen.append(tuple(got.shape)))
    batch = batch_of(head.name, make_features(head.name))
    model(**batch)["loss"].backward()
    assert seen, "the last layer is called, and passes on what it gets"
    assert all(shape[-1] == model.config.hidden_size for shape in seen)


def test_models_that_change_their_logits_keep_them_whole() -> None:
    """A soft cap after the last layer must not be lost."""
    model = make_model("causal-language-model", "llama")
    model.config.final_logit_softcapping = 30.0
    assert losses._output_layer(model) is None


def test_an_empty_micro_batch_adds_nothing() -> None:
    for head, family in EVERY:
        model = make_model(head, family)
        losses.install(model, HEADS[head])
        batch = batch_of(head, make_features(head)[:1])
        for name in HEADS[head].labels:
            if name != "options":
                batch[name] = torch.full_like(batch[name], -100)
        loss = model(**batch)["loss"]
        loss.backward()
        assert loss.item() == 0
        assert all(float(each.abs().max()) == 0 for each in gradients(model).values()), head

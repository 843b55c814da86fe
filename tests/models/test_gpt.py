"""The transformer: its formula, its arguments, and stacks of it."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from search.models.errors import ModelError
from search.models.gpt import GPT
from search.models.registry import GPT_PE_TYPES, build_model, count_parameters
from search.models.stacked import StackedModel, can_stack, shape_of

SMALL: dict[str, Any] = {"vocab_size": 11, "block_size": 9, "n_layer": 2, "n_head": 2, "n_embd": 8}
V, T, H, C = SMALL["vocab_size"], SMALL["block_size"], SMALL["n_head"], SMALL["n_embd"]


def small(seed: int = 0, **arguments: Any) -> GPT:
    model = build_model("gpt", SMALL | arguments, seed)
    assert isinstance(model, GPT)
    return model


def characters(*shape: int, seed: int = 5) -> Tensor:
    return torch.randint(V, shape, generator=torch.Generator().manual_seed(seed))


def with_any_weights(model: GPT) -> GPT:
    """Weights and biases that are all different: zeros and ones would hide one that is forgotten."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.double().parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def normed(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"]
    return scaled + w.get(f"{name}.bias", torch.zeros(()))


def linear(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", torch.zeros(()))


def turned(vector: Tensor, t: int) -> Tensor:
    """RoFormer's rotation of one vector at position t."""
    turned = vector.clone()
    for i in range(0, len(vector), 2):
        angle = t * 10000 ** (-i / len(vector))
        turned[i] = vector[i] * math.cos(angle) - vector[i + 1] * math.sin(angle)
        turned[i + 1] = vector[i] * math.sin(angle) + vector[i + 1] * math.cos(angle)
    return turned


def plain_attention(x: Tensor, w: dict[str, Tensor], name: str, is_rotated: bool) -> Tensor:
    """Head by head and place by place; x (T, C)."""
    q, k, v = linear(x, w, f"{name}.fc_qkv").chunk(3, dim=-1)
    heads = []
    for part in (slice(h * C // H, (h + 1) * C // H) for h in range(H)):
        queries, keys = q[:, part], k[:, part]
        if is_rotated:
            queries = torch.stack([turned(one, t) for t, one in enumerate(queries)])
            keys = torch.stack([turned(one, t) for t, one in enumerate(keys)])
        rows = []
        for t in range(len(x)):
            shares = (keys[: t + 1] @ queries[t] / math.sqrt(C // H)).exp()
            rows.append(shares / shares.sum() @ v[: t + 1, part])
        heads.append(torch.stack(rows))
    return linear(torch.cat(heads, dim=-1), w, f"{name}.proj")


def plain_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


@pytest.mark.parametrize(
    ("pe_type", "bias", "tie_weights"),
    [*((pe_type, True, True) for pe_type in GPT_PE_TYPES), ("learned", False, False), ("rope", False, True)],
)
def test_it_equals_a_plain_recomputation(pe_type: str, bias: bool, tie_weights: bool) -> None:
    model = with_any_weights(small(pe_type=pe_type, bias=bias, tie_weights=tie_weights))
    w, idx = model.state_dict(), characters(7)
    assert any(name.endswith("bias") for name in w) == bias
    x = w["token_embedding_table.weight"][idx]
    if pe_type in ("learned", "sinpe"):
        x = x + w["position_table"][:7]
    for block in ("blocks.0", "blocks.1"):
        x = x + plain_attention(normed(x, w, f"{block}.ln_1"), w, f"{block}.attn", pe_type == "rope")
        x = x + linear(plain_gelu(linear(normed(x, w, f"{block}.ln_2"), w, f"{block}.mlp.fc")), w, f"{block}.mlp.proj")
    torch.testing.assert_close(model(idx.unsqueeze(0))[0], normed(x, w, "ln_f") @ w["lm_head.weight"].T)


@pytest.mark.parametrize("pe_type", GPT_PE_TYPES)
def test_without_an_encoding_one_layer_sees_no_order(pe_type: str) -> None:
    model = with_any_weights(small(pe_type=pe_type, n_layer=1))
    first, swapped = (model(torch.tensor([ids]))[0, -1] for ids in ([1, 2, 3], [2, 1, 3]))
    assert torch.allclose(first, swapped) == (pe_type == "none")


@pytest.mark.parametrize(
    ("pe_type", "bias", "tie_weights"), [*itertools.product(GPT_PE_TYPES, (True, False), (True, False))]
)
def test_its_parameters_follow_a_formula(pe_type: str, bias: bool, tie_weights: bool) -> None:
    model = small(pe_type=pe_type, bias=bias, tie_weights=tie_weights)
    block = 12 * C * C + 2 * C + bias * (3 * C + C + 4 * C + C + 2 * C)
    count = V * C + SMALL["n_layer"] * block + C + bias * C
    count += (pe_type == "learned") * T * C + (not tie_weights) * V * C
    assert count_parameters(model) == count


def test_initial_weights_are_those_of_gpt2() -> None:
    model = small(n_embd=64, n_layer=8, block_size=64, vocab_size=200)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            assert torch.all(parameter == (0 if name.endswith("bias") else 1))
        else:
            std = 0.02 / 4 if name.endswith("proj.weight") else 0.02
            assert parameter.std().item() == pytest.approx(std, rel=0.05), name
    loss = F.cross_entropy(model(characters(4, 64)).flatten(0, 1), characters(4, 64, seed=6).flatten()).item()
    assert loss == pytest.approx(math.log(200), rel=0.02), "it begins with a guess"


def test_tied_weights_are_one_tensor_and_train_as_one() -> None:
    tied, untied = small(), small(tie_weights=False)
    assert tied.lm_head.weight is tied.token_embedding_table.weight
    assert untied.lm_head.weight is not untied.token_embedding_table.weight
    tied(characters(1, T)).square().sum().backward()
    assert tied.token_embedding_table.weight.grad is not None
    assert torch.all(tied.token_embedding_table.weight.grad.abs().sum(dim=1) > 0), "the head reaches every character"


@pytest.mark.parametrize("pe_type", GPT_PE_TYPES)
def test_it_runs_in_bfloat16(pe_type: str) -> None:
    model = build_model(
        "gpt", {"vocab_size": 7, "block_size": 6, "n_layer": 1, "n_head": 2, "n_embd": 8, "pe_type": pe_type}, 0
    )
    idx = torch.randint(7, (2, 6), generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(idx)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), model(idx), atol=0.02, rtol=0.02)


def test_dropout_acts_in_training_alone() -> None:
    model, plain, idx = with_any_weights(small(dropout=0.5)), with_any_weights(small()), characters(2, T)
    assert not torch.equal(model(idx), model(idx))
    model.eval()
    torch.testing.assert_close(model(idx), plain(idx))
    assert model.state_dict().keys() == plain.state_dict().keys()


def test_without_dropout_no_layer_draws() -> None:
    assert not [each for each in small().modules() if isinstance(each, torch.nn.Dropout)]
    assert [each for each in small(dropout=0.1).modules() if isinstance(each, torch.nn.Dropout)]


def test_a_shorter_sequence_is_read_and_a_longer_one_is_not() -> None:
    for pe_type in GPT_PE_TYPES:
        model = small(pe_type=pe_type)
        assert model(characters(3, 1)).shape == (3, 1, V)
        with pytest.raises(ModelError, match="10 characters are more than block_size=9"):
            model(characters(1, T + 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pe_type": "randn"}, "unknown pe_type 'randn': choose one of learned, sinpe, rope, none"),
        ({"n_head": 3}, "n_embd=8 is not a multiple of n_head=3"),
        ({"n_head": 8, "pe_type": "rope"}, "n_embd=8 and n_head=8 make heads of odd width 1.*choose an even width"),
        ({"n_embd": 5, "n_head": 1, "pe_type": "sinpe"}, "n_embd=5 is odd"),
        ({"n_layer": 0}, "n_layer=0 is not a size"),
        ({"n_head": 2.0}, r"n_head=2\.0 is not a size"),
        ({"block_size": True}, "block_size=True is not a size"),
        ({"dropout": 1.0}, r"dropout=1\.0 is not a share: give a number of at least 0 and below 1"),
        ({"dropout": -0.1}, r"dropout=-0\.1 is not a share"),
        ({"dropout": math.nan}, "dropout=nan is not a share"),
        ({"dropout": "0.1"}, r"dropout='0\.1' is not a share"),
        ({"dropout": True}, "dropout=True is not a share"),
        ({"bias": "no"}, "bias='no' is not a choice: give true or false"),
        ({"tie_weights": 1}, "tie_weights=1 is not a choice: give true or false"),
    ],
)
def test_a_wrong_argument_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        small(**change)


@pytest.mark.parametrize("pe_type", GPT_PE_TYPES)
@pytest.mark.parametrize("tie_weights", [True, False])
def test_a_stack_computes_what_its_models_compute_alone(pe_type: str, tie_weights: bool) -> None:
    models = [small(seed, pe_type=pe_type, tie_weights=tie_weights) for seed in range(3)]
    again = [small(seed, pe_type=pe_type, tie_weights=tie_weights) for seed in range(3)]
    x, y = characters(3, 4, T), characters(3, 4, T, seed=6)
    assert can_stack(models, x[0], y[0])
    stack = StackedModel(models)
    losses = stack.losses(x, y)
    stack.backward(losses)
    for e, model in enumerate(again):
        loss = F.cross_entropy(model(x[e]).flatten(0, 1), y[e].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(losses[e], loss)
        for (name, one), other in zip(models[e].named_parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-7, msg=name)


def test_a_stack_leaves_a_diverged_model_without_gradients() -> None:
    models = [small(seed) for seed in range(3)]
    stack = StackedModel(models)
    stack.backward(stack.losses(characters(3, 2, T), characters(3, 2, T, seed=6)), without=[1])
    have_gradients = [all(parameter.grad is not None for parameter in model.parameters()) for model in models]
    assert have_gradients == [True, False, True]
    assert all(parameter.grad is None for parameter in models[1].parameters())


def test_models_with_dropout_are_not_stacked() -> None:
    assert not can_stack([small(seed, dropout=0.1) for seed in range(2)], characters(2, T), characters(2, T))


def test_models_with_other_heads_have_another_shape() -> None:
    assert shape_of(small(seed=1)) == shape_of(small(seed=2))
    assert shape_of(small()) != shape_of(small(n_head=4)), "their tensors are alike, what they compute is not"

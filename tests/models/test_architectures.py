from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from search.models import bigram_v2
from search.models.bigram_mf import BigramMF
from search.models.bigram_v2 import BigramV2
from search.models.positional import RotaryEncoding, positional_encoding
from search.models.registry import GPT_PE_TYPES, MODELS, PE_TYPES, build_model, model_arguments

V, C, T = 11, 6, 9
EVERY_MODEL = [
    ("bigram", "randn"),
    ("bigram_mf", "randn"),
    *(("bigram_v2", pe_type) for pe_type in PE_TYPES),
    *(("gpt", pe_type) for pe_type in GPT_PE_TYPES),
]


def small(name: str, pe_type: str) -> nn.Module:
    values = {"vocab_size": V, "n_embd": C, "block_size": T, "pe_type": pe_type, "n_head": 3, "n_layer": 2}
    required, optional = model_arguments(name)
    return build_model(name, {key: value for key, value in values.items() if key in required | optional}, seed=1)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_no_model_is_forgotten_here() -> None:
    assert {name for name, _ in EVERY_MODEL} == set(MODELS)


@pytest.mark.parametrize(("name", "pe_type"), EVERY_MODEL)
@given(batch=st.integers(1, 3), length=st.integers(1, T), data=st.data())
@settings(max_examples=15)
def test_a_later_token_never_changes_an_earlier_logit(
    name: str, pe_type: str, batch: int, length: int, data: st.DataObject
) -> None:
    model = small(name, pe_type)
    idx = torch.randint(V, (batch, length), generator=torch.Generator().manual_seed(5))
    changed = data.draw(st.integers(0, length - 1))
    other = idx.clone()
    other[:, changed:] = (other[:, changed:] + 1) % V
    before, after = model(idx), model(other)
    assert before.shape == (batch, length, V)
    torch.testing.assert_close(before[:, :changed], after[:, :changed])
    assert not torch.allclose(before[:, changed], after[:, changed])


def plain_attention(model: BigramV2, idx: Tensor) -> Tensor:
    """The formula of the docstring, position by position: what a mask would do is done by slicing."""
    length = idx.shape[1]
    e = model.token_embedding_table.weight[idx]
    x = e + model.pe(e, torch.arange(length))
    weight, bias = model.fc_qkv.weight, model.fc_qkv.bias
    q, k, v = (x @ weight[i * C : (i + 1) * C].T + bias[i * C : (i + 1) * C] for i in range(3))
    out = []
    for t in range(length):
        scores = torch.einsum("bc,bsc->bs", q[:, t], k[:, : t + 1]) / math.sqrt(C)
        shares = scores.exp() / scores.exp().sum(dim=1, keepdim=True)
        out.append(torch.einsum("bs,bsc->bc", shares, v[:, : t + 1]))
    return torch.stack(out, dim=1) @ model.lm_head.weight.T + model.lm_head.bias


@pytest.mark.parametrize("how", ["as chosen", "without tables", "with fixed shapes"])
@pytest.mark.parametrize("pe_type", PE_TYPES)
@pytest.mark.parametrize("length", [1, 4, T])
def test_attention_equals_a_plain_recomputation(
    pe_type: str, how: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small("bigram_v2", pe_type).double()
    assert isinstance(model, BigramV2)
    if how != "as chosen":
        monkeypatch.setattr(bigram_v2, "MAX_TABLE_ROWS", 0)
    model.fixed_shapes = how == "with fixed shapes"
    generator = torch.Generator().manual_seed(2)
    # More places than pairs, so that some pairs are there twice.
    idx = torch.randint(V, (40, length), generator=generator)
    for parameter in model.parameters():  # biases of 0, or of all the same, would hide a bias that is forgotten
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    logits, expected = model(idx), plain_attention(model, idx)
    torch.testing.assert_close(logits, expected)
    towards = torch.randn(logits.shape, generator=generator, dtype=torch.float64)
    parameters = list(model.parameters())
    found = torch.autograd.grad((logits * towards).sum(), parameters)
    wanted = torch.autograd.grad((expected * towards).sum(), parameters)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("length", [16, 21, 64])
@pytest.mark.parametrize("n_embd", [16, 256])
def test_contiguous_gradients_equal_those_of_autograd_to_the_last_bit(
    n_embd: int, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    model = BigramV2(65, n_embd, length, "rope")
    idx = torch.randint(65, (64, length + 1))
    found = []
    for least in (0, 1000):
        monkeypatch.setattr(bigram_v2, "MIN_CONTIGUOUS", least)
        loss = F.cross_entropy(model(idx[:, :-1]).flatten(0, 1), idx[:, 1:].flatten())
        found.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("pe_type", PE_TYPES)
@pytest.mark.parametrize(("block_size", "n_embd"), [(T, 4), (T, 32), (16, 24), (16, 64), (64, 256)])
def test_constant_weights_change_no_bit_and_end_with_the_context(block_size: int, n_embd: int, pe_type: str) -> None:
    torch.manual_seed(3)
    model = BigramV2(65, n_embd, block_size, pe_type)
    # A text begins with windows of every length; a pass ends with a window of any length.
    sizes = [*((1, length) for length in range(1, 18)), (64, block_size), (3, block_size), (1, 3), (64, block_size)]
    windows = [torch.randint(65, (size, min(length, block_size))) for size, length in sizes]
    with torch.no_grad():
        before = [model(idx) for idx in windows]
        with model.constant_weights():
            constant = [model(idx) for idx in windows]
            assert len(model._kept or ()) == (2 if pe_type == "rope" and n_embd >= 64 else 1)
        for one, other in zip(before, constant, strict=True):
            assert torch.equal(one, other)
        model.fc_qkv.weight.mul_(2)
        assert not torch.equal(model(windows[-1]), before[-1])


def test_all_pairs_are_computed_once_where_batches_have_many_places(monkeypatch: pytest.MonkeyPatch) -> None:
    model = BigramV2(V, 64, T, "rope")
    computed: list[int] = []
    of_pairs = model._of_pairs

    def counting(character: torch.Tensor, position: torch.Tensor) -> tuple[torch.Tensor, ...]:
        computed.append(len(character))
        return of_pairs(character, position)

    monkeypatch.setattr(model, "_of_pairs", counting)
    with torch.no_grad(), model.constant_weights():
        for _ in range(3):
            model(torch.randint(V, (64, T)))
        assert computed == [V * T]
        model(torch.randint(V, (1, 2)))  # as a text begins
        assert len(computed) == 2
        assert computed[1] < V * T
    monkeypatch.setattr(bigram_v2, "MAX_KEPT_NUMBERS", 1000)  # all pairs need too much memory
    with torch.no_grad(), model.constant_weights():
        model(torch.randint(V, (64, T)))
        model(torch.randint(V, (64, T)))
        assert len(computed) == 4


@pytest.mark.parametrize("places", [1, V - 1, V, 3 * V])
def test_a_factorized_bigram_equals_its_formula(places: int) -> None:
    model = small("bigram_mf", "randn")
    assert isinstance(model, BigramMF)
    idx = torch.randint(V, (1, places), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(model(idx), model.lm_head(model.token_embedding_table(idx)))


def test_the_tables_of_randn_and_sinpe_are_added() -> None:
    e = drawn(2, 4, C)
    for pe_type in ("randn", "sinpe"):
        encoding = positional_encoding(pe_type, C, T)
        torch.testing.assert_close(encoding(e, torch.arange(4)), e + encoding.get_buffer("table")[:4])


def test_randn_noise_is_fixed_small_and_not_trained() -> None:
    encoding = positional_encoding("randn", 256, 64)
    assert encoding.get_buffer("table").std().item() == pytest.approx(0.02, rel=0.05)
    assert not list(encoding.parameters())


def test_sinusoids_follow_the_formula() -> None:
    table = positional_encoding("sinpe", C, T).get_buffer("table")
    for t in range(T):
        for i in range(C // 2):
            angle = t / 10000 ** (2 * i / C)
            assert table[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_rope_turns_each_pair_by_its_angle() -> None:
    e = drawn(2, T, C)
    turned = positional_encoding("rope", C, T)(e, torch.arange(T))
    for t in range(T):
        for i in range(C // 2):
            angle = t / 10000 ** (2 * i / C)
            a, b = e[:, t, 2 * i], e[:, t, 2 * i + 1]
            torch.testing.assert_close(turned[:, t, 2 * i], a * math.cos(angle) - b * math.sin(angle))
            torch.testing.assert_close(turned[:, t, 2 * i + 1], a * math.sin(angle) + b * math.cos(angle))


@given(seed=st.integers(0, 1000), n_pairs=st.integers(1, 16))
@settings(max_examples=20)
def test_rope_keeps_norms(seed: int, n_pairs: int) -> None:
    e = drawn(2, T, 2 * n_pairs, seed=seed)
    torch.testing.assert_close(RotaryEncoding(2 * n_pairs, T)(e, torch.arange(T)).norm(dim=-1), e.norm(dim=-1))


@given(seed=st.integers(0, 1000), distance=st.integers(0, T - 1))
@settings(max_examples=20)
def test_rope_products_depend_on_the_distance_alone(seed: int, distance: int) -> None:
    q, k = drawn(1, 1, C, seed=seed), drawn(1, 1, C, seed=seed + 5000)
    encoding = RotaryEncoding(C, T)
    everywhere = torch.arange(T)
    turned_q = encoding(q.expand(1, T, C).contiguous(), everywhere)[0]
    turned_k = encoding(k.expand(1, T, C).contiguous(), everywhere)[0]
    products = (turned_q[distance:] * turned_k[: T - distance]).sum(dim=-1)
    torch.testing.assert_close(products, products[:1].expand_as(products), rtol=1e-4, atol=1e-5)


def test_bigram_learns_the_counts_of_a_text() -> None:
    text = torch.tensor([0, 1, 0, 2, 0, 1, 1, 2, 2, 0, 1, 0, 0, 2, 1, 0] * 4)
    x, y = text[:-1], text[1:]
    counts = torch.zeros(3, 3, dtype=torch.float64).index_put_((x, y), torch.ones(len(x)).double(), accumulate=True)
    optimum = -(counts * (counts / counts.sum(dim=1, keepdim=True)).log()).sum().item() / len(x)
    model = build_model("bigram", {"vocab_size": 3}, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.0)
    for _ in range(400):
        loss = F.cross_entropy(model(x.unsqueeze(0))[0], y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert optimum - 1e-6 <= loss.item() <= optimum + 1e-3

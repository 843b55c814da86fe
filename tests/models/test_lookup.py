"""Looking up ids as products gives the rows, columns and gradients that reading them gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from search.models.flat_stack import FlatStack, place_losses
from search.models.lookup import MAX_ONE_HOT, AcceleratorLookups, LoneLookup, Lookup, OneHotLookup
from search.models.registry import build_model

B, T, N = 3, 5, 4
SIZES = [2, 65, MAX_ONE_HOT, MAX_ONE_HOT + 1]


def ids(size: int, seed: int = 1) -> Tensor:
    return torch.randint(size, (B, T), generator=torch.Generator().manual_seed(seed))


def table(size: int, width: int = N) -> Tensor:
    return torch.randn(size, width, generator=torch.Generator().manual_seed(2)).requires_grad_()


@pytest.mark.parametrize(("size", "places", "width"), [(2, 64, 7), (65, 512, 129), (1300, 4096, 257)])
def test_reading_rows_equals_an_embedding_to_the_last_bit(size: int, places: int, width: int) -> None:
    idx = torch.randint(size, (8, places // 8), generator=torch.Generator().manual_seed(1))
    rows, weights = table(size, width), torch.randn(8, places // 8, width, generator=torch.Generator().manual_seed(3))
    read, embedded = LoneLookup(idx).rows(rows), F.embedding(idx, rows)
    assert torch.equal(read, embedded)
    gradients = [torch.autograd.grad((each * weights).sum(), rows)[0] for each in (read, embedded)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("size", SIZES[:3])
def test_rows_and_columns(size: int) -> None:
    idx, rows = ids(size), table(size)
    scores = torch.randn(B, T, size, generator=torch.Generator().manual_seed(3), requires_grad=True)
    found = []
    for look_up in (Lookup(idx), OneHotLookup(idx, size)):
        looked_up = look_up.rows(rows), look_up.columns(scores)
        grads = torch.autograd.grad(sum((each**2).sum() for each in looked_up), (rows, scores))  # type: ignore[arg-type]
        found.append((*looked_up, *grads))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    for read, product in zip(found[0][2:], found[1][2:], strict=True):
        torch.testing.assert_close(product, read)


@pytest.mark.parametrize("size", SIZES)
def test_embeddings_of_any_model(size: int) -> None:
    idx, weight = ids(size), table(size)
    plain = F.embedding(idx, weight)
    (expected,) = torch.autograd.grad((plain**2).sum(), weight)
    with AcceleratorLookups():
        found = F.embedding(idx, weight)
    assert found.grad_fn is not None
    assert ("Gather" in str(found.grad_fn.next_functions)) == (size > MAX_ONE_HOT)
    assert "Embedding" not in str(found.grad_fn), "its gradient on a GPU sorts all ids"
    assert torch.equal(found, plain)
    torch.testing.assert_close(torch.autograd.grad((found**2).sum(), weight)[0], expected)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("bigram", {}), ("bigram_mf", {"n_embd": 8}), ("gpt", {"block_size": T, "n_embd": 8, "n_layer": 1, "n_head": 2})],
)
def test_no_gradient_of_a_stack_sorts_ids(name: str, arguments: dict[str, Any]) -> None:
    models = [build_model(name, {"vocab_size": 7, **arguments}, seed) for seed in range(2)]
    idx = ids(7).expand(2, B, T)
    waiting, seen = [FlatStack(models).losses(idx, idx).grad_fn], set[str]()
    while waiting:
        if (node := waiting.pop()) is not None:
            seen.add(node.name())
            waiting += [before for before, _ in node.next_functions]
    assert any("Bmm" in each or "Mm" in each for each in seen)
    assert not any("Embedding" in each for each in seen), seen


def test_embeddings_with_other_options_stay_as_they_are() -> None:
    idx, weight = ids(7), table(7)
    with AcceleratorLookups():
        for options in ({"padding_idx": 0}, {"scale_grad_by_freq": True}, {"sparse": True}, {"max_norm": 1.0}):
            with torch.no_grad():
                expected = torch.embedding(weight, idx)
            found = F.embedding(idx, weight.clone() if "max_norm" in options else weight, **options)
            assert found.shape == expected.shape
            assert "Embedding" in str(found.grad_fn)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_losses_are_the_cross_entropy(size: int, smoothing: float) -> None:
    members = 2
    logits = torch.randn(members, B, T, size, generator=torch.Generator().manual_seed(4), requires_grad=True)
    for y in (torch.stack([ids(size, seed) for seed in range(members)]), ids(size)):
        every = y.expand(members, B, T).flatten()
        expected = F.cross_entropy(logits.flatten(0, 2), every, reduction="none", label_smoothing=smoothing)
        found = place_losses(logits, y, smoothing)
        torch.testing.assert_close(found, expected.view(members, B, T))
        grads = [torch.autograd.grad(each.sum(), logits, retain_graph=True)[0] for each in (found, expected)]
        torch.testing.assert_close(*grads)

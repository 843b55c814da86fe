"""Attention in a stack: which calls get the fused kernel, and what a model gets that calls it otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from search.models import stacked_attention
from search.models.stacked_attention import StackedAttention

E, B, H, T, D = 3, 2, 2, 5, 4


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def scaled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, scale=0.3)


def by_name(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query=q, key=k, value=v, is_causal=True)


def masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=torch.ones(T, T, dtype=torch.bool).tril())


def one_head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q[:, 0], k[:, 0], v[:, 0], is_causal=True)


@pytest.mark.parametrize(
    ("attention", "is_fused"), [(causal, True), (scaled, True), (by_name, False), (masked, False), (one_head, False)]
)
@pytest.mark.parametrize("in_dims", [(0, 0, 0), (2, 0, 1), (0, None, None), (None, 0, 0)])
def test_members_get_what_they_would_get_alone(
    attention: Callable[..., Tensor], is_fused: bool, in_dims: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    fused: list[tuple[Any, ...]] = []
    apply: Callable[..., Any] = stacked_attention._OneBatch.apply

    def recorded(*args: Any) -> Any:
        fused.append(args)
        return apply(*args)

    monkeypatch.setattr(stacked_attention._OneBatch, "apply", recorded)
    generator = torch.Generator().manual_seed(1)
    alone = [torch.randn(E, B, H, T, D, generator=generator, requires_grad=True) for _ in range(3)]
    given = [each[0] if dim is None else each.movedim(0, dim) for each, dim in zip(alone, in_dims, strict=True)]
    with StackedAttention(), sdpa_kernel(SDPBackend.MATH):
        together = vmap(attention, in_dims, randomness="error")(*given)
    assert bool(fused) == is_fused
    one_by_one = torch.stack(
        [
            attention(*(each[0 if dim is None else e] for each, dim in zip(alone, in_dims, strict=True)))
            for e in range(E)
        ]
    )
    torch.testing.assert_close(together, one_by_one)
    towards = torch.randn(together.shape, generator=generator)
    found, wanted = (torch.autograd.grad((y * towards).sum(), alone) for y in (together, one_by_one))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_outside_a_stack_nothing_changes() -> None:
    q, k, v = torch.randn(3, B, H, T, D, generator=torch.Generator().manual_seed(1)).unbind()
    with StackedAttention():
        y = causal(q, k, v)
    assert torch.equal(y, causal(q, k, v))

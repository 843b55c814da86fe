"""Attention of stacked models on a CPU, as fast as that of the models alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]  # on a CPU; torch takes the first that supports its arguments


class StackedAttention(TorchFunctionMode):
    """Gives attention inside `torch.func.vmap` the fused kernel of torch, which `vmap` cannot use, on a CPU.

    Attention has no weights, so the members' batches can be one batch. Attention with a mask or dropout, and any on a
    GPU, stays as `vmap` computes it.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `func`, or what stands in for it."""
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and len(args) == 3 and _is_plain(args[0], kwargs):
            return _OneBatch.apply(kwargs, *args)  # type: ignore[no-untyped-call]
        return func(*args, **kwargs)


def _is_plain(query: Tensor, options: Mapping[str, Any]) -> bool:
    is_masked = options.get("attn_mask") is not None or options.get("dropout_p", 0.0) > 0
    return query.device.type == "cpu" and query.dim() == 4 and not is_masked


class _OneBatch(torch.autograd.Function):
    """Attention of all members as one batch; `vmap` calls its method of that name, whose operations keep gradients."""

    @staticmethod
    def forward(options: Mapping[str, Any], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Where no tensor has a member axis, none depends on a weight and so none has a gradient; each (B, H, T, D)."""
        return F.scaled_dot_product_attention(q, k, v, **options)

    @staticmethod
    def setup_context(ctx: object, inputs: tuple[object, ...], output: Tensor) -> None:
        """Keep nothing for `backward`, which there is none of."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], options: Mapping[str, Any], *qkv: Tensor
    ) -> tuple[Tensor, int]:
        """Put the member axis into the batch: (E, B, H, T, D) each to (E B, H, T, D)."""
        members = info.batch_size
        rows = [
            (each.expand(members, *each.shape) if dim is None else each.movedim(dim, 0)).flatten(0, 1)
            for each, dim in zip(qkv, in_dims[1:], strict=True)
        ]
        with sdpa_kernel(KERNELS):
            y: Tensor = F.scaled_dot_product_attention(rows[0], rows[1], rows[2], **options)
        return y.view(members, -1, *y.shape[1:]), 0

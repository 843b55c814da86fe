"""Rows of tables by id: read, as suits a CPU, or as products with one-hot rows, as suits an accelerator.

On an accelerator the gradient of a row that was read is scattered: by atomic additions, whose order and so whose last
digits change from run to run, or after a sort of all ids. A product with one-hot rows costs little for the characters
of a text, and so does its gradient, which is a product too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Beyond it a product would cost more than it saves, and ids are read.
MAX_ONE_HOT = 512


class Lookup:
    """Looks up what belongs to the ids of a batch.

    Args:
        idx: (B, T) int64.
    """

    def __init__(self, idx: Tensor) -> None:
        self._idx = idx

    def rows(self, table: Tensor) -> Tensor:
        """The row of each id; table (V, N) to (B, T, N)."""
        return F.embedding(self._idx, table)

    def columns(self, scores: Tensor) -> Tensor:
        """The scores of each place with each id of its window; scores (B, T, V), by id, to (B, T, T)."""
        (B, T), idx = self._idx.shape, self._idx
        return scores.gather(2, idx.unsqueeze(1).expand(B, T, T))


class LoneLookup(Lookup):
    """The same for a model that trains alone: on a CPU the gradient takes less time.

    In float32 it is the same to the last bit. Inside `torch.func.vmap` it would take longer.

    Args:
        idx: (B, T) int64, or of any other shape.
    """

    def rows(self, table: Tensor) -> Tensor:
        """As `Lookup.rows`."""
        if not table.is_cpu:  # a GPU would add in any order
            return super().rows(table)
        return table.index_select(0, self._idx.flatten()).view(*self._idx.shape, table.shape[1])


class OneHotLookup(Lookup):
    """The same as products.

    Args:
        idx: (B, T) int64.
        vocab_size: V, at most `MAX_ONE_HOT`.
    """

    def __init__(self, idx: Tensor, vocab_size: int) -> None:
        super().__init__(idx)
        self._one_hot = one_hot(idx, vocab_size)

    def rows(self, table: Tensor) -> Tensor:
        """As `Lookup.rows`."""
        return self._one_hot @ table

    def columns(self, scores: Tensor) -> Tensor:
        """As `Lookup.columns`."""
        return scores @ self._one_hot.transpose(-2, -1)


def one_hot(idx: Tensor, size: int) -> Tensor:
    """Rows with a one at each id and zeros elsewhere; idx (...) int64 to (..., size) float32."""
    # Each stream has its own: another's might not be there yet.
    stream = torch.cuda.current_stream(idx.device).cuda_stream if idx.is_cuda else 0
    return torch.embedding(_identity(size, idx.device, stream), idx)


@functools.cache
def _identity(size: int, device: torch.device, stream: int) -> Tensor:
    with torch.inference_mode(False):  # a gradient may need it later, wherever it is made
        return torch.eye(size, device=device)


class AcceleratorLookups(TorchFunctionMode):
    """Gives the embeddings of any model a gradient without a sort: a product, or of a large table atomic additions.

    Args:
        fixed: Tensors without a gradient, which are read as tables. Inside `torch.func.vmap` a tensor does not tell.
    """

    def __init__(self, fixed: Collection[Tensor] = ()) -> None:
        super().__init__()
        self._fixed = [id(each) for each in fixed]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `func`, or what stands in for it."""
        kwargs = kwargs or {}
        if (
            func is F.embedding
            and (table := _plain_table(*args, **kwargs)) is not None
            and id(table) not in self._fixed
        ):
            return rows_of(table, args[0])
        return func(*args, **kwargs)


def rows_of(table: Tensor, idx: Tensor) -> Tensor:
    """The row of each id; table (V, N) and idx (...) int64 to (..., N)."""
    if table.shape[0] <= MAX_ONE_HOT:
        return one_hot(idx, table.shape[0]).to(table.dtype) @ table
    index = idx.flatten().unsqueeze(1).expand(-1, table.shape[1])
    return table.gather(0, index).view(*idx.shape, table.shape[1])


def _plain_table(
    idx: Tensor,
    weight: Tensor | None = None,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor | None:
    """The table of a call of `F.embedding` that asks for nothing but rows."""
    is_plain = padding_idx is None and max_norm is None and not scale_grad_by_freq and not sparse
    return weight if is_plain else None

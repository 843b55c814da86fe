"""Token ids as tensors: of the small type of a memory-mapped file, and int64 where a model reads them."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import torch
from torch import Tensor

from search.objectives.vocabulary import Tokens

# torch has few operations on these: their bits are kept in the signed type of the same width.
_SIGNED = {"uint16": np.int16, "uint32": np.int32, "uint64": np.int64}
_MASKS = {torch.int16: 0xFFFF, torch.int32: 0xFFFF_FFFF}


def as_tensor(tokens: Tokens, device: torch.device) -> Tensor:
    """A text on a device.

    Args:
        tokens: (N,) of any integer type. int64 is copied; a memory-mapped file only to a GPU.
        device: Where it is read.

    Returns:
        (N,) int64, or for `widened` the type of the file, unsigned ones as signed ones of the same width.
    """
    if tokens.dtype == np.int64 and not isinstance(tokens, np.memmap):
        return torch.tensor(tokens, device=device)
    signed = np.asarray(tokens).view(_SIGNED.get(tokens.dtype.name, tokens.dtype))
    with warnings.catch_warnings():
        # The file is mapped read-only, and nothing writes to a text.
        warnings.filterwarnings("ignore", message=".*not writable", category=UserWarning)
        return torch.from_numpy(signed).to(device)


@functools.lru_cache(maxsize=4)
def as_array(tokens: Tensor) -> Tokens:
    """What `as_tensor` was made from, (N,) of its own type; copied from a GPU once."""
    kept = tokens.cpu().numpy()
    unsigned = {np.dtype(signed): np.dtype(name) for name, signed in _SIGNED.items() if signed is not np.int64}
    return kept.view(unsigned.get(kept.dtype, kept.dtype))


def widened(tokens: Tensor) -> Tensor:
    """A part of what `as_tensor` returned, of any shape, as int64; int64 itself is not copied."""
    mask = _MASKS.get(tokens.dtype)
    # Ids are 0 or more, so a negative number is an unsigned one that does not fit.
    return tokens.to(torch.int64) if mask is None else tokens.to(torch.int64) & mask

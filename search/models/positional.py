"""Positional encodings: each maps embeddings e (N, C) at N positions to pe(e) (N, C); nothing is trained.

`bigram_v2` encodes embeddings with all three, `gpt` uses the sinusoids, and the rotation for queries and keys.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search.models.errors import ModelError, require_positive_int
from search.models.registry import PE_TYPES

BASE = 10000.0  # the longest wavelength is 2 pi times this, in positions
NOISE_SCALE = 0.02  # standard deviation of the fixed noise of "randn"


class AdditiveEncoding(nn.Module):
    """Adds one vector per position: pe(e) = e + P.

    Args:
        table: P, (T, C) float32.
    """

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table)

    def forward(self, e: Tensor, position: Tensor) -> Tensor:
        """Add each position's vector; e (..., N, C) float32 and position (N,) int64 to the shape of e."""
        return e + self.table[position]


class RotaryEncoding(nn.Module):
    """Rotates the channel pairs (0, 1), (2, 3), ... by an angle that grows with the position: pe(e) = R_t e.

    Pair i turns by t / 10000^(2i/C), as in RoFormer (arXiv:2104.09864, section 3.2.2).
    """

    turns: Tensor  # (T, C / 2, 2) float32: the cosine and the sine of each angle

    def __init__(self, n_embd: int, block_size: int) -> None:
        super().__init__()
        angles = _angles(n_embd, block_size)
        self.register_buffer("turns", torch.stack((angles.cos(), angles.sin()), dim=-1).float())

    def forward(self, e: Tensor, position: Tensor) -> Tensor:
        """Rotate by each position's angles; e (..., N, C) float32 and position (N,) int64 to the shape of e."""
        # On pairs as complex numbers the rotation is one product, several times faster than on shuffled channels.
        # Under autocast e has fewer bits, and there are no such complex numbers.
        wide = e.float() if e.dtype in (torch.bfloat16, torch.float16) else e
        pairs = torch.view_as_complex(wide.view(*e.shape[:-1], -1, 2))  # (..., N, C / 2) complex64
        # index_select reads rows faster than indexing does.
        turns = torch.view_as_complex(self.turns.index_select(0, position))
        return torch.view_as_real(pairs * turns).flatten(-2).to(e.dtype)


def noise(n_embd: int, block_size: int) -> Tensor:
    """The table of "randn": 0.02 N(0, 1), drawn from torch's global generator; (T, C) float32."""
    return NOISE_SCALE * torch.randn(block_size, n_embd)


def sinusoids(n_embd: int, block_size: int) -> Tensor:
    """The table of "sinpe", from "Attention is all you need" (arXiv:1706.03762, section 3.5); (T, C) float32.

    S[t, 2i] = sin(t / 10000^(2i/C)), S[t, 2i+1] = cos(t / 10000^(2i/C)).
    """
    angles = _angles(n_embd, block_size)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2).float()


def _angles(n_embd: int, block_size: int) -> Tensor:
    """Angle of each position and channel pair in radians, (T, C / 2) float64 so that far positions stay exact."""
    position = torch.arange(block_size, dtype=torch.float64)
    pair = torch.arange(0, n_embd, 2, dtype=torch.float64)
    return torch.outer(position, BASE ** (-pair / n_embd))


def positional_encoding(pe_type: str, n_embd: int, block_size: int) -> AdditiveEncoding | RotaryEncoding:
    """Build a positional encoding by its name.

    Args:
        pe_type: One of `PE_TYPES`, those of `bigram_v2`.
        n_embd: Channels C; even for "sinpe" and "rope", whose channels come in pairs.
        block_size: Positions T that it supports.

    Returns:
        A module from e (..., N, C) and position (N,), each below block_size, to pe(e) (..., N, C).

    Raises:
        ModelError: The name is unknown, a size is not a whole number of at least 1, or n_embd is odd where pairs
            are needed.
    """
    if pe_type not in PE_TYPES:
        raise ModelError(f"unknown pe_type {pe_type!r}: choose one of {', '.join(PE_TYPES)}")
    require_positive_int("n_embd", n_embd)
    require_positive_int("block_size", block_size)
    if pe_type == "randn":
        return AdditiveEncoding(noise(n_embd, block_size))
    if n_embd % 2:
        raise ModelError(f"n_embd={n_embd} is odd, and pe_type {pe_type!r} pairs channels: choose an even n_embd")
    if pe_type == "sinpe":
        return AdditiveEncoding(sinusoids(n_embd, block_size))
    return RotaryEncoding(n_embd, block_size)

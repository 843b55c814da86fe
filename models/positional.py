"""The positional encodings of `bigram_v2`: each maps embeddings e (B, T, C) to pe(e) (B, T, C), nothing is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.errors import ModelError, require_positive_int
from models.registry import PE_TYPES

BASE = 10000.0  # the longest wavelength is 2 pi times this, in positions
NOISE_SCALE = 0.02  # standard deviation of the fixed noise of "randn"


class RandnEncoding(nn.Module):
    """Adds a noise table drawn once at construction: pe(e) = e + P, P ~ 0.02 N(0, 1)."""

    table: Tensor  # (T, C) float32

    def __init__(self, n_embd: int, block_size: int) -> None:
        super().__init__()
        self.register_buffer("table", NOISE_SCALE * torch.randn(block_size, n_embd))

    def forward(self, e: Tensor) -> Tensor:
        """Add the noise of the first positions; (B, T', C) float32 to the same shape, T' <= block_size."""
        return e + self.table[: e.shape[1]]


class SinusoidEncoding(nn.Module):
    """Adds the sinusoid table of "Attention is all you need" (arXiv:1706.03762, section 3.5): pe(e) = e + S.

    S[t, 2i] = sin(t / 10000^(2i/C)), S[t, 2i+1] = cos(t / 10000^(2i/C)).
    """

    table: Tensor  # (T, C) float32

    def __init__(self, n_embd: int, block_size: int) -> None:
        super().__init__()
        angles = _angles(n_embd, block_size)
        self.register_buffer("table", torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2).float())

    def forward(self, e: Tensor) -> Tensor:
        """Add the table of the first positions; (B, T', C) float32 to the same shape, T' <= block_size."""
        return e + self.table[: e.shape[1]]


class RotaryEncoding(nn.Module):
    """Rotates the channel pairs (0, 1), (2, 3), ... by an angle that grows with the position: pe(e) = R_t e.

    Pair i turns by t / 10000^(2i/C), as in RoFormer (arXiv:2104.09864, section 3.2.2), applied to the embedding.
    """

    turns: Tensor  # (T, C / 2, 2) float32: the cosine and the sine of each angle

    def __init__(self, n_embd: int, block_size: int) -> None:
        super().__init__()
        angles = _angles(n_embd, block_size)
        self.register_buffer("turns", torch.stack((angles.cos(), angles.sin()), dim=-1).float())

    def forward(self, e: Tensor) -> Tensor:
        """Rotate each position; (B, T', C) float32 to the same shape, T' <= block_size."""
        # A pair as one complex number: the rotation is one product, several times faster than on shuffled channels.
        pairs = torch.view_as_complex(e.view(*e.shape[:-1], -1, 2))  # (B, T', C / 2) complex64
        return torch.view_as_real(pairs * torch.view_as_complex(self.turns[: e.shape[1]])).flatten(-2)


def _angles(n_embd: int, block_size: int) -> Tensor:
    """Angle of each position and channel pair in radians, (T, C / 2) float64 so that far positions stay exact."""
    position = torch.arange(block_size, dtype=torch.float64)
    pair = torch.arange(0, n_embd, 2, dtype=torch.float64)
    return torch.outer(position, BASE ** (-pair / n_embd))


def positional_encoding(pe_type: str, n_embd: int, block_size: int) -> nn.Module:
    """Build a positional encoding by its name.

    Args:
        pe_type: One of `PE_TYPES`.
        n_embd: Channels C; even for "sinpe" and "rope", whose channels come in pairs.
        block_size: Positions T that it has to know.

    Returns:
        A module from (B, T', C) to (B, T', C), T' <= block_size.

    Raises:
        ModelError: The name is unknown, a size is not a whole number of at least 1, or n_embd is odd where pairs
            are needed.
    """
    if pe_type not in PE_TYPES:
        raise ModelError(f"unknown pe_type {pe_type!r}: choose one of {', '.join(PE_TYPES)}")
    require_positive_int("n_embd", n_embd)
    require_positive_int("block_size", block_size)
    if pe_type == "randn":
        return RandnEncoding(n_embd, block_size)
    if n_embd % 2:
        raise ModelError(f"n_embd={n_embd} is odd, and pe_type {pe_type!r} pairs channels: choose an even n_embd")
    return SinusoidEncoding(n_embd, block_size) if pe_type == "sinpe" else RotaryEncoding(n_embd, block_size)

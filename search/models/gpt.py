"""A decoder-only transformer in the manner of GPT-2: pre-norm blocks of causal attention and an MLP."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search.models.errors import ModelError, require_positive_int
from search.models.positional import RotaryEncoding, sinusoids
from search.models.registry import GPT_PE_TYPES

INIT_STD = 0.02  # of all weights, as in GPT-2


class CausalSelfAttention(nn.Module):
    """Attention of H heads over all earlier places, and a projection back to the residual stream.

    Args:
        n_embd: Width C.
        n_head: Heads H.
        dropout: Share of the attention weights and of the outputs that are dropped in training.
        bias: Whether the linear maps have a bias.
        rotary: Rotates queries and keys by their position; None if they are not rotated.
    """

    def __init__(self, n_embd: int, n_head: int, dropout: float, bias: bool, rotary: RotaryEncoding | None) -> None:
        super().__init__()
        self.n_head, self.dropout = n_head, dropout
        self.fc_qkv = nn.Linear(n_embd, 3 * n_embd, bias=bias)
        self.proj = nn.Linear(n_embd, n_embd, bias=bias)
        self.rotary = rotary
        self.drop = _dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Mix each place with those before it; x (B, T, C) float32 to the same shape."""
        B, T, C = x.shape
        H = self.n_head
        heads = self.fc_qkv(x).view(B, T, 3 * H, C // H).transpose(1, 2)  # (B, 3H, T, C / H)
        qk, v = heads.split((2 * H, H), dim=1)
        if self.rotary is not None:
            qk = self.rotary(qk, torch.arange(T, device=x.device))
        q, k = qk.chunk(2, dim=1)
        dropped = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropped, is_causal=True)  # (B, H, T, C / H)
        mixed: Tensor = self.drop(self.proj(y.transpose(1, 2).reshape(B, T, C)))
        return mixed


class MLP(nn.Module):
    """Two linear maps with a GELU between them, four times as wide inside.

    Args:
        n_embd: Width C.
        dropout: Share of the outputs that are dropped in training.
        bias: Whether the linear maps have a bias.
    """

    def __init__(self, n_embd: int, dropout: float, bias: bool) -> None:
        super().__init__()
        self.fc = nn.Linear(n_embd, 4 * n_embd, bias=bias)
        self.proj = nn.Linear(4 * n_embd, n_embd, bias=bias)
        self.drop = _dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each place alone; x (B, T, C) float32 to the same shape."""
        transformed: Tensor = self.drop(self.proj(F.gelu(self.fc(x))))
        return transformed


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); the arguments are those of `CausalSelfAttention`."""

    def __init__(self, n_embd: int, n_head: int, dropout: float, bias: bool, rotary: RotaryEncoding | None) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(n_embd, bias=bias)
        self.attn = CausalSelfAttention(n_embd, n_head, dropout, bias, rotary)
        self.ln_2 = nn.LayerNorm(n_embd, bias=bias)
        self.mlp = MLP(n_embd, dropout, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the block computes to the residual stream; x (B, T, C) float32 to the same shape."""
        x = x + self.attn(self.ln_1(x))
        mixed: Tensor = x + self.mlp(self.ln_2(x))
        return mixed


class GPT(nn.Module):
    """Embeddings of characters and positions, `n_layer` blocks, a last norm, and a linear head.

    Initial weights are those of GPT-2: N(0, 0.02), biases 0, and the projections into the residual stream scaled by
    1 / sqrt(2 n_layer), because that many of them are added up.

    Args:
        vocab_size: Characters V of the vocabulary.
        block_size: The longest sequence T that it accepts.
        n_layer: Blocks.
        n_head: Attention heads H of a block; they divide n_embd.
        n_embd: Width C of the residual stream.
        dropout: Share of embeddings, attention weights and block outputs that are dropped in training. Models with
            dropout 0 can be trained as a stack.
        pe_type: Positional encoding, one of `search.models.registry.GPT_PE_TYPES`. "learned" adds a trained vector
            per position and "sinpe" a fixed one. "rope" rotates the queries and keys of each head, as RoFormer does
            (arXiv:2104.09864); `bigram_v2` rotates the embedding instead. With "none", only the causal mask tells
            positions apart.
        bias: Whether linear maps and norms have a bias; the head has none.
        tie_weights: Whether the head's weights are those of the character embedding.

    Raises:
        ModelError: A size is not a whole number of at least 1, n_head does not divide n_embd, pe_type is unknown or
            pairs an odd number of channels, dropout is not in [0, 1), or a flag is not a bool.
    """

    position_table: Tensor | None  # (T, C) float32

    def __init__(
        self,
        vocab_size: int,
        block_size: int,
        n_layer: int = 4,
        n_head: int = 4,
        n_embd: int = 128,
        dropout: float = 0.0,
        pe_type: str = "learned",
        bias: bool = True,
        tie_weights: bool = True,
    ) -> None:
        super().__init__()
        sizes = {"vocab_size": vocab_size, "block_size": block_size}
        for argument, value in (sizes | {"n_layer": n_layer, "n_head": n_head, "n_embd": n_embd}).items():
            require_positive_int(argument, value)
        _check_choices(n_embd, n_head, dropout, pe_type, {"bias": bias, "tie_weights": tie_weights})
        self.block_size = block_size
        # The order of construction is the order of the random draws: changing it changes every run's initial weights.
        self.token_embedding_table = nn.Embedding(vocab_size, n_embd)
        if pe_type == "learned":
            self.position_table = nn.Parameter(torch.empty(block_size, n_embd))
        elif pe_type == "sinpe":
            # Sinusoids up to 1 would hide the characters, whose embeddings begin with a deviation of INIT_STD.
            self.register_buffer("position_table", sinusoids(n_embd, block_size) * (INIT_STD * math.sqrt(2)))
        else:
            self.position_table = None
        self.drop = _dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(
                n_embd,
                n_head,
                dropout,
                bias,
                RotaryEncoding(n_embd // n_head, block_size) if pe_type == "rope" else None,
            )
            for _ in range(n_layer)
        )
        self.ln_f = nn.LayerNorm(n_embd, bias=bias)
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        if tie_weights:
            self.lm_head.weight = self.token_embedding_table.weight
        self._init_weights(n_layer)

    def _init_weights(self, n_layer: int) -> None:
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() > 1:  # norms begin with ones
                into_residual = name.endswith("proj.weight")
                nn.init.normal_(parameter, std=INIT_STD / math.sqrt(2 * n_layer) if into_residual else INIT_STD)

    def forward(self, idx: Tensor) -> Tensor:
        """Predict each next character; idx (B, T') int64, T' <= block_size, to logits (B, T', V) float32."""
        length = idx.shape[1]
        if length > self.block_size:
            raise ModelError(f"{length} characters are more than block_size={self.block_size}: shorten the sequence")
        x = self.token_embedding_table(idx)  # (B, T', C)
        if self.position_table is not None:
            x = x + self.position_table[:length]
        x = self.drop(x)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.lm_head(self.ln_f(x))
        return logits


def _dropout(share: float) -> nn.Module:
    """A layer that drops a share of its inputs in training; without one that draws, models can be stacked."""
    return nn.Dropout(share) if share else nn.Identity()


def _check_choices(n_embd: int, n_head: int, dropout: float, pe_type: str, flags: Mapping[str, bool]) -> None:
    if n_embd % n_head:
        raise ModelError(f"n_embd={n_embd} is not a multiple of n_head={n_head}: each head gets the same width")
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise ModelError(f"dropout={dropout!r} is not a share: give a number of at least 0 and below 1")
    if pe_type not in GPT_PE_TYPES:
        raise ModelError(f"unknown pe_type {pe_type!r}: choose one of {', '.join(GPT_PE_TYPES)}")
    if pe_type == "sinpe" and n_embd % 2:
        raise ModelError(f"n_embd={n_embd} is odd, and pe_type 'sinpe' pairs channels: choose an even n_embd")
    if pe_type == "rope" and n_embd // n_head % 2:
        raise ModelError(
            f"n_embd={n_embd} and n_head={n_head} make heads of odd width {n_embd // n_head}, and pe_type 'rope' pairs "
            "channels: choose an even width"
        )
    for argument, flag in flags.items():
        if not isinstance(flag, bool):
            raise ModelError(f"{argument}={flag!r} is not a choice: give true or false")

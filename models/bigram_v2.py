"""The bigram model with a positional encoding and one causal attention head."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import require_positive_int
from models.positional import positional_encoding


class BigramV2(nn.Module):
    """Embedding e, x = e + pe(e), one causal attention head of width C over x, and a linear head.

    Args:
        vocab_size: Characters V of the vocabulary.
        n_embd: Width C of the embedding and of the attention head.
        block_size: Longest sequence T that it reads.
        pe_type: Positional encoding, one of `models.registry.PE_TYPES`.

    Raises:
        ModelError: A size is not a whole number of at least 1, or as for `positional_encoding`.
    """

    def __init__(self, vocab_size: int, n_embd: int, block_size: int, pe_type: str = "randn") -> None:
        super().__init__()
        require_positive_int("vocab_size", vocab_size)
        require_positive_int("n_embd", n_embd)
        # The order of construction is the order of the draws: changing it changes every run's initial weights.
        self.token_embedding_table = nn.Embedding(vocab_size, n_embd)
        self.fc_qkv = nn.Linear(n_embd, 3 * n_embd)
        self.pe = positional_encoding(pe_type, n_embd, block_size)
        self.n_embd = n_embd
        self.lm_head = nn.Linear(n_embd, vocab_size)

    def forward(self, idx: Tensor) -> Tensor:
        """Predict each next character; idx (B, T') int64, T' <= block_size, to logits (B, T', V) float32."""
        e = self.token_embedding_table(idx)  # (B, T', C)
        x = e + self.pe(e)
        # The axis of one head is for speed: torch has its fused attention kernels for four axes only.
        q, k, v = self.fc_qkv(x).unsqueeze(1).split(self.n_embd, dim=-1)  # (B, 1, T', C) each
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True).squeeze(1)  # (B, T', C)
        logits: Tensor = self.lm_head(out)
        return logits

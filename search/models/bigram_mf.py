"""The bigram table as a product of two smaller ones (matrix factorization)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from search.models.errors import require_positive_int


class BigramMF(nn.Module):
    """An embedding of each character, and a linear map from it to the next-character logits.

    Args:
        vocab_size: Characters V of the vocabulary.
        n_embd: Width C of the embedding; the published run used 384.

    Raises:
        ModelError: A size is not a whole number of at least 1.
    """

    def __init__(self, vocab_size: int, n_embd: int) -> None:
        super().__init__()
        require_positive_int("vocab_size", vocab_size)
        require_positive_int("n_embd", n_embd)
        self.token_embedding_table = nn.Embedding(vocab_size, n_embd)
        self.lm_head = nn.Linear(n_embd, vocab_size)

    def forward(self, idx: Tensor) -> Tensor:
        """Predict each next character; idx (B, T) int64 to logits (B, T, V) float32."""
        if idx.numel() < self.token_embedding_table.num_embeddings:
            few: Tensor = self.lm_head(self.token_embedding_table(idx))
            return few
        # A batch has many places but few distinct characters: compute each character's logits once.
        return F.embedding(idx, self.lm_head(self.token_embedding_table.weight))

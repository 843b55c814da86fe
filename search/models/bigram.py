"""The baseline: the next character is predicted from the current one alone."""

from __future__ import annotations

from torch import Tensor, nn

from search.models.errors import require_positive_int


class Bigram(nn.Module):
    """A table of next-character logits, one row per character.

    Args:
        vocab_size: Characters V of the vocabulary.

    Raises:
        ModelError: vocab_size is not a whole number of at least 1.
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        require_positive_int("vocab_size", vocab_size)
        self.token_embedding_table = nn.Embedding(vocab_size, vocab_size)

    def forward(self, idx: Tensor) -> Tensor:
        """Predict each next character; idx (B, T) int64 to logits (B, T, V) float32."""
        logits: Tensor = self.token_embedding_table(idx)
        return logits

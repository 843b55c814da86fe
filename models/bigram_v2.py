"""The bigram model with a positional encoding and one causal attention head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import require_positive_int
from models.positional import AdditiveEncoding, positional_encoding

# With a longer alphabet most pairs of characters are in no batch: a table of them all would cost more than it saves.
MAX_TABLE_ROWS = 512


class BigramV2(nn.Module):
    """Embedding e, x = e + pe(e), one causal attention head of width C over x, and a linear head:

        q, k, v = fc_qkv(x);  logits = lm_head(softmax(mask(q k^T / sqrt(C))) v)

    `forward` computes just that, but no product twice. What attention sees of a place is its character and its
    position, and a batch has many places and few characters. So keys, queries and values are made once for each
    distinct pair of both (`_from_pairs`), or, where a position is only added, for each character and for each position
    (`_from_tables`). And as everything from x to the scores and from x to the logits is linear, the matrices in between
    are multiplied first: q k^T needs Wq^T Wk alone, and lm_head goes in front of the average over v, whose weights sum
    to one. The sums are those of the plain formula in another order.

    Args:
        vocab_size: Characters V of the vocabulary.
        n_embd: Width C of the embedding and of the attention head.
        block_size: Longest sequence T that it reads.
        pe_type: Positional encoding, one of `models.registry.PE_TYPES`.

    Attributes:
        fixed_shapes: True keeps every shape independent of the characters, as `torch.func.vmap` and CUDA graphs need.

    Raises:
        ModelError: A size is not a whole number of at least 1, or as for `positional_encoding`.
    """

    mask: Tensor  # (T, T) float32: 0 where position t may look at s <= t, else -inf

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
        self.register_buffer("mask", torch.full((block_size, block_size), -torch.inf).triu(1), persistent=False)
        self.fixed_shapes = False

    def forward(self, idx: Tensor) -> Tensor:
        """Predict each next character; idx (B, T') int64, T' <= block_size, to logits (B, T', V) float32."""
        vocab_size, block_size = self.token_embedding_table.num_embeddings, self.mask.shape[0]
        if isinstance(self.pe, AdditiveEncoding) and vocab_size + block_size <= MAX_TABLE_ROWS:
            scores, values = self._from_tables(idx, self.pe.table[: idx.shape[1]])
        else:
            scores, values = self._from_pairs(idx)
        return scores.softmax(dim=-1) @ values

    def _from_tables(self, idx: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """Masked scores (B, T', T') and values (B, T', V) of x = 2 e + P; idx (B, T') int64, table P (T', C)."""
        (B, T), V = idx.shape, self.token_embedding_table.num_embeddings
        x = torch.cat((2 * self.token_embedding_table.weight, table))  # (V + T', C)
        # A place is a character plus a position: with the bias in the characters' rows it counts once.
        once = (torch.arange(V + T, device=idx.device) < V).unsqueeze(1)
        qkv: Tensor = x @ self.fc_qkv.weight.T + once * self.fc_qkv.bias  # (V + T', 3C)
        q, k, v = qkv.chunk(3, dim=-1)
        every_score = q @ k.T * self.n_embd**-0.5  # (V + T', V + T')
        rows = F.embedding(idx, every_score[:V]) + every_score[V:]  # (B, T', V + T'): each place against every key
        with_characters, with_positions = rows.split((V, T), dim=-1)
        scores = with_characters.gather(2, idx.unsqueeze(1).expand(B, T, T)) + with_positions + self.mask[:T, :T]
        values = v @ self.lm_head.weight.T + once * self.lm_head.bias  # (V + T', V)
        return scores, F.embedding(idx, values[:V]) + values[V:]

    def _from_pairs(self, idx: Tensor) -> tuple[Tensor, Tensor]:
        """Masked scores (B, T', T') and values (B, T', V) of any x; idx (B, T') int64."""
        T = idx.shape[1]
        pairs = idx * T + torch.arange(T, device=idx.device)  # (B, T'): a number for each character at each position
        if self.fixed_shapes:
            distinct, place = pairs.flatten(), torch.arange(idx.numel(), device=idx.device).view_as(idx)
        else:
            distinct, place = torch.unique(pairs, return_inverse=True)  # (N,) and (B, T')
        e = F.embedding(distinct // T, self.token_embedding_table.weight)
        x = e + self.pe(e, distinct % T)  # (N, C)
        (wq, wk, wv), (bq, _, bv) = self.fc_qkv.weight.chunk(3), self.fc_qkv.bias.chunk(3)  # (C, C) and (C,) each
        # The bias of the keys adds the same to all scores of a query, which softmax does not see.
        q = F.linear(x, wk.T @ wq, bq @ wk)  # (N, C), to be multiplied with x instead of k
        head = self.lm_head.weight
        values = F.linear(x, head @ wv, head @ bv + self.lm_head.bias)  # (N, V)
        keys = F.embedding(place, x).transpose(1, 2)  # (B, C, T')
        scores = torch.baddbmm(self.mask[:T, :T], F.embedding(place, q), keys, alpha=self.n_embd**-0.5)
        return scores, F.embedding(place, values)

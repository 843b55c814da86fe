"""The bigram model with a positional encoding and one causal attention head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search.models.errors import require_positive_int
from search.models.lookup import LoneLookup, Lookup, OneHotLookup, rows_of
from search.models.positional import AdditiveEncoding, positional_encoding

# With a larger vocabulary, most pairs of characters are missing from a batch: a table of all would cost more than it
# saves.
MAX_TABLE_ROWS = 512

# Measured with MKL: a matrix product that sums over 192 to 384 rows splits them in two, so that appended rows of zeros
# change the last bit; longer sums are split where rows of zeros do not matter. With this padding, a run trained alone
# (its distinct pairs) and the same run in a stack (as many pairs as possible) stay bit-equal.
EVEN_SUMS = 384

# Where a window or a row has few numbers, MKL adds the terms of a gradient in another order when it is computed
# transposed. Measured: from this size of both on the last bit is that of autograd.
MIN_CONTIGUOUS = 16

# With constant weights, all pairs of character and position are computed once if they are at most this many times the
# places of a batch (a text is written one place after the other), and have at most so many numbers: 64 MiB.
MAX_KEPT_PAIRS_PER_PLACE = 8
MAX_KEPT_NUMBERS = 1 << 24
# Measured: MKL adds the terms of a product of at most three rows in another order, and those of rows of at most 25
# numbers in an order that depends on how many rows there are.
MIN_KEPT_PLACES = 16
MIN_KEPT_WIDTH = 64


class BigramV2(nn.Module):
    """Embedding e, x = e + pe(e), one causal attention head of width C over x, and a linear head:

        q, k, v = fc_qkv(x);  logits = lm_head(softmax(mask(q k^T / sqrt(C))) v)

    `forward` computes this formula without computing a product twice. Attention sees only the character and the
    position of a place, and a batch has many places but few characters. So keys, queries and values are computed once
    per distinct pair of character and position (`_from_pairs`), or, if the position is only added, once per character
    and once per position (`_from_tables`). On an accelerator finding the distinct pairs costs more than it saves
    (`_from_places`). Because the maps from x to the scores and from x to the logits are linear, the matrices in between
    are multiplied first: q k^T needs only Wq^T Wk, and lm_head is applied before the average over v, whose weights sum
    to one. The sums are those of the plain formula in another order.

    Args:
        vocab_size: Characters V of the vocabulary.
        n_embd: Width C of the embedding and of the attention head.
        block_size: The longest sequence T that it accepts.
        pe_type: Positional encoding, one of `search.models.registry.PE_TYPES`.

    Attributes:
        fixed_shapes: True keeps every shape independent of the characters, as `torch.func.vmap` needs.
        on_accelerator: True computes what is fast on a GPU, in shapes that are independent of the characters too.

    Raises:
        ModelError: A size is not a whole number of at least 1, or as for `positional_encoding`.
    """

    mask: Tensor  # (T, T) float32: 0 where position t attends to s <= t, else -inf

    def __init__(self, vocab_size: int, n_embd: int, block_size: int, pe_type: str = "randn") -> None:
        super().__init__()
        require_positive_int("vocab_size", vocab_size)
        require_positive_int("n_embd", n_embd)
        # The order of construction is the order of the random draws: changing it changes every run's initial weights.
        self.token_embedding_table = nn.Embedding(vocab_size, n_embd)
        self.fc_qkv = nn.Linear(n_embd, 3 * n_embd)
        self.pe = positional_encoding(pe_type, n_embd, block_size)
        self.n_embd = n_embd
        self.lm_head = nn.Linear(n_embd, vocab_size)
        self.register_buffer("mask", torch.full((block_size, block_size), -torch.inf).triu(1), persistent=False)
        self.fixed_shapes = self.on_accelerator = False
        self._kept: dict[str, tuple[int, tuple[Tensor, ...]]] | None = None

    @contextmanager
    def constant_weights(self) -> Iterator[None]:
        """As long as this lasts, what depends on the weights alone is computed once; for use without gradients.

        The results are the same.
        """
        self._kept = {}
        try:
            yield
        finally:
            self._kept = None

    def forward(self, idx: Tensor) -> Tensor:
        """Predict each next character; idx (B, T') int64, T' <= block_size, to logits (B, T', V) float32."""
        vocab_size, block_size = self.token_embedding_table.num_embeddings, self.mask.shape[0]
        if isinstance(self.pe, AdditiveEncoding) and vocab_size + block_size <= MAX_TABLE_ROWS:
            scores, values = self._from_tables(idx, self.pe.table[: idx.shape[1]])
        elif self.on_accelerator:
            scores, values = self._from_places(idx)
        else:
            scores, values = self._from_pairs(idx)
        return scores.softmax(dim=-1) @ values

    def _from_tables(self, idx: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """Masked scores (B, T', T') and values (B, T', V) of x = 2 e + P; idx (B, T') int64, table P (T', C)."""
        T, V = idx.shape[1], self.token_embedding_table.num_embeddings
        look_up = OneHotLookup(idx, V) if self.on_accelerator else self._look_up(idx)
        every_score, values = self._constant("tables", T, lambda: self._tables(table))
        rows = look_up.rows(every_score[:V]) + every_score[V:]  # (B, T', V + T'): each place against every key
        with_characters, with_positions = torch.split(rows, [V, T], dim=-1)
        scores = look_up.columns(with_characters).add_(with_positions).add_(self.mask[:T, :T])
        return scores, look_up.rows(values[:V]) + values[V:]

    def _tables(self, table: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (V + T', V + T') and values (V + T', V) of each character and each position; table (T', C)."""
        V = self.token_embedding_table.num_embeddings
        x = torch.cat((2 * self.token_embedding_table.weight, table))  # (V + T', C)
        # A place adds a character's row and a position's row: with the bias in the characters' rows it counts once.
        is_character = (torch.arange(x.shape[0], device=x.device) < V).unsqueeze(1)
        qkv: Tensor = x @ self.fc_qkv.weight.T + is_character * self.fc_qkv.bias  # (V + T', 3C)
        q, k, v = qkv.chunk(3, dim=-1)
        return q @ k.T * self.n_embd**-0.5, v @ self.lm_head.weight.T + is_character * self.lm_head.bias

    def _from_places(self, idx: Tensor) -> tuple[Tensor, Tensor]:
        """Masked scores (B, T', T') and values (B, T', V) of any x, computed for each place; idx (B, T') int64."""
        T = idx.shape[1]
        e = rows_of(self.token_embedding_table.weight, idx)
        x = e + self.pe(e, torch.arange(T, device=idx.device))  # (B, T', C)
        wq, wk, wv = self.fc_qkv.weight.chunk(3)  # (C, C) each
        bq, _, bv = self.fc_qkv.bias.chunk(3)  # that of k adds the same to all scores of a place, so softmax drops it
        q = F.linear(x, (wk.T @ wq) * self.n_embd**-0.5, bq @ wk * self.n_embd**-0.5)  # multiplied with x instead of k
        to_values, bias = self.lm_head.weight @ wv, self.lm_head.weight @ bv + self.lm_head.bias
        return q @ x.transpose(-2, -1) + self.mask[:T, :T], F.linear(x, to_values, bias)

    def _from_pairs(self, idx: Tensor) -> tuple[Tensor, Tensor]:
        """Masked scores (B, T', T') and values (B, T', V) of any x; idx (B, T') int64."""
        T, (V, block_size) = idx.shape[1], (self.token_embedding_table.num_embeddings, self.mask.shape[0])
        position = torch.arange(T, device=idx.device)
        if self._keeps and self._is_worth_every_pair(idx.numel()):
            place = idx * block_size + position  # (B, T'): a number for each character at each position
            q, x1, values = self._constant("pairs", block_size, lambda: self._every_pair(idx.device))
        else:
            distinct, place = self._distinct(idx * T + position, V * T)
            q, x1, values = self._of_pairs(distinct // T, distinct % T)
        at_places = self._look_up(place)
        queries, keys = at_places.rows(q), at_places.rows(x1)  # (B, T', C + 1)
        if self.fixed_shapes or min(T, self.n_embd) < MIN_CONTIGUOUS:
            products = queries @ keys.transpose(1, 2)
        else:
            products = _Products.apply(queries, keys)  # type: ignore[no-untyped-call]
        return products.add_(self.mask[:T, :T]), at_places.rows(values)

    def _distinct(self, pairs: Tensor, n_pairs: int) -> tuple[Tensor, Tensor]:
        """The distinct pairs (N,) and the index of each place's pair among them; pairs (B, T') int64 < n_pairs."""
        if self.fixed_shapes:
            return _padded_unique(pairs, n_pairs)
        distinct, place = torch.unique(pairs, return_inverse=True)
        return F.pad(distinct, (0, max(0, min(EVEN_SUMS, n_pairs, pairs.numel()) - len(distinct)))), place

    def _is_worth_every_pair(self, places: int) -> bool:
        """Whether computing every pair once saves time and memory suffices, and leaves the last bit as it is."""
        V, pairs = self.lm_head.out_features, self.lm_head.out_features * self.mask.shape[0]
        return (
            pairs <= MAX_KEPT_PAIRS_PER_PLACE * places
            and pairs * (2 * (self.n_embd + 1) + V) <= MAX_KEPT_NUMBERS
            and places >= MIN_KEPT_PLACES
            and self.n_embd >= MIN_KEPT_WIDTH
        )

    def _every_pair(self, device: torch.device) -> tuple[Tensor, ...]:
        """`_of_pairs` of each character at each position, in the order of the characters."""
        pairs = torch.arange(self.token_embedding_table.num_embeddings * self.mask.shape[0], device=device)
        return self._of_pairs(pairs // self.mask.shape[0], pairs % self.mask.shape[0])

    def _of_pairs(self, character: Tensor, position: Tensor) -> tuple[Tensor, ...]:
        """Queries (N, C + 1), x and a one (N, C + 1), and values (N, V) of pairs; both (N,) int64."""
        e = self._look_up(character).rows(self.token_embedding_table.weight)
        x = e + self.pe(e, position)  # (N, C)
        # With a one appended to x, the biases are a column of the weights and everything is a matrix product: these
        # sum in the same order in a stack of models, which sums over a tensor's rows do not.
        one = torch.ones_like(x[:, :1])
        x1 = torch.cat((x, one), dim=1)  # (N, C + 1)
        to_queries, to_values = self._constant("maps", 0, self._maps)
        return x1 @ to_queries.T, x1, x1 @ to_values.T  # queries are multiplied with x1 instead of k

    def _look_up(self, idx: Tensor) -> Lookup:
        return Lookup(idx) if self.fixed_shapes else LoneLookup(idx)

    def _maps(self) -> tuple[Tensor, Tensor]:
        """The matrices from x and a one to queries (C + 1, C + 1) and to values (V, C + 1)."""
        wq, wk, wv = torch.cat((self.fc_qkv.weight, self.fc_qkv.bias.unsqueeze(1)), dim=1).chunk(3)  # (C, C + 1) each
        to_values = self.lm_head.weight @ wv + F.pad(self.lm_head.bias.unsqueeze(1), (self.n_embd, 0))
        return wk.T @ wq * self.n_embd**-0.5, to_values

    @property
    def _keeps(self) -> bool:
        # Nothing may outlive a call inside `torch.func.vmap`, and a captured graph would use what was computed before
        # it for weights that have changed since.
        return not (self._kept is None or self.on_accelerator or self.fixed_shapes)

    def _constant(self, name: str, length: int, compute: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """What `compute` returns, from the weights and a length alone; of each name that of the last length is kept."""
        if self._kept is None or not self._keeps:
            return compute()
        if name not in self._kept or self._kept[name][0] != length:
            self._kept[name] = length, compute()
        return self._kept[name][1]


def _padded_unique(values: Tensor, below: int) -> tuple[Tensor, Tensor]:
    """`torch.unique` with the inverse, in shapes that do not depend on the values.

    Args:
        values: Any shape, int64, from 0 to below - 1.
        below: Exclusive upper bound of the values.

    Returns:
        The distinct values in order, then zeros, (N,) int64 where N is the largest possible number of them; and the
        index of each value among them, in the shape of `values`. Sums over these rows are those over the distinct
        ones, plus zeros.
    """
    most = min(below, values.numel())
    there = torch.zeros(below, dtype=torch.int64, device=values.device).scatter(0, values.flatten(), 1)
    rank = there.cumsum(0) - 1  # (below,): the row of each value that occurs
    row = torch.where(there > 0, rank, most)
    every = torch.arange(below, device=values.device)
    distinct = torch.zeros(most + 1, dtype=torch.int64, device=values.device).scatter(0, row, every)[:most]
    return distinct, rank[values]


class _Products(torch.autograd.Function):
    """The products of queries with keys, (B, T, C) each to (B, T, T), with gradients that are contiguous.

    Autograd computes the gradient of the keys transposed, and the lookup that they came from would copy it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(queries: Tensor, keys: Tensor) -> Tensor:
        return queries @ keys.transpose(1, 2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        queries, keys = ctx.saved_tensors
        return grad @ keys.to(grad.dtype), grad.transpose(1, 2) @ queries.to(grad.dtype)

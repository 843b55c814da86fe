"""The loop that most people would write for this experiment; in essence, it made the published table.

Plain attention over every position, batches built with `torch.stack`, torch's default AdamW, and every 500 steps the
mean loss of 200 random batches of each split. It is not optimized, because it is the baseline of the benchmarks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search.models.positional import positional_encoding
from search.models.registry import build_model

BATCH_SIZE = 64
EVAL_BATCHES = 200
EVAL_INTERVAL = 500
LEARNING_RATE = 1e-2
MAX_ITERS = 5000


class PlainBigramV2(nn.Module):
    """`search.models.bigram_v2` with every product computed at every position; its weights have the same names."""

    def __init__(self, vocab_size: int, n_embd: int, block_size: int, pe_type: str) -> None:
        super().__init__()
        self.token_embedding_table = nn.Embedding(vocab_size, n_embd)
        self.fc_qkv = nn.Linear(n_embd, 3 * n_embd)
        self.pe = positional_encoding(pe_type, n_embd, block_size)
        self.n_embd = n_embd
        self.lm_head = nn.Linear(n_embd, vocab_size)

    def forward(self, idx: Tensor) -> Tensor:
        """Logits (B, T, V) float32 of idx (B, T) int64."""
        e = self.token_embedding_table(idx)
        x = e + self.pe(e, torch.arange(idx.shape[1], device=idx.device))
        q, k, v = self.fc_qkv(x).split(self.n_embd, dim=-1)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        logits: Tensor = self.lm_head(out)
        return logits


class PlainBigramMF(nn.Module):
    """`search.models.bigram_mf` with the product computed at every position."""

    def __init__(self, vocab_size: int, n_embd: int) -> None:
        super().__init__()
        self.token_embedding_table = nn.Embedding(vocab_size, n_embd)
        self.lm_head = nn.Linear(n_embd, vocab_size)

    def forward(self, idx: Tensor) -> Tensor:
        """Logits (B, T, V) float32 of idx (B, T) int64."""
        logits: Tensor = self.lm_head(self.token_embedding_table(idx))
        return logits


def plain_model(cell: Mapping[str, Any], vocab_size: int, seed: int = 1337) -> nn.Module:
    """The plain model of a cell of the study `bigram` or of its baselines."""
    torch.manual_seed(seed)
    if cell["model"] == "bigram_v2":
        return PlainBigramV2(vocab_size, cell["n_embd"], cell["block_size"], cell["pe_type"])
    if cell["model"] == "bigram_mf":
        return PlainBigramMF(vocab_size, cell["n_embd"])
    return build_model("bigram", {"vocab_size": vocab_size}, seed)


class PlainLoop:
    """One training run.

    Args:
        cell: A cell of the study `bigram` or of its baselines.
        train: (N,) int64.
        validation: (M,) int64.
        vocab_size: Characters V.
        device: Where it trains; batches are made on the CPU.
    """

    def __init__(
        self, cell: Mapping[str, Any], train: Tensor, validation: Tensor, vocab_size: int, device: str = "cpu"
    ) -> None:
        self.model = plain_model(cell, vocab_size).to(device)
        self._device = device
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE)
        self._block_size = int(cell["block_size"])
        self._splits = {"train": train, "val": validation}

    def batch(self, split: str) -> tuple[Tensor, Tensor]:
        """Random windows and their successors, (B, T) int64 each."""
        data, block_size = self._splits[split], self._block_size
        starts = torch.randint(len(data) - block_size, (BATCH_SIZE,))
        x = torch.stack([data[i : i + block_size] for i in starts])
        y = torch.stack([data[i + 1 : i + block_size + 1] for i in starts])
        return x.to(self._device, non_blocking=True), y.to(self._device, non_blocking=True)

    def loss(self, split: str) -> Tensor:
        """Cross-entropy of one random batch, () float32."""
        x, y = self.batch(split)
        logits = self.model(x)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), y.view(-1))

    def step(self) -> None:
        """Take one training step."""
        loss = self.loss("train")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    @torch.no_grad()
    def evaluate(self, batches: int = EVAL_BATCHES) -> dict[str, float]:
        """The mean loss of random batches of each split."""
        self.model.eval()
        means = {}
        for split in self._splits:
            means[split] = torch.tensor([self.loss(split).item() for _ in range(batches)]).mean().item()
        self.model.train()
        return means

    def train(
        self, max_iters: int = MAX_ITERS, eval_interval: int = EVAL_INTERVAL, eval_batches: int = EVAL_BATCHES
    ) -> Iterator[tuple[int, float]]:
        """Train, and yield (step, validation loss) at step 0, every `eval_interval` steps and at the end."""
        for step in range(max_iters + 1):
            if step % eval_interval == 0 or step == max_iters:
                yield step, self.evaluate(eval_batches)["val"]
            if step < max_iters:
                self.step()

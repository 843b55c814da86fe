"""The loss of a model on a text: over every id once, or as the mean of random batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search.objectives.language_model.batches import BatchSampler
from search.objectives.language_model.interface import constant_weights
from search.objectives.language_model.token_tensors import widened

# These bound the memory of a pass, for any block_size and for any vocabulary: 64 MB of logits.
TOKENS_PER_FORWARD = 16_384
LOGITS_PER_FORWARD = 1 << 24


@dataclass(frozen=True)
class PassLosses:
    """The losses of one pass over a text.

    Attributes:
        loss: Mean cross-entropy over all predictions, in nats per id.
        by_position: The same for each position of a window, T numbers, over full windows only; shorter than T if
            the text does not fill one window.
    """

    loss: float
    by_position: list[float]


def full_pass(model: nn.Module, tokens: Tensor, block_size: int, vocab_size: int = 1) -> PassLosses:
    """Predict every id but the first of a text once, in windows that do not overlap.

    Args:
        model: From (B, T) int64 to logits (B, T, V).
        tokens: (N,) as `token_tensors.as_tensor` makes them, on the model's device; N >= 2.
        block_size: Ids T of a window; the remainder at the end is one shorter window.
        vocab_size: Ids V; a larger vocabulary is predicted in smaller batches, so that the logits fit into memory.

    Returns:
        The mean over the N - 1 predictions, and the mean by position over the full windows.
    """
    predictions = tokens.shape[0] - 1
    full, rest = divmod(predictions, block_size)
    inputs = tokens[: full * block_size].view(full, block_size)
    targets = tokens[1 : full * block_size + 1].view(full, block_size)
    rows = windows_per_forward(block_size, vocab_size)
    with evaluating(model):
        by_position = torch.zeros(block_size, dtype=torch.float64, device=tokens.device)
        for start in range(0, full, rows):
            by_position += _losses(model, widened(inputs[start : start + rows]), widened(targets[start : start + rows]))
        total = by_position.sum()
        if rest:
            last = widened(tokens[-rest - 1 :]).unsqueeze(0)
            tail = _losses(model, last[:, :-1], last[:, 1:])
            total = total + tail.sum()
    means = by_position / full if full else tail
    return PassLosses(total.item() / predictions, means.tolist())


def windows_per_forward(block_size: int, vocab_size: int = 1) -> int:
    """How many windows a forward pass of `full_pass` takes, at most."""
    return max(1, min(TOKENS_PER_FORWARD, LOGITS_PER_FORWARD // vocab_size) // block_size)


def sampled(
    model: nn.Module, tokens: Tensor, block_size: int, batch_size: int, batches: int, generator: torch.Generator
) -> float:
    """Estimate the loss as the mean over random batches, as the published runs did.

    Args:
        model: From (B, T) int64 to logits (B, T, V).
        tokens: (N,) as `token_tensors.as_tensor` makes them, on the model's device; N > block_size.
        block_size: Ids T of a window.
        batch_size: Windows B of a batch.
        batches: How many batches.
        generator: A CPU generator for these batches only.

    Returns:
        Mean cross-entropy in nats per id.
    """
    sampler = BatchSampler(tokens, block_size, batch_size, generator)
    with evaluating(model):
        total = torch.zeros((), dtype=torch.float64, device=tokens.device)
        for _ in range(batches):
            total += _losses(model, *sampler.next()).sum()
    return total.item() / (batches * batch_size * block_size)


def _losses(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy summed over the batch; x and y (B, T) int64 to (T,) float64, which keeps long sums accurate."""
    logits = model(x)
    losses = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none")
    return losses.view(y.shape).sum(dim=0, dtype=torch.float64)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; restores the previous mode at the end."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), constant_weights(model):
            yield
    finally:
        model.train(training)

"""Random training batches, gathered from a view of all windows of the text."""

from __future__ import annotations

import torch
from torch import Tensor

from search.objectives.language_model.token_tensors import widened


def windows_of(tokens: Tensor, block_size: int) -> Tensor:
    """View a text as all of its windows, without copying.

    Args:
        tokens: (N,) integers, N > block_size.
        block_size: Ids T that a model reads at once.

    Returns:
        (N - T, T + 1) of the same type; row i is tokens[i : i + T + 1]: T inputs, and the targets shifted by one.
    """
    return tokens.unfold(0, block_size + 1, 1)


class BatchSampler:
    """Draws batches of windows that start anywhere in a text, with replacement.

    Args:
        tokens: (N,) as `token_tensors.as_tensor` makes them, on the device of the run; N > block_size.
        block_size: Ids T of a window.
        batch_size: Windows B of a batch.
        generator: A CPU generator, so that the batches are the same on every device.
    """

    def __init__(self, tokens: Tensor, block_size: int, batch_size: int, generator: torch.Generator) -> None:
        self.text = tokens
        self._windows = windows_of(tokens, block_size)
        self._batch_size = batch_size
        self._generator = generator

    def next(self) -> tuple[Tensor, Tensor]:
        """Draw one batch: inputs (B, T) int64 and targets (B, T) int64, the inputs shifted by one."""
        return self.gather(self.draw())

    def draw(self) -> Tensor:
        """Draw where the windows of one batch start, (B,) int64 on the CPU."""
        return torch.randint(self._windows.shape[0], (self._batch_size,), generator=self._generator)

    def gather(self, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets, (N, T) int64 each, of the windows at `starts`, (N,) int64 on the CPU."""
        rows = widened(self._windows[starts.to(self._windows.device, non_blocking=True)])
        return rows[:, :-1], rows[:, 1:]

    def first(self) -> tuple[Tensor, Tensor]:
        """The first windows of the text, at most a batch of them, without drawing: (B, T) int64 each."""
        return self.gather(torch.arange(min(self._batch_size, self._windows.shape[0])))

    def state(self) -> Tensor:
        """The state of the generator, for a checkpoint: uint8 on the CPU."""
        return self._generator.get_state()

    def restore(self, state: Tensor) -> None:
        """Resume from `state`."""
        self._generator.set_state(state)

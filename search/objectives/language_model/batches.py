"""Random training batches, gathered from a view of all windows of the text."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from search.objectives.errors import ObjectiveError
from search.objectives.language_model.references import find
from search.objectives.language_model.settings import UNIFORM
from search.objectives.language_model.token_tensors import as_array, widened

Starts = Callable[[Tensor, int, int, torch.Generator], Tensor]


def windows_of(tokens: Tensor, block_size: int) -> Tensor:
    """View a text as all of its windows, without copying.

    Args:
        tokens: (N,) integers, N > block_size.
        block_size: Ids T that a model reads at once.

    Returns:
        (N - T, T + 1) of the same type; row i is tokens[i : i + T + 1]: T inputs, and the targets shifted by one.
    """
    return tokens.unfold(0, block_size + 1, 1)


def uniform_starts(tokens: Tensor, block_size: int, batch_size: int, generator: torch.Generator) -> Tensor:
    """Draw windows that start anywhere in a text, with replacement.

    A user's function has the same signature, with the tokens as a NumPy array.

    Args:
        tokens: (N,) integers.
        block_size: Ids T of a window.
        batch_size: Windows B of a batch.
        generator: A CPU generator, which all draws must come from.

    Returns:
        Where the windows start, (B,) int64 on the CPU, each from 0 to N - T - 1.
    """
    return torch.randint(len(tokens) - block_size, (batch_size,), generator=generator)


def starts_of(reference: str) -> Starts:
    """The function that draws batches.

    Args:
        reference: "module:function", or "uniform" for `uniform_starts`.

    Raises:
        ObjectiveError: There is no such function.
    """
    if reference == UNIFORM:
        return uniform_starts
    choices = "name a function of tokens, block_size, batch_size and generator as module:function"
    found = find("batches", reference, choices)
    if not callable(found):
        raise ObjectiveError(f"batches {reference!r} is not a function: {choices}")

    def checked(tokens: Tensor, block_size: int, batch_size: int, generator: torch.Generator) -> Tensor:
        starts = found(as_array(tokens), block_size, batch_size, generator)
        fits = isinstance(starts, Tensor) and starts.shape == (batch_size,) and starts.dtype == torch.int64
        if not fits or starts.min() < 0 or starts.max() >= len(tokens) - block_size:
            raise ObjectiveError(
                f"batches {reference!r} returned {_described(starts)}: let it return {batch_size} int64 numbers from 0 "
                f"to {len(tokens) - block_size - 1}, where windows start"
            )
        return cast(Tensor, starts)

    return checked


def _described(starts: object) -> str:
    if not isinstance(starts, Tensor):
        return type(starts).__name__
    numbers = f" from {starts.min().item()} to {starts.max().item()}" if starts.numel() else ""
    return f"a tensor of shape {tuple(starts.shape)}, {starts.dtype}{numbers}"


class BatchSampler:
    """Draws batches of windows of a text, by default windows that start anywhere.

    Args:
        tokens: (N,) as `token_tensors.as_tensor` makes them, on the device of the run; N > block_size.
        block_size: Ids T of a window.
        batch_size: Windows B of a batch.
        generator: A CPU generator, so that the batches are the same on every device.
        starts: Draws where the windows of a batch start.
    """

    def __init__(
        self,
        tokens: Tensor,
        block_size: int,
        batch_size: int,
        generator: torch.Generator,
        starts: Starts = uniform_starts,
    ) -> None:
        self.text, self._block_size, self._starts = tokens, block_size, starts
        self._windows = windows_of(tokens, block_size)
        self._batch_size = batch_size
        self._generator = generator

    def next(self) -> tuple[Tensor, Tensor]:
        """Draw one batch: inputs (B, T) int64 and targets (B, T) int64, the inputs shifted by one."""
        return self.gather(self.draw())

    def draw(self) -> Tensor:
        """Draw where the windows of one batch start, (B,) int64 on the CPU."""
        return self._starts(self.text, self._block_size, self._batch_size, self._generator)

    def draw_several(self, count: int) -> Tensor:
        """Draw `count` batches in advance, (count, B) int64 on the CPU; as many calls of `draw` draw the same."""
        if self._starts is uniform_starts:
            return self.draw_with(self._generator, count)
        return torch.stack([self.draw() for _ in range(count)])

    def draw_with(self, generator: torch.Generator, count: int) -> Tensor:
        """Draw `count` batches of windows that start anywhere with another CPU generator, (count, B) int64."""
        return uniform_starts(self.text, self._block_size, count * self._batch_size, generator).view(count, -1)

    def on(self, tokens: Tensor) -> BatchSampler:
        """One of the same size on another text, whose windows start anywhere."""
        return BatchSampler(tokens, self._block_size, self._batch_size, self._generator)

    def gather(self, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets, (..., T) int64 each, of the windows at `starts`, (...) int64."""
        rows = widened(self._windows[starts.to(self._windows.device, non_blocking=True)])
        return rows[..., :-1], rows[..., 1:]

    def first(self) -> tuple[Tensor, Tensor]:
        """The first windows of the text, at most a batch of them, without drawing: (B, T) int64 each."""
        return self.gather(torch.arange(min(self._batch_size, self._windows.shape[0])))

    def state(self) -> Tensor:
        """The state of the generator, for a checkpoint: uint8 on the CPU."""
        return self._generator.get_state()

    def restore(self, state: Tensor) -> None:
        """Resume from `state`."""
        self._generator.set_state(state)

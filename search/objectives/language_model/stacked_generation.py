"""Texts written by all members of a stack at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from search.models.flat_stack import FlatStack
from search.objectives.language_model.cuda_graphs import Lane
from search.objectives.language_model.generation import decoded
from search.objectives.language_model.rng import generator_for
from search.objectives.language_model.run import LanguageModelRun


class StackedSampler:
    """Lets every member write a text, with the draws that `generation.sample_text` makes.

    Args:
        model: The stack.
        run: One of its runs.
        members: E.
    """

    def __init__(self, model: FlatStack, run: LanguageModelRun, members: int) -> None:
        self._model, self._corpus, self._block_size = model, run.corpus, run.block_size
        self._length, device = run.settings.sample_chars, run.device
        size = max(self._length + 1, self._block_size)
        self._written = torch.zeros(members, size, dtype=torch.int64, device=device)
        self._last = torch.zeros(1, dtype=torch.int64, device=device)  # where the last id is
        self._window = torch.arange(self._block_size, device=device)
        self._draws: Tensor | None = None

    def begin(self, lane: Lane, seeds: Sequence[int]) -> int:
        """Start the texts of all runs.

        Args:
            lane: Where it is done.
            seeds: The seeds of all runs.

        Returns:
            How many calls of `write_next` have to follow; 0 if ids cannot be decoded.
        """
        if not (self._corpus.vocabulary.can_decode and self._length):
            return 0
        draws = torch.stack([_exponentials(seed, self._length, self._corpus.vocab_size) for seed in seeds])
        with lane.active():
            self._written.zero_()
            self._written[:, 0] = self._corpus.vocabulary.start
            self._last.zero_()
            if self._draws is None:
                self._draws = draws.to(self._written.device)
            else:
                self._draws.copy_(draws)
        return self._length

    def write_next(self, lane: Lane) -> None:
        """Append an id to each text; the device may still be at work."""
        lane.run("text sample", self._write_one)
        lane.pace()

    def end(self, lane: Lane, members: Collection[int]) -> dict[int, str]:
        """Wait, and return the texts of some members by their index; "" if ids cannot be decoded."""
        written = lane.to_host(self._written)
        lane.wait()
        if not (self._corpus.vocabulary.can_decode and self._length):
            return dict.fromkeys(members, "")
        return {e: decoded(self._corpus, written[e, 1 : self._length + 1].tolist()) for e in members}

    def _write_one(self) -> None:
        assert self._draws is not None, "the texts were begun"
        with torch.no_grad():
            first = (self._last - self._block_size + 1).clamp(min=0)
            ids = self._written.index_select(1, first + self._window)  # (E, T): what follows the last id has no effect
            logits = self._model.logits(ids.unsqueeze(1), training=False)[:, 0]  # (E, T, V)
            p = logits.index_select(1, self._last - first)[:, 0].softmax(dim=-1)  # (E, V)
            drawn = (p / self._draws.index_select(1, self._last)[:, 0]).argmax(dim=-1, keepdim=True)
            self._last += 1
            self._written.index_copy_(1, self._last, drawn)


def _exponentials(seed: int, count: int, size: int) -> Tensor:
    """What `torch.multinomial` divides `count` rows of probabilities by, one after the other; (count, size)."""
    generator = generator_for(seed, "sample")
    rows = torch.empty(count, size)
    for row in rows:
        row.exponential_(generator=generator)
    return rows

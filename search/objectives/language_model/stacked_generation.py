"""Texts written by all members of a stack at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from search.models.flat_stack import FlatStack
from search.objectives.language_model.cuda_graphs import Lane, steps_of_replay
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
        self._steps = steps_of_replay(max(1, self._length))  # ids of a replay
        self._replays = math.ceil(self._length / self._steps)
        size = max(self._replays * self._steps + 1, self._block_size)
        self._written = torch.zeros(members, size, dtype=torch.int64, device=device)
        self._last = torch.zeros(1, dtype=torch.int64, device=device)  # where the last id is
        self._window = torch.arange(self._block_size, device=device)
        self._draws: Tensor | None = None

    def write(self, lane: Lane, seeds: Sequence[int], members: Collection[int]) -> dict[int, str]:
        """The texts of some members.

        Args:
            lane: Where it is done.
            seeds: The seeds of all runs.
            members: The indices of those whose texts are read.

        Returns:
            The text of each index; "" if ids cannot be decoded.
        """
        if not (self._corpus.vocabulary.can_decode and self._length):
            return dict.fromkeys(members, "")
        count = self._replays * self._steps
        draws = torch.stack([_exponentials(seed, count, self._corpus.vocab_size) for seed in seeds])
        with lane.active():
            self._written.zero_()
            self._written[:, 0] = self._corpus.vocabulary.start
            self._last.zero_()
            if self._draws is None:
                self._draws = draws.to(self._written.device)
            else:
                self._draws.copy_(draws)
        for _ in range(self._replays):
            lane.run("text sample", self._write_some)
            lane.pace()
        written = lane.to_host(self._written)
        lane.wait()
        return {e: decoded(self._corpus, written[e, 1 : self._length + 1].tolist()) for e in members}

    def _write_some(self) -> None:
        """Append a few ids to each text."""
        assert self._draws is not None
        for _ in range(self._steps):
            self._write_one(self._draws)

    def _write_one(self, draws: Tensor) -> None:
        with torch.no_grad():
            first = (self._last - self._block_size + 1).clamp(min=0)
            ids = self._written.index_select(1, first + self._window)  # (E, T): what follows the last id has no effect
            logits = self._model.logits(ids.unsqueeze(1), training=False)[:, 0]  # (E, T, V)
            p = logits.index_select(1, self._last - first)[:, 0].softmax(dim=-1)  # (E, V)
            drawn = (p / draws.index_select(1, self._last)[:, 0]).argmax(dim=-1, keepdim=True)
            self._last += 1
            self._written.index_copy_(1, self._last, drawn)


def _exponentials(seed: int, count: int, size: int) -> Tensor:
    """What `torch.multinomial` divides `count` rows of probabilities by, one after the other; (count, size)."""
    generator = generator_for(seed, "sample")
    rows = torch.empty(count, size)
    for row in rows:
        row.exponential_(generator=generator)
    return rows

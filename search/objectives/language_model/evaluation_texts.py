"""The texts that runs are evaluated on, and what an evaluation is made of."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from search.objectives.corpus import Corpus
from search.objectives.language_model.token_tensors import as_tensor
from search.objectives.protocol import TRAIN_LOSS, VAL_LOSS, Evaluation

TRAIN, VAL, HELD_OUT = "train", "val", "held-out"


@dataclass(frozen=True)
class Measured:
    """What an evaluation has measured, in nats per id.

    Attributes:
        train_loss: On the training text.
        value: On the text that ranks.
        further: By metric: with a held-out text the validation loss.
        by_position: The loss that ranks for each position of a window; None if windows were drawn.
    """

    train_loss: float
    value: float
    further: Mapping[str, float] = field(default_factory=dict)
    by_position: Sequence[float] | None = None

    def at(self, step: int) -> Evaluation:
        """The evaluation after some step."""
        return Evaluation(step, self.value, {TRAIN_LOSS: self.train_loss, **self.further})


@dataclass(frozen=True, eq=False)
class EvaluationTexts:
    """The texts of a corpus on a device, where all runs of a process share them.

    Attributes:
        train: The training text, (N,) as `token_tensors.as_tensor` makes them; so are the others.
        selection: The text that cells are selected on: the validation text.
        held_out: The text that ranks in its place, if there is one.
    """

    train: Tensor
    selection: Tensor
    held_out: Tensor | None

    @property
    def ranks(self) -> str:
        """The name of the text that ranks."""
        return VAL if self.held_out is None else HELD_OUT

    @property
    def ranking(self) -> Tensor:
        """The text that ranks."""
        return self.selection if self.held_out is None else self.held_out

    @property
    def sampled(self) -> dict[str, Tensor]:
        """What random windows are drawn from, by name."""
        held_out = {} if self.held_out is None else {HELD_OUT: self.held_out}
        return {TRAIN: self.train, VAL: self.selection, **held_out}

    @property
    def scored(self) -> dict[str, Tensor]:
        """What full passes predict, by name."""
        # Of the training text a fixed part as long as the validation text, so that both losses have the same cost and
        # spread.
        return {**self.sampled, TRAIN: self.train[: len(self.selection)]}

    def measured(self, losses: Mapping[str, float], by_position: Sequence[float] | None = None) -> Measured:
        """An evaluation, from the loss on each text."""
        further = {} if self.held_out is None else {VAL_LOSS: losses[VAL]}
        return Measured(losses[TRAIN], losses[self.ranks], further, by_position)


@functools.lru_cache(maxsize=4)
def texts_on(corpus: Corpus, device: torch.device) -> EvaluationTexts:
    """The texts of a corpus on a device."""
    held_out = None if corpus.held_out is None else as_tensor(corpus.held_out.tokens, device)
    return EvaluationTexts(as_tensor(corpus.train, device), as_tensor(corpus.selection, device), held_out)


def first_predictions(text: Tensor, most: int | None) -> Tensor:
    """The start of a text that has `most` predictions; all of it for None."""
    return text if most is None else text[: most + 1]

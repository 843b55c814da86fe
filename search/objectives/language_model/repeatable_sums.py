"""Work whose sums have the same order each time, so that a run on a GPU gives the same losses again."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import nn

from search.objectives.language_model.rng import random_states, set_random_states
from search.objectives.torch_setup import order_of_sums

log = logging.getLogger("objectives")

_CANNOT_REPEAT = "does not have a deterministic implementation"


class RepeatableSums:
    """Does work with a model so that its sums have the same order each time, unless one of its operations cannot.

    Args:
        model: Its buffers, and torch's random numbers, are as they were when the first work is begun again.
        device: Where it is.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._model, self._device = model, device
        self._mode, self._is_tried = "error", False

    def do(self, work: Callable[[], bool]) -> bool:
        """Do work; it is begun again if it turns out that an operation has no version that repeats."""
        undo = None if self._is_tried else self._kept()
        self._is_tried = True
        try:
            with order_of_sums(self._mode):
                return work()
        except RuntimeError as error:
            if self._mode != "error" or _CANNOT_REPEAT not in str(error):
                raise
            what = str(error).split(_CANNOT_REPEAT)[0].split()[-1]
            log.warning("losses of this model differ in their last digits from run to run: %s %s", what, _CANNOT_REPEAT)
        self._mode = "warn"
        if undo is not None:
            undo()
        return self.do(work)

    def _kept(self) -> Callable[[], None]:
        """What puts buffers and random numbers back to what they are now."""
        buffers = [(each, each.clone()) for each in self._model.buffers()]
        states = random_states(self._device)

        def undo() -> None:
            with torch.no_grad():
                for each, before in buffers:
                    each.copy_(before)
            set_random_states(states, self._device)

        return undo

"""Which of a study's ended trials were seen before, so that each is read once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from optuna.trial import FrozenTrial


class SeenTrials:
    """Ended trials, known as objects: those below the last number may end later, or be numbered anew.

    Attributes:
        trials: In the order in which they were seen.
    """

    def __init__(self) -> None:
        self.trials: list[FrozenTrial] = []  # held, so that no other trial gets the id of one
        self._rows: dict[int, int] = {}

    def see(self, trials: Sequence[FrozenTrial]) -> tuple[Sequence[FrozenTrial], bool]:
        """The trials that were not seen before, and whether that is all of them because a seen one is gone."""
        new = [each for each in trials if id(each) not in self._rows]
        is_anew = len(trials) - len(new) < len(self.trials)
        if is_anew:
            self.trials, self._rows, new = [], {}, list(trials)
        self._rows |= {id(each): row for row, each in enumerate(new, len(self.trials))}
        self.trials += new
        return new, is_anew

    def rows(self, trials: Sequence[FrozenTrial]) -> npt.NDArray[np.int64]:
        """The places of seen trials in `trials`."""
        return np.array([self._rows[id(each)] for each in trials], dtype=np.int64)

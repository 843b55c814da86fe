"""Our own pruner: only the cells that are among the best at every evaluation are trained to the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

# One unlucky trial shall not end a cell; after two the others of it are not worth their time.
STRIKES = 2


class History(Protocol):
    """What the pruner asks about the other trials of the study."""

    def ended(self) -> Sequence[FrozenTrial]:
        """The complete and pruned trials, in any order that only grows."""

    def running(self) -> Sequence[FrozenTrial]:
        """The running trials as far as they are known; the one that is judged may be among them."""


class TopCellsPruner(BasePruner):
    """Stops a trial when `keep` cells that are still in the race were better at its step.

    Trials are compared by the best loss that each had up to that step, and cells by the mean over their trials that
    have reached it. A cell is in the race as long as one of these is running or complete: having been better before
    one was pruned proves nothing. So the order of the queue and the number of workers change what is saved, but never
    cost a cell that is among the best `keep` at every evaluation. A cell of which `STRIKES` trials were pruned gets no
    more: its further trials end at their first evaluation.

    Args:
        history: The other trials.
        keep: How many cells shall be trained to the end, at least.
        warmup_steps: No trial is compared before this step.
    """

    def __init__(self, history: History, keep: int = 5, warmup_steps: int = 2000) -> None:
        self._history, self._keep, self._warmup_steps = history, keep, warmup_steps
        self._read = 0
        self._places: dict[Any, int] = {}
        self._struck: dict[Any, int] = {}
        self._totals: dict[int, _Totals] = {}

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None:
            return False
        self._read_news()
        cell = _cell(trial)
        if self._struck.get(cell, 0) >= STRIKES:
            return True
        if step < self._warmup_steps:
            return False
        means, in_race = self._standings(step, trial)
        return int((in_race & (means < means[self._place(cell)])).sum()) >= self._keep

    def _read_news(self) -> None:
        ended = self._history.ended()
        for trial in ended[self._read :]:
            cell = _cell(trial)
            if trial.state == TrialState.PRUNED:
                self._struck[cell] = self._struck.get(cell, 0) + 1
            best = math.inf
            for step, loss in sorted(trial.intermediate_values.items()):
                best = best if math.isnan(loss) else min(best, loss)
                totals = self._totals.setdefault(step, _Totals())
                totals.add(self._place(cell), best, trial.state == TrialState.COMPLETE)
        self._read = len(ended)

    def _standings(self, step: int, judged: FrozenTrial) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """The mean loss of each cell at `step` (cells,), infinite where none reached it; and which are in the race."""
        others = (trial for trial in self._history.running() if trial._trial_id != judged._trial_id)
        now = [
            (self._place(_cell(trial)), _best_until(trial, step)) for trial in (judged, *others) if _has(trial, step)
        ]
        sums, counts, racing = self._totals.setdefault(step, _Totals()).of(len(self._places))
        for place, loss in now:
            sums[place] += loss
            counts[place] += 1
            racing[place] += 1
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf), racing > 0

    def _place(self, cell: Any) -> int:
        return self._places.setdefault(cell, len(self._places))


class _Totals:
    """What ended trials had at one step, by the place of their cell: sum and number of losses, and complete trials."""

    def __init__(self) -> None:
        self._table = np.zeros((3, 64))

    def add(self, place: int, loss: float, complete: bool) -> None:
        self._grow(place + 1)
        self._table[:, place] += (loss, 1, complete)

    def of(self, cells: int) -> npt.NDArray[np.float64]:
        """A copy for the first `cells` places (3, cells)."""
        self._grow(cells)
        return self._table[:, :cells].copy()

    def _grow(self, cells: int) -> None:
        while cells > self._table.shape[1]:
            self._table = np.concatenate([self._table, np.zeros_like(self._table)], axis=1)


def _cell(trial: FrozenTrial) -> Any:
    return tuple(sorted((name, value) for name, value in trial.params.items() if name != "seed"))


def _has(trial: FrozenTrial, step: int) -> bool:
    return step in trial.intermediate_values


def _best_until(trial: FrozenTrial, step: int) -> float:
    losses = [loss for at, loss in trial.intermediate_values.items() if at <= step and not math.isnan(loss)]
    return min(losses, default=math.inf)

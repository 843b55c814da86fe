"""Our default pruner: it trains only those cells to the end that are among the best at every evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

# One unlucky trial must not stop a cell; after two pruned trials its other trials are not worth their time.
STRIKES = 2


class History(Protocol):
    """The other trials of the study, as the pruner queries them."""

    def ended(self) -> Sequence[FrozenTrial]:
        """The complete and pruned trials; new ones are only appended."""

    def running(self) -> Sequence[FrozenTrial]:
        """The running trials that have been read; the judged trial may be among them."""


class TopCellsPruner(BasePruner):
    """Stops a trial if `keep` cells that are still in the race were better at its step.

    Trials are compared by their best loss up to that step (a loss is a value of which more is better, negated), and
    cells by the mean over their trials that have reached it. A cell is in the race while one of these trials is running
    or complete; the losses of a cell with only pruned trials do not count. So the order of the queue and the number of
    workers change the savings, but a cell that is among the best `keep` at every evaluation is never lost. After
    `STRIKES` pruned trials of a cell its further trials stop at their first evaluation.

    Args:
        history: The other trials.
        keep: At least this many cells are trained to the end.
        warmup_steps: No trial is compared before this step.
    """

    def __init__(self, history: History, keep: int = 5, warmup_steps: int = 2000) -> None:
        self._history, self._keep, self._warmup_steps = history, keep, warmup_steps
        self._n_read = 0
        self._places: dict[Any, int] = {}
        self._struck: dict[Any, int] = {}
        self._totals: dict[int, _Totals] = {}

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None:
            return False
        sign = -1 if is_maximized(study) else 1
        self._read_ended(sign)
        cell = _cell(trial)
        if self._struck.get(cell, 0) >= STRIKES:
            return True
        if step < self._warmup_steps:
            return False
        means, in_race = self._standings(step, trial, sign)
        return int((in_race & (means < means[self._place(cell)])).sum()) >= self._keep

    def _read_ended(self, sign: int) -> None:
        ended = self._history.ended()
        for trial in ended[self._n_read :]:
            cell = _cell(trial)
            if trial.state == TrialState.PRUNED:
                self._struck[cell] = self._struck.get(cell, 0) + 1
            best = math.inf
            for step, value in sorted(trial.intermediate_values.items()):
                best = best if math.isnan(value) else min(best, sign * value)
                totals = self._totals.setdefault(step, _Totals())
                totals.add(self._place(cell), best, trial.state == TrialState.COMPLETE)
        self._n_read = len(ended)

    def _standings(
        self, step: int, judged: FrozenTrial, sign: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Mean losses of the cells at `step` (cells,), infinite for cells that have not reached it; and which race."""
        others = (trial for trial in self._history.running() if trial._trial_id != judged._trial_id)
        reached = [trial for trial in (judged, *others) if _has(trial, step)]
        now = [(self._place(_cell(trial)), _best_until(trial, step, sign)) for trial in reached]
        sums, counts, racing = self._totals.setdefault(step, _Totals()).of(len(self._places))
        for place, loss in now:
            sums[place] += loss
            counts[place] += 1
            racing[place] += 1
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf), racing > 0

    def _place(self, cell: Any) -> int:
        return self._places.setdefault(cell, len(self._places))


class _Totals:
    """Ended trials at one step, by place of their cell: the sum and number of losses, and of complete trials."""

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


def is_maximized(study: Study) -> bool:
    """Whether more is better of what a pruner compares."""
    return study.direction == StudyDirection.MAXIMIZE


def _cell(trial: FrozenTrial) -> Any:
    return tuple(sorted((name, value) for name, value in trial.params.items() if name != "seed"))


def _has(trial: FrozenTrial, step: int) -> bool:
    return step in trial.intermediate_values


def _best_until(trial: FrozenTrial, step: int, sign: int) -> float:
    losses = [sign * value for at, value in trial.intermediate_values.items() if at <= step and not math.isnan(value)]
    return min(losses, default=math.inf)

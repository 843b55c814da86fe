"""Our default pruner: it trains only those cells to the end that are among the best at every evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
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
        return self._n_better(step, trial, sign) >= self._keep

    def _read_ended(self, sign: int) -> None:
        ended = self._history.ended()
        for trial in ended[self._n_read :]:
            cell = _cell(trial)
            if trial.state == TrialState.PRUNED:
                self._struck[cell] = self._struck.get(cell, 0) + 1
            best = math.inf
            for step, value in sorted(trial.intermediate_values.items()):
                best = best if math.isnan(value) else min(best, sign * value)
                self._totals_at(step).add(self._place(cell), best, trial.state == TrialState.COMPLETE)
        self._n_read = len(ended)

    def _n_better(self, step: int, judged: FrozenTrial, sign: int) -> int:
        """How many cells in the race are better at `step` than that of a trial."""
        now, totals = self._with_running(step, judged, sign), self._totals_at(step)
        own = now[self._place(_cell(judged))].mean
        others = totals.n_better(own) - sum(totals.of(place).is_better(own) for place in now)
        return others + sum(total.is_better(own) for total in now.values())

    def _with_running(self, step: int, judged: FrozenTrial, sign: int) -> dict[int, _Total]:
        """The totals at `step` of the cells that have running trials there, these included."""
        totals, found = self._totals_at(step), dict[int, _Total]()
        others = (trial for trial in self._history.running() if trial._trial_id != judged._trial_id)
        for trial in (judged, *others):
            if _has(trial, step):
                place = self._place(_cell(trial))
                found[place] = found.get(place, totals.of(place)).with_trial(_best_until(trial, step, sign), True)
        return found

    def _totals_at(self, step: int) -> _Totals:
        return self._totals.setdefault(step, _Totals())

    def _place(self, cell: Any) -> int:
        return self._places.setdefault(cell, len(self._places))


class _Total(NamedTuple):
    """The trials of a cell at one step: the sum and number of their losses, and how many keep it in the race."""

    losses: float = 0.0
    trials: int = 0
    racing: int = 0

    def with_trial(self, loss: float, is_racing: bool) -> _Total:
        """The same with one more trial."""
        return _Total(self.losses + loss, self.trials + 1, self.racing + is_racing)

    @property
    def mean(self) -> float:
        """The mean loss."""
        return self.losses / self.trials if self.trials else math.inf

    def is_better(self, loss: float) -> bool:
        """Whether the cell is in the race, and better than a loss."""
        return self.racing > 0 and self.mean < loss


class _Totals:
    """Ended trials at one step, by place of their cell."""

    def __init__(self) -> None:
        self._totals: dict[int, _Total] = {}
        # Mean losses, infinite for cells that are not in the race: with many cells they are compared in one array.
        self._means = np.full(64, np.inf)

    def add(self, place: int, loss: float, complete: bool) -> None:
        total = self._totals[place] = self.of(place).with_trial(loss, complete)
        if place >= len(self._means):
            more = max(place + 1, 2 * len(self._means)) - len(self._means)
            self._means = np.concatenate([self._means, np.full(more, np.inf)])
        self._means[place] = total.mean if total.racing else np.inf

    def of(self, place: int) -> _Total:
        """That of a cell."""
        return self._totals.get(place, _Total())

    def n_better(self, loss: float) -> int:
        """How many cells in the race are better than a loss."""
        return int((self._means < loss).sum())


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

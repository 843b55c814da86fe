"""Replays pruned runs from measured curves in virtual time, all draws at once.

An event is an evaluation of a running trial. Each iteration takes the next event of every draw, so that operations work
on arrays with one row per draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Queues:
    """The trials to replay: for each of D draws a queue of T trials, with curves at S steps.

    Attributes:
        values: Validation losses (D, T, S), in the order of the queue.
        seconds: Seconds that a trial takes up to its last step (D, T).
        cells: The cell of each trial (D, T).
        steps: The steps of the evaluations (S,); the first is 0.
    """

    values: Floats
    seconds: Floats
    cells: Ints
    steps: Ints


@dataclass(frozen=True)
class View:
    """The state that a pruner can read when n draws have an event each.

    Attributes:
        seen: The losses reported so far (D, T, S); NaN if there is none.
        complete: Which trials are complete (D, T).
        cells: As in `Queues`.
        steps: As in `Queues`.
        draws: The draws that have an event (n,).
        trials: The trials that were evaluated (n,), by place in the queue.
        at: The index of the step (n,).
    """

    seen: Floats
    complete: Bools
    cells: Ints
    steps: Ints
    draws: Ints
    trials: Ints
    at: Ints

    @property
    def column(self) -> Floats:
        """What the trials of these draws had at the step in question (n, T); NaN where not reached."""
        found: Floats = self.seen[self.draws, :, self.at]
        return found

    @property
    def value(self) -> Floats:
        """The loss just reported (n,)."""
        found: Floats = self.seen[self.draws, self.trials, self.at]
        return found

    @property
    def curve(self) -> Floats:
        """The losses of the trials in question (n, S); NaN at later steps."""
        found: Floats = self.seen[self.draws, self.trials]
        return found


class Rule(Protocol):
    """A pruner on arrays; what it notes must be forgotten at `start`."""

    def start(self, queues: Queues) -> None:
        """Get ready for a replay."""

    def prune(self, view: View) -> Bools:
        """Which of the n trials to stop (n,)."""


@dataclass(frozen=True)
class Outcome:
    """The ends of the trials.

    Attributes:
        last: Index of the last step of each trial (D, T).
        pruned: Whether it ended there by pruning (D, T).
    """

    last: Ints
    pruned: Bools


def replay(queues: Queues, rule: Rule, workers: int) -> Outcome:
    """Run all draws with `workers` virtual workers each.

    The evaluation at step 0 takes no time, every further one its share of the trial's seconds.
    """
    draws, trials, evaluations = queues.values.shape
    workers = min(workers, trials)
    seen = np.full(queues.values.shape, np.nan)
    complete, pruned = np.zeros((draws, trials), bool), np.zeros((draws, trials), bool)
    last = np.zeros((draws, trials), np.int64)
    # For each worker: its trial, its next evaluation, and the time of that.
    held = np.tile(np.arange(workers), (draws, 1))
    at, due = np.zeros((draws, workers), np.int64), np.zeros((draws, workers))
    taken = np.full(draws, workers)
    per_step = queues.seconds[:, :, None] * np.diff(queues.steps) / queues.steps[-1]
    rule.start(queues)
    active = np.arange(draws)
    while len(active):
        worker = due[active].argmin(1)
        trial, index = held[active, worker], at[active, worker]
        seen[active, trial, index] = queues.values[active, trial, index]
        is_last = index == evaluations - 1
        complete[active[is_last], trial[is_last]] = True
        # As in a worker: the pruner is not called after the last evaluation.
        stop = np.zeros(len(active), bool)
        going = ~is_last
        stop[going] = rule.prune(
            View(seen, complete, queues.cells, queues.steps, active[going], trial[going], index[going])
        )
        ends = stop | is_last
        pruned[active, trial], last[active, trial] = stop, index
        _go_on(active[~ends], worker[~ends], trial[~ends], at, due, per_step)
        following = taken[active[ends]]
        left = following < trials
        held[active[ends], worker[ends]] = np.minimum(following, trials - 1)
        at[active[ends], worker[ends]] = 0
        due[active[ends][~left], worker[ends][~left]] = np.inf
        taken[active[ends]] += 1
        active = active[np.isfinite(due[active]).any(1)]
    return Outcome(last, pruned)


def _go_on(draws: Ints, workers: Ints, trials: Ints, at: Ints, due: Floats, per_step: Floats) -> None:
    due[draws, workers] += per_step[draws, trials, at[draws, workers]]
    at[draws, workers] += 1

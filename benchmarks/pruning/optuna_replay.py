"""The replay with real pruners, one draw after another: slow, and the reference for `rules`.

Trials are in an Optuna study in memory. Events come in the order of `replay.replay`, and our pruner reads the study
through the same interface as the database.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import optuna
from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from benchmarks.pruning.replay import Bools, Ints, Outcome, Queues
from search.strategies.pruners import make_pruner, read_pruner

STUDY = "bigram"


class MemoryHistory:
    """The history that our pruner reads from the database, here for a study in memory."""

    def __init__(self) -> None:
        self._ended: list[FrozenTrial] = []
        self._running: dict[int, FrozenTrial] = {}

    def ended(self) -> Sequence[FrozenTrial]:
        return self._ended

    def running(self) -> Sequence[FrozenTrial]:
        return list(self._running.values())

    def complete_values(self, step: int) -> tuple[int, npt.NDArray[np.float64]]:
        complete = [trial for trial in self._ended if trial.state == TrialState.COMPLETE]
        values = [trial.intermediate_values[step] for trial in complete if step in trial.intermediate_values]
        return len(complete), np.array(values)

    def update(self, trial: FrozenTrial) -> None:
        """Take the new state of a trial."""
        self._running[trial.number] = trial
        if trial.state.is_finished():
            self._ended.append(self._running.pop(trial.number))


class PrunerRule:
    """A real pruner as a `Rule` for queues of a single draw.

    Args:
        make: Makes the pruner; it reads the trials through the history.
    """

    def __init__(self, make: Callable[[MemoryHistory], BasePruner]) -> None:
        self._make = make

    def start(self, queues: Queues) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._history = MemoryHistory()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._pruner = self._make(self._history)
        self._study = optuna.create_study(study_name=STUDY, direction="minimize")
        for cell in queues.cells[0]:
            waiting = optuna.trial.create_trial(
                state=TrialState.WAITING,
                params={"cell": int(cell)},
                distributions={"cell": optuna.distributions.IntDistribution(0, 10_000)},
            )
            self._study.add_trial(waiting)

    def follow(self, number: int, step: int, loss: float, *, is_last: bool) -> bool:
        """Report an evaluation to the study, and call the pruner unless it was the last.

        Returns:
            Whether the pruner stops the trial.
        """
        storage = self._study._storage
        trial_id = storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)
        if step == 0:
            storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        storage.set_trial_intermediate_value(trial_id, step, loss)
        self._history.update(storage.get_trial(trial_id))
        pruned = not is_last and self._pruner.prune(Study(STUDY, storage), storage.get_trial(trial_id))
        if pruned or is_last:
            state = TrialState.PRUNED if pruned else TrialState.COMPLETE
            storage.set_trial_state_values(trial_id, state, [loss])
            self._history.update(storage.get_trial(trial_id))
        return pruned


def replay_with_pruner(queues: Queues, make: Callable[[MemoryHistory], BasePruner], workers: int) -> Outcome:
    """`replay.replay` with a real pruner.

    Args:
        make: As in `PrunerRule`.
    """
    outcomes = [_replay_one(_draw(queues, draw), PrunerRule(make), workers) for draw in range(len(queues.values))]
    return Outcome(np.stack([each[0] for each in outcomes]), np.stack([each[1] for each in outcomes]))


def _draw(queues: Queues, draw: int) -> Queues:
    one = slice(draw, draw + 1)
    return Queues(queues.values[one], queues.seconds[one], queues.cells[one], queues.steps)


def _replay_one(queues: Queues, rule: PrunerRule, workers: int) -> tuple[Ints, Bools]:
    trials = queues.values.shape[1]
    rule.start(queues)
    last, pruned = np.zeros(trials, np.int64), np.zeros(trials, bool)
    waiting = iter(range(trials))
    # For each worker: the time of its next evaluation, its trial, and the index of the step.
    held = [[0.0, trial, 0] for _, trial in zip(range(workers), waiting, strict=False)]
    while held:
        worker = min(held, key=lambda each: each[0])  # the first of equals, as `argmin` does
        now, trial, at = worker[0], int(worker[1]), int(worker[2])
        is_last = at == len(queues.steps) - 1
        stop = rule.follow(trial, int(queues.steps[at]), float(queues.values[0, trial, at]), is_last=is_last)
        if stop or is_last:
            last[trial], pruned[trial] = at, stop
            following = next(waiting, None)
            if following is None:
                held.remove(worker)
            else:
                worker[1:] = [following, 0]
        else:
            share = (queues.steps[at + 1] - queues.steps[at]) / queues.steps[-1]
            worker[:] = [now + queues.seconds[0, trial] * share, trial, at + 1]
    return last, pruned


def optuna_pruner(text: str) -> Callable[[MemoryHistory], BasePruner]:
    """Return a function that makes the pruner of a text such as "PercentilePruner(25, n_warmup_steps=500)".

    Raises:
        UsageError: The pruner or an argument does not exist.
    """
    settings = read_pruner(text)
    return lambda history: make_pruner(settings, history)

"""A leased trial that one call of a user's function trains: an objective of Optuna, or a function with a result."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from optuna import TrialPruned
from optuna.trial import TrialState

from search.objectives.protocol import Evaluation, ObjectiveCall
from search.storage.errors import LeaseLost
from search.storage.leases import Lease
from search.workers.leased_trial import LeasedTrial, WorkerContext, WorkerStudy
from search.workers.lost_leases import end_interrupted
from search.workers.results import values_of
from search.workers.trained_trial import evaluations_so_far
from search.workers.trial_errors import cause_of
from search.workers.user_code import UserCodeError
from search.workers.user_trial import TrialInterrupted, UserTrial

log = logging.getLogger("search.worker")


class CalledRun:
    """The call of a function, as far as its record needs it.

    Args:
        trial: What the function reports through.
        earlier: What earlier attempts reported.
    """

    def __init__(self, trial: UserTrial, earlier: list[Evaluation]) -> None:
        self._trial = trial
        self._before_s = earlier[-1].seconds or 0.0 if earlier else 0.0
        self._began = time.monotonic()
        trial.seconds = self._seconds

    def _seconds(self) -> float:
        return self._before_s + time.monotonic() - self._began

    @property
    def curve(self) -> list[Evaluation]:
        """What the trial has reported, in order of step."""
        return [Evaluation(step, value) for step, value in sorted(self._trial.frozen.intermediate_values.items())]

    def describe(self) -> Mapping[str, float]:
        """How long the function has run in all attempts, in seconds."""
        return {"train_seconds": self._seconds()}


class CalledTrial(LeasedTrial):
    """Made by `CalledTrial.begin`."""

    run: CalledRun

    @classmethod
    def begin(cls, context: WorkerContext, lease: Lease, study: WorkerStudy) -> CalledTrial:
        """Make the trial that the function gets.

        Raises:
            LeaseLost: Another worker has the trial.
        """
        assert study.user_trials is not None
        trial = study.user_trials.make(lease)
        begun = cls(context, lease, study, CalledRun(trial, evaluations_so_far(context, lease)))
        begun.user_trial = trial
        return begun

    def train(self, function: ObjectiveCall) -> None:
        """Call the function, and end the trial or put it back into the queue.

        Raises:
            StorageUnavailable: The database was unavailable for too long.
            UserCodeError: What the function raised; the trial has not ended.
        """
        trial = self.user_trial
        assert trial is not None
        try:
            self._call(function, trial)
        except TrialInterrupted as interrupted:
            end_interrupted(self._context, self.lease, self._study, interrupted)
        finally:
            self.end_user_trial()

    def _call(self, function: ObjectiveCall, trial: UserTrial) -> None:
        user_code = self._context.user_code
        try:
            with user_code.running_trials():
                result = function.call(trial)
        except UserCodeError as error:
            cause = cause_of(error)
            # The function may have caught what ended it.
            if trial.interrupted is not None:
                raise trial.interrupted from cause
            if not isinstance(cause, TrialPruned):
                raise
            self._prune(trial)
            return
        if trial.interrupted is not None:
            raise trial.interrupted
        with user_code.calling():
            if self._study.suggests_parameters:
                trial.check_parameters()
            values, metrics = values_of(result, [metric.name for metric in self._study.metrics])
        if metrics:
            trial.log(metrics, trial.frozen.last_step or 0)
        self._end(trial, TrialState.COMPLETE, values)

    def _prune(self, trial: UserTrial) -> None:
        reports = trial.frozen.intermediate_values
        values = [reports[max(reports)]] if reports else []
        # One that is judged by another metric may log that alone.
        steps = [*reports, *trial.logged]
        at = f"at step {max(steps)}" if steps else "before its first report"
        self._end(trial, TrialState.PRUNED, values, f"pruned by the objective {at}")

    def _end(self, trial: UserTrial, state: TrialState, values: list[float], reason: str | None = None) -> None:
        assert self._study.user_trials is not None
        is_complete = state == TrialState.COMPLETE
        try:
            attrs = self._study.user_trials.after(trial, state, values if is_complete else None)
            self._finish("complete" if is_complete else "pruned", reason, values, attrs)
        except LeaseLost as error:
            raise TrialInterrupted(error) from error

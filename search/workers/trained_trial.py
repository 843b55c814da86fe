"""A leased trial that a training run trains: resume, judge, save."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from optuna.trial import FrozenTrial

from search.errors import UsageError
from search.objectives.errors import CheckpointError, ObjectiveError
from search.objectives.protocol import Attempt, Closes, Evaluation, KnowsAttempt, Replaces, TrainingRun
from search.storage.errors import LeaseLost
from search.storage.leased_writes import LeasedWrites
from search.storage.leases import Lease, Report
from search.storage.metrics import read_evaluations
from search.study.trial_facts import SPENT_FACTS
from search.workers.failure_records import preemption
from search.workers.leased_trial import LeasedTrial, WorkerContext, WorkerStudy
from search.workers.user_code import UserCodeError
from search.workers.user_trial import SECONDS

log = logging.getLogger("search.worker")


# Of the time of a worker; with hundreds of trials at the same time checkpoints would take most of it.
MOST_SAVING = 0.1
SAVING_S = 0.01  # of a checkpoint, as long as none was written


class TrainedTrial(LeasedTrial):
    """A leased trial that a training run trains; made by `TrainedTrial.begin`.

    Attributes:
        beside: How many trials the worker trains at the same time, this one included.
    """

    run: TrainingRun
    beside = 1

    def __init__(self, context: WorkerContext, lease: Lease, study: WorkerStudy, run: TrainingRun) -> None:
        super().__init__(context, lease, study, run)
        self._trial: FrozenTrial | None = None
        self._saved_at, self._saving_s = time.monotonic(), SAVING_S

    @classmethod
    def begin(cls, context: WorkerContext, lease: Lease, study: WorkerStudy, run: TrainingRun) -> TrainedTrial:
        """Resume a run from its checkpoint if there is one.

        Raises:
            LeaseLost: Another worker has the trial.
            UserCodeError: An error of the objective; the trial cannot be trained.
        """
        begun = cls(context, lease, study, run)
        if isinstance(run, KnowsAttempt):
            earlier = evaluations_so_far(context, lease)
            with context.user_code.calling():
                metric, *others = [each.name for each in study.metrics]
                must_pause = context.user_code.must_pause
                run.attach(Attempt(metric, earlier, begun.make_user_trial, lease.study, must_pause, others))
        reports = _resume(context, lease, study, run)
        # The database may lack evaluations of the checkpoint, for example after a failed trial was put back.
        if reports and context.queue.report(reports):
            raise LeaseLost
        begun._trial = study.judge.trial(lease)
        return begun

    def judge(self, evaluation: Evaluation) -> bool:
        """End the trial if its latest evaluation ends it; otherwise write a checkpoint if one is due.

        Returns:
            True when the trial has ended.

        Raises:
            LeaseLost: Another worker has the trial.
        """
        assert self._trial is not None, "made by begin"
        self._trial.intermediate_values[evaluation.step] = evaluation.value
        if evaluation.diverged:
            self.close_run()
            self._finish("diverged", f"the loss was not finite at step {evaluation.step}")
        elif self.run.finished:
            self._finish("complete", None, self._values(evaluation))
        elif self._should_prune(self._trial):
            self.close_run()
            self._finish("pruned", f"pruned at step {evaluation.step}")
        else:
            if self._must_save():
                self._save()
            return False
        return True

    def _must_save(self) -> bool:
        checkpoint_s = self._study.checkpoint_s
        pause_s = max(checkpoint_s, self._saving_s * self.beside / MOST_SAVING) if checkpoint_s else 0.0
        return time.monotonic() - self._saved_at >= pause_s

    def _should_prune(self, trial: FrozenTrial) -> bool:
        try:
            return self._study.judge.should_prune(trial)
        except UsageError as error:
            raise UserCodeError(error) from error

    def _values(self, last: Evaluation) -> list[float]:
        first, *others = self._study.metrics
        metrics = self._metrics(last)
        missing = [each.name for each in others if each.name not in metrics]
        if missing:
            found = ", ".join([first.name, *metrics])
            raise UserCodeError(
                ObjectiveError(f"the last evaluation has the metrics {found}, but not {missing[0]!r}; report it too")
            )
        return [last.value, *(metrics[each.name] for each in others)]

    def save_and_release(self) -> None:
        """Write a checkpoint and put the trial back into the queue."""
        # First: another worker may claim the trial at once, and use its folder.
        self.close_run()
        if self.run.curve:
            self._save()
            # Another machine may claim the trial as soon as it is in the queue.
            self._context.checkpoints.flush_copies()
            self._record_spent()
        self.release(preemption())

    def _record_spent(self) -> None:
        """Record what the trial has cost so far: it may never be resumed."""
        with suppress(LeaseLost, UserCodeError):
            with self._context.user_code.calling():
                described = self.run.describe()
            spent = {name: described[name] for name in SPENT_FACTS if name in described}
            if spent:
                LeasedWrites(self._context.queue, self.lease).user_attrs(spent)

    def report(self, evaluation: Evaluation) -> Report:
        """The report of an evaluation; reports that it replaces are removed first."""
        step = self.run.take_replaced() if isinstance(self.run, Replaces) else None
        if step is not None:
            with suppress(LeaseLost):  # the report finds it out too
                LeasedWrites(self._context.queue, self.lease).remove_reports(step)
            assert self._trial is not None, "made by begin"
            values = self._trial.intermediate_values
            for each in [each for each in values if each >= step]:
                del values[each]
        return report_of(self.lease, replace(evaluation, metrics=self._metrics(evaluation)))

    def _metrics(self, evaluation: Evaluation) -> Mapping[str, float]:
        """The metrics of an evaluation, with those that the trial logged at its step."""
        logged = {} if self.user_trial is None else self.user_trial.logged.get(evaluation.step, {})
        return {**logged, **evaluation.metrics}

    def close_run(self) -> None:
        """Let go of what the run holds, such as a process; the trial may still end."""
        if isinstance(self.run, Closes):
            try:
                with self._context.user_code.calling():
                    self.run.close()
            except UserCodeError as error:  # its trial has ended, whatever it raises now
                log.warning("trial %d of %s, at its end: %s", self.lease.number, self.lease.study, error)

    def close(self) -> None:
        """Let go of what the run and the trial hold."""
        self.close_run()
        self.end_user_trial()

    def _save(self) -> None:
        checkpoints, lease, began = self._context.checkpoints, self.lease, time.monotonic()
        with self._context.user_code.calling():
            payload = self.run.save()
        try:
            identity = self._study.identity(lease.cell)
            checkpoints.write_checkpoint(lease.study, lease.number, payload, identity, self.run.curve[-1].step)
        except OSError as error:
            folder = checkpoints.trial_folder(lease.study, lease.number)
            log.warning("cannot write a checkpoint in %s (%s); training continues without one", folder, error.strerror)
        self._saved_at = time.monotonic()
        self._saving_s = self._saved_at - began


def evaluations_so_far(context: WorkerContext, lease: Lease) -> list[Evaluation]:
    """What earlier attempts of a trial reported, in order of step."""
    if lease.token == 1:
        return []
    found = []
    for step, (value, metrics) in read_evaluations(context.queue.database, lease.trial_id).items():
        seconds = metrics.pop(SECONDS, None)
        found.append(Evaluation(step, value, metrics, seconds))
    return found


def _resume(context: WorkerContext, lease: Lease, study: WorkerStudy, run: TrainingRun) -> list[Report]:
    """Restore the run from its checkpoint; return its evaluations so far."""
    checkpoints = context.checkpoints
    identity = study.identity(lease.cell)
    payload = checkpoints.read_checkpoint(lease.study, lease.number, identity, is_first=lease.token == 1)
    if payload is None:
        return []
    with context.user_code.calling():
        try:
            run.restore(payload)
        except CheckpointError as error:
            checkpoints.set_aside(lease.study, lease.number, str(error))
            checkpoints.remove_copy_soon(identity)
            return []
    log.info("trial %d of %s resumes after step %d", lease.number, lease.study, run.curve[-1].step)
    return [report_of(lease, point) for point in run.curve]


def report_of(lease: Lease, evaluation: Evaluation) -> Report:
    """What the database stores of an evaluation."""
    seconds = {} if evaluation.seconds is None else {SECONDS: evaluation.seconds}
    metrics = {**evaluation.metrics, **seconds}
    return Report(lease, evaluation.step, evaluation.train_loss, evaluation.value, metrics)

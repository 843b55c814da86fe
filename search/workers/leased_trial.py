"""A trial that this worker has leased: its training run, its checkpoints and its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna import TrialPruned
from optuna.trial import FrozenTrial

from search.errors import USER_ERRORS
from search.objectives.errors import CheckpointError
from search.objectives.protocol import Evaluation, RunGroup, TrainingRun
from search.storage.checkpoint_store import CheckpointStore
from search.storage.errors import LeaseLost
from search.storage.failures import Failure
from search.storage.leases import Lease, Report
from search.storage.queue import TrialQueue
from search.storage.slots import cell_and_seed
from search.storage.state_transitions import Outcome
from search.storage.texts import error_text
from search.strategies.pruning_judge import PruningJudge
from search.study.trial_facts import ENVIRONMENT
from search.workers.artifact_writer import ArtifactWriter
from search.workers.failure_records import failure_of, preemption
from search.workers.trial_errors import TrialTimeout, cause_of, is_transient
from search.workers.user_code import UserCode, UserCodeError

log = logging.getLogger("search.worker")


@dataclass(frozen=True)
class WorkerStudy:
    """What a worker needs to train the trials of a study.

    Attributes:
        start: Makes the training run of a cell and a seed.
        uid: Distinguishes this study from others of the same name.
        judge: Decides which trials to prune.
        checkpoint_s: Shortest time between two checkpoints of a trial, in seconds.
        artifact_writer: Stores the files of finished trials.
        stack_runs: Makes a group of runs that train as one; None when the objective cannot stack runs.
        group_size: Returns how many trials of a cell's shape to train together.
        fill: Lets the sampler choose the cell of a slot that has none yet.
        trim_artifacts: Removes the files of trials beyond the study's quota.
        race: Plans more seeds once all trials have ended and returns how many; None when the study does not race.
    """

    start: Callable[[Mapping[str, Any], int], TrainingRun]
    uid: str
    judge: PruningJudge
    checkpoint_s: float
    artifact_writer: ArtifactWriter
    stack_runs: Callable[[Sequence[TrainingRun]], RunGroup] | None = None
    group_size: Callable[[Mapping[str, Any], str], int] = lambda cell, shape_key: 1
    fill: Callable[[Lease], Lease] = lambda lease: lease
    trim_artifacts: Callable[[], None] = lambda: None
    race: Callable[[], int] | None = None

    def identity(self, cell: str) -> str:
        """Return what distinguishes a trial of this study from others of the same name and number."""
        return f"{self.uid} {cell}"


@dataclass(frozen=True)
class TimeLimits:
    """When a trial is ended, in seconds; 0 sets no limit.

    Attributes:
        trial_timeout_s: How long an attempt may train.
        stall_timeout_s: How long it may go without a step, a bare yield or an evaluation.
    """

    trial_timeout_s: float = 0.0
    stall_timeout_s: float = 0.0


@dataclass(frozen=True)
class WorkerContext:
    """What every trial of a worker needs.

    Attributes:
        queue: Where trials are claimed and reported.
        checkpoints: Where checkpoints are stored.
        device: The device that is stored with each trial.
        retry_delay_s: Delay after the first transient error, in seconds; it doubles with each further one.
        limits: When a trial is ended.
        user_code: Where this process calls the study's own code.
    """

    queue: TrialQueue
    checkpoints: CheckpointStore
    device: str
    retry_delay_s: float
    limits: TimeLimits = TimeLimits()
    user_code: UserCode = field(default_factory=UserCode)


class LeasedTrial:
    """A leased trial, from its start in this worker to its end; made by `LeasedTrial.begin`.

    Attributes:
        lease: The worker's right to the trial.
        run: The training run.
    """

    def __init__(
        self, context: WorkerContext, lease: Lease, study: WorkerStudy, run: TrainingRun, trial: FrozenTrial
    ) -> None:
        self.lease, self.run = lease, run
        self._context, self._study, self._trial = context, study, trial
        self._saved_at = time.monotonic()

    @classmethod
    def begin(cls, context: WorkerContext, lease: Lease, study: WorkerStudy) -> LeasedTrial:
        """Make the run of a trial and resume it from its checkpoint if there is one.

        Raises:
            LeaseLost: Another worker has the trial.
            UserCodeError: An error of the objective; the trial cannot be trained.
        """
        log.info("trial %d of %s: %s, attempt %d", lease.number, lease.study, lease.cell, lease.attempt)
        cell, seed = cell_and_seed(lease.cell)
        context.user_code.begin_trials()
        with context.user_code.running_trials():
            run = study.start(cell, seed)
        reports = _resume(context, lease, study, run)
        # The database may lack evaluations of the checkpoint, for example after a failed trial was put back.
        if reports and context.queue.report(reports):
            raise LeaseLost
        return cls(context, lease, study, run, study.judge.trial(lease))

    def end_by(self, error: BaseException) -> None:
        """End the trial because of an error, or prune it if the error asks for that.

        Args:
            error: What was raised while the trial was trained.
        """
        if isinstance(error, TrialPruned):
            step = self.run.curve[-1].step if self.run.curve else None
            at = "before its first evaluation" if step is None else f"at step {step}"
            try:
                self._finish("pruned", f"pruned by the objective {at}")
            except LeaseLost:
                log.warning("lost the lease of trial %d of %s", self.lease.number, self.lease.study)
                return
            except UserCodeError as another:
                error = another
            else:
                return
        release_or_fail(self._context, self.lease, error)

    def judge(self, evaluation: Evaluation) -> bool:
        """End the trial if its latest evaluation ends it; otherwise write a checkpoint if one is due.

        Returns:
            True when the trial has ended.

        Raises:
            LeaseLost: Another worker has the trial.
        """
        self._trial.intermediate_values[evaluation.step] = evaluation.val_loss
        if evaluation.diverged:
            self._finish("diverged", f"the loss was not finite at step {evaluation.step}")
        elif self.run.finished:
            self._finish("complete", None)
        elif self._study.judge.should_prune(self._trial):
            self._finish("pruned", f"pruned at step {evaluation.step}")
        else:
            if time.monotonic() - self._saved_at >= self._study.checkpoint_s:
                self._save()
            return False
        return True

    def save_and_release(self) -> None:
        """Write a checkpoint and put the trial back into the queue."""
        if self.run.curve:
            self._save()
        self.release(preemption())

    def release(self, failure: Failure | None = None) -> None:
        """Put the trial back into the queue; it resumes from its last checkpoint.

        Args:
            failure: What to record, if anything went wrong with it.
        """
        self._context.queue.release(self.lease, failure=failure)
        log.info("put trial %d of %s back into the queue", self.lease.number, self.lease.study)

    def _save(self) -> None:
        checkpoints, lease = self._context.checkpoints, self.lease
        with self._context.user_code.calling():
            payload = self.run.save()
        try:
            identity = self._study.identity(lease.cell)
            checkpoints.write_checkpoint(lease.study, lease.number, payload, identity)
        except OSError as error:
            folder = checkpoints.trial_folder(lease.study, lease.number)
            log.warning("cannot write a checkpoint in %s (%s); training continues without one", folder, error.strerror)
        self._saved_at = time.monotonic()

    def _finish(self, outcome: Any, reason: str | None) -> None:
        last = self.run.curve[-1] if self.run.curve else None
        writer = self._study.artifact_writer
        with self._context.user_code.calling():
            facts = {
                **self.run.describe(),
                "train_loss": last.train_loss if last is not None and not last.diverged else None,
                "train_curve": [[point.step, point.train_loss] for point in self.run.curve if not point.diverged],
                "device": self._context.device,
            }
            identity = self._study.identity(self.lease.cell)
            stored = writer.store_files(self.lease, identity, self.run, facts, outcome, reason)
        facts[ENVIRONMENT] = writer.environment
        value = None if last is None else last.val_loss
        try:
            self._context.queue.finish(self.lease, outcome, value, facts, reason, stored.attrs)
        except LeaseLost:
            stored.discard()
            raise
        stored.remove_earlier()
        self._context.checkpoints.remove_checkpoint(self.lease.study, self.lease.number)
        self._study.trim_artifacts()


def _resume(context: WorkerContext, lease: Lease, study: WorkerStudy, run: TrainingRun) -> list[Report]:
    """Restore the run from its checkpoint; return its evaluations so far."""
    checkpoints = context.checkpoints
    payload = checkpoints.read_checkpoint(lease.study, lease.number, study.identity(lease.cell))
    if payload is None:
        return []
    with context.user_code.calling():
        try:
            run.restore(payload)
        except CheckpointError as error:
            checkpoints.set_aside(lease.study, lease.number, str(error))
            return []
    log.info("trial %d of %s resumes after step %d", lease.number, lease.study, run.curve[-1].step)
    return [Report(lease, point.step, point.train_loss, point.val_loss) for point in run.curve]


def release_or_fail(context: WorkerContext, lease: Lease, error: BaseException) -> None:
    """Put a trial back into the queue after a transient error; fail it for good after any other."""
    error = cause_of(error)
    reason, failure = error_text(error), failure_of(error)
    delay_s = context.retry_delay_s * 2 ** (lease.attempt - 1)
    if is_transient(error) and context.queue.release(lease, reason, delay_s, failure):
        log.warning("trial %d of %s: %s; retrying in %g s", lease.number, lease.study, reason, delay_s)
        return
    # A trial that is pruned before its first step never became a `LeasedTrial`.
    is_pruned = isinstance(error, TrialPruned)
    outcome: Outcome = "pruned" if is_pruned else "failed"
    try:
        context.queue.finish(
            lease, outcome, None, {"device": context.device}, reason, failure=None if is_pruned else failure
        )
    except LeaseLost:
        # The error may come from that: what the database had of a deleted trial is missing.
        log.warning("lost the lease of trial %d of %s (%s)", lease.number, lease.study, reason)
        return
    # A traceback helps to find a bug, not a wrong value.
    shown = None if isinstance(error, (*USER_ERRORS, TrialTimeout)) else error
    log.error("trial %d of %s failed: %s", lease.number, lease.study, reason, exc_info=shown)

"""A trial that this worker has leased: its training run, its checkpoints and its end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from optuna import TrialPruned

from search.errors import USER_ERRORS
from search.objectives.command.output import kept_log
from search.objectives.protocol import (
    ObjectiveCall,
    Recorded,
    RunGroup,
    TrainingRun,
)
from search.storage.checkpoint_store import CheckpointStore
from search.storage.errors import LeaseLost, StorageUnavailable
from search.storage.failures import Failure
from search.storage.leases import Lease
from search.storage.left_out import STUDY_STOPPED, leave_out
from search.storage.queue import TrialQueue
from search.storage.slots import cell_and_seed
from search.storage.state_transitions import Outcome, outcome_of
from search.storage.texts import error_text
from search.strategies.pruning_judge import PruningJudge
from search.study.metrics import DEFAULT_METRICS, Metric
from search.study.trial_facts import ENVIRONMENT
from search.workers.artifact_writer import ArtifactWriter, StoredArtifacts
from search.workers.failure_records import failure_of
from search.workers.trial_errors import TrialTimeout, cause_of, is_transient
from search.workers.user_code import UserCode, UserCodeError
from search.workers.user_trial import TrialInterrupted, UserTrial, UserTrials

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
        memory_share: Returns which share of the device's memory a trial of a cell takes in a group of any shapes; None
            if only trials of one shape can be a group, of `group_size`.
        fill: Lets the sampler choose the cell of a slot that has none yet.
        trim_artifacts: Removes the files of trials beyond the study's quota.
        metrics: What trials are ranked by.
        suggests_parameters: Whether the objective chooses its parameters itself.
        user_trials: Makes what user code gets as `trial`.
        program_log: The log of the program that a trial runs; None if its objective runs none.
        plan_seeds: Plans more seeds if no trial waits and returns how many; None if the number of seeds is fixed.
    """

    start: Callable[[Mapping[str, Any], int], TrainingRun | ObjectiveCall]
    uid: str
    judge: PruningJudge
    checkpoint_s: float
    artifact_writer: ArtifactWriter
    stack_runs: Callable[[Sequence[TrainingRun]], RunGroup] | None = None
    group_size: Callable[[Mapping[str, Any], str], int] = lambda cell, shape_key: 1
    memory_share: Callable[[Mapping[str, Any]], float | None] | None = None
    fill: Callable[[Lease], Lease] = lambda lease: lease
    trim_artifacts: Callable[[], None] = lambda: None
    plan_seeds: Callable[[], int] | None = None
    metrics: Sequence[Metric] = DEFAULT_METRICS
    suggests_parameters: bool = False
    user_trials: UserTrials | None = None
    program_log: Callable[[Lease], Path] | None = None

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
    """A leased trial, from its start in this worker to its end.

    Attributes:
        lease: The worker's right to the trial.
        run: Its training run, or the call of its function.
    """

    def __init__(self, context: WorkerContext, lease: Lease, study: WorkerStudy, run: Recorded) -> None:
        self.lease, self.run = lease, run
        self._context, self._study = context, study
        self.user_trial: UserTrial | None = None

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
        release_or_fail(self._context, self.lease, self._study, error)

    def release(self, failure: Failure | None = None) -> None:
        """Put the trial back into the queue; it resumes from its last checkpoint.

        Args:
            failure: What to record, if anything went wrong with it.
        """
        self._context.queue.release(self.lease, failure=failure)
        log.info("put trial %d of %s back into the queue", self.lease.number, self.lease.study)

    def make_user_trial(self) -> UserTrial:
        """What user code gets as `trial`; made once.

        Raises:
            TrialInterrupted: The lease was lost, or the database is unavailable.
        """
        if self.user_trial is None:
            assert self._study.user_trials is not None
            try:
                self.user_trial = self._study.user_trials.make(self.lease)
            except (LeaseLost, StorageUnavailable) as error:
                raise TrialInterrupted(error) from error
        return self.user_trial

    def end_user_trial(self) -> None:
        """Let go of what user code got as `trial`; leave out the trials to come if it has stopped its study."""
        trials = self._study.user_trials
        if self.user_trial is None or trials is None:
            return
        trials.end()
        if trials.has_stopped():
            self._context.queue.database.write(lambda c: leave_out(c, [self.lease.study_uid], STUDY_STOPPED))

    def _finish(
        self,
        outcome: Outcome,
        reason: str | None,
        values: Sequence[float] = (),
        system_attrs: Mapping[str, Any] | None = None,
    ) -> None:
        """End the trial.

        Args:
            values: For each of the study's metrics; empty for the value of the last evaluation.
            system_attrs: What else to store on the trial.
        """
        last = self.run.curve[-1] if self.run.curve else None
        writer = self._study.artifact_writer
        with self._context.user_code.calling():
            facts = {
                **self.run.describe(),
                "train_loss": last.train_loss if last is not None and not last.diverged else None,
                "train_curve": [
                    [point.step, point.train_loss]
                    for point in self.run.curve
                    if point.train_loss is not None and not point.diverged
                ],
                "device": self._context.device,
            }
            identity = self._study.identity(self.lease.cell)
            kept = {} if self.user_trial is None else self.user_trial.kept
            shown = outcome_of(outcome, values, reason)
            stored = writer.store_files(self.lease, identity, self.run, facts, *shown, kept)
        facts[ENVIRONMENT] = writer.environment
        values = values or ([] if last is None else [last.value])
        attrs = {**(system_attrs or {}), **stored.attrs}
        try:
            value, further = (values[0], values[1:]) if values else (None, ())
            self._context.queue.finish(self.lease, outcome, value, facts, reason, attrs, further_values=further)
        except LeaseLost:
            stored.discard()
            raise
        stored.remove_earlier()
        self._context.checkpoints.remove_checkpoint(self.lease.study, self.lease.number)
        self._context.checkpoints.remove_copy_soon(identity)
        self._study.trim_artifacts()


def start_run(context: WorkerContext, lease: Lease, study: WorkerStudy) -> TrainingRun | ObjectiveCall:
    """Make the run of a trial, at step 0.

    Raises:
        UserCodeError: An error of the objective; the trial cannot be trained.
    """
    log.info("trial %d of %s: %s, attempt %d", lease.number, lease.study, lease.cell, lease.attempt)
    cell, seed = cell_and_seed(lease.cell)
    context.user_code.begin_trials()
    with context.user_code.running_trials():
        return study.start(cell, seed)


def release_or_fail(context: WorkerContext, lease: Lease, study: WorkerStudy, error: BaseException) -> None:
    """Put a trial back into the queue after a transient error; fail it for good after any other.

    Args:
        study: The study of the lease.
    """
    error = cause_of(error)
    reason, failure = error_text(error), failure_of(error)
    delay_s = context.retry_delay_s * 2 ** (lease.attempt - 1)
    if is_transient(error) and context.queue.release(lease, reason, delay_s, failure):
        log.warning("trial %d of %s: %s; retrying in %g s", lease.number, lease.study, reason, delay_s)
        return
    # A trial that is pruned before its first step never became a `LeasedTrial`.
    is_pruned = isinstance(error, TrialPruned)
    outcome: Outcome = "pruned" if is_pruned else "failed"
    stored = StoredArtifacts() if is_pruned else _store_log(lease, study)
    recorded = None if is_pruned else replace(failure, artifact=stored.text)
    try:
        context.queue.finish(
            lease, outcome, None, {"device": context.device}, reason, system_attrs=stored.attrs, failure=recorded
        )
    except LeaseLost:
        stored.discard()
        # The error may come from that: what the database had of a deleted trial is missing.
        log.warning("lost the lease of trial %d of %s (%s)", lease.number, lease.study, reason)
        return
    stored.remove_earlier()
    # A traceback helps to find a bug, not a wrong value.
    shown = None if isinstance(error, (*USER_ERRORS, TrialTimeout)) else error
    log.error("trial %d of %s failed: %s", lease.number, lease.study, reason, exc_info=shown)
    if stored.attrs:
        study.trim_artifacts()


def _store_log(lease: Lease, study: WorkerStudy) -> StoredArtifacts:
    """Keep the log of the program that a failed trial has run, if it has run one."""
    path = None if study.program_log is None else study.program_log(lease)
    if path is None or not path.is_file():
        return StoredArtifacts()
    return study.artifact_writer.store_log(lease, study.identity(lease.cell), kept_log(path))

"""One trial in the hands of a worker: its lease, its run, its checkpoint, and how it ends."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from search.errors import USER_ERRORS
from search.objectives.errors import CheckpointError
from search.objectives.protocol import Evaluation, RunGroup, TrainingRun
from search.storage.checkpoint_store import CheckpointStore
from search.storage.errors import LeaseLost
from search.storage.leases import Lease, Report
from search.storage.queue import TrialQueue
from search.storage.slots import cell_and_seed
from search.strategies.pruning_judge import PruningJudge
from search.study.stored import ENVIRONMENT
from search.workers.artifact_writer import ArtifactWriter

log = logging.getLogger("search.worker")


@dataclass(frozen=True)
class WorkerStudy:
    """What a worker needs to know of a study to train its trials.

    Attributes:
        start: Makes a run of a cell and a seed.
        uid: Tells this study from others of its name.
        judge: Says which trials to prune.
        checkpoint_s: A checkpoint is written when the last is at least so old, in seconds.
        stack_runs: Makes a group of runs that can be trained at the same time; None when the objective cannot.
        group_size: How many trials of a cell's shape to train at the same time.
        keeper: Keeps what a trial leaves behind beside its losses.
        fill: Has a sampler choose the cell of a slot that has none yet.
        race: Plans further seeds when all trials have ended, and says how many; None when the study does not race.
    """

    start: Callable[[Mapping[str, Any], int], TrainingRun]
    uid: str
    judge: PruningJudge
    checkpoint_s: float
    keeper: ArtifactWriter
    stack_runs: Callable[[Sequence[TrainingRun]], RunGroup] | None = None
    group_size: Callable[[Mapping[str, Any], str], int] = lambda cell, shape_key: 1
    fill: Callable[[Lease], Lease] = lambda lease: lease
    race: Callable[[], int] | None = None

    def identity(self, cell: str) -> str:
        """Tells a trial of this study from others of its name and number."""
        return f"{self.uid} {cell}"


@dataclass(frozen=True)
class WorkerContext:
    """What every trial of a worker needs.

    Attributes:
        device: What the trials' record says they ran on.
        retry_delay_s: Back-off after the first failure that may pass, doubled after each further one, in seconds.
    """

    queue: TrialQueue
    artifacts: CheckpointStore
    device: str
    retry_delay_s: float


class LeasedTrial:
    """A leased trial from its first step here to its end; made by `LeasedTrial.begin`.

    Attributes:
        lease: The right to it.
        run: What is trained.
    """

    def __init__(
        self, context: WorkerContext, lease: Lease, study: WorkerStudy, run: TrainingRun, trial: FrozenTrial
    ) -> None:
        self.lease, self.run = lease, run
        self._context, self._study, self._trial = context, study, trial
        self._saved_at = time.monotonic()

    @classmethod
    def begin(cls, context: WorkerContext, lease: Lease, study: WorkerStudy) -> LeasedTrial:
        """Make the run of a trial, and have it go on from its checkpoint if there is one.

        Raises:
            LeaseLost: The trial went on elsewhere.
            Exception: What the objective raises; the trial cannot be trained.
        """
        log.info("trial %d of %s: %s, attempt %d", lease.number, lease.study, lease.cell, lease.attempt)
        cell, seed = cell_and_seed(lease.cell)
        run = study.start(cell, seed)
        reports = _resume(context.artifacts, lease, study, run)
        # The database may know less than the checkpoint, if a failed trial was put back for instance.
        if reports and context.queue.report(reports):
            raise LeaseLost
        return cls(context, lease, study, run, study.judge.trial(lease))

    def judge(self, evaluation: Evaluation) -> bool:
        """End the trial if an evaluation that was just reported ends it; else write a checkpoint if one is due.

        Returns:
            True when the trial has ended.

        Raises:
            LeaseLost: The trial went on elsewhere.
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
        """Put the trial back into the queue, with a checkpoint."""
        if self.run.curve:
            self._save()
        self.release()

    def release(self) -> None:
        """Put the trial back into the queue; it goes on from its last checkpoint."""
        self._context.queue.release(self.lease)
        log.info("trial %d of %s is back in the queue", self.lease.number, self.lease.study)

    def _save(self) -> None:
        artifacts, lease = self._context.artifacts, self.lease
        try:
            identity = self._study.identity(lease.cell)
            artifacts.write_checkpoint(lease.study, lease.number, self.run.save(), identity)
        except OSError as error:
            folder = artifacts.trial_folder(lease.study, lease.number)
            log.warning("no checkpoint in %s (%s); training goes on without", folder, error.strerror)
        self._saved_at = time.monotonic()

    def _finish(self, outcome: Any, reason: str | None) -> None:
        last = self.run.curve[-1]
        facts = {
            **self.run.describe(),
            "train_loss": last.train_loss if not last.diverged else None,
            "train_curve": [[point.step, point.train_loss] for point in self.run.curve if not point.diverged],
            "device": self._context.device,
        }
        keeper = self._study.keeper
        kept = keeper.keep(self.lease, self._study.identity(self.lease.cell), self.run, facts, outcome, reason)
        facts[ENVIRONMENT] = keeper.environment
        try:
            self._context.queue.finish(self.lease, outcome, last.val_loss, facts, reason, kept.attrs)
        except LeaseLost:
            kept.discard()
            raise
        kept.settle()
        self._context.artifacts.remove_checkpoint(self.lease.study, self.lease.number)


def _resume(artifacts: CheckpointStore, lease: Lease, study: WorkerStudy, run: TrainingRun) -> list[Report]:
    """Restore the run from its checkpoint, and say what was measured up to there."""
    payload = artifacts.read_checkpoint(lease.study, lease.number, study.identity(lease.cell))
    if payload is None:
        return []
    try:
        run.restore(payload)
    except CheckpointError as error:
        artifacts.set_aside(lease.study, lease.number, str(error))
        return []
    log.info("trial %d of %s goes on after step %d", lease.number, lease.study, run.curve[-1].step)
    return [Report(lease, point.step, point.train_loss, point.val_loss) for point in run.curve]


def release_or_fail(context: WorkerContext, lease: Lease, error: Exception) -> None:
    """Put a trial that raised an error back into the queue if the error may pass, else fail it for good."""
    reason = f"{type(error).__name__}: {error}".splitlines()[0][:500]
    if _may_pass(error) and lease.attempt < context.queue.max_attempts:
        delay_s = context.retry_delay_s * 2 ** (lease.attempt - 1)
        log.warning("trial %d of %s: %s; to be tried again in %g s", lease.number, lease.study, reason, delay_s)
        context.queue.release(lease, reason, delay_s)
        return
    # A traceback helps with a fault in code, not with a wrong value.
    log.error(
        "trial %d of %s failed: %s", lease.number, lease.study, reason, exc_info=not isinstance(error, USER_ERRORS)
    )
    try:
        context.queue.finish(lease, "failed", None, {"device": context.device}, reason)
    except LeaseLost:
        log.warning("trial %d of %s went on elsewhere", lease.number, lease.study)


def _may_pass(error: Exception) -> bool:
    """True for what another time or another worker may not meet: no memory, no disk."""
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EIO}
    # By name: torch is not imported where the objective does not need it.
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"

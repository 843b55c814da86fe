"""One worker's days: claim a trial, train it, report, prune, checkpoint, finish; and never hold on to what is lost."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from objectives.contract import Evaluation, TrainingRun
from objectives.errors import CheckpointError
from search.errors import USER_ERRORS
from search.pruning import PruningJudge
from storage.artifacts import ArtifactFolder
from storage.errors import LeaseLost, StorageUnavailable
from storage.leases import Lease, Report
from storage.queue import RunQueue
from storage.summaries import cell_texts

log = logging.getLogger("search.worker")

IDLE_POLL_S = 0.5


@dataclass(frozen=True)
class WorkedStudy:
    """What a worker needs to know of a study to train its trials.

    Attributes:
        start: Makes a run of a cell and a seed.
        uid: Tells this study from others of its name.
        judge: Says which trials to prune.
        checkpoint_s: A checkpoint is written when the last is at least so old, in seconds.
    """

    start: Callable[[Mapping[str, Any], int], TrainingRun]
    uid: str
    judge: PruningJudge
    checkpoint_s: float


@dataclass
class Worker:
    """Trains trials of some studies, one after the other, until none is left or it is told to stop.

    Attributes:
        owner: A name that no other worker has.
        device: What the trials' record says they ran on.
        retry_delay_s: Back-off after the first failure that may pass, doubled after each further one, in seconds.
    """

    queue: RunQueue
    studies: Mapping[str, WorkedStudy]
    artifacts: ArtifactFolder
    owner: str
    device: str
    retry_delay_s: float = 5.0
    _lease: Lease | None = None
    _lease_lost: threading.Event = field(default_factory=threading.Event)

    @property
    def stop(self) -> threading.Event:
        """Set it, and the worker hands its trial back and ends; it does not wait for a database that is away then."""
        return self.queue.database.interrupt

    def run(self) -> None:
        """Work until every trial has ended, also those of other workers: one of them may die and leave its trial.

        Raises:
            StorageUnavailable: The database stayed away too long.
        """
        threading.Thread(target=self._renew_for_ever, name="lease", daemon=True).start()
        names = list(self.studies)
        while not self.stop.is_set():
            leases = self.queue.claim(names, self.owner)
            if leases:
                self._work_on(leases[0])
            elif self.queue.unfinished(names) == 0:
                self._tidy()
                return
            else:
                self.stop.wait(IDLE_POLL_S)

    def _tidy(self) -> None:
        # Left by workers that were killed, or stopped for long, between a trial's end and the removal.
        for name, study in self.studies.items():
            leftovers = self.artifacts.with_leftovers(name)
            for number, cell in cell_texts(self.queue.database, name, leftovers).items():
                self.artifacts.remove_leftovers(name, number, _identity(study, cell))

    def _renew_for_ever(self) -> None:
        # Between two evaluations minutes can pass. A stopped process stops this thread too, so its lease expires.
        while True:
            time.sleep(self.queue.lease_s / 3)
            lease = self._lease
            if lease is not None:
                try:
                    if self.queue.renew([lease]) and lease is self._lease:
                        self._lease_lost.set()
                except Exception as error:  # whatever it is, this thread must live: the next renewal may succeed
                    log.warning("cannot renew the lease: %s", error)

    def _work_on(self, lease: Lease) -> None:
        self._lease_lost.clear()
        self._lease = lease
        log.info("trial %d of %s: %s, attempt %d", lease.number, lease.study, lease.cell, lease.attempt)
        try:
            self._train(lease)
        except LeaseLost:
            log.warning("trial %d of %s went on elsewhere; this worker discards its work", lease.number, lease.study)
        except StorageUnavailable:
            raise
        except Exception as error:
            self._give_up(lease, error)
        finally:
            self._lease = None

    def _train(self, lease: Lease) -> None:
        study = self.studies[lease.study]
        cell = json.loads(lease.cell)
        seed = cell.pop("seed")
        run = study.start(cell, seed)
        self._resume(lease, study, run)
        trial = study.judge.trial(lease)
        saved_at = time.monotonic()
        while True:
            evaluation = run.advance(lambda: self.stop.is_set() or self._lease_lost.is_set())
            if self._lease_lost.is_set():
                raise LeaseLost
            if evaluation is None:
                self._hand_back(lease, study, run)
                return
            self._report(lease, [evaluation])
            trial.intermediate_values[evaluation.step] = evaluation.val_loss
            if evaluation.diverged:
                reason = f"the loss was not finite at step {evaluation.step}"
                self._finish(lease, run, "diverged", reason)
                return
            if run.finished:
                self._finish(lease, run, "complete", None)
                return
            if study.judge.should_prune(trial):
                self._finish(lease, run, "pruned", f"pruned at step {evaluation.step}")
                return
            if time.monotonic() - saved_at >= study.checkpoint_s:
                self._save(lease, study, run)
                saved_at = time.monotonic()

    def _resume(self, lease: Lease, study: WorkedStudy, run: TrainingRun) -> None:
        identity = _identity(study, lease.cell)
        payload = self.artifacts.read_checkpoint(lease.study, lease.number, identity)
        if payload is None:
            return
        try:
            run.restore(payload)
        except CheckpointError as error:
            self.artifacts.set_aside(lease.study, lease.number, str(error))
            return
        log.info("trial %d of %s goes on after step %d", lease.number, lease.study, run.curve[-1].step)
        # The database may know less than the checkpoint, if a failed trial was put back for instance.
        self._report(lease, run.curve)

    def _report(self, lease: Lease, evaluations: list[Evaluation]) -> None:
        if self.queue.report([Report(lease, e.step, e.train_loss, e.val_loss) for e in evaluations]):
            raise LeaseLost

    def _save(self, lease: Lease, study: WorkedStudy, run: TrainingRun) -> None:
        folder = self.artifacts.trial_folder(lease.study, lease.number)
        try:
            self.artifacts.write_checkpoint(lease.study, lease.number, run.save(), _identity(study, lease.cell))
        except OSError as error:
            log.warning("no checkpoint in %s (%s); training goes on without", folder, error.strerror)

    def _hand_back(self, lease: Lease, study: WorkedStudy, run: TrainingRun) -> None:
        if run.curve:
            self._save(lease, study, run)
        self.queue.release(lease)
        log.info("trial %d of %s is back in the queue", lease.number, lease.study)

    def _finish(self, lease: Lease, run: TrainingRun, outcome: Any, reason: str | None) -> None:
        last = run.curve[-1]
        facts = {
            **run.describe(),
            "train_loss": last.train_loss if not last.diverged else None,
            "train_curve": [[point.step, point.train_loss] for point in run.curve if not point.diverged],
            "device": self.device,
        }
        self.queue.finish(lease, outcome, last.val_loss, facts, reason)
        self.artifacts.remove_checkpoint(lease.study, lease.number)

    def _give_up(self, lease: Lease, error: Exception) -> None:
        """Back into the queue with what may pass, out of it with what would fail again."""
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:500]
        if _may_pass(error) and lease.attempt < self.queue.max_attempts:
            delay_s = self.retry_delay_s * 2 ** (lease.attempt - 1)
            log.warning("trial %d of %s: %s; to be tried again in %g s", lease.number, lease.study, reason, delay_s)
            self.queue.release(lease, reason, delay_s)
            return
        # A traceback helps with a fault in code, not with a wrong value.
        log.error(
            "trial %d of %s failed: %s", lease.number, lease.study, reason, exc_info=not isinstance(error, USER_ERRORS)
        )
        try:
            self.queue.finish(lease, "failed", None, {"device": self.device}, reason)
        except LeaseLost:
            log.warning("trial %d of %s went on elsewhere", lease.number, lease.study)


def _identity(study: WorkedStudy, cell: str) -> str:
    return f"{study.uid} {cell}"


def _may_pass(error: Exception) -> bool:
    """True for what another time or another worker may not meet: no memory, no disk."""
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EIO}
    # By name: torch is not imported where the objective does not need it.
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def owner_name(label: str) -> str:
    """A worker's name: where it runs, what it is called there, and what no other worker ever has."""
    return f"{os.uname().nodename}/{label}/{os.getpid()}-{os.urandom(3).hex()}"

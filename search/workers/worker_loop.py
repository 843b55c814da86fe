"""The worker loop: claim, train, report, prune; drop trials whose lease was lost."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from search.objectives.phase_timer import PhaseTimer
from search.objectives.protocol import Evaluation, RunGroup, Timed, TrainingRun
from search.storage.errors import LeaseLost, StorageUnavailable
from search.storage.leases import Lease, Report
from search.storage.queries import cell_texts
from search.storage.queue import TrialQueue
from search.storage.slots import cell_and_seed
from search.workers.leased_trial import LeasedTrial, WorkerContext, WorkerStudy, release_or_fail

log = logging.getLogger("search.worker")

IDLE_POLL_S = 0.5


class SingleRunGroup:
    """A group of one run."""

    def __init__(self, run: TrainingRun) -> None:
        self._run = run

    def advance(self, should_stop: Callable[[], bool]) -> list[tuple[TrainingRun, Evaluation]]:
        """See `search.objectives.protocol.RunGroup`."""
        evaluation = self._run.advance(should_stop)
        return [] if evaluation is None else [(self._run, evaluation)]

    def remove(self, leavers: Sequence[TrainingRun]) -> None:
        """Do nothing: a group of one has no other runs."""


@dataclass
class Worker:
    """Trains trials of some studies until none is left or `stop` is set.

    Attributes:
        context: What all trials of this worker need.
        studies: The studies by name.
        owner: The unique name of this worker.
        timer: Measures the time by kind of work.
        wait_for_device: Called at the end of each phase, so that a phase includes the time of its GPU kernels and not
            only of their launch.
    """

    context: WorkerContext
    studies: Mapping[str, WorkerStudy]
    owner: str
    timer: PhaseTimer = field(default_factory=PhaseTimer)
    wait_for_device: Callable[[], None] | None = None
    _leases: list[Lease] = field(default_factory=list)
    _lost: set[Lease] = field(default_factory=set)  # lost leases; may include those of ended trials
    _max_group_size: dict[tuple[str, str], int] = field(default_factory=dict)  # by study and shape

    @property
    def queue(self) -> TrialQueue:
        """The queue that trials are claimed from."""
        return self.context.queue

    @property
    def stop(self) -> threading.Event:
        """Set this event to make the worker release its trials and end, without waiting for an unavailable database."""
        return self.queue.database.interrupt

    def run(self) -> None:
        """Work until every trial has ended, those of other workers included: they may crash and leave a trial.

        Raises:
            StorageUnavailable: The database was unavailable for too long.
        """
        threading.Thread(target=self._renew_leases, name="lease", daemon=True).start()
        names = list(self.studies)
        self.timer.begin()
        while not self.stop.is_set():
            leases = self._claim(names)
            self.timer.end("storage")
            if leases:
                self._work_on(leases)
            elif self.queue.unfinished(names) == 0:
                if self._plan_more_seeds(names):
                    continue
                self._remove_leftovers()
                return
            else:
                self.stop.wait(IDLE_POLL_S)
                self.timer.end("waiting")

    def _claim(self, names: Sequence[str]) -> list[Lease]:
        """Claim the next trial, and others of its shape to train with it."""
        claimed = self.queue.claim(names, self.owner)
        leases = [filled for lease in claimed if (filled := self._fill(lease)) is not None]
        if leases and (size := self._group_size(leases[0])) > 1:
            leases += self.queue.claim_alike(leases, self.owner, size - 1)
        return leases

    def _plan_more_seeds(self, names: Sequence[str]) -> bool:
        races = [study.race for study in self.studies.values() if study.race is not None]
        for race in races:
            race()
        # Ask the database: another worker may have planned the seeds.
        return bool(races) and self.queue.unfinished(names) > 0

    def _fill(self, lease: Lease) -> Lease | None:
        try:
            return self.studies[lease.study].fill(lease)
        except StorageUnavailable:
            raise
        except Exception as error:
            release_or_fail(self.context, lease, error)
            return None

    def _group_size(self, lease: Lease) -> int:
        study = self.studies[lease.study]
        if study.stack_runs is None or not lease.shape_key:
            return 1
        cell, _ = cell_and_seed(lease.cell)
        size = study.group_size(cell, lease.shape_key)
        return min(size, self._max_group_size.get((lease.study, lease.shape_key), size))

    def _remove_leftovers(self) -> None:
        # Files of workers that were killed, or stopped for long, after the end of a trial and before their removal.
        for name, study in self.studies.items():
            study.artifact_writer.remove_stale_parts()
            leftovers = self.context.checkpoints.with_leftovers(name)
            for number, cell in cell_texts(self.queue.database, name, leftovers).items():
                self.context.checkpoints.remove_leftovers(name, number, study.identity(cell))

    def _renew_leases(self) -> None:
        # A thread, since minutes can pass between two evaluations. Stopping the process stops it too: leases expire.
        while True:
            time.sleep(self.queue.lease_s / 3)
            leases = list(self._leases)
            if leases:
                try:
                    self._lost |= set(self.queue.renew(leases))
                except Exception as error:  # the thread must survive any error: the next renewal may succeed
                    log.warning("cannot renew %d leases: %s", len(leases), error)

    def _work_on(self, leases: list[Lease]) -> None:
        self._lost.clear()
        self._leases = leases
        trials = [trial for lease in leases if (trial := self._begin(lease)) is not None]
        try:
            if trials:
                self._train(trials)
        except StorageUnavailable:
            raise
        except Exception as error:
            self._fail_or_split(trials, error)
        finally:
            self._leases = []

    def _begin(self, lease: Lease) -> LeasedTrial | None:
        try:
            return LeasedTrial.begin(self.context, lease, self.studies[lease.study])
        except LeaseLost:
            self._log_lost(lease)
        except StorageUnavailable:
            raise
        except Exception as error:
            release_or_fail(self.context, lease, error)
        self._leases = [each for each in self._leases if each is not lease]
        return None

    def _train(self, trials: list[LeasedTrial]) -> None:
        """Train until every trial has ended, was lost or was released; such trials are removed from `trials`."""
        for trial in trials:
            if (timer := _timer_of(trial.run)) is not None:
                timer.wait_for_device = self.wait_for_device
        group = self._group([trial.run for trial in trials], trials[0].lease.study)
        self.timer.end("starting")
        while trials:
            evaluated = group.advance(lambda: self.stop.is_set() or not self._lost.isdisjoint(self._leases))
            self.timer.begin()  # the runs measure their time themselves
            self._drop_lost(group, trials, [each for each in trials if each.lease in self._lost])
            if not evaluated and self.stop.is_set():
                for trial in list(trials):
                    trial.save_and_release()
                    self._add_timer(trial)
                    trials.remove(trial)
            else:
                self._report(group, trials, evaluated)
            self.timer.end("storage")

    def _group(self, runs: Sequence[TrainingRun], study: str) -> RunGroup:
        stack_runs = self.studies[study].stack_runs
        # On a GPU a group of one is faster than a plain run, since its steps are captured.
        single = len(runs) == 1 and self.context.device == "cpu"
        return SingleRunGroup(runs[0]) if single or stack_runs is None else stack_runs(runs)

    def _report(
        self, group: RunGroup, trials: list[LeasedTrial], evaluated: Sequence[tuple[TrainingRun, Evaluation]]
    ) -> None:
        """Store evaluations, and end the trials that they end."""
        reported = [(trial, at) for run, at in evaluated for trial in trials if trial.run is run]
        reports = [Report(trial.lease, at.step, at.train_loss, at.val_loss) for trial, at in reported]
        if not reports:
            return
        lost = self.queue.report(reports)
        self._drop_lost(group, trials, [trial for trial, _ in reported if trial.lease in lost])
        ended = []
        for trial, evaluation in reported:
            if trial in trials:
                try:
                    if trial.judge(evaluation):
                        ended.append(trial)
                except LeaseLost:
                    self._drop_lost(group, trials, [trial])
        self._remove(group, trials, ended)

    def _drop_lost(self, group: RunGroup, trials: list[LeasedTrial], lost: Sequence[LeasedTrial]) -> None:
        for trial in lost:
            self._log_lost(trial.lease)
        self._remove(group, trials, lost)

    def _log_lost(self, lease: Lease) -> None:
        log.warning("lost the lease of trial %d of %s; discarding its work", lease.number, lease.study)

    def _remove(self, group: RunGroup, trials: list[LeasedTrial], leavers: Sequence[LeasedTrial]) -> None:
        for trial in leavers:
            self._add_timer(trial)
        if leavers:
            group.remove([trial.run for trial in leavers])
            trials[:] = [trial for trial in trials if trial not in leavers]
            # A new list: the thread that renews leases may be reading the old one.
            self._leases = [trial.lease for trial in trials]

    def _add_timer(self, trial: LeasedTrial) -> None:
        if (timer := _timer_of(trial.run)) is not None:
            self.timer.add(timer)

    def _fail_or_split(self, trials: Sequence[LeasedTrial], error: Exception) -> None:
        """Fail or release a single trial; split a group, since one trial or a lack of memory can cause the error."""
        if len(trials) == 1:
            release_or_fail(self.context, trials[0].lease, error)
            return
        first, size = trials[0].lease, max(1, len(trials) // 2)
        log.warning(
            "error in a group of %d trials of %s: %s; retrying in groups of %d from their checkpoints",
            len(trials), first.study, f"{type(error).__name__}: {error}".splitlines()[0], size,
        )  # fmt: skip
        self._max_group_size[first.study, first.shape_key] = size
        for trial in trials:
            trial.release()


def _timer_of(run: TrainingRun) -> PhaseTimer | None:
    return run.timer if isinstance(run, Timed) else None


def new_owner_name(label: str) -> str:
    """Return a unique worker name: host, label, process id and random digits."""
    return f"{os.uname().nodename}/{label}/{os.getpid()}-{os.urandom(3).hex()}"

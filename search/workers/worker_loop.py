"""The worker loop: claim, train, report, prune; drop trials whose lease was lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from search.errors import ProcessSpoiled
from search.objectives.phase_timer import PhaseTimer
from search.objectives.protocol import Evaluation, ObjectiveCall, RunGroup, Timed, TrainingRun
from search.storage.errors import LeaseLost, StorageUnavailable
from search.storage.leases import Lease
from search.storage.queue import TrialQueue
from search.storage.texts import error_text
from search.workers.called_trial import CalledTrial
from search.workers.group_claims import GroupClaims
from search.workers.leased_trial import WorkerContext, WorkerStudy, release_or_fail, start_run
from search.workers.leftovers import remove_leftovers
from search.workers.lost_leases import drop_lost, end_interrupted
from search.workers.more_seeds import MoreSeeds
from search.workers.single_run_group import SingleRunGroup
from search.workers.spending import Spending
from search.workers.trained_trial import TrainedTrial
from search.workers.trial_errors import cause_of, end_if_spoiled, is_spoiling
from search.workers.user_trial import TrialInterrupted
from search.workers.watchdog import Watchdog

log = logging.getLogger("search.worker")

IDLE_POLL_S = 0.5


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
        has_claimed: Whether this worker has ever claimed a trial.
    """

    context: WorkerContext
    studies: Mapping[str, WorkerStudy]
    owner: str
    timer: PhaseTimer = field(default_factory=PhaseTimer)
    wait_for_device: Callable[[], None] | None = None
    has_claimed: bool = False
    _leases: list[Lease] = field(default_factory=list)
    _lost: set[Lease] = field(default_factory=set)  # lost leases; may include those of ended trials

    def __post_init__(self) -> None:
        self._groups = GroupClaims(self.context, self.studies, self.owner)
        uids = {name: self.queue.uids.get(name, "") for name in self.studies}
        self.spending = Spending(self.queue.database, uids, self.owner)

    @property
    def queue(self) -> TrialQueue:
        """The queue that trials are claimed from."""
        return self.context.queue

    @property
    def stop(self) -> threading.Event:
        """Set this event to make the worker release its trials and end, without waiting for an unavailable database."""
        return self.queue.database.interrupt

    def run(self) -> bool:
        """Work until every trial has ended, those of other workers included: they may crash and leave a trial.

        Returns:
            True if no trial is left; False if the worker was asked to stop before.

        Raises:
            ProcessSpoiled: No trial can be trained in this process any more.
            StorageUnavailable: The database was unavailable for too long.
        """
        self.context.user_code.must_pause = self._must_pause
        threading.Thread(target=self._renew_leases, name="lease", daemon=True).start()
        threading.Thread(target=self.spending.keep_counting, name="spending", daemon=True).start()
        with Watchdog(self.context, self.studies, self.stop, lambda: list(self._leases)):
            try:
                return self._work()
            finally:
                self.spending.has_ended.set()

    def _work(self) -> bool:
        names = list(self.studies)
        more_seeds = MoreSeeds(self.studies.values(), self.queue)
        self.timer.begin()
        while not self.stop.is_set():
            is_spent = self.spending.is_spent()
            asked_at = time.monotonic()
            leases = self._claim(names)
            self.spending.claimed(bool(leases), asked_at)
            self.timer.end("storage")
            if leases:
                self._work_on(leases)
                more_seeds.trained()
                continue
            unfinished = self.queue.unfinished(names)
            if not is_spent and more_seeds.plan(names, unfinished):
                continue
            if unfinished == 0:
                remove_leftovers(self.context, self.studies)
                for name in self.queue.deleted(names):
                    log.warning("the study %r was deleted while this worker trained it", name)
                return True
            self.stop.wait(IDLE_POLL_S)
            self.timer.end("waiting")
        with suppress(StorageUnavailable):  # it is taken to go on until its lease ends
            self.spending.claimed(has_trials=False)
        return False

    def _claim(self, names: Sequence[str]) -> list[Lease]:
        """Claim the next trial, and others to train with it."""
        self._leases = self.queue.claim(names, self.owner)
        self.has_claimed |= bool(self._leases)
        leases = []
        for lease in list(self._leases):
            with self._failing(lease):
                leases.append(self.studies[lease.study].fill(lease))
        # A trial that failed before trains alone: it may have been the reason, or another trial of its group.
        if not leases or leases[0].attempt > 1:
            return leases
        with self._failing(leases[0]):
            return leases + self._groups.more(leases[0])
        return []

    @contextmanager
    def _failing(self, lease: Lease) -> Iterator[None]:
        """Release or fail a trial if the code inside raises an error, unless the database is the reason."""
        try:
            yield
        except StorageUnavailable:
            raise
        except LeaseLost:
            drop_lost(self.context, lease, self.studies[lease.study])
            self._forget(lease)
        except BaseException as error:
            release_or_fail(self.context, lease, self.studies[lease.study], error)
            self._forget(lease)
            end_if_spoiled(error)

    def _forget(self, lease: Lease) -> None:
        # A new list: the thread that renews leases may be reading the old one.
        self._leases = [each for each in self._leases if each is not lease]

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
        trials: list[TrainedTrial] = []
        try:
            for lease in leases:
                with self._failing(lease):
                    study = self.studies[lease.study]
                    run = start_run(self.context, lease, study)
                    if isinstance(run, ObjectiveCall):
                        CalledTrial.begin(self.context, lease, study).train(run)
                    else:
                        trials.append(TrainedTrial.begin(self.context, lease, study, run))
                        self.spending.begun(run)
            if trials:
                self._train(trials)
                self._groups.succeeded()
        except (StorageUnavailable, ProcessSpoiled):
            raise
        except BaseException as error:  # a study's own code can raise anything, SystemExit included
            cause = cause_of(error)
            if isinstance(cause, TrialInterrupted):
                for trial in trials:
                    end_interrupted(self.context, trial.lease, self.studies[trial.lease.study], cause)
                return
            self._fail_or_split(trials, cause)
            end_if_spoiled(error)
        finally:
            for trial in trials:  # those that have not ended
                self.spending.ended(trial.run)
                trial.close()
            self._leases = []

    def _train(self, trials: list[TrainedTrial]) -> None:
        """Train until every trial has ended, was lost or was released; such trials are removed from `trials`."""
        for trial in trials:
            if isinstance(trial.run, Timed):
                trial.run.timer.wait_for_device = self.wait_for_device
        user_code = self.context.user_code
        with user_code.running_trials():
            group = self._group([trial.run for trial in trials], trials[0].lease)
        self.timer.end("starting")
        while trials:
            for trial in trials:
                trial.beside = len(trials)
            with user_code.running_trials():
                evaluated = group.advance(self._should_pause)
            self.timer.begin()  # the runs measure their time themselves
            self._drop_lost(group, trials, [each for each in trials if each.lease in self._lost])
            if not evaluated and self.stop.is_set():
                for trial in list(trials):
                    trial.save_and_release()
                    self._add_timer(trial)
                    trial.close()
                    trials.remove(trial)
            else:
                self._report(group, trials, evaluated)
            self.timer.end("storage")

    def _should_pause(self) -> bool:
        self.context.user_code.show_life()
        return self._must_pause()

    def _must_pause(self) -> bool:
        return self.stop.is_set() or not self._lost.isdisjoint(self._leases)

    def _group(self, runs: Sequence[TrainingRun], first: Lease) -> RunGroup:
        stack_runs = self.studies[first.study].stack_runs
        # On a GPU a group of one is faster than a plain run, since its steps are captured; unless that is what fails.
        single = len(runs) == 1 and (self.context.device == "cpu" or first.attempt > 2)
        return SingleRunGroup(runs[0]) if single or stack_runs is None else stack_runs(runs)

    def _report(
        self, group: RunGroup, trials: list[TrainedTrial], evaluated: Sequence[tuple[TrainingRun, Evaluation]]
    ) -> None:
        """Store evaluations, and end the trials that they end."""
        reported = [(trial, at) for run, at in evaluated for trial in trials if trial.run is run]
        if not reported:
            return
        reports = [trial.report(at) for trial, at in reported]
        for trial, _ in reported:
            self.spending.trained(trial.run)
        self.context.user_code.has_evaluated |= any(report.step > 0 for report in reports)
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

    def _drop_lost(self, group: RunGroup, trials: list[TrainedTrial], lost: Sequence[TrainedTrial]) -> None:
        for trial in lost:
            drop_lost(self.context, trial.lease, self.studies[trial.lease.study])
        self._remove(group, trials, lost)

    def _remove(self, group: RunGroup, trials: list[TrainedTrial], leavers: Sequence[TrainedTrial]) -> None:
        for trial in leavers:
            self._add_timer(trial)
            trial.close()
        if leavers:
            group.remove([trial.run for trial in leavers])
            trials[:] = [trial for trial in trials if trial not in leavers]
            # A new list: the thread that renews leases may be reading the old one.
            self._leases = [trial.lease for trial in trials]

    def _add_timer(self, trial: TrainedTrial) -> None:
        self.spending.ended(trial.run)
        if isinstance(trial.run, Timed):
            self.timer.add(trial.run.timer)

    def _fail_or_split(self, trials: Sequence[TrainedTrial], error: BaseException) -> None:
        """Fail or release a single trial; split a group, since one trial or a lack of memory can cause the error."""
        if len(trials) == 1 or is_spoiling(error):
            for trial in trials:
                trial.end_by(error)
            return
        first, size = trials[0].lease, self._groups.failed([trial.lease for trial in trials])
        log.warning(
            "error in a group of %d trials of %s: %s; retrying in groups of %d from their checkpoints",
            len(trials), first.study, error_text(error), size,
        )  # fmt: skip
        for trial in trials:
            trial.release()

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
    """A run by itself, as a group of one."""

    def __init__(self, run: TrainingRun) -> None:
        self._run = run

    def advance(self, should_stop: Callable[[], bool]) -> list[tuple[TrainingRun, Evaluation]]:
        """As `search.objectives.protocol.RunGroup`."""
        evaluation = self._run.advance(should_stop)
        return [] if evaluation is None else [(self._run, evaluation)]

    def remove(self, leavers: Sequence[TrainingRun]) -> None:
        """Nothing remains."""


@dataclass
class Worker:
    """Trains trials of some studies until none is left or `stop` is set.

    Attributes:
        context: What its trials need.
        studies: By name.
        owner: A name that no other worker has.
        timer: Where its time goes.
        wait_for_device: Called at the end of each phase, so that the GPU's own time is measured and not only that of
            launching its kernels.
    """

    context: WorkerContext
    studies: Mapping[str, WorkerStudy]
    owner: str
    timer: PhaseTimer = field(default_factory=PhaseTimer)
    wait_for_device: Callable[[], None] | None = None
    _leases: list[Lease] = field(default_factory=list)
    _lost: set[Lease] = field(default_factory=set)  # known to be lost; those of ended trials may be among them
    _most: dict[tuple[str, str], int] = field(default_factory=dict)  # group size that a study and shape can bear

    @property
    def queue(self) -> TrialQueue:
        """Where its trials come from."""
        return self.context.queue

    @property
    def stop(self) -> threading.Event:
        """Set it, and the worker hands its trials back and ends; it does not wait for a database that is away then."""
        return self.queue.database.interrupt

    def run(self) -> None:
        """Work until every trial has ended, also those of other workers: one of them may die and leave its trial.

        Raises:
            StorageUnavailable: The database stayed away too long.
        """
        threading.Thread(target=self._renew_for_ever, name="lease", daemon=True).start()
        names = list(self.studies)
        self.timer.begin()
        while not self.stop.is_set():
            leases = self._claim(names)
            self.timer.end("storage")
            if leases:
                self._work_on(leases)
            elif self.queue.unfinished(names) == 0:
                if self._races_on(names):
                    continue
                self._tidy()
                return
            else:
                self.stop.wait(IDLE_POLL_S)
                self.timer.end("waiting")

    def _claim(self, names: Sequence[str]) -> list[Lease]:
        """The next trial, and others of its shape to be trained with it."""
        claimed = self.queue.claim(names, self.owner)
        leases = [filled for lease in claimed if (filled := self._fill(lease)) is not None]
        if leases and (wanted := self._group_size(leases[0])) > 1:
            leases += self.queue.claim_alike(leases, self.owner, wanted - 1)
        return leases

    def _races_on(self, names: Sequence[str]) -> bool:
        races = [study.race for study in self.studies.values() if study.race is not None]
        for race in races:
            race()
        # Not what was planned here: another worker may have been first.
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
        return min(study.group_size(cell, lease.shape_key), self._most.get((lease.study, lease.shape_key), 1_000_000))

    def _tidy(self) -> None:
        # Left by workers that were killed, or stopped for long, between a trial's end and the removal.
        for name, study in self.studies.items():
            study.keeper.tidy()
            leftovers = self.context.artifacts.with_leftovers(name)
            for number, cell in cell_texts(self.queue.database, name, leftovers).items():
                self.context.artifacts.remove_leftovers(name, number, study.identity(cell))

    def _renew_for_ever(self) -> None:
        # Between two evaluations minutes can pass. A stopped process stops this thread too, so its leases expire.
        while True:
            time.sleep(self.queue.lease_s / 3)
            leases = list(self._leases)
            if leases:
                try:
                    self._lost |= set(self.queue.renew(leases))
                except Exception as error:  # whatever it is, this thread must live: the next renewal may succeed
                    log.warning("cannot renew %d leases: %s", len(leases), error)

    def _work_on(self, leases: list[Lease]) -> None:
        self._lost.clear()
        self._leases = leases
        members = [member for lease in leases if (member := self._begin(lease)) is not None]
        try:
            if members:
                self._train(members)
        except StorageUnavailable:
            raise
        except Exception as error:
            self._break_up(members, error)
        finally:
            self._leases = []

    def _begin(self, lease: Lease) -> LeasedTrial | None:
        try:
            return LeasedTrial.begin(self.context, lease, self.studies[lease.study])
        except LeaseLost:
            self._discard(lease)
        except StorageUnavailable:
            raise
        except Exception as error:
            release_or_fail(self.context, lease, error)
        self._leases = [each for each in self._leases if each is not lease]
        return None

    def _train(self, members: list[LeasedTrial]) -> None:
        """Train until every member has ended, was lost or was handed back; those are taken out of `members`."""
        for member in members:
            if (timer := _timer_of(member.run)) is not None:
                timer.wait_for_device = self.wait_for_device
        group = self._group([member.run for member in members], members[0].lease.study)
        self.timer.end("starting")
        while members:
            evaluated = group.advance(lambda: self.stop.is_set() or not self._lost.isdisjoint(self._leases))
            self.timer.begin()  # the runs measure their own time
            self._let_go(group, members, [each for each in members if each.lease in self._lost])
            if not evaluated and self.stop.is_set():
                for member in list(members):
                    member.save_and_release()
                    self._add_timer(member)
                    members.remove(member)
            else:
                self._report(group, members, evaluated)
            self.timer.end("storage")

    def _group(self, runs: Sequence[TrainingRun], study: str) -> RunGroup:
        stack_runs = self.studies[study].stack_runs
        # A group of one is worth it where it has its steps captured, on a GPU.
        single = len(runs) == 1 and self.context.device == "cpu"
        return SingleRunGroup(runs[0]) if single or stack_runs is None else stack_runs(runs)

    def _report(
        self, group: RunGroup, members: list[LeasedTrial], evaluated: Sequence[tuple[TrainingRun, Evaluation]]
    ) -> None:
        """Store evaluations, and end the trials that they end."""
        news = [(member, at) for run, at in evaluated for member in members if member.run is run]
        reports = [Report(member.lease, at.step, at.train_loss, at.val_loss) for member, at in news]
        if not reports:
            return
        lost = self.queue.report(reports)
        self._let_go(group, members, [member for member, _ in news if member.lease in lost])
        ended = []
        for member, evaluation in news:
            if member in members:
                try:
                    if member.judge(evaluation):
                        ended.append(member)
                except LeaseLost:
                    self._let_go(group, members, [member])
        self._remove(group, members, ended)

    def _let_go(self, group: RunGroup, members: list[LeasedTrial], lost: Sequence[LeasedTrial]) -> None:
        for member in lost:
            self._discard(member.lease)
        self._remove(group, members, lost)

    def _discard(self, lease: Lease) -> None:
        log.warning("trial %d of %s went on elsewhere; this worker discards its work", lease.number, lease.study)

    def _remove(self, group: RunGroup, members: list[LeasedTrial], leavers: Sequence[LeasedTrial]) -> None:
        for member in leavers:
            self._add_timer(member)
        if leavers:
            group.remove([member.run for member in leavers])
            members[:] = [member for member in members if member not in leavers]
            # A new list: the thread that renews leases may be reading the old one.
            self._leases = [member.lease for member in members]

    def _add_timer(self, member: LeasedTrial) -> None:
        if (timer := _timer_of(member.run)) is not None:
            self.timer.add(timer)

    def _break_up(self, members: Sequence[LeasedTrial], error: Exception) -> None:
        """Fail or release a single trial; split a group, whose error may be one trial's or a lack of memory for all."""
        if len(members) == 1:
            release_or_fail(self.context, members[0].lease, error)
            return
        first, most = members[0].lease, max(1, len(members) // 2)
        log.warning(
            "%d trials of %s together: %s: %s; they go on in groups of %d from their checkpoints",
            len(members), first.study, type(error).__name__, str(error).splitlines()[:1], most,
        )  # fmt: skip
        self._most[first.study, first.shape_key] = most
        for member in members:
            member.release()


def _timer_of(run: TrainingRun) -> PhaseTimer | None:
    return run.timer if isinstance(run, Timed) else None


def new_owner_name(label: str) -> str:
    """A worker's name: where it runs, what it is called there, and what no other worker ever has."""
    return f"{os.uname().nodename}/{label}/{os.getpid()}-{os.urandom(3).hex()}"

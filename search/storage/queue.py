"""The queue decides which worker may train which trial, so that every trial ends exactly once despite crashes.

A worker claims a trial under a lease, renews the lease with every report, and finishes the trial. A lease is valid as
long as the row has its owner and its token, which counts the claims, and belongs to the same planning of the study.
Each method is one transaction: its row count shows whether the lease is still valid, and it changes Optuna's tables
too. A trial with an expired lease is claimable again, so a crashed worker needs no cleanup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Update, and_, bindparam, case, func, or_, select, update

from search.storage import crashes, optuna_states, optuna_tables
from search.storage.claiming import IS_DUE, Claims, picking
from search.storage.crashes import has_progressed
from search.storage.database import Database
from search.storage.errors import EndedElsewhere, LeaseLost
from search.storage.failures import Failure, of_lease
from search.storage.leases import LEASE_FACTOR, Lease, Report, claimed_by, held, held_by, held_values
from search.storage.left_out import STUDY_STOPPED, resume
from search.storage.metrics import write_all_metrics
from search.storage.schema import queue_table, studies_table, uids_of
from search.storage.state_transitions import (
    ENDED_ELSEWHERE,
    OPTUNA_STATE,
    Outcome,
    end_as_elsewhere,
    end_trials,
    nan_to_none,
    outcome_of,
    retry_failed,
)


@dataclass(frozen=True)
class TrialQueue:
    """The trials of all studies of one database.

    Attributes:
        lease_s: How long a claim, a report or a renewal lasts, in seconds of the database's clock.
        max_attempts: How many attempts in a row may end without progress before the trial fails for good. Progress is
            a step that no attempt reached before.
        uids: Which planning of each study is meant, by name: a worker must not claim the trials of another definition.
            A study without an entry is looked up by its name at each call.
    """

    database: Database
    lease_s: float = 60.0
    max_attempts: int = 3
    uids: Mapping[str, str] = field(default_factory=dict)

    def claim(self, studies: Sequence[str], owner: str, limit: int = 1) -> list[Lease]:
        """Claim up to `limit` trials; expired leases first, then by priority.

        Call this only while `owner` holds no lease: a running trial under its name was claimed by a transaction whose
        answer was lost, and is claimed for it again.
        """
        claims, uids = Claims(owner, self.lease_s, self.max_attempts), self.uids_named(studies)
        if (quick := self.database.dialect.one_statement_queue) is not None:
            found = quick.claim(self.database, uids, owner, limit, self.lease_s, self.max_attempts)
            if found.expired:
                self.database.write(lambda c: crashes.note_hosts_gone(c, found.expired, self.database.time(c)))
            if found.leases and found.exhausted:
                self.database.write(lambda c: claims.expired(c, uids, found.exhausted, self.database.time(c)))
            if found.leases:
                return list(found.leases)

        def work(connection: Connection) -> list[Lease]:
            now = self.database.time(connection)
            ids = claims.expired(connection, uids, limit, now)
            if len(ids) < limit:
                ids += claims.due(connection, uids, limit - len(ids), now)
            return claims.lease(connection, ids, now)

        return self.database.write(work)

    def claim_alike(self, held: Sequence[Lease], owner: str, limit: int) -> list[Lease]:
        """Claim up to `limit` more trials of the same shape as those that `owner` holds, to train them together.

        Args:
            held: The leases of `owner`, at least one, all of one study and shape.
        """
        first, claims = held[0], Claims(owner, self.lease_s, self.max_attempts)
        others = queue_table.c.id.not_in([each.queue_id for each in held])
        # Another running trial of this owner was claimed by a transaction whose answer was lost.
        mine = and_(queue_table.c.state == "running", queue_table.c.owner == owner, others)
        # A trial that used an attempt trains alone: it may have been the reason.
        untried = and_(IS_DUE, queue_table.c.attempts == 0)
        alike = picking(and_(queue_table.c.shape_key == first.shape_key, or_(mine, untried)))

        def work(connection: Connection) -> list[Lease]:
            now = self.database.time(connection)
            found = claims.pick(connection, alike, [first.study_uid], limit, now)
            return claims.lease(connection, [trial.id for trial in found], now)

        return self.database.write(work)

    def report(self, reports: Sequence[Report]) -> list[Lease]:
        """Store evaluations and renew the leases of their trials, all in one transaction.

        Returns:
            The leases that were lost, because another worker has the trial, or because another program has deleted or
            ended it; nothing was written for them.
        """
        quick = self.database.dialect.one_statement_queue
        if quick is not None and len(reports) == 1 and quick.report(self.database, reports[0], self.lease_s):
            return []

        def work(connection: Connection) -> list[Lease]:
            lost, stored = list[Lease](), list[Report]()
            for report in reports:
                if connection.execute(*self._storing(report)).rowcount:
                    stored.append(report)
                    continue
                lost.append(report.lease)
                end_as_elsewhere(connection, held_by(report.lease), self.database.time(connection))
            values = [(each.lease.trial_id, each.step, each.value) for each in stored]
            optuna_tables.write_intermediate_values(connection, values)
            write_all_metrics(connection, [(each.lease.trial_id, each.step, each.metrics) for each in stored])
            return lost

        return self.database.write(work)

    def _storing(self, report: Report) -> tuple[Update, dict[str, Any]]:
        values = {
            **held_values(report.lease),
            "new_step": report.step,
            "new_train_loss": nan_to_none(report.train_loss),
            "new_val_loss": nan_to_none(report.value),
        }
        return self._report_statement, values

    @cached_property
    def _report_statement(self) -> Update:
        # This most frequent statement is built once: building it takes longer than running it.
        table = queue_table.c
        new = {name: bindparam(f"new_{name}", type_=table[name].type) for name in ("step", "train_loss", "val_loss")}
        higher = or_(table.highest_step.is_(None), table.highest_step < new["step"])
        highest = case((higher, new["step"]), else_=table.highest_step)
        until = self.database.now() + self.lease_s * LEASE_FACTOR
        which = (held, optuna_states.is_unfinished(table.trial_id))
        return update(queue_table).where(*which).values(lease_until=until, highest_step=highest, **new)

    @cached_property
    def renewal(self) -> Update:
        """Renews the lease of a trial that has not ended; takes `held_values`. Built once, as the one above."""
        until = self.database.now() + self.lease_s * LEASE_FACTOR
        which = (held, optuna_states.is_unfinished(queue_table.c.trial_id))
        return update(queue_table).where(*which).values(lease_until=until)

    def renew(self, leases: Sequence[Lease]) -> list[Lease]:
        """Renew leases between two reports.

        Returns:
            The leases that were lost.
        """

        def work(connection: Connection) -> list[Lease]:
            until = self.database.now() + self.lease_s * LEASE_FACTOR
            renewed = [
                connection.execute(update(queue_table).where(held_by(lease)).values(lease_until=until)).rowcount
                for lease in leases
            ]
            return [lease for lease, count in zip(leases, renewed, strict=True) if count == 0]

        return self.database.write(work)

    def release(
        self, lease: Lease, reason: str | None = None, delay_s: float = 0.0, failure: Failure | None = None
    ) -> bool:
        """Return a trial to the queue for any worker; a lost lease is not an error.

        Args:
            reason: The error, which counts as an attempt unless the attempt made progress; None for an orderly stop,
                which does not count.
            delay_s: Back-off before the trial can be claimed again, in seconds.
            failure: What to record; None keeps an earlier record.

        Returns:
            False if nothing was changed: the lease was lost, or `reason` was given and the trial has no attempts left.
        """
        attempts_left = or_(queue_table.c.attempts < self.max_attempts, has_progressed())

        def work(connection: Connection) -> bool:
            now = self.database.time(connection)
            recorded = {} if failure is None else {"failure": of_lease(failure, lease, connection, now).to_json()}
            back = connection.execute(
                update(queue_table)
                .where(held_by(lease), *(() if reason is None else (attempts_left,)))
                .values(
                    state="waiting",
                    owner=None,
                    lease_until=None,
                    not_before=self.database.now() + delay_s,
                    attempts=queue_table.c.attempts - (1 if reason is None else 0),
                    reason=reason,
                    **recorded,
                )
            )
            if back.rowcount:
                optuna_states.release_trials(connection, [lease.trial_id])
            return back.rowcount > 0

        return self.database.write(work)

    def finish(
        self,
        lease: Lease,
        outcome: Outcome,
        value: float | None,
        attrs: Mapping[str, Any] | None = None,
        reason: str | None = None,
        system_attrs: Mapping[str, Any] | None = None,
        failure: Failure | None = None,
        further_values: Sequence[float] = (),
    ) -> None:
        """End a trial, in the queue and in Optuna's tables. One that is complete with an infinite value has diverged.

        Args:
            value: The value of the study's metric; NaN and None are stored as no value.
            attrs: User attributes of the trial.
            reason: Why the trial ended, unless the outcome is complete.
            system_attrs: System attributes of the trial: its artifacts.
            failure: What to record; None keeps an earlier record.
            further_values: The values of the other metrics of a study with several objectives.

        Raises:
            LeaseLost: The lease is no longer valid; nothing was written.
            EndedElsewhere: Another program, such as the dashboard, has ended the trial; its end is kept.
        """
        state, values = OPTUNA_STATE[outcome], () if value is None else (value, *further_values)
        outcome, reason = outcome_of(outcome, values, reason)
        attrs = {**(attrs or {}), "outcome": outcome, **({"reason": reason} if reason else {})}
        quick = self.database.dialect.one_statement_queue if failure is None and not further_values else None
        if quick and quick.finish(self.database, lease, outcome, state, value, attrs, reason, system_attrs or {}):
            return

        def work(connection: Connection) -> bool:
            now = self.database.time(connection)
            found = None if failure is None else of_lease(failure, lease, connection, now)
            if not end_trials(connection, lease, outcome, value, reason, now, found):
                done = and_(claimed_by(lease), queue_table.c.state == "done")
                ended = connection.execute(select(queue_table.c.reason).where(done)).first()
                if ended is None:
                    raise LeaseLost(f"trial {lease.number} of {lease.study}")
                return bool(ended.reason != ENDED_ELSEWHERE)  # took effect already; only its answer was lost
            described = attrs if found is None else {**attrs, "failure": found.as_dict()}
            if not optuna_states.finish_trial(connection, lease.trial_id, state, values, described, now, system_attrs):
                end_as_elsewhere(connection, claimed_by(lease), now)
                return False
            return True

        if not self.database.write(work, durable=True):  # the worker removes the checkpoint next
            raise EndedElsewhere(f"trial {lease.number} of {lease.study}")

    def abandon(self, owner: str, failure: Failure | None = None) -> int:
        """Expire the leases of a crashed worker at once, and record how it ended; returns their number."""
        return self.database.write(lambda c: crashes.abandon(c, owner, failure, self.database.time(c)))

    def note_alive(self, lease: Lease) -> str:
        """Say that the worker of a lost lease is alive: losing it was no attempt, and the next leases last longer.

        Returns:
            Why the lease was lost: `search.storage.crashes.TAKEN_OVER`, or a text that says how the trial ended.
        """
        return self.database.write(lambda c: crashes.note_alive(c, lease, self.database.time(c)))

    def unfinished(self, studies: Sequence[str]) -> int:
        """The number of trials that have not ended."""
        uids = self.uids_named(studies)
        query = select(func.count()).where(
            queue_table.c.study_uid.in_(uids), queue_table.c.state.in_(("waiting", "running"))
        )
        return self.database.read(lambda connection: connection.execute(query).scalar_one())

    def deleted(self, studies: Sequence[str]) -> list[str]:
        """Those of `studies` whose planning is gone: they were deleted, and perhaps planned again."""
        there = select(studies_table.c.uid).where(studies_table.c.uid.in_(self.uids_named(studies)))
        uids = set(self.database.read(lambda connection: connection.execute(there).scalars().all()))
        return [study for study in studies if self.uids.get(study) not in uids]

    def retry_failed(self, studies: Iterable[str]) -> int:
        """Return failed and diverged trials to the queue, with no attempts used; returns their number."""
        uids = self.uids_named(list(studies))
        return self.database.write(lambda connection: retry_failed(connection, uids))

    def resume_stopped(self, studies: Iterable[str]) -> int:
        """Return the trials that an objective left out with `trial.study.stop()` to the queue; returns their number."""
        uids = self.uids_named(list(studies))
        return self.database.write(lambda connection: resume(connection, uids, STUDY_STOPPED))

    def uids_named(self, studies: Sequence[str]) -> list[str]:
        named = [study for study in studies if study not in self.uids]
        found = self.database.read(lambda connection: uids_of(connection, named)) if named else []
        return [self.uids[study] for study in studies if study in self.uids] + found

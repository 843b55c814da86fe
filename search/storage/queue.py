"""The queue decides which worker may train which trial, so that every trial ends exactly once despite crashes.

A worker claims a trial under a lease, revalues the lease with every report, and finishes the trial. The trial's token
counts the claims; a worker with an old token has lost the trial. Each method is one transaction: its row count shows
whether the lease is still valid, and it changes Optuna's tables too. A trial with an expired lease is claimable again,
so a crashed worker needs no cleanup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Update, and_, bindparam, func, or_, select, update

from search.storage import optuna_tables
from search.storage.claiming import Claims, database_time, is_due
from search.storage.database import Database
from search.storage.errors import LeaseLost
from search.storage.leases import Lease, Report, held_by
from search.storage.schema import queue_table
from search.storage.state_transitions import (
    ENDED_ELSEWHERE,
    FRESH,
    OPTUNA_STATE,
    Outcome,
    end_trials,
    ended_elsewhere,
    nan_to_none,
)


@dataclass(frozen=True)
class TrialQueue:
    """The trials of all studies of one database.

    Attributes:
        lease_s: How long a claim, a report or a renewal lasts, in seconds of the database's clock.
        max_attempts: How many workers may crash while training a trial before the trial fails for good.
    """

    database: Database
    lease_s: float = 60.0
    max_attempts: int = 3

    def claim(self, studies: Sequence[str], owner: str, limit: int = 1) -> list[Lease]:
        """Claim up to `limit` trials; expired leases first, then by priority.

        Call this only while `owner` holds no lease: a running trial under its name was claimed by a transaction whose
        answer was lost, and is claimed for it again.
        """
        claims = Claims(self.database, owner, self.lease_s, self.max_attempts)
        if (quick := self.database.dialect.one_statement_queue) is not None:
            rows = quick.claim(self.database, studies, owner, limit, self.lease_s, self.max_attempts)
            if rows:
                if (exhausted := rows[0].exhausted) > 0:
                    self.database.write(lambda c: claims.expired(c, studies, exhausted, claims.now(c)))
                return [Lease(*tuple(row)[:-1]) for row in rows]

        def work(connection: Connection) -> list[Lease]:
            now = claims.now(connection)
            ids = claims.expired(connection, studies, limit, now)
            if len(ids) < limit:
                ids += [trial.id for trial in claims.pick(connection, studies, is_due(now), limit - len(ids))]
            return claims.lease(connection, ids, now)

        return self.database.write(work)

    def claim_alike(self, held: Sequence[Lease], owner: str, limit: int) -> list[Lease]:
        """Claim up to `limit` more trials of the same shape as those that `owner` holds, to train them together.

        Args:
            held: The leases of `owner`, at least one, all of one study and shape.
        """
        first, claims = held[0], Claims(self.database, owner, self.lease_s, self.max_attempts)
        others = queue_table.c.id.not_in([each.queue_id for each in held])

        def work(connection: Connection) -> list[Lease]:
            now = claims.now(connection)
            # Another running trial of this owner was claimed by a transaction whose answer was lost.
            mine = and_(queue_table.c.state == "running", queue_table.c.owner == owner, others)
            alike = and_(queue_table.c.shape_key == first.shape_key, or_(mine, is_due(now)))
            ids = [trial.id for trial in claims.pick(connection, [first.study], alike, limit)]
            return claims.lease(connection, ids, now)

        return self.database.write(work)

    def report(self, reports: Sequence[Report]) -> list[Lease]:
        """Store evaluations and renew the leases of their trials, all in one transaction.

        Returns:
            The leases that were lost; nothing was written for them.
        """
        quick = self.database.dialect.one_statement_queue
        if quick is not None and len(reports) == 1:
            [one] = reports
            lease, losses = one.lease, (one.train_loss, one.val_loss)
            held = quick.report(self.database, lease.queue_id, lease.token, self.lease_s, one.step, *losses)
            return [] if held else [lease]

        def work(connection: Connection) -> list[Lease]:
            lost = []
            for report in reports:
                values = {
                    "held_id": report.lease.queue_id,
                    "held_token": report.lease.token,
                    "new_step": report.step,
                    "new_train_loss": nan_to_none(report.train_loss),
                    "new_val_loss": nan_to_none(report.val_loss),
                }
                if connection.execute(self._report_statement, values).rowcount == 0:
                    lost.append(report.lease)
                    continue
                optuna_tables.write_intermediate_value(connection, report.lease.trial_id, report.step, report.val_loss)
            return lost

        return self.database.write(work)

    @cached_property
    def _report_statement(self) -> Update:
        # This most frequent statement is built once: building it takes longer than running it.
        held = and_(
            queue_table.c.id == bindparam("held_id"),
            queue_table.c.token == bindparam("held_token"),
            queue_table.c.state == "running",
        )
        new = {
            name: bindparam(f"new_{name}", type_=queue_table.c[name].type)
            for name in ("step", "train_loss", "val_loss")
        }
        return update(queue_table).where(held).values(lease_until=self.database.now() + self.lease_s, **new)

    def renew(self, leases: Sequence[Lease]) -> list[Lease]:
        """Renew leases between two reports.

        Returns:
            The leases that were lost.
        """

        def work(connection: Connection) -> list[Lease]:
            until = self.database.now() + self.lease_s
            renewed = [
                connection.execute(update(queue_table).where(held_by(lease)).values(lease_until=until)).rowcount
                for lease in leases
            ]
            return [lease for lease, count in zip(leases, renewed, strict=True) if count == 0]

        return self.database.write(work)

    def release(self, lease: Lease, reason: str | None = None, delay_s: float = 0.0) -> None:
        """Return a trial to the queue for any worker; a lost lease is not an error.

        Args:
            reason: The error, which counts as an attempt; None for an orderly stop, which does not.
            delay_s: Back-off before the trial can be claimed again, in seconds.
        """

        def work(connection: Connection) -> None:
            back = connection.execute(
                update(queue_table)
                .where(held_by(lease))
                .values(
                    state="waiting",
                    owner=None,
                    lease_until=None,
                    not_before=self.database.now() + delay_s,
                    attempts=queue_table.c.attempts - (1 if reason is None else 0),
                    reason=reason,
                )
            )
            if back.rowcount:
                optuna_tables.release_trials(connection, [lease.trial_id])

        self.database.write(work)

    def finish(
        self,
        lease: Lease,
        outcome: Outcome,
        value: float | None,
        attrs: Mapping[str, Any] | None = None,
        reason: str | None = None,
        system_attrs: Mapping[str, Any] | None = None,
    ) -> None:
        """End a trial, in the queue and in Optuna's tables.

        Args:
            value: The last validation loss; NaN and None are stored as no value.
            attrs: User attributes of the trial.
            reason: Why the trial ended, unless the outcome is complete.
            system_attrs: System attributes of the trial: its artifacts.

        Raises:
            LeaseLost: The lease is no longer valid; nothing was written.
        """
        attrs = {**(attrs or {}), "outcome": outcome, **({"reason": reason} if reason else {})}
        state = OPTUNA_STATE[outcome]
        quick = self.database.dialect.one_statement_queue
        if quick is not None and quick.finish(
            self.database, lease.queue_id, lease.token, outcome, state, value, attrs, reason, system_attrs or {}
        ):
            return

        def work(connection: Connection) -> None:
            now = database_time(self.database, connection)
            if not end_trials(connection, held_by(lease), outcome, value, reason, now):
                if self._is_done_by(connection, lease):
                    return  # this transaction already took effect; only its answer was lost
                raise LeaseLost(f"trial {lease.number} of {lease.study}")
            if not optuna_tables.finish_trial(connection, lease.trial_id, state, value, attrs, now, system_attrs):
                outcome_there, value_there = ended_elsewhere(connection, lease.trial_id)
                which = queue_table.c.id == lease.queue_id
                end_trials(connection, which, outcome_there, value_there, ENDED_ELSEWHERE, now)

        self.database.write(work)

    def _is_done_by(self, connection: Connection, lease: Lease) -> bool:
        mine = and_(
            queue_table.c.id == lease.queue_id, queue_table.c.token == lease.token, queue_table.c.state == "done"
        )
        return connection.execute(select(queue_table.c.id).where(mine)).first() is not None

    def abandon(self, owner: str) -> int:
        """Expire the leases of a crashed worker at once.

        Returns:
            The number of leases.
        """
        orphaned = (
            update(queue_table)
            .where(queue_table.c.owner == owner, queue_table.c.state == "running")
            .values(lease_until=0.0)
        )
        return self.database.write(lambda connection: connection.execute(orphaned).rowcount)

    def unfinished(self, studies: Sequence[str]) -> int:
        """The number of trials that have not ended."""
        query = select(func.count()).where(
            queue_table.c.study.in_(studies), queue_table.c.state.in_(("waiting", "running"))
        )
        return self.database.read(lambda connection: connection.execute(query).scalar_one())

    def retry_failed(self, studies: Iterable[str]) -> int:
        """Return failed and diverged trials to the queue, with no attempts used.

        Returns:
            The number of trials.
        """

        def work(connection: Connection) -> int:
            failed = and_(queue_table.c.study.in_(list(studies)), queue_table.c.outcome.in_(("failed", "diverged")))
            again = connection.execute(
                update(queue_table).where(failed).values(FRESH).returning(queue_table.c.trial_id)
            ).all()
            for row in again:
                optuna_tables.reopen_trial(connection, row.trial_id)
            return len(again)

        return self.database.write(work)

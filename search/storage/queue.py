"""The run queue: who may train which trial, so that every trial ends exactly once whatever dies.

A worker claims a row under a lease, renews the lease with every report, and finishes the row. The row's token counts
the claims; whoever shows an old token has lost the trial. Each method is one transaction whose row count decides,
and changes Optuna's tables in that same transaction. An expired lease makes a row claimable again: nothing has to
clean up after a dead worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import ColumnElement, Connection, Row, Select, Update, and_, bindparam, case, func, or_, select, update

from search.storage import optuna_tables, postgres_queue
from search.storage.database import Database
from search.storage.errors import LeaseLost
from search.storage.leases import Lease, Report, held_by
from search.storage.schema import runs
from search.storage.state_transitions import (
    ENDED_ELSEWHERE,
    FRESH,
    OPTUNA_STATE,
    Outcome,
    end_rows,
    ended_elsewhere,
    nan_to_none,
)


@dataclass(frozen=True)
class TrialQueue:
    """The rows of all studies of one database.

    Attributes:
        lease_s: How long a claim, a report or a renewal lasts, in seconds of the database's clock.
        max_attempts: How many workers may die of a trial before it is failed for good.
    """

    database: Database
    lease_s: float = 60.0
    max_attempts: int = 3

    def claim(self, studies: Sequence[str], owner: str, limit: int = 1) -> list[Lease]:
        """Take up to `limit` rows whose turn it is; expired leases first, then by priority.

        To be called while `owner` holds nothing: a row that it seems to hold was claimed by a transaction whose
        answer got lost, and is given to it again.
        """
        if self.database.is_postgres:
            rows = postgres_queue.claim(self.database, studies, owner, limit, self.lease_s, self.max_attempts)
            if rows:
                if (exhausted := rows[0].exhausted) > 0:
                    self.database.write(lambda c: self._expired(c, studies, owner, exhausted, self._now(c)))
                return [Lease(*tuple(row)[:-1]) for row in rows]

        def work(connection: Connection) -> list[Lease]:
            now = self._now(connection)
            ids = self._expired(connection, studies, owner, limit, now)
            if len(ids) < limit:
                due = and_(runs.c.state == "waiting", runs.c.not_before <= now)
                ids += [row.id for row in self._pick(connection, studies, due, limit - len(ids))]
            return self._lease(connection, ids, owner, now)

        return self.database.write(work)

    def claim_alike(self, held: Sequence[Lease], owner: str, limit: int) -> list[Lease]:
        """Take up to `limit` more rows of the shape of those that `owner` holds, to be trained together with them.

        Args:
            held: What `owner` holds, one row at least, all of one study and shape.
        """
        first = held[0]

        def work(connection: Connection) -> list[Lease]:
            now = self._now(connection)
            # A row that it seems to hold was claimed by a transaction whose answer got lost.
            mine = and_(
                runs.c.state == "running", runs.c.owner == owner, runs.c.id.not_in([each.queue_id for each in held])
            )
            due = and_(runs.c.state == "waiting", runs.c.not_before <= now)
            alike = and_(runs.c.shape_key == first.shape_key, or_(mine, due))
            ids = [row.id for row in self._pick(connection, [first.study], alike, limit)]
            return self._lease(connection, ids, owner, now)

        return self.database.write(work)

    def _now(self, connection: Connection) -> float:
        return float(connection.execute(select(self.database.now())).scalar_one())

    def _expired(self, connection: Connection, studies: Sequence[str], owner: str, limit: int, now: float) -> list[int]:
        """Rows whose lease has run out, or that `owner` seems to hold; those without an attempt left are failed."""
        expired = or_(runs.c.lease_until < now, runs.c.owner == owner)
        rows = self._pick(connection, studies, and_(runs.c.state == "running", expired), limit)
        exhausted = [row for row in rows if row.attempts >= self.max_attempts and row.owner != owner]
        for row in exhausted:
            self._fail_exhausted(connection, row, now)
        return [row.id for row in rows if row not in exhausted]

    def _pick(
        self, connection: Connection, studies: Sequence[str], condition: ColumnElement[bool], limit: int
    ) -> Sequence[Row[Any]]:
        query: Select[Any] = (
            select(runs.c.id, runs.c.trial_id, runs.c.attempts, runs.c.owner)
            .where(runs.c.study.in_(studies), condition)
            .order_by(runs.c.priority, runs.c.id)
            .limit(limit)
            # Rows that another worker is claiming right now are passed over, not waited for.
            .with_for_update(skip_locked=True)
        )
        return connection.execute(query).all()

    def _lease(self, connection: Connection, ids: list[int], owner: str, now: float) -> list[Lease]:
        if not ids:
            return []
        claimed = connection.execute(
            update(runs)
            .where(runs.c.id.in_(ids))
            .values(
                state="running",
                owner=owner,
                token=runs.c.token + 1,
                # One's own row again is no further attempt: nobody died of it.
                attempts=runs.c.attempts + case((and_(runs.c.state == "running", runs.c.owner == owner), 0), else_=1),
                lease_until=now + self.lease_s,
                started_at=now,
            )
            .returning(
                runs.c.id,
                runs.c.study,
                runs.c.cell,
                runs.c.trial_id,
                runs.c.number,
                runs.c.owner,
                runs.c.token,
                runs.c.attempts,
                runs.c.shape_key,
            )
        )
        leases = sorted((Lease(*row) for row in claimed), key=lambda lease: ids.index(lease.queue_id))
        optuna_tables.start_trials(connection, [lease.trial_id for lease in leases], now)
        return leases

    def _fail_exhausted(self, connection: Connection, row: Row[Any], now: float) -> None:
        reason = f"{row.attempts} workers died of it, the last was {row.owner}"
        end_rows(connection, runs.c.id == row.id, "failed", None, reason, now)
        # Its last worker may be alive after all, and must not take this end for its own.
        connection.execute(update(runs).where(runs.c.id == row.id).values(token=runs.c.token + 1))
        optuna_tables.finish_trial(connection, row.trial_id, TrialState.FAIL, None, {"reason": reason}, now)

    def report(self, reports: Sequence[Report]) -> list[Lease]:
        """Store evaluations and renew the leases of their trials, all in one transaction.

        Returns:
            The leases that were lost; nothing was written for them.
        """
        if self.database.is_postgres and len(reports) == 1:
            [one] = reports
            lease, losses = one.lease, (one.train_loss, one.val_loss)
            held = postgres_queue.report(self.database, lease.queue_id, lease.token, self.lease_s, one.step, *losses)
            return [] if held else [lease]

        def work(connection: Connection) -> list[Lease]:
            lost = []
            for report in reports:
                news = {
                    "held_id": report.lease.queue_id,
                    "held_token": report.lease.token,
                    "new_step": report.step,
                    "new_train_loss": nan_to_none(report.train_loss),
                    "new_val_loss": nan_to_none(report.val_loss),
                }
                if connection.execute(self._report_statement, news).rowcount == 0:
                    lost.append(report.lease)
                    continue
                optuna_tables.write_intermediate_value(connection, report.lease.trial_id, report.step, report.val_loss)
            return lost

        return self.database.write(work)

    @cached_property
    def _report_statement(self) -> Update:
        # The one statement that runs all the time is built once: building it takes longer than running it.
        held = and_(
            runs.c.id == bindparam("held_id"), runs.c.token == bindparam("held_token"), runs.c.state == "running"
        )
        new = {name: bindparam(f"new_{name}", type_=runs.c[name].type) for name in ("step", "train_loss", "val_loss")}
        return update(runs).where(held).values(lease_until=self.database.now() + self.lease_s, **new)

    def renew(self, leases: Sequence[Lease]) -> list[Lease]:
        """Renew leases between two reports.

        Returns:
            The leases that were lost.
        """

        def work(connection: Connection) -> list[Lease]:
            until = self.database.now() + self.lease_s
            renewed = [
                connection.execute(update(runs).where(held_by(lease)).values(lease_until=until)).rowcount
                for lease in leases
            ]
            return [lease for lease, count in zip(leases, renewed, strict=True) if count == 0]

        return self.database.write(work)

    def release(self, lease: Lease, reason: str | None = None, delay_s: float = 0.0) -> None:
        """Put a trial back, to be claimed by anyone; a lost lease is no error.

        Args:
            reason: What went wrong, which counts as an attempt; None for an orderly stop, which does not.
            delay_s: Back-off before the trial may be claimed again, in seconds.
        """

        def work(connection: Connection) -> None:
            back = connection.execute(
                update(runs)
                .where(held_by(lease))
                .values(
                    state="waiting",
                    owner=None,
                    lease_until=None,
                    not_before=self.database.now() + delay_s,
                    attempts=runs.c.attempts - (1 if reason is None else 0),
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
        """End a trial for good: the row and Optuna's trial together.

        Args:
            value: The last validation loss; NaN and None are stored as no value.
            attrs: User attributes of the trial.
            reason: Why, unless the outcome is complete.
            system_attrs: System attributes of the trial: its artifacts.

        Raises:
            LeaseLost: The trial went on elsewhere; nothing was written.
        """
        attrs = {**(attrs or {}), "outcome": outcome, **({"reason": reason} if reason else {})}
        state = OPTUNA_STATE[outcome]
        if self.database.is_postgres and postgres_queue.finish(
            self.database, lease.queue_id, lease.token, outcome, state, value, attrs, reason, system_attrs or {}
        ):
            return

        def work(connection: Connection) -> None:
            now = self._now(connection)
            if not end_rows(connection, held_by(lease), outcome, value, reason, now):
                if self._is_done_by(connection, lease):
                    return  # this very transaction took effect before; only its answer was lost
                raise LeaseLost(f"trial {lease.number} of {lease.study}")
            if not optuna_tables.finish_trial(connection, lease.trial_id, state, value, attrs, now, system_attrs):
                ended, its_value = ended_elsewhere(connection, lease.trial_id)
                end_rows(connection, runs.c.id == lease.queue_id, ended, its_value, ENDED_ELSEWHERE, now)

        self.database.write(work)

    def _is_done_by(self, connection: Connection, lease: Lease) -> bool:
        mine = and_(runs.c.id == lease.queue_id, runs.c.token == lease.token, runs.c.state == "done")
        return connection.execute(select(runs.c.id).where(mine)).first() is not None

    def abandon(self, owner: str) -> int:
        """Let the leases of a worker that is known to be dead expire at once.

        Returns:
            How many there were.
        """
        orphaned = update(runs).where(runs.c.owner == owner, runs.c.state == "running").values(lease_until=0.0)
        return self.database.write(lambda connection: connection.execute(orphaned).rowcount)

    def unfinished(self, studies: Sequence[str]) -> int:
        """How many trials have not ended yet, wherever they are."""
        query = select(func.count()).where(runs.c.study.in_(studies), runs.c.state.in_(("waiting", "running")))
        return self.database.read(lambda connection: connection.execute(query).scalar_one())

    def retry_failed(self, studies: Iterable[str]) -> int:
        """Put failed and diverged trials back into the queue, with all their attempts.

        Returns:
            How many there were.
        """

        def work(connection: Connection) -> int:
            failed = and_(runs.c.study.in_(list(studies)), runs.c.outcome.in_(("failed", "diverged")))
            again = connection.execute(update(runs).where(failed).values(FRESH).returning(runs.c.trial_id)).all()
            for row in again:
                optuna_tables.reopen_trial(connection, row.trial_id)
            return len(again)

        return self.database.write(work)

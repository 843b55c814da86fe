"""The steps of a claim inside the queue's transaction: choose trials and assign them to the worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Integer,
    Row,
    Select,
    and_,
    bindparam,
    case,
    or_,
    select,
    update,
)

from search.storage import crashes, optuna_states
from search.storage.crashes import has_progressed
from search.storage.leases import LEASE_FACTOR, ExpiredLease, Lease
from search.storage.schema import queue_table

LEASE_COLUMNS = tuple(
    queue_table.c[name]
    for name in ("id", "study", "study_uid", "cell", "trial_id", "number", "owner", "token", "attempts", "shape_key")
)

EXPIRED_COLUMNS = ("id", "study_uid", "owner", "attempts", "step", "failure")


# The frequent statements are built once: building one takes longer than running it, while the write lock is held.
_table = queue_table.c
_mine = _table.owner == bindparam("me", type_=_table.owner.type)
_now = bindparam("now", type_=_table.not_before.type)
# Waiting trials whose back-off has ended.
IS_DUE = and_(_table.state == "waiting", _table.not_before <= _now)


def picking(condition: ColumnElement[bool]) -> Select[Any]:
    """Select what `Claims.expired` needs of the first trials that meet a condition, for `Claims.pick`."""
    return (
        select(queue_table, has_progressed().label("progressed"))
        .where(_table.study_uid.in_(bindparam("uids", expanding=True)), condition)
        .order_by(_table.priority, _table.id)
        .limit(bindparam("most", type_=Integer))
        # Skip trials that another worker is claiming now, instead of waiting for it.
        .with_for_update(skip_locked=True)
    )


_DUE = picking(IS_DUE)
_EXPIRED = picking(and_(_table.state == "running", or_(_table.lease_until < _now, _mine)))
# A trial that this worker already holds costs no attempt: no worker crashed.
_already_held = and_(_table.state == "running", _mine)
_LEASE = (
    update(queue_table)
    .where(_table.id.in_(bindparam("ids", expanding=True)))
    .values(
        state="running",
        owner=bindparam("me", type_=_table.owner.type),
        token=_table.token + 1,
        attempts=case((_already_held, _table.attempts), (has_progressed(), 1), else_=_table.attempts + 1),
        lost_leases=case((and_(~_already_held, has_progressed()), 0), else_=_table.lost_leases),
        step_at_claim=case((_already_held, _table.step_at_claim), else_=_table.highest_step),
        lease_until=_now + bindparam("lease_s", type_=Float) * LEASE_FACTOR,
        started_at=_now,
    )
    .returning(*LEASE_COLUMNS)
)


@dataclass(frozen=True)
class Claims:
    """The claims of one worker.

    Attributes:
        owner: The worker's name.
        lease_s: How long a claim lasts, in seconds of the database's clock.
        max_attempts: How many attempts in a row may end without progress before the trial fails for good.
    """

    owner: str
    lease_s: float
    max_attempts: int

    def expired(self, connection: Connection, uids: Sequence[str], limit: int, now: float) -> list[int]:
        """Ids of running trials of this worker or with an expired lease; exhausted trials fail instead."""
        trials = self.pick(connection, _EXPIRED, uids, limit, now)
        others = [each for each in trials if each.owner != self.owner]
        gone = [ExpiredLease(*(getattr(each, name) for name in EXPIRED_COLUMNS)) for each in others]
        crashes.note_hosts_gone(connection, gone, now)
        exhausted = [each for each in trials if self._is_exhausted(each)]
        for each in exhausted:
            crashes.fail_exhausted(connection, each, now)
        return [each.id for each in trials if each not in exhausted]

    def _is_exhausted(self, trial: Row[Any]) -> bool:
        return bool(trial.attempts >= self.max_attempts and not trial.progressed and trial.owner != self.owner)

    def due(self, connection: Connection, uids: Sequence[str], limit: int, now: float) -> list[int]:
        """Ids of waiting trials."""
        return [each.id for each in self.pick(connection, _DUE, uids, limit, now)]

    def pick(
        self, connection: Connection, query: Select[Any], uids: Sequence[str], limit: int, now: float, **values: Any
    ) -> Sequence[Row[Any]]:
        """Lock the first trials that a query of `picking` finds.

        Args:
            values: The further parameters of its condition.
        """
        shared = {"uids": list(uids), "most": limit, "now": now, "me": self.owner}
        return connection.execute(query, {**shared, **values}).all()

    def lease(self, connection: Connection, ids: list[int], now: float) -> list[Lease]:
        """Assign trials to the worker; the leases have the order of `ids`."""
        if not ids:
            return []
        values = {"ids": ids, "me": self.owner, "now": now, "lease_s": self.lease_s}
        leases = [Lease(*row) for row in connection.execute(_LEASE, values)]
        leases.sort(key=lambda lease: ids.index(lease.queue_id))
        optuna_states.start_trials(connection, [lease.trial_id for lease in leases], now)
        return leases

"""Claims of several trials of any shapes, for a worker that trains them at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, and_, bindparam, func, or_, select

from search.storage.claiming import IS_DUE, Claims, picking
from search.storage.leases import Lease
from search.storage.queue import TrialQueue
from search.storage.schema import queue_table

# What a choice is made from: a row of the queue with its study, cell and shape.
WaitingRow: TypeAlias = Row[Any]
# Of a claim: so many waiting trials are read, and locked for a moment.
MOST_READ = 2000

_table = queue_table.c
# A trial that used an attempt trains alone: it may have been the reason. One without a shape cannot be stacked.
_CAN_JOIN = and_(IS_DUE, _table.attempts == 0, _table.shape_key != "")
_WAITING = (
    select(_table.study, _table.cell)
    .where(_table.study_uid.in_(bindparam("uids", expanding=True)), _CAN_JOIN)
    .order_by(_table.priority, _table.id)
    .limit(MOST_READ)
)


def waiting_cells(queue: TrialQueue, studies: Sequence[str]) -> list[tuple[str, str]]:
    """The study and the cell of the first waiting trials that can join a group, in the order of priority."""

    def work(connection: Connection) -> list[tuple[str, str]]:
        values = {"uids": queue.uids_named(studies), "now": queue.database.time(connection)}
        return [(row.study, row.cell) for row in connection.execute(_WAITING, values)]

    return queue.database.read(work)


def live_workers(queue: TrialQueue, studies: Sequence[str]) -> int:
    """How many workers hold trials of studies."""
    among = _table.study_uid.in_(queue.uids_named(studies))
    query = select(func.count(_table.owner.distinct())).where(
        among, _table.state == "running", _table.lease_until >= queue.database.now()
    )
    return queue.database.read(lambda connection: connection.execute(query).scalar_one())


def claim_chosen(
    queue: TrialQueue,
    studies: Sequence[str],
    held: Sequence[Lease],
    choose: Callable[[Sequence[WaitingRow]], list[int]],
) -> list[Lease]:
    """Claim those of the first waiting trials that a function chooses, all in one transaction.

    Args:
        queue: The queue.
        studies: Whose trials can be claimed.
        held: What the worker holds, at least one.
        choose: Gets rows of the queue's table in the order of priority, and returns the ids of some of them.
    """
    claims = Claims(held[0].owner, queue.lease_s, queue.max_attempts)
    others = _table.id.not_in([each.queue_id for each in held])
    # Another running trial of this owner was claimed by a transaction whose answer was lost.
    mine = and_(_table.state == "running", _table.owner == claims.owner, others)
    joining, uids = picking(or_(mine, _CAN_JOIN)), queue.uids_named(studies)

    def work(connection: Connection) -> list[Lease]:
        now = queue.database.time(connection)
        rows = claims.pick(connection, joining, uids, MOST_READ, now)
        return claims.lease(connection, choose(rows), now)

    return queue.database.write(work)

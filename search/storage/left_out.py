"""Trials that are left out: those that no worker has begun of a study that its objective stopped, or that has a budget.

Their Optuna trials stay as they are, waiting: no sampler sees them.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, and_, or_, select, update

from search.storage.schema import NOT_RUN, queue_table

# Why a trial is left out.
STUDY_STOPPED = "its objective stopped the study with study.stop()"
BUDGET_SPENT = "the budget of the study was spent"

# How trials that wait for a larger budget are counted; their state is `NOT_RUN`.
OVER_BUDGET = "over budget"


def leave_out(connection: Connection, uids: Sequence[str], reason: str) -> int:
    """Leave out the trials of studies that no worker has begun; returns their number.

    One that was interrupted, or waits for another attempt, has begun: it is resumed.
    """
    table = queue_table.c
    never_claimed = and_(table.state == "waiting", table.started_at.is_(None))
    # A stop holds for later runs too, a budget does not.
    over_budget = and_(table.state == NOT_RUN, table.reason == BUDGET_SPENT)
    either = never_claimed if reason == BUDGET_SPENT else or_(never_claimed, over_budget)
    among = and_(table.study_uid.in_(uids), either)
    # A trial that a worker is claiming stays with it. The rows are locked in one order, which prevents deadlocks.
    locked = connection.execute(select(table.id).where(among).order_by(table.id).with_for_update()).scalars().all()
    if not locked:
        return 0
    return connection.execute(update(queue_table).where(among).values(state=NOT_RUN, reason=reason)).rowcount


def resume(connection: Connection, uids: Sequence[str], reason: str) -> int:
    """Return the trials that `leave_out` has left out for a reason to the queue; returns their number."""
    table = queue_table.c
    left_out = and_(table.study_uid.in_(uids), table.state == NOT_RUN, table.reason == reason)
    return connection.execute(update(queue_table).where(left_out).values(state="waiting", reason=None)).rowcount

"""What workers count, and which trials a spent budget leaves out, on every database."""

from __future__ import annotations

import pytest
from sample_study import CELLS, STUDY, row, rows, sample_plan
from sqlalchemy import Connection, func, insert, select

from search.storage import optuna_tables
from search.storage.database import Database
from search.storage.left_out import BUDGET_SPENT, OVER_BUDGET, STUDY_STOPPED, leave_out
from search.storage.planning import plan
from search.storage.queries import counts, study_uids
from search.storage.queue import TrialQueue
from search.storage.schema import NOT_RUN, spending_table
from search.storage.spending import (
    BUDGET,
    Budget,
    Spent,
    budget_of,
    count_spending,
    settle_budget,
    spent_by,
    spent_of_worker,
    spent_on,
)

OTHER = f"{STUDY}-baselines"


def uid_of(database: Database, study: str = STUDY) -> str:
    return study_uids(database, [study])[study]


def add_worker(
    database: Database, owner: str, seconds: float, *, ago_s: float = 0, busy_s: float | None = None, flops: float = 0
) -> None:
    """A worker that counted some seconds ago, and is taken to go on for `busy_s` from now."""
    uid = uid_of(database)

    def work(connection: Connection) -> None:
        now = database.time(connection)
        values = {"study_uid": uid, "owner": owner, "seconds": seconds, "flops": flops, "counted_at": now - ago_s}
        busy_until = None if busy_s is None else now + busy_s
        connection.execute(insert(spending_table).values(**values, busy_until=busy_until))

    database.write(work)


def set_budget(database: Database, budget: Budget | None, study: str = STUDY) -> None:
    def work(connection: Connection) -> None:
        study_id = optuna_tables.study_id(connection, study)
        assert study_id is not None
        stored = None if budget is None else budget.as_dict()
        optuna_tables.write_study_attrs(connection, study_id, {BUDGET: stored})

    database.write(work)


def test_busy_workers_are_taken_to_go_on_until_their_leases_end(database: Database, queue: TrialQueue) -> None:
    uid = uid_of(database)
    assert spent_by(database, [uid]) == spent_on(database, [STUDY, "none"]) == Spent()
    add_worker(database, "idle", 100, ago_s=1e4, busy_s=None, flops=1e6)
    assert spent_by(database, [uid]) == Spent(100, 1e6)
    add_worker(database, "busy", 10, ago_s=1000, busy_s=1e5, flops=10 * 2e6)
    add_worker(database, "dead", 0, ago_s=5000, busy_s=-3000)
    add_worker(database, "late", 1, ago_s=10, busy_s=-20)
    found = spent_by(database, [uid])
    assert found.seconds == pytest.approx(100 + 1010 + 2000 + 1, abs=200)  # the clock goes on
    assert found.flops == pytest.approx(1e6 + 1010 * 2e6, rel=0.2)
    queue.abandon("busy")  # its launcher knows that it has ended
    first, second = spent_of_worker(database, uid, "busy"), spent_of_worker(database, uid, "busy")
    assert first == second
    assert first.seconds == pytest.approx(1010, abs=200)
    assert spent_on(database, [STUDY]) == spent_by(database, [uid])


def test_a_worker_counts_in_its_own_row(database: Database, queue: TrialQueue) -> None:
    uid = uid_of(database)
    for seconds in (1.0, 2.0, 2.0):  # an answer was lost
        count_spending(database, uid, "ann", Spent(seconds, 5.0), busy_s=None)
    count_spending(database, uid, "bob", Spent(10.0), busy_s=None)
    assert spent_by(database, [uid]) == Spent(12.0, 5.0)
    assert spent_of_worker(database, uid, "ann") == Spent(2.0, 5.0)
    count_spending(database, "gone", "ann", Spent(1.0), busy_s=None)  # its study was deleted
    assert spent_by(database, ["gone"]) == Spent()
    with database.engine.begin() as connection:
        study_id = optuna_tables.study_id(connection, STUDY)
        assert study_id is not None
        optuna_tables.delete_study(connection, study_id)
        assert connection.execute(select(func.count()).select_from(spending_table)).scalar_one() == 0


def test_a_spent_budget_leaves_out_what_has_not_begun(database: Database, queue: TrialQueue) -> None:
    plan(database, [sample_plan(study=OTHER)])
    running, interrupted, failed = queue.claim([STUDY], "ann", limit=3)
    assert queue.release(interrupted)
    queue.finish(failed, "failed", None)
    add_worker(database, "ann", 100)
    for budget in (None, Budget("seconds", 100.5), Budget("flops", 1.0)):
        set_budget(database, budget)
        assert budget_of(database, uid_of(database)) == budget
        assert not settle_budget(database, STUDY, OTHER, "not planned")
        assert OVER_BUDGET not in counts(database, [STUDY])
    set_budget(database, Budget("seconds", 100.0))
    for _ in range(2):
        assert settle_budget(database, STUDY, OTHER, "not planned")
        assert counts(database, [STUDY, OTHER])[OVER_BUDGET] == 2 * CELLS - 3
    assert (row(database, running.number).state, row(database, interrupted.number).state) == ("running", "waiting")
    assert {each.reason for each in rows(database, OTHER)} == {BUDGET_SPENT}
    assert queue.unfinished([STUDY, OTHER]) == 2
    assert [each.number for each in queue.claim([STUDY, OTHER], "bob", limit=99)] == [interrupted.number]
    assert queue.resume_stopped([STUDY, OTHER]) == 0, "no objective has stopped the study"
    assert queue.retry_failed([STUDY]) == 1
    assert settle_budget(database, STUDY, OTHER)
    assert queue.unfinished([STUDY, OTHER]) == 2, "a trial that is tried again from its start is left out too"
    set_budget(database, Budget("seconds", 200.0))
    assert not settle_budget(database, STUDY, OTHER)
    assert queue.unfinished([STUDY, OTHER]) == 2 * CELLS


def test_a_stopped_study_stays_stopped_with_a_larger_budget(database: Database, queue: TrialQueue) -> None:
    set_budget(database, Budget("seconds", 1.0))
    add_worker(database, "ann", 2)
    queue.claim([STUDY], "ann")
    assert settle_budget(database, STUDY)
    stopped = database.write(lambda connection: leave_out(connection, [uid_of(database)], STUDY_STOPPED))
    assert stopped == counts(database, [STUDY])[NOT_RUN] == CELLS - 1
    set_budget(database, None)
    assert not settle_budget(database, STUDY)
    assert counts(database, [STUDY])[NOT_RUN] == CELLS - 1
    assert queue.resume_stopped([STUDY]) == CELLS - 1

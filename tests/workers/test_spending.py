"""What a worker counts of its trials, and when it looks at the budget."""

from __future__ import annotations

import threading
import time

import pytest
from gates import wait_until
from sample_study import STUDY, sample_plan
from sqlalchemy import event

from search.storage.database import Database
from search.storage.planning import plan
from search.storage.queries import study_uids
from search.storage.spending import spent_on
from search.workers import spending
from search.workers.spending import Spending


@pytest.fixture
def worker(database: Database) -> Spending:
    """A worker of the small study without a trial."""
    plan(database, [sample_plan()])
    return Spending(database, study_uids(database, [STUDY]), "ann")


def seconds(worker: Spending) -> float:
    return spent_on(worker.database, [STUDY]).seconds


def test_time_counts_from_the_first_claim_until_there_is_no_trial(worker: Spending) -> None:
    worker.claimed(has_trials=False)
    worker.count()
    assert seconds(worker) == 0
    began = time.monotonic()
    worker.claimed(has_trials=True)
    time.sleep(0.05)
    worker.claimed(has_trials=True)
    assert seconds(worker) >= 0.04
    worker.claimed(has_trials=False)
    once = seconds(worker)
    assert 0.05 <= once <= time.monotonic() - began
    worker.claimed(has_trials=False)
    assert seconds(worker) == once
    # A cluster starts it again under its name.
    again = Spending(worker.database, worker.uids, worker.owner)
    again.claimed(has_trials=True)
    again.claimed(has_trials=False)
    assert seconds(worker) >= once


def test_what_a_claim_takes_belongs_to_its_trial(worker: Spending, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spending, "ALIVE_S", 1000.0)
    # The trial's row has begun when the worker asked, and a slow database answers later.
    worker.claimed(has_trials=True, asked_at=time.monotonic() - 500)
    worker.claimed(has_trials=True, asked_at=time.monotonic() - 400)
    worker.claimed(has_trials=False)
    assert 500 <= (once := seconds(worker)) < 600
    # The time of an outage before a claim is not counted.
    worker.claimed(has_trials=True, asked_at=time.monotonic() - 10_000)
    worker.claimed(has_trials=False)
    assert 1000 <= seconds(worker) - once < 1100


def test_a_busy_worker_goes_on_counting(worker: Spending, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spending, "COUNT_S", 0.01)
    monkeypatch.setattr(spending, "ALIVE_S", 0.0)  # so that only what is stored counts
    thread = threading.Thread(target=worker.keep_counting, daemon=True)
    thread.start()
    worker.claimed(has_trials=True)
    wait_until(lambda: seconds(worker) > 0.05, "counts in the middle of a trial")
    worker.has_ended.set()
    thread.join()


def test_claims_cost_nothing_without_a_budget(worker: Spending, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLAIM_COUNT_S", "LOOK_S"):
        monkeypatch.setattr(spending, name, 1000.0)  # a slow machine
    worker.claimed(has_trials=True)
    assert not worker.is_spent()
    asked: list[str] = []
    event.listen(worker.database.engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    for _ in range(5):
        assert not worker.is_spent()
        worker.claimed(has_trials=True)
    assert asked == []

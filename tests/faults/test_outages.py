"""The database goes away, or somebody else keeps it locked, in the middle of a run."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from postgres import PostgresServer
from scenario import FaultStudy, wait_until

# Holds the write lock of the SQLite file argv[1] for argv[2] seconds.
LOCKER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
connection.execute("COMMIT")
connection.close()
"""


def start_and_wait(study: FaultStudy, workers: int = 2) -> None:
    """Start the workers and wait until they are in the middle of it."""
    study.plan()
    study.start_workers(workers)
    wait_until(lambda: study.counts()["done"] >= 2 and len(study.holders()) == workers, "the first trials")


def stop_for_a_while(server: PostgresServer, mode: str, seconds: float) -> None:
    server.stop(mode)
    time.sleep(seconds)
    server.start()


def check_nobody_noticed(study: FaultStudy) -> None:
    assert set(study.join(180)) == {0}, study.logs()
    rows = study.check_exactly_once()
    # No lease was lost, so no trial was begun twice.
    assert {row.attempts for row in rows} == {1}


def test_server_stopped_and_crashed(own_postgres, make_study_there):
    study = make_study_there(20, ms=400, lease_s=60)
    start_and_wait(study)
    for mode in ("fast", "immediate"):
        done = study.counts()["done"]
        stop_for_a_while(own_postgres, mode, 1.5)
        wait_until(lambda done=done: study.counts()["done"] > done, f"a trial that ends after the {mode} stop")
    check_nobody_noticed(study)
    for worker in study.workers:
        assert "is away" in study.log(worker)
        assert "is back" in study.log(worker)


@pytest.mark.soak
@pytest.mark.timeout(480)
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_server_away_for_long(own_postgres, make_study_there, mode, record_property):
    """Longer than any lease: when the server is back all trials are anybody's."""
    study = make_study_there(100, ms=500, lease_s=2)
    start_and_wait(study, workers=4)
    stop_for_a_while(own_postgres, mode, 30)
    assert set(study.join(180)) == {0}, study.logs()
    rows = study.check_exactly_once()
    record_property("attempts", [row.attempts for row in rows if row.attempts > 1])
    print(f"\n{mode}: begun again: {sum(row.attempts > 1 for row in rows)} of {len(rows)}")


def test_connections_terminated(postgres, make_study_on_postgres):
    study = make_study_on_postgres(20, ms=200, lease_s=60)
    start_and_wait(study)
    others = "pid <> pg_backend_pid() AND backend_type = 'client backend'"
    terminated = 0
    while study.counts()["done"] < 20:
        postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
        terminated += 1
        time.sleep(0.1)
    assert terminated >= 5
    check_nobody_noticed(study)


def lock_for_a_while(study: FaultStudy, seconds: float) -> None:
    file = study.url.removeprefix("sqlite:///")
    locker = subprocess.Popen([sys.executable, "-c", LOCKER, file, str(seconds)], stdout=subprocess.PIPE)
    with locker:
        assert locker.stdout is not None
        assert locker.stdout.readline() == b"locked\n"
        assert locker.wait() == 0


def test_file_locked(make_sqlite_study):
    study = make_sqlite_study(20, ms=200, lease_s=60)
    start_and_wait(study)
    lock_for_a_while(study, 3)
    check_nobody_noticed(study)


@pytest.mark.soak
@pytest.mark.timeout(480)
# Shorter and longer than SQLite is told to wait for a lock (60 s).
@pytest.mark.parametrize("seconds", [30, 70])
def test_file_locked_for_long(make_sqlite_study, seconds, record_property):
    study = make_sqlite_study(100, ms=500, lease_s=2)
    start_and_wait(study, workers=4)
    lock_for_a_while(study, seconds)
    assert set(study.join(180)) == {0}, study.logs()
    rows = study.check_exactly_once()
    record_property("attempts", [row.attempts for row in rows if row.attempts > 1])
    print(f"\n{seconds} s: begun again: {sum(row.attempts > 1 for row in rows)} of {len(rows)}")

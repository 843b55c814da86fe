"""The database becomes unavailable, or another program locks it, in the middle of a run."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial

import pytest
from gates import Gate, wait_until
from postgres import PostgresServer
from scenario import FaultStudy, MakeStudy, Record

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


def pairs(study: FaultStudy, *last_cells: int) -> list[Gate]:
    """A gate for each cell and the one before it, so that two workers stop there; the last cells are claimed first."""
    return [study.close_gate(7, {"slot": last}, {"slot": last - 1}) for last in last_cells]


def start_and_wait(study: FaultStudy, workers: int = 2) -> None:
    """Start the workers and wait until the first trials are done."""
    study.plan()
    study.start_workers(workers)
    wait_until(lambda: study.counts()["done"] >= 2, "the first trials")


def stop_for_a_while(server: PostgresServer, mode: str, seconds: float) -> None:
    server.stop(mode)
    time.sleep(seconds)
    server.start()


def both_logged(study: FaultStudy, text: str, times: int) -> bool:
    """Whether each worker's log has a text at least `times` times."""
    return all(study.log(worker).count(text) >= times for worker in study.workers)


def check_no_lease_was_lost(study: FaultStudy) -> None:
    assert set(study.join(180)) == {0}, study.logs()
    rows = study.check_exactly_once()
    # No lease was lost, so no trial started twice.
    assert {row.attempts for row in rows} == {1}


def test_server_stopped_and_crashed(own_postgres: PostgresServer, make_study_there: MakeStudy) -> None:
    study = make_study_there(12, ms=10, lease_s=60)
    gates = pairs(study, 9, 3)
    study.plan()
    study.start_workers(2)
    for outages, (mode, gate) in enumerate(zip(("fast", "immediate"), gates, strict=True), 1):
        gate.wait(2)
        own_postgres.stop(mode)
        gate.open()  # both fail to report
        wait_until(partial(both_logged, study, "is unavailable", outages), "both workers notice the outage")
        own_postgres.start()
    check_no_lease_was_lost(study)
    assert both_logged(study, "is available again", 2)


@pytest.mark.soak
@pytest.mark.timeout(480)
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_server_away_for_long(
    own_postgres: PostgresServer, make_study_there: MakeStudy, mode: str, record_property: Record
) -> None:
    """Longer than any lease: when the server is back, any worker may claim any trial."""
    study = make_study_there(100, ms=500, lease_s=2)
    start_and_wait(study, workers=4)
    stop_for_a_while(own_postgres, mode, 30)
    assert set(study.join(180)) == {0}, study.logs()
    rows = study.check_exactly_once()
    record_property("attempts", [row.attempts for row in rows if row.attempts > 1])
    print(f"\n{mode}: begun again: {sum(row.attempts > 1 for row in rows)} of {len(rows)}")


def test_connections_terminated(postgres: PostgresServer, make_study_on_postgres: MakeStudy) -> None:
    study = make_study_on_postgres(20, ms=10, lease_s=60)
    gates = pairs(study, 17, 14, 11, 8, 5)
    study.plan()
    study.start_workers(2)
    others = "pid <> pg_backend_pid() AND backend_type = 'client backend'"
    terminate = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
    for gate in gates:
        gate.wait(2)
        postgres.execute(terminate)
        gate.open()
    while study.counts()["done"] < 20:  # in the middle of statements too
        postgres.execute(terminate)
        time.sleep(0.1)
    check_no_lease_was_lost(study)


def lock_for_a_while(study: FaultStudy, seconds: float, gate: Gate | None = None) -> None:
    """Lock the file, and open the gate while it is locked."""
    file = study.url.removeprefix("sqlite:///")
    locker = subprocess.Popen([sys.executable, "-c", LOCKER, file, str(seconds)], stdout=subprocess.PIPE)
    with locker:
        assert locker.stdout is not None
        assert locker.stdout.readline() == b"locked\n"
        if gate is not None:
            gate.open()
        assert locker.wait() == 0


def test_file_locked(make_sqlite_study: MakeStudy) -> None:
    study = make_sqlite_study(6, ms=10, lease_s=60)
    [gate] = pairs(study, 3)
    study.plan()
    study.start_workers(2)
    gate.wait(2)
    lock_for_a_while(study, 3, gate)
    check_no_lease_was_lost(study)


@pytest.mark.soak
@pytest.mark.timeout(480)
# Shorter and longer than the lock timeout of SQLite (60 s).
@pytest.mark.parametrize("seconds", [30, 70])
def test_file_locked_for_long(make_sqlite_study: MakeStudy, seconds: float, record_property: Record) -> None:
    study = make_sqlite_study(100, ms=500, lease_s=2)
    start_and_wait(study, workers=4)
    lock_for_a_while(study, seconds)
    assert set(study.join(180)) == {0}, study.logs()
    rows = study.check_exactly_once()
    record_property("attempts", [row.attempts for row in rows if row.attempts > 1])
    print(f"\n{seconds} s: begun again: {sum(row.attempts > 1 for row in rows)} of {len(rows)}")

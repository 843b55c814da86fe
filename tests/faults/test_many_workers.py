"""Many workers on one database: no trial is claimed twice, no worker crashes, and none waits for the others."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest
from gates import wait_until
from postgres import PostgresServer
from scenario import FaultStudy, MakeStudy, Record, reading
from sqlalchemy import text, update

from search.storage.schema import queue_table

FAR_AWAY = 1e12


def check_a_clean_run(study: FaultStudy, workers: int, timeout_s: float) -> float:
    """Start the workers together; check that each trial was claimed once and no worker crashed.

    Returns:
        Seconds from the first claim to the end of the last trial.
    """
    study.plan()
    study.start_workers(workers)
    codes = study.join(timeout_s)
    assert codes == [0] * workers, study.logs()
    rows = study.check_exactly_once()
    assert Counter(row.attempts for row in rows) == {1: len(rows)}
    assert [row.token for row in rows] == [1] * len(rows)
    seconds: float = max(row.finished_at for row in rows) - min(row.started_at for row in rows)
    return seconds


def test_eight_workers(make_sqlite_study: MakeStudy) -> None:
    study = make_sqlite_study(200, ms=2, lease_s=60)
    check_a_clean_run(study, 8, 100)


@pytest.mark.soak
@pytest.mark.timeout(480)
def test_sixteen_workers_on_sqlite(make_sqlite_study: MakeStudy, record_property: Record) -> None:
    study = make_sqlite_study(1000, ms=100, lease_s=60)
    seconds = check_a_clean_run(study, 16, 400)
    record_property("seconds", round(seconds, 1))
    print(f"\n16 workers, SQLite, 1000 trials: {seconds:.1f} s")


@pytest.mark.soak
@pytest.mark.timeout(480)
def test_sixty_four_workers_on_postgresql(make_study_on_postgres: MakeStudy, record_property: Record) -> None:
    study = make_study_on_postgres(1000, ms=200, lease_s=60)
    seconds = check_a_clean_run(study, 64, 400)
    record_property("seconds", round(seconds, 1))
    print(f"\n64 workers, PostgreSQL, 1000 trials: {seconds:.1f} s")


def pace(study: FaultStudy, workers: int) -> tuple[float, float]:
    """Measure how many trials a worker ends per second while all workers run.

    A Python process starts far slower than a trial trains, so the trials are held back until every worker is ready to
    claim one; the first and the last second do not count.

    Returns:
        Trials per second and worker; CPU milliseconds per trial in the worker processes.
    """
    study.plan()
    set_not_before(study, FAR_AWAY)
    study.start_workers(workers)
    wait_until(lambda: connections(study) >= workers, "all workers", 200)
    time.sleep(2)
    before = cpu_seconds(study)
    set_not_before(study, 0)
    wait_until(lambda: study.counts()["waiting"] <= 2 * workers, "the trials", 200)
    used = cpu_seconds(study) - before
    done = study.counts()["done"]
    assert set(study.join(100)) == {0}, study.logs()
    rows = study.check_exactly_once()
    assert {row.attempts for row in rows} == {1}
    first, last = min(row.started_at for row in rows) + 1, max(row.started_at for row in rows) - 1
    ended = sum(first <= row.finished_at <= last for row in rows)
    return ended / (last - first) / workers, used / done * 1000


def set_not_before(study: FaultStudy, when: float) -> None:
    with reading(study.url) as connection:
        connection.execute(update(queue_table).values(not_before=when))
        connection.commit()


def connections(study: FaultStudy) -> int:
    """The number of connections of worker processes; each has one, or two while it renews."""
    with reading(study.url) as connection:
        query = text("SELECT count(*) - 1 FROM pg_stat_activity WHERE backend_type = 'client backend'")
        found: int = connection.execute(query).scalar_one()
    return found


def cpu_seconds(study: FaultStudy) -> float:
    """CPU seconds of the worker processes, user and system."""
    ticks = 0
    for worker in study.workers:
        with open(f"/proc/{worker.pid}/stat") as stat:
            ticks += sum(map(int, stat.read().rpartition(")")[2].split()[11:13]))
    return ticks / 100


@pytest.mark.soak
@pytest.mark.timeout(480)
@pytest.mark.parametrize("eval_interval", [2, 20], ids=["11-evaluations", "2-evaluations"])
def test_sixty_four_workers_are_as_quick_as_four(
    own_postgres: PostgresServer, tmp_path: Path, record_property: Record, eval_interval: int
) -> None:
    paces, cpu_ms = {}, {}
    for workers, trials in [(4, 200), (64, 1600)]:
        folder = tmp_path / str(workers)
        folder.mkdir()
        url = own_postgres.create_schema(f"w{workers}")
        grid = {"slot": list(range(trials))}
        study = FaultStudy(
            folder, url, grid, ms=200, eval_interval=eval_interval, lease_s=60, checkpoint_s=10
        )  # the defaults
        try:
            paces[workers], cpu_ms[workers] = pace(study, workers)
        finally:
            study.kill_all()
        record_property(f"trials a second and worker, {workers} workers", round(paces[workers], 3))
        print(f"\n{workers} workers: {paces[workers]:.3f} trials a second each; {cpu_ms[workers]:.1f} ms CPU a trial")
    needed = 64 * paces[4] * cpu_ms[4] / 1000
    cores = len(os.sched_getaffinity(0))
    if needed > 0.7 * cores:  # the server needs CPU time too
        pytest.skip(f"64 workers at this pace need {needed:.1f} cores for the storage work alone; here are {cores}")
    assert paces[64] >= 0.9 * paces[4]


def test_planners_among_workers(make_study_on_postgres: MakeStudy) -> None:
    """Planning repeatedly while trials end changes none of them, although it reads no single snapshot."""
    study = make_study_on_postgres(80, ms=0, lease_s=60)
    study.plan()
    study.start_workers(2)
    while study.counts()["done"] < 80:
        study.plan()
    assert study.join() == [0, 0], study.logs()
    assert {row.attempts for row in study.check_exactly_once()} == {1}

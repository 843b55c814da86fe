"""More workers than the server has connections: they take turns, and none crashes."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from postgres import PostgresServer
from sample_study import CELLS, STUDY, rows, sample_plan
from scenario import FaultStudy, Record
from sqlalchemy import text
from study_files import program

from search.storage.connect import open_database
from search.storage.dialect_postgresql_connection import KEEP_S
from search.storage.errors import StorageError
from search.storage.leases import Report
from search.storage.optuna_storage import SearchStorage
from search.storage.planning import plan
from search.storage.queue import TrialQueue


def limited_url(server: PostgresServer, name: str, connections: int) -> str:
    """A database whose owner may have few connections."""
    server.create_role(name, f"CONNECTION LIMIT {connections}")
    server.execute(f'CREATE DATABASE "{name}" TEMPLATE template0 OWNER "{name}"')
    return server.url_of(name, name)


def work(url: str, owner: str, failures: list[BaseException]) -> None:
    """All that a worker does with the database, from its start to its end."""
    try:
        with open_database(url, create=False, outdated="upgrade", wait_s=0, outage_s=1).closing() as database:
            study_id = SearchStorage(database).get_study_id_from_name(STUDY)
            assert SearchStorage(database).get_study_name_from_id(study_id) == STUDY
            queue = TrialQueue(database, lease_s=600)
            while leases := queue.claim([STUDY], owner):
                queue.report([Report(leases[0], 1, 1.0, 2.0)])
                queue.renew(leases)
                queue.finish(leases[0], "complete", 2.0)
    except BaseException as error:  # shown by the main thread
        failures.append(error)


@pytest.mark.parametrize("connections", [1, 2])
def test_eight_workers_on_few_connections(postgres: PostgresServer, connections: int) -> None:
    """The limits of waiting are those of an outage: a crowded server answers, so they do not apply."""
    url = limited_url(postgres, f"few_{connections}", connections)
    with open_database(url, create=True).closing() as database:
        plan(database, [sample_plan(seeds=2)])
    failures: list[BaseException] = []
    threads = [threading.Thread(target=work, args=(url, f"w{at}", failures)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    with open_database(url, create=False).closing() as database:
        ended = rows(database)
        assert [row.attempts for row in ended] == [1] * (2 * CELLS)
        assert {row.outcome for row in ended} == {"complete"}


def test_a_reader_is_told(postgres: PostgresServer) -> None:
    url = limited_url(postgres, "no_connection", 1)
    with open_database(url, create=True).closing() as database, database.engine.connect():
        began = time.monotonic()
        with pytest.raises(StorageError, match=r"too many connections.*; start fewer workers, or raise max_conn"):
            open_database(url, create=False, wait_s=1)
        assert time.monotonic() - began < 20  # an outage is waited for longer


def test_an_idle_connection_is_closed(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that reports rarely leaves its connection to others."""
    monkeypatch.setattr("search.storage.dialect_postgresql_connection.KEEP_S", 0.1)
    assert KEEP_S > 1
    with open_database(postgres.create_schema("idle_connection"), create=True).closing() as database:
        database.read(lambda connection: connection.execute(text("SELECT 1")))
        pool = database.engine.pool
        [kept] = [record.dbapi_connection for record in list(pool._pool.queue)]  # type: ignore[attr-defined]
        assert kept is not None
        time.sleep(0.15)
        database.read(lambda connection: connection.execute(text("SELECT 1")))
        [kept] = [record.dbapi_connection for record in list(pool._pool.queue)]  # type: ignore[attr-defined]
        assert kept is None


@pytest.mark.soak
@pytest.mark.timeout(480)
@pytest.mark.parametrize("limit", ["max_connections", "role"])
def test_a_run_of_sixteen_workers(tmp_path: Path, limit: str, record_property: Record) -> None:
    settings = "max_connections = 10\n" if limit == "max_connections" else ""
    with PostgresServer(settings=settings) as server:
        url = server.url() if limit == "max_connections" else limited_url(server, "two", 2)
        study = FaultStudy(tmp_path, url, {"slot": list(range(48))}, ms=100, lease_s=60)
        began = time.monotonic()
        done = program("run", *study.arguments, "--workers", "16", "--devices", "cpu", "--quiet", cwd=tmp_path)
        seconds = time.monotonic() - began
        assert done.returncode == 0, done.stderr
        assert {row.attempts for row in study.check_exactly_once()} == {1}
        assert "restarting" not in done.stderr
    record_property("seconds", round(seconds, 1))
    print(f"\n16 workers, {limit}: {seconds:.1f} s")

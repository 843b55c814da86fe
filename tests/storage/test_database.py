"""Transactions that outlast an outage, on real faults, and the database's own clock."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from postgres import PASSWORD, PostgresServer
from sample_study import STUDY, change, row, rows, sample_plan
from sqlalchemy import event, insert, select, text
from sqlalchemy.exc import DBAPIError

from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.dialects import first_line
from search.storage.errors import StorageUnavailable
from search.storage.planning import plan
from search.storage.queue import TrialQueue
from search.storage.schema import SCHEMA_VERSION, schema_info
from search.storage.url import parse_url


def fault(work: Callable[[], Any]) -> DBAPIError:
    """The error that `work` ends with."""
    with pytest.raises(DBAPIError, match=r".") as caught:
        work()
    return caught.value


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    with open_database(f"sqlite:///{tmp_path / 'search.db'}", create=True).closing() as database:
        yield database


@pytest.fixture
def server(postgres: PostgresServer, request: pytest.FixtureRequest) -> Iterator[Database]:
    name = f"faults_{abs(hash(request.node.name))}"
    with open_database(postgres.create_schema(name), create=True).closing() as database:
        yield database


def test_a_work_that_fails_is_rolled_back(database: Database) -> None:
    def work(connection: Any) -> None:
        connection.execute(insert(schema_info).values(version=77))
        raise ZeroDivisionError("made up")

    with pytest.raises(ZeroDivisionError, match="made up"):
        database.write(work)

    assert database.read(lambda connection: connection.execute(select(schema_info.c.version)).scalars().all()) == [
        SCHEMA_VERSION
    ]


def test_a_wrong_statement_is_not_tried_again(database: Database) -> None:
    tries = []

    def work(connection: Any) -> None:
        tries.append(1)
        connection.execute(text("SELECT nonsense"))

    assert database.dialect.diagnose(fault(lambda: database.write(work))).kind == "bug"
    assert len(tries) == 1


def test_a_repeated_key_is_not_tried_again(database: Database) -> None:
    again = insert(schema_info).values(version=SCHEMA_VERSION)
    error = fault(lambda: database.write(lambda connection: connection.execute(again)))
    assert database.dialect.diagnose(error).kind == "bug"


def test_a_reader_does_not_wait_for_a_writer(database: Database) -> None:
    def work(connection: Any) -> list[int]:
        connection.execute(insert(schema_info).values(version=99))
        return list(database.read(lambda reader: reader.execute(select(schema_info.c.version)).scalars()))

    assert database.write(work) == [SCHEMA_VERSION]


def test_a_killed_connection_is_replaced(server: Database, caplog: pytest.LogCaptureFixture) -> None:
    tries = []

    def work(connection: Any) -> int:
        tries.append(1)
        connection.execute(insert(schema_info).values(version=50))
        if len(tries) == 1:
            backend = connection.execute(text("SELECT pg_backend_pid()")).scalar()
            server.read(lambda other: other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": backend}))
        return int(connection.execute(text("SELECT count(*) FROM search_schema")).scalar_one())

    assert server.write(work) == 2
    assert len(tries) == 2
    assert "is unavailable" in caplog.text
    assert "is available again" in caplog.text
    assert PASSWORD not in caplog.text


def test_a_connection_that_died_in_the_pool_is_not_noticed(server: Database, postgres: PostgresServer) -> None:
    server.read(lambda connection: connection.execute(text("SELECT 1")))
    postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    assert server.read(lambda connection: connection.execute(text("SELECT 1")).scalar()) == 1


def test_a_lock_that_is_not_to_be_had_passes(server: Database) -> None:
    def work(connection: Any) -> None:
        connection.execute(text("LOCK TABLE search_schema"))
        with server.engine.begin() as other:
            other.execute(text("SET LOCAL lock_timeout = '10ms'"))
            other.execute(text("LOCK TABLE search_schema"))

    with server.engine.connect() as connection:
        error = fault(lambda: work(connection))
        connection.rollback()
    assert server.dialect.diagnose(error).kind == "outage"
    assert "lock timeout" in first_line(error)


def test_a_deadlock_passes(server: Database) -> None:
    """Two transactions take two locks in opposite order; the one that the server ends is run again."""
    both = threading.Barrier(2)

    def work(connection: Any, first: str, second: str, met: list[int]) -> None:
        server.lock(connection, first)
        if not met:
            met.append(1)
            both.wait(timeout=20)
        server.lock(connection, second)

    def cross(first: str, second: str) -> None:
        met: list[int] = []
        server.write(lambda connection: work(connection, first, second, met))

    others = threading.Thread(target=cross, args=("b", "a"))
    others.start()
    cross("a", "b")
    others.join(timeout=20)
    assert not others.is_alive()


@contextmanager
def busy(path: str) -> Iterator[None]:
    """Another program holds the write lock of an SQLite file."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def impatient(database: Database) -> Database:
    """The same file, whose driver does not wait for the lock by itself."""
    database.engine.dispose()
    event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout = 1"))
    return database


def test_a_locked_file_passes(sqlite: Database) -> None:
    database = impatient(sqlite)
    with busy(str(database.engine.url.database)), database.engine.connect() as connection:
        error = fault(connection.begin)
    assert sqlite.dialect.diagnose(error).kind == "outage"
    assert first_line(error) == "database is locked"


def test_a_writer_waits_for_the_lock(sqlite: Database) -> None:
    database, locked = impatient(sqlite), threading.Event()

    def hold() -> None:
        with busy(str(database.engine.url.database)):
            locked.set()
            time.sleep(0.3)

    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(10)
    database.write(lambda connection: connection.execute(insert(schema_info).values(version=99)))
    holder.join()


def test_an_outage_ends_with_a_next_step(sqlite: Database) -> None:
    database = Database(impatient(sqlite).engine, outage_s=0.2)
    with (
        busy(str(database.engine.url.database)),
        pytest.raises(
            StorageUnavailable,
            match=r"did not answer for \d+ s \(database is locked\); another program holds its lock; end it, then run",
        ),
    ):
        database.write(lambda connection: None)


def test_an_outage_of_a_server_ends_without_its_password(server: Database, free_port: int) -> None:
    away = Database(open_away(server, free_port), outage_s=0.0)
    with pytest.raises(StorageUnavailable, match=r"^postgresql://search:\*\*\*@127\.0\.0\.1:\d+/") as caught:
        away.read(lambda connection: None)
    assert PASSWORD not in str(caught.value)
    assert "\n" not in str(caught.value)


def open_away(server: Database, port: int) -> Any:
    from search.storage.database import open_engine

    return open_engine(parse_url(server.engine.url.set(port=port).render_as_string(hide_password=False)))


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_full_disk_passes(sqlite: Database) -> None:
    sqlite.engine.dispose()
    event.listen(sqlite.engine, "connect", _let_it_not_grow)
    filling = insert(schema_info).values([{"version": number} for number in range(1000, 11000)])

    with sqlite.engine.connect() as connection:
        error = fault(lambda: connection.execute(filling))
        connection.rollback()

    assert sqlite.dialect.diagnose(error).kind == "outage"
    assert first_line(error) == "database or disk is full"


def _let_it_not_grow(connection: sqlite3.Connection, _record: Any) -> None:
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")


def test_the_clock_is_the_time(database: Database) -> None:
    now = database.read(lambda connection: connection.execute(select(database.now())).scalar_one())
    assert abs(now - time.time()) < 5


def test_the_clock_goes_on_within_a_transaction(server: Database) -> None:
    def work(connection: Any) -> float:
        first, second = (connection.execute(select(server.now())).scalar_one() for _ in range(2))
        return float(second - first)

    assert server.read(work) > 0


@pytest.mark.parametrize("offset_s", [-3600, 3600])
@pytest.mark.parametrize("zone", ["Pacific/Auckland", "America/St_Johns"])
def test_leases_do_not_ask_the_workers_clock(
    storage_url: str, monkeypatch: pytest.MonkeyPatch, offset_s: int, zone: str
) -> None:
    with open_database(storage_url, create=True).closing() as right:
        plan(right, [sample_plan()])
        [lease] = TrialQueue(right).claim([STUDY], "ann")
        monkeypatch.setenv("TZ", zone)
        monkeypatch.setenv("PGTZ", zone)
        time.tzset()
        clock = time.time
        monkeypatch.setattr(time, "time", lambda: clock() + offset_s)
        with open_database(storage_url, create=False).closing() as wrong:
            queue = TrialQueue(wrong)
            if wrong.engine.dialect.name == "postgresql":
                event.listen(
                    wrong.engine, "begin", lambda connection: connection.execute(text(f"SET TIME ZONE '{zone}'"))
                )

            [other] = queue.claim([STUDY], "bob")
            assert other.number == 1, "the first trial is still ann's"
            leases = [each.lease_until for each in rows(right)[:2]]
            assert abs(leases[0] - leases[1]) < 30
            change(right, 0, lease_until=leases[0] - 100)
            assert queue.claim([STUDY], "cid")[0].number == lease.number
            queue.release(other, "made up", delay_s=60)
            assert abs(row(right, 1).not_before - leases[1]) < 30
    monkeypatch.undo()
    time.tzset()


def test_a_sqlite_file_is_set_up_for_many_workers(sqlite: Database) -> None:
    with sqlite.engine.connect() as connection:
        mode, sync, timeout = (
            connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout")
        )
    assert (mode, sync, timeout) == ("wal", 1, 60_000)
    assert os.path.exists(str(sqlite.engine.url.database))

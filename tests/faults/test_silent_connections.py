"""A server falls silent without closing its connections: a host is gone, a firewall drops packets, a pooler hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest
from postgres import PostgresServer
from sample_study import STUDY, sample_plan
from silent_proxy import SilentProxy
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.errors import StorageError, StorageUnavailable
from search.storage.leases import Report
from search.storage.optuna_storage import SearchStorage
from search.storage.planning import plan
from search.storage.queue import TrialQueue

OUTAGE_S = 5.0
Calls = Mapping[str, Callable[[Database, TrialQueue], object]]


def calls_on(lease_of: TrialQueue) -> Calls:
    """What a worker does with the database while it holds a trial."""
    [lease] = lease_of.claim([STUDY], "ann")
    return {
        "claim": lambda _, queue: queue.claim([STUDY], "bob"),
        "report": lambda _, queue: queue.report([Report(lease, 1, 1.0, 2.0)]),
        "report two": lambda _, queue: queue.report([Report(lease, step, 1.0, 2.0) for step in (2, 3)]),
        "renew": lambda _, queue: queue.renew([lease]),
        "finish": lambda _, queue: queue.finish(lease, "complete", 2.0),
        "lock": lambda database, _: database.write(lambda connection: database.lock(connection, "search plan small")),
        "optuna": lambda database, _: SearchStorage(database).get_all_studies(),
    }


@contextmanager
def behind_a_proxy(url: str, count: int, outage_s: float) -> Iterator[tuple[SilentProxy, list[Database]]]:
    """Databases whose connections are open, through a proxy that still forwards."""
    with SilentProxy(make_url(url).port or 0) as proxy:
        databases = [open_database(proxy.url(url), create=False, outage_s=outage_s) for _ in range(count)]
        for database in databases:
            database.read(lambda connection: connection.execute(text("SELECT 1")))
        try:
            yield proxy, databases
        finally:
            for database in databases:
                database.engine.dispose()


def run_all(calls: Calls, databases: list[Database], after: Callable[[], None] | None = None) -> dict[str, float]:
    """Make all calls at once; return the seconds that each took until it failed with one line."""
    seconds: dict[str, float] = {}

    def run(name: str, database: Database) -> None:
        began = time.monotonic()
        try:
            calls[name](database, TrialQueue(database))
        except StorageUnavailable:
            seconds[name] = time.monotonic() - began

    threads = [threading.Thread(target=run, args=pair) for pair in zip(calls, databases, strict=True)]
    for thread in threads:
        thread.start()
    if after is not None:
        after()
    for thread in threads:
        thread.join(60)
    return seconds


@pytest.fixture
def planned(postgres: PostgresServer, request: pytest.FixtureRequest) -> Iterator[tuple[str, TrialQueue]]:
    url = postgres.create_schema(f"silent_{abs(hash(request.node.name))}")
    with open_database(url, create=True).closing() as database:
        plan(database, [sample_plan()])
        yield url, TrialQueue(database)


def test_silence_ends_within_the_outage_limit(
    planned: tuple[str, TrialQueue], record_property: Callable[[str, object], None]
) -> None:
    url, queue = planned
    calls = calls_on(queue)
    with behind_a_proxy(url, len(calls), OUTAGE_S) as (proxy, databases):
        proxy.silence()
        seconds = run_all(calls, databases)
    record_property("seconds", {name: round(each, 1) for name, each in seconds.items()})
    print(f"\ngiven up after, s: {seconds}")
    assert seconds.keys() == calls.keys()
    assert all(OUTAGE_S - 1 <= each <= OUTAGE_S + 4 for each in seconds.values())


def test_a_stop_does_not_wait_for_a_silent_server(planned: tuple[str, TrialQueue]) -> None:
    url, queue = planned
    calls = calls_on(queue)

    def stop() -> None:
        time.sleep(2)  # every call waits for its answer
        for database in databases:
            database.interrupt.set()

    with behind_a_proxy(url, len(calls), 600.0) as (proxy, databases):
        proxy.silence()
        seconds = run_all(calls, databases, after=stop)
    print(f"\nended after, s (stop after 2 s): {seconds}")
    assert seconds.keys() == calls.keys()
    assert all(each <= 2 + 3 for each in seconds.values())


def test_a_connection_that_was_dropped_is_replaced(planned: tuple[str, TrialQueue]) -> None:
    """As by a firewall that forgets idle connections; new ones work."""
    url, queue = planned
    calls = calls_on(queue)
    with behind_a_proxy(url, len(calls), OUTAGE_S) as (proxy, databases):
        proxy.silence(new_ones=False)
        began = time.monotonic()
        assert run_all(calls, databases) == {}
        assert time.monotonic() - began < OUTAGE_S


def test_opening_a_silent_server_ends(postgres: PostgresServer) -> None:
    with SilentProxy(postgres.port) as proxy:
        proxy.silence()
        began = time.monotonic()
        with pytest.raises(StorageError, match=r"timeout expired; check that the server is running"):
            open_database(proxy.url(postgres.url()), create=False, wait_s=1, outage_s=OUTAGE_S)
        assert time.monotonic() - began < 6


def test_locks_of_a_stopped_process_are_freed(planned: tuple[str, TrialQueue]) -> None:
    """A process is stopped in the middle of a transaction; the server ends it, and the others go on."""
    url, _ = planned
    locked, freed = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        tries.append(str(connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar()))
        if len(tries) == 1:
            stopped.lock(connection, "search plan small")
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 200"))
            locked.set()
            assert freed.wait(20)
            connection.execute(text("SELECT 1"))

    tries: list[str] = []
    with open_database(url, create=False, outage_s=15).closing() as stopped:
        holder = threading.Thread(target=stopped.write, args=(hold,))
        holder.start()
        assert locked.wait(20)
        with open_database(url, create=False, outage_s=20).closing() as other:
            other.write(lambda each: other.lock(each, "search plan small"))
        freed.set()
        holder.join(20)
    assert tries == ["10s", "10s"]  # it was told, and did its work again

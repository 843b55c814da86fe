"""Behind a real pgbouncer in transaction mode, where consecutive transactions run in different sessions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import optuna
import pgbouncer
import pytest
from pgbouncer import Pgbouncer
from postgres import PostgresServer
from sample_study import CELLS, STUDY, optuna_trials, rows, sample_plan
from scenario import FaultStudy
from sqlalchemy import text
from sqlalchemy.engine import make_url

from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.errors import StorageError
from search.storage.leases import Report
from search.storage.optuna_storage import SearchStorage
from search.storage.planning import plan
from search.storage.queue import TrialQueue

pytestmark = pytest.mark.skipif(
    pgbouncer.PROGRAM is None, reason="pgbouncer is not installed: apt-get install pgbouncer"
)


@pytest.fixture(scope="module")
def pooler(postgres: PostgresServer) -> Iterator[Pgbouncer]:
    with Pgbouncer(postgres) as pooler:
        yield pooler


@pytest.fixture
def pooled_url(postgres: PostgresServer, pooler: Pgbouncer, request: pytest.FixtureRequest) -> str:
    """An empty database behind the pooler; a database, because pgbouncer refuses the URL's `options`."""
    name = f"pooled_{abs(hash(request.node.name))}"
    return pooler.url(postgres.create_database(name))


def work_through(database: Database, owner: str, failures: list[BaseException]) -> None:
    """A worker's statements, each often enough to be prepared."""
    queue = TrialQueue(database)
    try:
        while leases := queue.claim([STUDY], owner):
            [lease] = leases
            for step in range(8):
                assert queue.report([Report(lease, step, 1.0, float(step))]) == []
            assert queue.renew([lease]) == []
            queue.finish(lease, "complete", lease.number / 10, {"owner": owner})
            queue.unfinished([STUDY])
    except BaseException as error:  # shown by the main thread
        failures.append(error)


def test_workers_and_optuna_share_two_server_connections(pooled_url: str) -> None:
    """More clients than server connections, so that sessions are handed from one to the other."""
    failures: list[BaseException] = []
    with open_database(pooled_url, create=True).closing() as database:
        plan(database, [sample_plan(seeds=4)])
        others = [open_database(pooled_url, create=False) for _ in range(3)]
        threads = [
            threading.Thread(target=work_through, args=(other, f"w{at}", failures)) for at, other in enumerate(others)
        ]
        for thread in threads:
            thread.start()
        study = optuna.load_study(study_name=STUDY, storage=SearchStorage(database))
        while any(thread.is_alive() for thread in threads):  # Optuna's session, in between
            assert len(study.get_trials(deepcopy=False)) == 4 * CELLS
        for other in others:
            other.engine.dispose()
        assert failures == []
        assert [row.value for row in rows(database)] == [number / 10 for number in range(4 * CELLS)]
        assert all(len(trial.intermediate_values) == 8 for trial in optuna_trials(pooled_url))


def test_sessions_keep_nothing_of_a_program(pooled_url: str) -> None:
    """Settings, prepared statements, locks and temporary tables would leak into the next program's session."""
    with open_database(pooled_url, create=True).closing() as database:
        plan(database, [sample_plan()])
        queue = TrialQueue(database)
        for lease in queue.claim([STUDY], "ann", limit=6):
            queue.report([Report(lease, 1, 1.0, 2.0)])
            queue.release(lease)
        leaked = (
            "SELECT (SELECT count(*) FROM pg_prepared_statements), "
            "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), "
            "(SELECT count(*) FROM pg_class WHERE relpersistence = 't'), "
            "(SELECT count(*) FROM pg_listening_channels()), "
            "(SELECT count(*) FROM pg_settings WHERE name LIKE '%_timeout' AND source = 'session')"
        )
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            assert tuple(connection.execute(text(leaked)).one()) == (0, 0, 0, 0, 0)


def test_two_planners_exclude_each_other(pooled_url: str) -> None:
    with open_database(pooled_url, create=True).closing() as database:
        threads = [threading.Thread(target=plan, args=(database, [sample_plan()])) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(rows(database)) == CELLS


def test_worker_processes(tmp_path: Path, pooled_url: str) -> None:
    study = FaultStudy(tmp_path, pooled_url, {"slot": list(range(12))}, ms=2, lease_s=60)
    try:
        study.plan()
        study.start_workers(3)
        assert study.join(60) == [0, 0, 0], study.logs()
        study.check_exactly_once()
    finally:
        study.kill_all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("?options=-csearch_path%3Dmine", "pgbouncer refuses options in a URL; remove them"),
        ("?prepare_threshold=often", "prepare_threshold=often in the URL: give a number, or none"),
        ("nowhere", "there is no such database"),
    ],
)
def test_what_pgbouncer_refuses_is_one_line_at_once(pooled_url: str, change: str, message: str) -> None:
    with pytest.raises(StorageError, match=r".") as caught:
        open_database(pooled_url + change, create=True, wait_s=30)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("threshold", "prepared"), [("", True), ("?prepare_threshold=none", False)])
def test_statements_are_prepared_unless_the_url_says_none(
    postgres: PostgresServer, threshold: str, prepared: bool, request: pytest.FixtureRequest
) -> None:
    url = postgres.create_database(f"direct_{abs(hash(request.node.name))}") + threshold
    with open_database(url, create=True).closing() as database:
        plan(database, [sample_plan()])
        for _ in range(8):
            TrialQueue(database).claim([STUDY], "ann")
        found = "SELECT count(*) > 0 FROM pg_prepared_statements"
        assert database.read(lambda connection: connection.execute(text(found)).scalar()) == prepared
        assert make_url(url).port == postgres.port

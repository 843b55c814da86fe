"""What PostgreSQL knows of tables that were just filled: without it each trial takes many times as long."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import PostgresServer
from sample_study import CELLS, STUDY, sample_plan
from sqlalchemy import Column, Integer, MetaData, Table, text

from search.storage.artifact_store import FolderStore
from search.storage.checkpoint_store import CheckpointStore
from search.storage.connect import open_database
from search.storage.database import MANY_ROWS, Database
from search.storage.exporting import export_studies
from search.storage.importing import ImportedFiles, import_studies
from search.storage.planning import plan
from search.storage.study_archive import open_archive

MANY_SEEDS = MANY_ROWS // CELLS + 1
UNKNOWN = -1.0


@pytest.fixture
def server_database(postgres: PostgresServer, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database of its own, in which the server's own counting is off."""
    url = postgres.create_database(f"statistics_{os.getpid()}_{request.node.name}")
    with open_database(url, create=True).closing() as database:
        with database.engine.begin() as connection:
            for table in ("search_runs", "trials", "trial_params"):
                connection.execute(text(f"ALTER TABLE {table} SET (autovacuum_enabled = off)"))
        yield database


def known_rows(database: Database) -> dict[str, float]:
    """The numbers of rows by which the server plans its statements."""
    query = text("SELECT relname, reltuples FROM pg_class WHERE relname IN ('search_runs', 'trials', 'trial_params')")
    rows = database.read(lambda connection: connection.execute(query).all())
    return {row.relname: row.reltuples for row in rows}


def test_planning_many_trials_tells_the_server(server_database: Database) -> None:
    plan(server_database, [sample_plan(seeds=MANY_SEEDS)])

    trials = MANY_SEEDS * CELLS
    assert known_rows(server_database) == {"search_runs": trials, "trials": trials, "trial_params": 4 * trials}


def test_planning_a_few_trials_does_not(server_database: Database) -> None:
    plan(server_database, [sample_plan()])
    plan(server_database, [sample_plan(seeds=2)])

    assert set(known_rows(server_database).values()) == {UNKNOWN}


def test_importing_many_trials_tells_the_server(server_database: Database, tmp_path: Path) -> None:
    store, checkpoints = FolderStore(tmp_path / "artifacts"), CheckpointStore(tmp_path)
    with open_database(f"sqlite:///{tmp_path / 'search.db'}", create=True).closing() as database:
        plan(database, [sample_plan(seeds=MANY_SEEDS)])
        export_studies(database, [STUDY], tmp_path / "study.zip", store, checkpoints)

    with open_archive(tmp_path / "study.zip") as archive:
        import_studies(server_database, archive, [STUDY], ImportedFiles(store, checkpoints))

    assert known_rows(server_database)["search_runs"] == MANY_SEEDS * CELLS


def test_a_role_that_does_not_own_the_tables_can_plan(server_database: Database, postgres: PostgresServer) -> None:
    name = server_database.engine.url.database
    assert name is not None
    role = f"planner_{os.getpid()}"
    postgres.create_role(role)
    with server_database.engine.begin() as connection:
        connection.execute(text(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"))
        connection.execute(text(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}"))

    with open_database(postgres.url_of(role, name), create=False).closing() as database:
        assert plan(database, [sample_plan(seeds=MANY_SEEDS)]).added == MANY_SEEDS * CELLS

    assert set(known_rows(server_database).values()) == {UNKNOWN}


def test_an_error_is_a_message_for_debugging_alone(server_database: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "storage")

    server_database.update_statistics([Table("absent", MetaData(), Column("id", Integer))], MANY_ROWS)

    [record] = [each for each in caplog.records if each.name == "storage"]
    assert record.levelno == logging.DEBUG
    assert record.getMessage() == 'no statistics of 1000 new rows: relation "absent" does not exist'

"""Databases of schema 1, which lm-search wrote before it was one package, are brought to today's schema."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import old_databases
import pytest
import swarm
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from postgres import PASSWORD, PostgresServer
from sample_study import optuna_trials
from sqlalchemy import inspect, text

from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.errors import StorageError
from search.storage.migrations.runner import VERSION_TABLE, _optuna_head, _optuna_scripts, revisions
from search.storage.queries import counts, trial_summaries
from search.storage.schema import SCHEMA_VERSION, metadata
from search.study.stored import read_stored_study

NAMES = ["language", "language-baselines", "line", "named", "named-baselines", "tiny", "tuned"]


@pytest.fixture
def old_url(storage_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A database of schema 1."""
    if storage_url.startswith("sqlite"):
        return old_databases.restore_sqlite(tmp_path)
    server: PostgresServer = request.getfixturevalue("postgres")
    old_databases.restore_postgres(server, storage_url)
    return storage_url


def scalars(database: Database, query: str) -> list[Any]:
    return list(database.read(lambda connection: connection.execute(text(query)).scalars().all()))


def change(database: Database, study: str, number: int, cell: str) -> None:
    """Write another cell into the queue."""
    statement = text("UPDATE search_runs SET cell = :cell WHERE study = :study AND number = :number")
    values = {"cell": cell, "study": study, "number": number}
    database.write(lambda connection: connection.execute(statement, values))


def version(database: Database) -> tuple[list[Any], list[Any]]:
    """The schema's version, and alembic's; none where there is no table of it."""
    tables = inspect(database.engine).get_table_names()
    revision = scalars(database, f"SELECT version_num FROM {VERSION_TABLE}") if VERSION_TABLE in tables else []
    return scalars(database, "SELECT version FROM search_schema"), revision


def everything(database: Database) -> dict[str, list[str]]:
    """The content of all tables that a migration may touch."""
    tables = ("search_runs", "search_schema", "study_user_attributes", "trial_params")

    def read(connection: Any) -> dict[str, list[str]]:
        return {name: sorted(map(repr, connection.execute(text(f"SELECT * FROM {name}")))) for name in tables}

    return database.read(read)


def test_the_newest_revision_is_the_version_of_the_schema() -> None:
    scripts = revisions()
    assert scripts.get_current_head() == f"{SCHEMA_VERSION:04d}"
    assert len(list(scripts.walk_revisions())) == SCHEMA_VERSION


def shape(database: Database) -> dict[str, Any]:
    """Our tables and SQLite's triggers, in a form that does not depend on how they were made."""
    inspector = inspect(database.engine)
    found: dict[str, Any] = {}
    for name in (*metadata.tables, VERSION_TABLE, "alembic_version"):
        # Revisions give columns of older rows a default; programs write every column.
        columns = sorted((each["name"], str(each["type"]), each["nullable"]) for each in inspector.get_columns(name))
        indexes = sorted((str(each["name"]), each["column_names"]) for each in inspector.get_indexes(name))
        keys = [inspector.get_pk_constraint(name)["constrained_columns"]]
        keys += sorted(each["column_names"] for each in inspector.get_unique_constraints(name))
        foreign = sorted(
            (each["constrained_columns"], each["referred_table"], each["options"])
            for each in inspector.get_foreign_keys(name)
        )
        found[name] = (columns, indexes, keys, foreign)
    if database.engine.dialect.name == "sqlite":
        found["never again"] = scalars(
            database, "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%' ORDER BY name"
        )
        found["triggers"] = scalars(database, "SELECT name FROM sqlite_master WHERE type = 'trigger' ORDER BY name")
    return found


@pytest.fixture
def new_url(storage_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A second empty database, of the same kind."""
    if storage_url.startswith("sqlite"):
        return f"sqlite:///{tmp_path / 'new.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.create_schema(f"{storage_url.rpartition('%3D')[2]}_new")


def test_the_revisions_make_the_tables_of_a_new_database(old_url: str, new_url: str) -> None:
    def differences(connection: Any) -> list[Any]:
        ours = {"include_object": lambda _object, name, kind, *_: kind != "table" or name in metadata.tables}
        return list(compare_metadata(MigrationContext.configure(connection, opts=ours), metadata))

    found = []
    for url in (old_url, new_url):
        with open_database(url, create=True).closing() as database:
            assert database.read(differences) == []
            assert version(database) == ([SCHEMA_VERSION], [f"{SCHEMA_VERSION:04d}"])
            assert scalars(database, "SELECT version_num FROM alembic_version") == [_optuna_head()]
            found.append(shape(database))
    assert found[0] == found[1]


def test_an_old_database_is_upgraded_with_its_names(old_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with open_database(old_url, create=True).closing() as database:
        assert version(database) == ([SCHEMA_VERSION], [f"{SCHEMA_VERSION:04d}"])
        studies = {name: study for name in NAMES if (study := read_stored_study(database, name)) is not None}
        assert {name: study.definition.objective for name, study in studies.items()} == {
            **dict.fromkeys(NAMES, "language_model"),
            "line": "my_objective:loss",
        }
        assert studies["named"].definition.models == ["search.models.bigram_v2:BigramV2"]
        assert studies["named-baselines"].definition.models == ["search.models.bigram:Bigram"]
        assert studies["tiny"].definition.models == ["my_models:Tiny"]
        assert studies["language"].bigram_baseline == pytest.approx(2.059172834425073)
        models = {trial.study: trial.cell.get("model") for trial in trial_summaries(database, NAMES)}
        shapes = scalars(database, "SELECT DISTINCT shape_key FROM search_runs WHERE study = 'named'")
        assert scalars(database, "SELECT key FROM study_user_attributes WHERE key = 'floor'") == []
    assert models["named"] == "search.models.bigram_v2:BigramV2"
    assert models["named-baselines"] == "search.models.bigram:Bigram"
    assert models["tiny"] == "my_models:Tiny"
    assert [json.loads(shape)["model"] for shape in shapes] == ["search.models.bigram_v2:BigramV2"]
    # Optuna agrees with the queue, for the sampler and the dashboard.
    [trial] = optuna_trials(old_url, "named-baselines")
    assert trial.params["model"] == "search.models.bigram:Bigram"
    assert "1 unfinished trials restart from the beginning" in caplog.text
    assert re.search(
        rf"upgrading .* from schema 1 to {SCHEMA_VERSION}; (backup: .*\.schema-1\.bak|.*pg_dump --host )", caplog.text
    )
    assert PASSWORD not in caplog.text


def test_the_copy_is_the_database_as_it_was(tmp_path: Path) -> None:
    url = old_databases.restore_sqlite(tmp_path)
    with open_database(url, create=False).closing() as database:
        before = everything(database)
    open_database(url, create=True).engine.dispose()
    with open_database(f"{url}.schema-1.bak", create=False).closing() as copy:
        assert everything(copy) == before
        assert version(copy) == ([1], [])


def test_readers_read_an_old_database_as_it_is(old_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="storage")
    with open_database(old_url, create=False).closing() as database:
        assert version(database) == ([1], [])
        assert counts(database, ["language"])["waiting"] == 2
        named = read_stored_study(database, "named")
    assert named is not None
    assert named.definition.objective == "objectives.language_model:start"
    assert (
        f"has schema 1 of an older lm-search (here {SCHEMA_VERSION}) and is read without upgrading it; "
        "make a copy with: " in caplog.text
    )


def test_a_program_that_needs_the_new_names_says_what_to_run(old_url: str) -> None:
    with pytest.raises(
        StorageError, match=r"has schema 1 .* make a copy with: (cp|pg_dump) .*program run or worker"
    ) as caught:
        open_database(old_url, create=False, outdated="refuse")
    assert PASSWORD not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_upgrade_while_a_worker_trains(old_url: str) -> None:
    with open_database(old_url, create=False).closing() as database:
        hold = "UPDATE search_runs SET lease_until = 4e9 WHERE study = 'tiny' AND state = 'running'"
        database.write(lambda connection: connection.execute(text(hold)))
        before = everything(database)
        for create in (True, False):
            with pytest.raises(StorageError, match=r"workers train its trials: old-main/\S+ \(trial 1 of tiny\); stop"):
                open_database(old_url, create=create, outdated="upgrade")
        assert everything(database) == before
        assert version(database) == ([1], [])
        database.write(lambda connection: connection.execute(text("UPDATE search_runs SET lease_until = 0")))
        open_database(old_url, create=True).engine.dispose()
        assert version(database)[0] == [SCHEMA_VERSION]


def test_an_upgrade_that_fails_changes_nothing(old_url: str) -> None:
    with open_database(old_url, create=False).closing() as database:
        # A cell that is no JSON stops it in the middle.
        change(database, "tiny", 2, 'no JSON: "models.')
        before = everything(database)
        with pytest.raises(json.JSONDecodeError, match=r"Expecting value"):
            open_database(old_url, create=True)
        assert everything(database) == before
        assert version(database) == ([1], [])


def test_eight_processes_upgrade_at_once(old_url: str) -> None:
    swarm.run_at_once(8, swarm.create_tables, old_url)
    with open_database(old_url, create=False).closing() as database:
        assert version(database) == ([SCHEMA_VERSION], [f"{SCHEMA_VERSION:04d}"])


def test_names_of_others_stay(old_url: str) -> None:
    """A study that was not planned by lm-search, in the same database."""
    theirs = json.dumps({"grid": {"model": ["models.bigram:Bigram"]}})
    attribute = "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (:study, 'notes', :json)"
    with open_database(old_url, create=False).closing() as database:
        [study] = scalars(database, "SELECT study_id FROM studies WHERE study_name = 'named'")
        database.write(lambda connection: connection.execute(text(attribute), {"study": study, "json": theirs}))
        change(database, "tiny", 2, json.dumps({"model": "models.mine:Mine", "seed": 1}))
    with open_database(old_url, create=True).closing() as database:
        assert scalars(database, "SELECT value_json FROM study_user_attributes WHERE key = 'notes'") == [theirs]
        cells = [trial.cell for trial in trial_summaries(database, ["tiny"]) if trial.number == 2]
    assert cells == [{"model": "models.mine:Mine", "seed": 1}]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"factor": "model", "order": ["models.bigram:Bigram", "mine:X"]}, ["search.models.bigram:Bigram", "mine:X"]),
        ({"factor": "n_embd", "order": ["models.bigram:Bigram"]}, ["models.bigram:Bigram"]),
    ],
)
def test_claims_about_models_are_translated(before: dict[str, Any], after: list[str]) -> None:
    [revision] = [script.module for script in revisions().walk_revisions() if script.revision == "0002"]
    assert revision.renamed([before])[0]["order"] == after


def test_an_old_study_file_is_told_the_new_name(tmp_path: Path) -> None:
    old_databases.copy_studies(tmp_path)
    command = [
        sys.executable,
        "-m",
        "search.run",
        "--study",
        "named.toml",
        "--storage",
        "sqlite:///x.db",
        "--plan-only",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "(the built-in objective is now called 'language_model')" in done.stderr
    assert not (tmp_path / "x.db").exists()
    file = tmp_path / "named.toml"
    file.write_text(file.read_text().replace("objectives.language_model:start", "language_model"))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with open_database(f"sqlite:///{tmp_path / 'x.db'}", create=False).closing() as database:
        named = read_stored_study(database, "named")
    assert named is not None
    assert named.definition.models == ["search.models.bigram_v2:BigramV2"]


def test_the_newest_revision_of_optuna_is_found_without_alembic() -> None:
    assert _optuna_head() == _optuna_scripts().get_current_head()


def test_a_report_of_an_old_database_shows_its_bigram_baseline(old_url: str) -> None:
    with open_database(old_url, create=False).closing() as database:
        stored = read_stored_study(database, "language")
    assert stored is not None
    assert stored.bigram_baseline is not None

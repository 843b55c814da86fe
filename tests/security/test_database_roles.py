"""The three roles on a real PostgreSQL server: each can do its work, and nothing more."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import psycopg
import pytest
from postgres import PostgresServer
from psycopg.errors import InsufficientPrivilege
from sqlalchemy.engine import make_url
from study_files import write_corpus, write_study

import search.storage
from search.options import PlanningOptions
from search.planning import open_planned
from search.reporting.render import render
from search.reporting.status_text import status_as_text
from search.storage.queries import counts
from search.storage.queue import TrialQueue
from search.study.lookup import open_studies
from search.web.access import Access
from search.web.app import protected_dashboard
from search.web.dashboard_publisher import publish
from search.workers.setup import open_worker

SCRIPT = Path(search.storage.__file__).with_name("roles.sql")
PASSWORD = "of-a-role"
FAKE = """
objective = "fake_objective:start"
{seeds}

[training]
max_iters = 4
eval_interval = 2

[workers]
retry_delay_s = 0.1
max_attempts = 2
"""
STUDIES = {
    "race": FAKE.format(seeds='seeds = "auto"') + "[auto_seeds]\nmax_seeds = 4\n[grid]\nx = [1, 2, 3]\n",
    "sampled": FAKE.format(seeds='sampler = "tpe"\ntrials = 5') + "[axes]\nlr = { low = 1e-4, high = 1e-1 }\n",
    "pruned": FAKE.format(seeds="seeds = 2")
    + "keep_artifacts = 1\n"
    + '[grid]\nx = [1]\nfault = ["", "error"]\n[pruner]\nname = "sha"\n',
}


def connected(url: str) -> psycopg.Connection[Any]:
    parts = make_url(url).translate_connect_args(username="user", database="dbname")
    return psycopg.connect(**parts, autocommit=True)


@dataclass(frozen=True)
class Roles:
    """A database of three roles, and the folder of its planned studies."""

    owner: str
    folder: Path

    def url(self, role: str) -> str:
        return make_url(self.owner).set(username=role, password=PASSWORD).render_as_string(hide_password=False)

    def execute(self, url: str, statement: str) -> Any:
        with connected(url) as connection:
            return connection.execute(statement.encode())


@pytest.fixture(scope="module")
def database(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Roles:
    """The owner has planned the studies and made the other roles."""
    made = Roles(postgres.create_database("of_roles"), tmp_path_factory.mktemp("roles"))
    corpus = Path(write_corpus(made.folder))
    for name, text in STUDIES.items():
        file = write_study(made.folder, text, name)
        planned, _ = open_planned(PlanningOptions(study=file, storage=made.owner, corpus=corpus, out=made.folder))
        planned.engine.dispose()
    for _ in range(2):  # again after an upgrade
        made.execute(made.owner, SCRIPT.read_text(encoding="utf-8"))
    for role in ("search_worker", "search_reader"):
        made.execute(made.owner, f"ALTER ROLE {role} PASSWORD '{PASSWORD}'")
    return made


@pytest.mark.parametrize("name", STUDIES)
def test_a_worker_trains_publishes_and_a_reader_reads(database: Roles, name: str) -> None:
    file, corpus = str(database.folder / f"{name}.toml"), database.folder / "text.txt"
    worker = open_worker(file, database.url("search_worker"), "cpu", corpus=corpus, out=database.folder)
    with worker.queue.database.closing():
        assert worker.run()
        assert publish(worker.queue.database, [name])
        assert publish(worker.queue.database, [name])
        if name == "pruned":
            assert TrialQueue(worker.queue.database).retry_failed([name]) == 2
            assert worker.run()
    # `run` on a planned study, as on a machine with GPUs.
    planned, _ = open_planned(
        PlanningOptions(study=file, storage=database.url("search_worker"), corpus=corpus, out=database.folder)
    )
    planned.engine.dispose()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.storage.database.Database.write", None)
        opened, names = open_studies(name, database.url("search_reader"), 0, baselines=True)
        with opened.closing():
            found = counts(opened, names)
            assert found["complete"] >= (2 if name == "pruned" else 5)
            assert found["waiting"] == 0
            assert "complete" in status_as_text(opened, names, None)
            for kind in ("markdown", "csv", "json", "latex", "html"):
                assert render(opened, names, kind)


def test_a_reader_is_enough_for_a_read_only_dashboard(database: Roles) -> None:
    app = protected_dashboard(database.url("search_reader"), None, Access(writable=False, token=None))

    def ask(path: str) -> Any:
        environment: dict[str, Any] = {"HTTP_HOST": "localhost"}
        setup_testing_defaults(environment)
        environment |= {"PATH_INFO": path, "QUERY_STRING": "", "wsgi.errors": io.StringIO()}
        status: list[str] = []
        body = b"".join(app(environment, lambda code, headers, error=None: status.append(code)))  # type: ignore[arg-type]
        assert status == ["200 OK"], body
        return json.loads(body)

    studies = ask("/api/studies")["study_summaries"]
    assert {study["study_name"] for study in studies} == set(STUDIES)
    for study in studies:
        assert ask(f"/api/studies/{study['study_id']}")["trials"]
    ask(f"/api/studies/{studies[0]['study_id']}/param_importances")


# What only the owner may do.
OWNERS = (
    *("DELETE FROM studies", "UPDATE studies SET study_name = 'x'", "INSERT INTO studies (study_name) VALUES ('x')"),
    *("DELETE FROM trials", "DELETE FROM search_runs"),
    *("UPDATE search_studies SET name = name", "TRUNCATE trial_values"),
    "DELETE FROM study_directions",
    *(
        "UPDATE search_schema SET version = 9",
        "DELETE FROM alembic_version",
        "UPDATE version_info SET schema_version = 1",
    ),
    *("CREATE TABLE mine (x int)", "ALTER TABLE trials ADD COLUMN x int", "DROP TABLE trials"),
    *("CREATE ROLE mine", "CREATE EXTENSION dblink", "ALTER TABLE trials OWNER TO CURRENT_USER"),
    *("COPY (SELECT 1) TO PROGRAM 'true'", "SELECT pg_read_file('postgresql.conf')", "COPY trials FROM '/etc/passwd'"),
    *("SELECT rolpassword FROM pg_authid", "CREATE SCHEMA mine", "SET ROLE search"),
)
# What a worker may do too.
WORKERS = (
    *("UPDATE search_runs SET owner = owner", "UPDATE trials SET state = state", "DELETE FROM trial_params"),
    *(
        "INSERT INTO trial_values (trial_id, objective, value_type) VALUES (1, 7, 'INF_POS')",
        "SELECT nextval('trials_trial_id_seq')",
    ),
    *("UPDATE study_system_attributes SET key = key", "DELETE FROM trial_heartbeats"),
)


@pytest.mark.parametrize("role", ["search_worker", "search_reader"])
def test_nobody_can_do_more(database: Roles, role: str) -> None:
    url = database.url(role)
    for statement in OWNERS if role == "search_worker" else (*OWNERS, *WORKERS):
        with pytest.raises(InsufficientPrivilege, match=r"must be owner|permission denied"):
            database.execute(url, statement)
    for table in ("studies", "trials", "search_runs", "search_schema", "version_info"):
        database.execute(url, f"SELECT * FROM {table}")


def test_a_worker_can_do_what_its_part_needs(database: Roles) -> None:
    with connected(database.url("search_worker")) as connection, connection.transaction(force_rollback=True):
        for statement in WORKERS:
            connection.execute(statement.encode())

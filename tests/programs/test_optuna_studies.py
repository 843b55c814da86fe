"""Databases that stock Optuna made: shown by report, status and dashboard, and left as they are to the last byte."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from optuna_studies import STUDIES, make_optuna_studies
from postgres import PostgresServer
from sample_study import engines_closed, optuna_trials
from sqlalchemy import create_engine, inspect
from typer.testing import CliRunner, Result

from search import delete, report, status
from search.errors import UsageError
from search.options import PlanningOptions
from search.planning import open_planned
from search.reporting.render import FORMATS
from search.storage.connect import open_database
from search.storage.errors import StorageError
from search.study.lookup import UnknownStudy, open_studies
from search.web.access import Access
from search.web.app import protected_dashboard


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def reported(url: str, study: str, *options: str) -> Result:
    return CliRunner().invoke(report.app, ["--study", study, "--storage", url, *options])


def status_of(url: str, study: str, *options: str) -> Result:
    return CliRunner().invoke(status.app, ["--study", study, "--storage", url, *options])


def dashboard_answer(url: str, path: str) -> tuple[str, bytes]:
    app = protected_dashboard(url, None, Access(writable=False, token=None))
    environ: dict[str, object] = {}
    setup_testing_defaults(environ)
    environ |= {"PATH_INFO": path, "HTTP_HOST": "localhost"}
    said: list[str] = []

    def start(status: str, *_: object) -> Any:
        said.append(status)

    with engines_closed():
        body = b"".join(app(environ, start))
    return said[0], body


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the studies, as Optuna leaves it."""
    file = tmp_path_factory.mktemp("optuna") / "optuna.db"
    make_optuna_studies(f"sqlite:///{file}")
    return file


@pytest.fixture
def file(made: Path, tmp_path: Path) -> Path:
    """A copy of that file in a folder of its own."""
    return Path(shutil.copy(made, tmp_path / "optuna.db"))


def read_everything(url: str) -> None:
    """Use every program that shows a study."""
    for study in STUDIES:
        for format in FORMATS:
            done = reported(url, study, "--format", format)
            assert done.exit_code == 0, done.output
            assert done.stdout.strip()
        for options in ([], ["--json"]):
            done = status_of(url, study, *options)
            assert done.exit_code == 0, done.output
    answer, body = dashboard_answer(url, "/api/studies")
    assert answer == "200 OK"
    assert sorted(each["study_name"] for each in json.loads(body)["study_summaries"]) == sorted(STUDIES)
    assert dashboard_answer(url, "/api/studies/1")[0] == "200 OK"


@pytest.mark.parametrize("journal", ["delete", "wal", "wal with a log", "read-only"])
def test_no_byte_of_a_file_changes(file: Path, journal: str) -> None:
    if journal.startswith("wal"):
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA journal_mode = wal")
    if journal == "wal with a log":
        add = "connection.execute('INSERT INTO study_user_attributes VALUES (1, 1, ?, ?)', ('a', '1'))"
        script = f"import os, sqlite3; connection = sqlite3.connect({str(file)!r}); {add}; connection.commit(); "
        script += "os.kill(os.getpid(), 9)"
        assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    if journal == "read-only":
        file.chmod(0o444)
        file.parent.chmod(0o555)
    before, files = sha256(file), sorted(os.listdir(file.parent))
    try:
        read_everything(f"sqlite:///{file}")
    finally:
        file.parent.chmod(0o755)
    assert sha256(file) == before
    assert sorted(os.listdir(file.parent)) == files


@pytest.fixture
def read_only_role(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a role that may only read."""
    name = f"optuna_{os.getpid()}"
    url = postgres.create_database(name)
    make_optuna_studies(url.replace("postgresql://", "postgresql+psycopg://"))
    postgres.create_role(name)
    postgres.execute(f"GRANT pg_read_all_data TO {name}")
    yield postgres.url_of(name, name)
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        assert not [table for table in inspect(engine).get_table_names() if table.startswith("search")]
    finally:
        engine.dispose()


def test_a_server_with_a_role_that_may_only_read(read_only_role: str) -> None:
    read_everything(read_only_role)


def test_what_a_report_shows(file: Path) -> None:
    url = f"sqlite:///{file}"
    text = reported(url, "conditional").stdout
    assert "- trials: 1 waiting, 2 running, 10 complete, 1 pruned, 1 diverged, 1 failed" in text
    for lacking in ("training", "pruner", "batch_size", "objective:", "--seeds", "--pruner"):
        assert lacking not in text
    assert "max\\|depth" in text
    assert "model: svm, forest, None;" in text
    rows = list(csv.DictReader(io.StringIO(reported(url, "conditional", "--format", "csv").stdout)))
    assert len(rows) == 14  # each trial that has parameters, and the diverged one
    trials = optuna_trials(url, "conditional")
    best = min((each for each in trials[:12] if each.state == TrialState.COMPLETE), key=lambda each: each.values[0])
    assert float(rows[0]["value"]) == best.value
    assert float(rows[0]["learning rate"]) == best.params["learning rate"]
    assert rows[0]["params_seed"] == str(best.params["seed"])
    pruned = next(row for row in rows if row["state"] == "pruned")
    assert float(pruned["value"]) == trials[3].intermediate_values[0]
    page = reported(url, "conditional", "--format", "html").stdout
    assert "To run it again" not in page
    assert "every combination" not in page


def test_repeated_parameters_are_repetitions(file: Path) -> None:
    read = json.loads(reported(f"sqlite:///{file}", "repeated", "--format", "json").stdout)
    assert [(row["trials"], row["interval"] is not None) for row in read["rows"]] == [(3, True)] * 4
    assert read["definition"]["grid"] == {"width": [16, 32], "rate": [0.1, 0.2]}
    answered = [each for each in read["verdicts"]["comparisons"] if each["verdict"] == "yes"]
    assert {each["comparisons"][0]["factor"] for each in answered} == {"width", "rate"}


def test_a_parameter_called_seed_tells_repetitions_apart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    with engines_closed():
        study = optuna.create_study(study_name="seeds", storage=url)
        for seed in (5, 6, 7):
            for width in (1, 2):
                study.enqueue_trial({"width": width, "seed": seed})
        study.optimize(
            lambda trial: trial.suggest_int("width", 1, 9) + trial.suggest_int("seed", 0, 9) / 100, n_trials=6
        )
    read = json.loads(reported(url, "seeds", "--format", "json").stdout)
    assert [(row["cell"], row["trials"]) for row in read["rows"]] == [({"width": 1}, 3), ({"width": 2}, 3)]


def test_status_shows_no_lease_and_offers_no_retry(file: Path) -> None:
    text = status_of(f"sqlite:///{file}", "conditional").stdout
    assert "conditional: 16 trials; 1 waiting, 2 running, 10 complete, 1 pruned, 1 diverged, 1 failed" in text
    assert "step 7, value 2.5000\n" in text
    for lacking in ("lease", "attempt", "; None", "--retry-failed", "time limits", " seed=0"):
        assert lacking not in text


def test_missing_studies_and_those_that_exist(file: Path) -> None:
    with pytest.raises(UnknownStudy, match=r"existing studies: conditional, empty, repeated, two goals; start one"):
        open_studies("nope", f"sqlite:///{file}", 0, baselines=True, of_optuna=True)


def test_what_trains_trials_says_whose_they_are(file: Path, tmp_path: Path) -> None:
    url, before = f"sqlite:///{file}", sha256(file)
    why = r"the study 'repeated' in .* is Optuna's own: .* show it with: .*report --study repeated --storage sqlite:"
    for outdated in ("upgrade", "refuse"):  # a worker, and a replay
        with pytest.raises(UsageError, match=why):
            open_studies("repeated", url, 0, baselines=False, outdated=outdated)
    with pytest.raises(UsageError, match=why):
        open_planned(PlanningOptions(study="bigram", name="repeated", storage=url, out=tmp_path / "out"))
    done = status_of(url, "repeated", "--retry-failed")
    assert done.exit_code == 2
    assert sha256(file) == before


def test_a_study_beside_planned_ones(file: Path) -> None:
    url = f"sqlite:///{file}"
    open_database(url, create=True).engine.dispose()
    assert "# repeated" in reported(url, "repeated").stdout


@pytest.mark.parametrize("revision", ["v2.6.0.a", "v0.9.0.a"])
def test_an_older_optuna_is_to_be_upgraded(file: Path, revision: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        if revision.startswith("v0"):
            connection.executescript("DROP TABLE alembic_version; DROP TABLE study_directions")
        else:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.commit()
    before = sha256(file)
    with pytest.raises(StorageError, match=r"upgrade it with: optuna storage upgrade --storage sqlite:"):
        open_studies("repeated", f"sqlite:///{file}", 0, baselines=True, of_optuna=True)
    assert sha256(file) == before


def test_a_journal_is_copied_by_the_command_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    journal = optuna.storages.JournalStorage(JournalFileBackend("optuna.log"))
    study = optuna.create_study(study_name="journaled", storage=journal)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    for storage in ("optuna.log", "sqlite:///optuna.log"):
        with pytest.raises(StorageError, match=r"optuna.log is a file of Optuna's JournalStorage") as caught:
            open_studies("journaled", storage, 0, baselines=True, of_optuna=True)
    command = str(caught.value).split("copy its studies with: python")[1].split("; then give")[0]
    subprocess.run(f"{sys.executable}{command}", shell=True, check=True, capture_output=True)
    assert "3 complete" in reported("sqlite:///optuna.log.db", "journaled").stdout


@pytest.mark.parametrize("has_ours", [False, True])
def test_one_of_them_is_deleted(tmp_path: Path, has_ours: bool) -> None:
    url = f"sqlite:///{tmp_path}/theirs.db"
    make_optuna_studies(url)
    if has_ours:
        open_database(url, create=True).engine.dispose()
    arguments = ["--storage", url, "--out", str(tmp_path / "out"), "--study"]
    done = CliRunner().invoke(delete.app, [*arguments, "conditional"])
    assert (done.exit_code, "there is no terminal to ask on" in done.output) == (2, True)
    done = CliRunner().invoke(delete.app, [*arguments, "conditional", "--yes"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith(f"deleted conditional in {url}, a study of Optuna's own: ")
    done = CliRunner().invoke(delete.app, [*arguments, "conditional", "--yes"])
    assert done.exit_code == 2
    assert "existing studies: empty, repeated, two goals; nothing was deleted" in done.stderr
    engine = create_engine(url)
    assert ("search_runs" in inspect(engine).get_table_names()) == has_ours
    engine.dispose()
    storage = optuna.storages.RDBStorage(url)
    assert sorted(optuna.get_all_study_names(storage)) == ["empty", "repeated", "two goals"]
    assert len(optuna.load_study(study_name="repeated", storage=storage).trials) > 0
    storage.engine.dispose()

"""Errors of a database that is open already, or can never be used: exit code 2, one line with advice, no waiting."""

from __future__ import annotations

import importlib
import itertools
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from postgres import PASSWORD, PostgresServer
from sample_study import STUDY, sample_plan
from sqlalchemy import text
from sqlalchemy.engine import make_url
from study_files import sqlite, write_corpus, write_study
from typer.testing import CliRunner

from search.storage.connect import open_database
from search.storage.errors import StorageError
from search.storage.planning import plan
from search.storage.queue import TrialQueue

_names = itertools.count()

# A right that waiting cannot give must not be waited for, as a server that starts is: for a minute.
AT_ONCE_S = 30.0


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The options of a study of the fake objective."""
    monkeypatch.chdir(tmp_path)
    return ["--study", write_study(tmp_path), "--corpus", write_corpus(tmp_path)]


def refusal(program: str, *arguments: str) -> str:
    """The one line that a program ends with."""
    began = time.monotonic()
    done = CliRunner().invoke(importlib.import_module(f"search.{program}").app, arguments)
    assert time.monotonic() - began < AT_ONCE_S
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == 2, done.output
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, lines
    assert PASSWORD not in lines[0]
    return lines[0]


def new_database(server: PostgresServer, options: str = "") -> str:
    """A database of its own, because roles and encodings belong to databases; returns its name."""
    name = f"errors_{next(_names)}"
    server.execute(f'CREATE DATABASE "{name}" TEMPLATE template0 {options}')
    return name


def new_role(server: PostgresServer, attributes: str = "") -> str:
    name = f"role_{next(_names)}"
    server.create_role(name, attributes)
    return name


def in_database(server: PostgresServer, name: str, *statements: str) -> None:
    """Run statements as superuser in a database."""
    with open_database(server.url(name), create=True).closing() as database:
        for statement in statements:
            database.write(lambda connection, each=statement: connection.execute(text(each)))  # type: ignore[misc]


PLAN = ["--plan-only", "--quiet"]


def test_a_role_that_may_only_read(postgres: PostgresServer, study: list[str]) -> None:
    name, reader = new_database(postgres), new_role(postgres)
    owner = postgres.url(name)
    assert (
        not CliRunner().invoke(importlib.import_module("search.run").app, [*study, "--storage", owner, *PLAN]).exception
    )
    in_database(postgres, name, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}")
    url = postgres.url_of(reader, name)
    advice = (
        r"error: postgresql://role_.*: permission denied for table \w+; this role lacks a right; use another role.*"
    )
    for program, *more in [["run", *PLAN], ["worker"], ["status", "--retry-failed"]]:
        options = study if program != "status" else ["--study", "small"]
        assert re.fullmatch(advice, refusal(program, *options, "--storage", url, *more)), program
    for program in ("report", "status"):
        done = CliRunner().invoke(
            importlib.import_module(f"search.{program}").app, ["--study", "small", "--storage", url]
        )
        assert done.exit_code == 0, done.output


CASES: dict[str, tuple[str, str, str]] = {
    # what is done as superuser before ({name} is the database, {role} the role); what the URL gets; the message
    "no right to create tables": ("", "", "permission denied for schema public; this role lacks a right"),
    "no right to connect": (
        "REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
        "",
        "permission denied for database .*; the server does not let this user in",
    ),
    "no login": ("ALTER ROLE {role} NOLOGIN", "", "not permitted to log in; the server does not let this user in"),
    "database read-only": (
        "ALTER DATABASE {name} SET default_transaction_read_only = on",
        "",
        "read-only transaction; the server or database is read-only",
    ),
    "database closed": (
        "ALTER DATABASE {name} ALLOW_CONNECTIONS false",
        "",
        "not currently accepting connections; the database accepts no connections; choose another",
    ),
    "no such schema": (
        "",
        "?options=-csearch_path%3Dmissing",
        "no schema has been selected .*; the schema does not ex",
    ),
    "TLS required": ("", "?sslmode=require", "does not support SSL.*; the URL and the server disagree about TLS"),
    "TLS without its certificate": ("", "?sslmode=verify-full&sslrootcert=no.pem", "; the URL and the server disagree"),
    "TLS mode unknown": ("", "?sslmode=always", "; the URL and the server disagree about TLS"),
    "unknown key": ("", "?pool=3", 'invalid connection option "pool"; fix this key of the URL'),
    "wrong timeout": ("", "?connect_timeout=soon", "bad value for connect_timeout.*; fix this key of the URL"),
    "no prepare threshold": ("", "?prepare_threshold=-1", "prepare_threshold=-1 in the URL: give a number, or none"),
    "setting unknown": ("", "?options=-cno_such%3D1", 'unrecognized configuration parameter "no_such"; fix this key'),
}


@pytest.mark.parametrize("case", CASES)
def test_postgresql_refuses(postgres: PostgresServer, study: list[str], case: str) -> None:
    before, query, message = CASES[case]
    name, role = new_database(postgres), new_role(postgres)
    if before:
        postgres.execute(before.format(name=name, role=role))
    line = refusal("run", *study, "--storage", postgres.url_of(role, name) + query, *PLAN)
    assert re.search(message, line), line


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "UTF8"])
def test_encodings(postgres: PostgresServer, study: list[str], encoding: str) -> None:
    name = new_database(postgres, f"ENCODING {encoding} LC_COLLATE 'C' LC_CTYPE 'C'")
    options = [*study, "--storage", postgres.url(name), *PLAN]
    if encoding == "LATIN1":
        assert re.search("has the encoding LATIN1, .*createdb -E UTF8", refusal("run", *options))
        return
    done = CliRunner().invoke(importlib.import_module("search.run").app, options)
    assert done.exit_code == 0, done.stderr
    with open_database(postgres.url(name), create=False).closing() as database:
        [lease] = TrialQueue(database).claim(["small"], "ann")
        TrialQueue(database).finish(lease, "failed", None, {"why": "näh → 漢字"}, "näh → 漢字")
    done = CliRunner().invoke(importlib.import_module("search.status").app, ["--study", "small", *options[4:6]])
    assert "näh → 漢字" in done.output


@pytest.mark.parametrize("statement", ["DROP TABLE search_runs", "DROP TABLE trial_params CASCADE"])
def test_a_table_is_dropped(storage_url: str, statement: str) -> None:
    with open_database(storage_url, create=True).closing() as database:
        plan(database, [sample_plan()])
        if database.engine.dialect.name == "sqlite":
            statement = statement.removesuffix(" CASCADE")
        database.write(lambda connection: connection.execute(text(statement)))
        with pytest.raises(StorageError, match=r"^\S+: .*; a table is missing"):
            plan(database, [sample_plan(seeds=2)])


@pytest.mark.parametrize("values", [["x" * 1990], ["y" * 700, "z"] * 1])
@pytest.mark.parametrize("kind", ["grid", "sampled"])
def test_cells_that_are_too_long_are_refused_by_any_database(tmp_path: Path, values: list[str], kind: str) -> None:
    axes = "".join(f"axis_{at} = {values}\n" for at in range(1 if len(values) == 1 else 3))
    sampler = 'sampler = "random"\ntrials = 4\n' if kind == "sampled" else ""
    (tmp_path / "loss.py").write_text("def loss(params, seed):\n    yield 20, 1.0, 1.0\n")
    file = tmp_path / "long.toml"
    file.write_text(f'objective = "loss:loss"\n{sampler}[grid]\n{axes}[training]\nmax_iters = 20\neval_interval = 20\n')
    line = refusal("run", "--study", str(file), "--storage", sqlite(tmp_path), *PLAN)
    assert re.search(r"a cell is up to \d{4} characters long .*; at most 2000 fit; shorten the values of axis_0", line)
    assert not (tmp_path / "search.db").exists()


def test_many_axes_fit(storage_url: str, tmp_path: Path) -> None:
    """Shapes are compared, not read, so long ones are shortened."""
    axes = "".join(f"axis_with_a_long_name_{at} = ['a', 'b{at}']\n" for at in range(10))
    (tmp_path / "loss.py").write_text("def loss(params, seed):\n    yield 20, 1.0, 1.0\n")
    file = tmp_path / "many.toml"
    file.write_text(f'objective = "loss:loss"\n[grid]\n{axes}[training]\nmax_iters = 20\neval_interval = 20\n')
    done = CliRunner().invoke(
        importlib.import_module("search.run").app, ["--study", str(file), "--storage", storage_url, *PLAN]
    )
    assert done.exit_code == 0, done.stderr


def planned_file(folder: Path) -> Path:
    """A planned study whose file has no write-ahead log."""
    file = folder / "search.db"
    with open_database(f"sqlite:///{file}", create=True).closing() as database:
        plan(database, [sample_plan()])
    return file


def test_a_damaged_file(tmp_path: Path) -> None:
    file = planned_file(tmp_path)
    pages = file.read_bytes()
    file.write_bytes(pages[:4096] + b"\xa5" * (len(pages) - 4096))
    for program in ("status", "report"):
        line = refusal(program, "--study", STUDY, "--storage", f"sqlite:///{file}")
        assert "malformed; the file is damaged; restore a backup" in line


def test_a_full_disk(tmp_path: Path) -> None:
    with open_database(sqlite(tmp_path), create=True, outage_s=0.2).closing() as database:
        plan(database, [sample_plan()])

        def fill(connection: object) -> None:
            connection.execute(text("PRAGMA max_page_count = 1"))  # type: ignore[attr-defined]
            connection.execute(text("CREATE TABLE filling AS SELECT randomblob(1000000)"))  # type: ignore[attr-defined]

        with pytest.raises(StorageError, match=r"disk is full\); free some disk space, then run the same command"):
            database.write(fill)


# Runs `search.argv[1]` as a process whom permission bits concern: root gives its privilege up, by CAP_DAC_OVERRIDE,
# CAP_DAC_READ_SEARCH and CAP_FOWNER, but reads its own files on, such as those of the virtual environment.
RESTRICTED = """
import ctypes, os, sys
PR_CAPBSET_DROP = 24
for capability in (1, 2, 3) if os.geteuid() == 0 else ():
    assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0
os.execv(sys.executable, [sys.executable, "-m", f"search.{sys.argv[1]}", *sys.argv[2:]])
"""


@pytest.mark.parametrize("mode", ["file", "folder"])
def test_a_file_that_may_only_be_read(tmp_path: Path, mode: str) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    file = planned_file(folder)
    file.chmod(0o444 if mode == "file" else 0o666)
    folder.chmod(0o777 if mode == "file" else 0o555)
    url = f"sqlite:///{file}"
    began = time.monotonic()
    changing = ["status", "--study", STUDY, "--storage", url, "--retry-failed"]
    done = subprocess.run([sys.executable, "-c", RESTRICTED, *changing], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(r"error: sqlite:.*; the file or its folder is read-only; fix its permissions.*\n", done.stderr)
    assert time.monotonic() - began < 20
    done = subprocess.run([sys.executable, "-c", RESTRICTED, *changing[:-1]], capture_output=True, text=True)
    if mode == "file":
        assert "12 waiting" in done.stdout, done.stderr
    else:  # in WAL mode even a reader needs a file beside it
        assert re.fullmatch(r"error: sqlite:.*; the file or its folder is read-only; .*\n", done.stderr)


def test_another_program_holds_the_file(tmp_path: Path) -> None:
    file = planned_file(tmp_path)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with (
            open_database(f"sqlite:///{file}", create=False, outage_s=0.3).closing() as database,
            pytest.raises(
                StorageError, match=r"did not answer for \d+ s \(database is locked\); another program holds"
            ),
        ):
            plan(database, [sample_plan(seeds=2)])


def test_an_unknown_error_is_one_line_too(tmp_path: Path, study: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    file = planned_file(tmp_path)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("ALTER TABLE search_runs RENAME COLUMN state TO other")
    line = refusal("status", "--study", STUDY, "--storage", f"sqlite:///{file}")
    assert re.fullmatch(r"error: the database answered: no such column: .*; if no other program .*", line)
    assert make_url(sqlite(tmp_path)).database == str(file)

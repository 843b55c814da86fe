"""Opening a storage URL: it works, or one line says what to do."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import swarm
from postgres import PASSWORD, PostgresServer
from sample_study import STUDY, optuna_storage, optuna_trials, rows, sample_plan
from sqlalchemy import inspect, text
from sqlalchemy.engine import make_url

from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.errors import NoStudyYet, StorageError
from search.storage.migrations.runner import OptunaAlone
from search.storage.optuna_storage import SearchStorage
from search.storage.planning import plan
from search.storage.queries import study_names
from search.storage.schema import SCHEMA_VERSION
from search.storage.url import display_url, parse_url


def refusal(url: str, *, create: bool = True, wait_s: float = 0.0) -> str:
    """The message of the error that opening `url` ends with."""
    with pytest.raises(StorageError, match=r".") as caught:
        open_database(url, create=create, wait_s=wait_s)
    message = str(caught.value)
    assert "\n" not in message
    assert PASSWORD not in message
    assert "hunter2" not in message
    return message


@pytest.mark.parametrize(
    "storage", ["", "search", "hunter2", "sqlite//search.db", "hunter2@h/search.db", "postgresql://u:hunter2@h:port/d"]
)
def test_what_is_no_url_is_refused_without_repeating_it(storage: str) -> None:
    assert refusal(storage).startswith("the storage is not a URL; use for example sqlite:///search.db, server:")


@pytest.mark.parametrize(
    "storage",
    [
        *("postgresql://me:a@hunter2@h/search", "mysql://me:@hunter2@h/d"),
        "postgresql://localhost:1/db?user=me&password=a@hunter2",
    ],
)
def test_a_password_with_an_at_sign_is_never_shown(storage: str) -> None:
    assert refusal(storage).startswith("the storage has more than one @, ")
    with pytest.raises(StorageError, match=r"write each @ of the password as %40, or put the password into a file"):
        display_url(storage)
    assert display_url("postgresql://me:a%40hunter2@h/search") == "postgresql://me:***@h/search"


@pytest.mark.parametrize("storage", ["search.db", "/data/my runs/x.sqlite3", "../a-b.db"])
def test_the_url_of_a_file_is_suggested(storage: str) -> None:
    assert refusal(storage) == f"the storage is not a URL; for this file use sqlite:///{storage}"


@pytest.mark.parametrize("dialect", ["mysql", "mysql+pymysql", "oracle", "mssql", "redis", "journal"])
def test_other_kinds_of_databases_are_refused(dialect: str) -> None:
    message = refusal(f"{dialect}://user:hunter2@host/db")
    kind = dialect.partition("+")[0]
    assert message.startswith(f"{kind}://user:***@host/db: databases of kind '{kind}' are not supported; use")


@pytest.mark.parametrize("storage", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_sqlite_in_memory_is_refused(storage: str) -> None:
    assert "is in memory, which workers cannot share" in refusal(storage)


def test_a_missing_driver_is_named() -> None:
    script = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from search.storage.errors import StorageError\nfrom search.storage.connect import open_database\n"
        "try: open_database('postgresql://u:hunter2@localhost/d', create=True)\n"
        "except StorageError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == (
        "postgresql://u:***@localhost/d needs the driver psycopg; install it with: pip install 'lm-search[postgres]'\n"
    )


def test_a_wrong_password_is_not_waited_for(postgres: PostgresServer) -> None:
    started = time.monotonic()
    message = refusal(postgres.url(password="hunter2"), wait_s=30)
    assert time.monotonic() - started < 20
    assert "search:***@127.0.0.1" in message
    assert "the password is wrong; fix it in the URL" in message


def test_a_user_that_does_not_exist_is_not_waited_for(postgres: PostgresServer) -> None:
    url = make_url(postgres.url()).set(username="nobody_here").render_as_string(hide_password=False)
    assert "the password is wrong" in refusal(url, wait_s=30)  # the server does not say which of the two


def test_a_missing_password_is_asked_for(postgres: PostgresServer) -> None:
    url = make_url(postgres.url())._replace(password=None).render_as_string(hide_password=False)
    assert "the server requires a password" in refusal(url, wait_s=30)


def test_a_database_that_does_not_exist_is_not_waited_for(postgres: PostgresServer) -> None:
    message = refusal(postgres.url("nowhere"), wait_s=30)
    assert 'database "nowhere" does not exist; there is no such database; create it with: createdb NAME' in message


@pytest.mark.parametrize("wait_s", [0.0, 1.0])
def test_a_server_that_is_not_there_is_waited_for_as_told(free_port: int, wait_s: float) -> None:
    started = time.monotonic()
    message = refusal(f"postgresql://u:hunter2@127.0.0.1:{free_port}/d", wait_s=wait_s)
    assert wait_s <= time.monotonic() - started < wait_s + 10
    assert message.startswith(f"postgresql://u:***@127.0.0.1:{free_port}/d: ")
    assert message.endswith("check that the server is running and the URL is correct")


def test_an_unknown_host_name(free_port: int) -> None:
    message = refusal(f"postgresql://u:hunter2@no-such-host.invalid:{free_port}/d")
    assert "no-such-host.invalid" in message
    assert message.endswith("check that the server is running and the URL is correct")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert f"{tmp_path} is a directory; name a file in it, such as" in refusal(f"sqlite:///{tmp_path}")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    message = refusal(f"sqlite:///{tmp_path / 'missing' / 'search.db'}")
    assert message.endswith(f"the folder {tmp_path / 'missing'} does not exist; create it first")


def test_a_text_file_is_refused_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("something of value\n" * 100)
    assert refusal(f"sqlite:///{file}").endswith("is not an SQLite database; give another file")
    assert file.read_text().startswith("something of value")


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    (tmp_path / "search.db").touch()
    swarm.create_tables(f"sqlite:///{tmp_path / 'search.db'}")


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that an unprivileged user can reach, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def unprivileged_refusal(url: str, *, create: bool = True) -> str:
    """What a user is told whom permission bits concern: not root."""
    script = (
        "import os, sys\nfrom search.storage.errors import StorageError\n"
        "from search.storage.connect import open_database\n"
        "from search.storage.database import open_engine\nfrom search.storage.url import parse_url\n"
        "open_engine(parse_url('sqlite:////tmp/x'))  # what is imported late, while it can be read\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"try: open_database({url!r}, create={create})\n"
        "except StorageError as error: print(error)"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout


def test_a_folder_that_cannot_be_written_is_refused(public_folder: Path) -> None:
    public_folder.chmod(0o555)
    said = unprivileged_refusal(f"sqlite:///{public_folder / 'search.db'}")
    assert said.endswith(f"the folder {public_folder} is not writable; give another --storage\n")


def test_files_without_permission_are_refused(public_folder: Path) -> None:
    file = public_folder / "search.db"
    swarm.create_tables(f"sqlite:///{file}")
    file.chmod(0o444)
    said = unprivileged_refusal(f"sqlite:///{file}")
    assert said.endswith("the file or its folder is read-only; fix its permissions or give another\n")
    file.chmod(0)
    said = unprivileged_refusal(f"sqlite:///{file}", create=False)
    assert said.endswith("the file is not readable; fix its permissions\n")


def test_a_read_only_mount_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "search.db"
    swarm.create_tables(f"sqlite:///{file}")
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_RDONLY))
    assert refusal(f"sqlite:///{file}", create=False, wait_s=60).startswith(f"{file} is on a read-only mount; copy it")


def test_another_programs_database_is_refused_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "photos.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE photos (id INTEGER)")
    connection.close()
    before = file.read_bytes()
    for create in (True, False):
        message = refusal(f"sqlite:///{file}", create=create)
        assert message.endswith("holds another program's tables (photos); give an empty database")
    assert file.read_bytes() == before


def test_a_foreign_postgres_schema_is_refused(postgres: PostgresServer) -> None:
    url = postgres.create_schema("foreign_tables")
    postgres.execute("CREATE TABLE foreign_tables.photos (id int)")
    assert "holds another program's tables (photos)" in refusal(url)


def test_a_newer_optuna_is_refused(storage_url: str, database: Database) -> None:
    database.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = 'v9.9.9'")))
    message = refusal(storage_url)
    assert "has Optuna's schema v9.9.9, not v" in message
    assert "update with: pip install -U optuna" in message


def test_an_older_optuna_is_to_be_upgraded(storage_url: str, database: Database) -> None:
    database.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = 'v2.6.0.a'")))
    assert "upgrade it with: optuna storage upgrade --storage " in refusal(storage_url)


def test_a_newer_schema_of_ours_is_refused(storage_url: str, database: Database) -> None:
    database.write(lambda connection: connection.execute(text("UPDATE search_schema SET version = 99")))
    for create in (True, False):
        message = refusal(storage_url, create=create)
        assert message.endswith(f"(schema 99, here {SCHEMA_VERSION}); update with: pip install -U lm-search")


def test_nothing_is_created_for_a_reader(storage_url: str, tmp_path: Path) -> None:
    with pytest.raises(NoStudyYet, match=r"plan a study first|holds no study yet"):
        open_database(storage_url, create=False)
    assert not (tmp_path / "search.db").exists()
    with open_database(storage_url, create=True).closing() as database:
        assert inspect(database.engine).has_table("search_runs")
    open_database(storage_url, create=False).engine.dispose()


def test_a_database_of_optuna_gets_our_tables_beside(storage_url: str) -> None:
    storage = optuna_storage(storage_url)
    optuna.create_study(study_name="theirs", storage=storage)
    storage.engine.dispose()

    with open_database(storage_url, create=True).closing() as database:
        plan(database, [sample_plan()])

    assert optuna_trials(storage_url, "theirs") == []
    assert len(optuna_trials(storage_url)) == 12


def create_at_once(url: str, processes: int) -> None:
    swarm.run_at_once(processes, swarm.create_tables, url)
    with open_database(url, create=False).closing() as database:
        assert database.read(lambda c: c.execute(text("SELECT count(*) FROM search_schema")).scalar()) == 1
        assert database.read(lambda c: c.execute(text("SELECT count(*) FROM alembic_version")).scalar()) == 1
        assert rows(database) == []


def test_sixteen_processes_create_the_tables_at_once(storage_url: str) -> None:
    create_at_once(storage_url, 16)


@pytest.mark.soak
@pytest.mark.parametrize("repetition", range(20))
def test_sixteen_processes_create_the_tables_at_once_again_and_again(storage_url: str, repetition: int) -> None:
    create_at_once(storage_url, 16)


def test_a_server_that_starts_later_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with PostgresServer() as server:
        server.stop()
        starting = threading.Timer(1.0, server.start)
        starting.start()
        with open_database(server.url(), create=True, wait_s=60).closing() as database:
            assert rows(database) == []
        starting.join()
        assert "does not answer yet" in caplog.text
        assert "waiting up to 60 s" in caplog.text
        assert PASSWORD not in caplog.text


def test_a_password_with_special_characters_works_everywhere(postgres: PostgresServer) -> None:
    assert set("/{}% ") <= set(PASSWORD)
    url = postgres.create_database("special_characters")
    with open_database(url, create=True).closing() as database:
        plan(database, [sample_plan()])
        study = optuna.load_study(study_name=STUDY, storage=SearchStorage(database))
        assert len(study.trials) == 12
    assert len(optuna_trials(url)) == 12
    assert display_url(url) == f"postgresql://search:***@127.0.0.1:{postgres.port}/special_characters"


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "postgresql+psycopg2", "postgres"])
def test_every_spelling_of_postgresql_means_our_driver(scheme: str) -> None:
    url = parse_url(f"{scheme}://u:hunter2@h/d?sslmode=require&sslpassword=hunter2")
    assert url.drivername == "postgresql+psycopg"
    assert display_url(url) == "postgresql://u:***@h/d?sslmode=require&sslpassword=%2A%2A%2A"


def test_sqlite_urls_are_shown_as_they_are() -> None:
    assert display_url(parse_url("sqlite:///search.db")) == "sqlite:///search.db"
    assert os.fspath(parse_url("sqlite:////tmp/a b.db").database or "") == "/tmp/a b.db"


@pytest.mark.parametrize(
    "name", ["a?b.db", "?", "what?really=no/x.db", "a#b.db", "a%b.db", "50%20off.db", "a b.db", "é±.db"]
)
def test_any_name_of_a_file(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "fol?der 50%20 #1"
    path = folder / name
    path.parent.mkdir(parents=True)
    url = f"sqlite:///{path}"
    open_database(url, create=True).engine.dispose()
    [made] = [each for each in path.parent.iterdir() if each.suffix not in (".db-wal", ".db-shm")]
    assert made.name.startswith(name.split("/")[-1][:1])
    assert "fol?der 50%20 #1" in str(made)
    # What a message shows names the same file.
    open_database(display_url(url), create=False).engine.dispose()
    open_database(url, create=False).engine.dispose()


def test_options_of_a_file(tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path}/a.db?timeout=5", create=True).engine.dispose()
    assert (tmp_path / "a.db").exists()
    message = refusal(f"sqlite:///{tmp_path}/a.db?timeuot=5")
    assert message.startswith("the storage has the unknown option 'timeuot'; options of SQLite: ")


@pytest.mark.parametrize("optuna_alone", ["refuse", "read"])
def test_a_file_that_this_process_has_open_keeps_its_locks(tmp_path: Path, optuna_alone: OptunaAlone) -> None:
    """Opening it again must not close a plain handle to it, which would take the locks of all connections."""
    file = tmp_path / "search.db"
    url = f"sqlite:///{file}"
    # The last connection of all processes deletes the log; this process still has one.
    other = f"import sqlite3; sqlite3.connect({str(file)!r}).execute('SELECT count(*) FROM studies').fetchone()"
    with open_database(url, create=True).closing() as database:
        plan(database, [sample_plan()])
        open_database(url, create=False, optuna_alone=optuna_alone).engine.dispose()
        subprocess.run([sys.executable, "-c", other], check=True)
        assert (tmp_path / "search.db-wal").exists()
        plan(database, [sample_plan(study="second")])
        with open_database(url, create=False, optuna_alone=optuna_alone).closing() as again:
            assert study_names(again) == ["second", STUDY]

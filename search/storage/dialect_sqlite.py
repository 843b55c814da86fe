"""SQLite: one file that the workers of one machine share."""

from __future__ import annotations

import contextlib
import os
import shlex
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Executable, Table, create_engine, event, literal_column
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool

from search.storage.dialect_sqlite_optuna import (
    ReadOnlyConnection,
    has_log,
    journal_advice,
    keep_unchanged,
    table_names,
)
from search.storage.dialect_sqlite_url import read_sqlite_url
from search.storage.dialects import EXAMPLES, Fault, FaultKind, OneStatementQueue
from search.storage.errors import NoStudyYet, StorageError
from search.storage.private_files import create_private
from search.storage.schema import schema_info
from search.storage.url import display_url

BUSY_TIMEOUT_S = 60
_READ_ONLY = "the file or its folder is read-only; fix its permissions, or give another --storage"
_CHECK_FILE = "check the file, its folder and the disk's free space"
# By primary result code. Not listed: a wrong statement, which is a bug.
_FAULTS: dict[int, tuple[FaultKind, str]] = {
    3: ("final", _READ_ONLY),
    5: ("outage", "another program holds its lock; end it"),
    6: ("outage", "another program holds its lock; end it"),
    8: ("final", _READ_ONLY),
    10: ("outage", _CHECK_FILE),
    11: ("final", "the file is damaged; restore a backup, or rescue what is left with: sqlite3 FILE .recover"),
    13: ("outage", "free some disk space"),
    14: ("outage", _CHECK_FILE),
    15: ("outage", _CHECK_FILE),
    18: ("final", "a text is too long; shorten it"),
    26: ("final", "this is not an SQLite database; give another file"),
}

# How often a transaction looks for the write lock before SQLite waits for it, and the seconds between two looks.
LOOKS, LOOK_S = 40, 0.0003

_sync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync

# What a deleted trial or study leaves would turn up in the next one, because Optuna's ids are used again.
_OF_TRIAL = (
    *("trial_params", "trial_values", "trial_intermediate_values", "trial_heartbeats"),
    *("trial_user_attributes", "trial_system_attributes", "search_runs"),
)
_OF_STUDY = ("study_directions", "study_user_attributes", "study_system_attributes", "search_studies", "trials")
_TRIGGERS = (
    # Apart from the next one, which a database of schema 3 has.
    "CREATE TRIGGER IF NOT EXISTS search_metrics_deleted AFTER DELETE ON trials BEGIN "
    "DELETE FROM search_metrics WHERE trial_id = OLD.trial_id; END",
    "CREATE TRIGGER IF NOT EXISTS search_spending_deleted AFTER DELETE ON search_studies BEGIN "
    "DELETE FROM search_spending WHERE study_uid = OLD.uid; END",
    "CREATE TRIGGER IF NOT EXISTS search_processes_deleted AFTER DELETE ON search_studies BEGIN "
    "DELETE FROM search_processes WHERE study_uid = OLD.uid; END",
    "CREATE TRIGGER IF NOT EXISTS search_trial_deleted AFTER DELETE ON trials BEGIN "
    + "".join(f"DELETE FROM {table} WHERE trial_id = OLD.trial_id; " for table in _OF_TRIAL)
    + "END",
    "CREATE TRIGGER IF NOT EXISTS search_study_deleted AFTER DELETE ON studies BEGIN "
    "DELETE FROM search_runs WHERE study_uid IN (SELECT uid FROM search_studies WHERE study_id = OLD.study_id); "
    + "".join(f"DELETE FROM {table} WHERE study_id = OLD.study_id; " for table in _OF_STUDY)
    + "END",
)


class SqliteDialect:
    """Implements `search.storage.dialects.Dialect`."""

    one_statement_queue: OneStatementQueue | None = None
    one_host = True
    snapshot_options: Mapping[str, Any] = {}

    def read_url(self, text: str) -> URL:
        """As `Dialect`."""
        return read_sqlite_url(text)

    def complete_url(self, url: URL) -> URL:
        """As `Dialect`; raises StorageError for a database in memory."""
        if url.database in (None, "", ":memory:"):
            raise StorageError(f"{display_url(url)} is in memory, which workers cannot share; use {EXAMPLES}")
        return url

    def check_place(self, url: URL, *, create: bool) -> None:
        """As `Dialect`."""
        # SQLite's own message for all of these is "unable to open database file".
        path, shown = Path(url.database or ""), display_url(url)
        try:
            is_there = path.exists()
        except (OSError, ValueError) as error:  # a name that no file has
            raise StorageError(f"{shown}: this cannot be a file ({error}); give another --storage") from error
        if is_there and not (path.is_dir() or path.is_file()):
            raise StorageError(f"{shown}: {path} is a pipe or a device; name a file")
        if path.is_dir():
            raise StorageError(f"{shown}: {path} is a directory; name a file in it, such as {path / 'search.db'}")
        if not is_there:
            if not create:
                raise NoStudyYet(f"{shown}: there is no such file; give --storage, or plan a study first")
            if not path.parent.is_dir():
                raise StorageError(f"{shown}: the folder {path.parent} does not exist; create it first")
            if not os.access(path.parent, os.W_OK | os.X_OK):
                raise StorageError(f"{shown}: the folder {path.parent} is not writable; give another --storage")
        elif (advice := journal_advice(path)) is not None:
            raise StorageError(advice)
        elif not os.access(path, os.R_OK):
            raise StorageError(f"{shown}: the file is not readable; fix its permissions")
        elif create and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
            raise StorageError(f"{shown}: the file or its folder is read-only; fix its permissions or give another")

    def open_engine(self, url: URL, *, outage_s: float) -> Engine:
        """As `Dialect`."""
        engine = create_engine(url, connect_args={"timeout": min(BUSY_TIMEOUT_S, outage_s)})
        event.listen(engine, "do_connect", _check_file)
        return _listened(engine)

    def keep_unchanged(self, engine: Engine) -> None:
        """As `Dialect`."""
        keep_unchanged(engine)

    def now(self) -> ColumnElement[float]:
        """As `Dialect`."""
        return literal_column("((julianday('now') - 2440587.5) * 86400.0)")

    def lock(self, connection: Connection, name: str) -> None:
        """Does nothing: BEGIN IMMEDIATE already serializes writing transactions."""

    def lock_table(self, connection: Connection, table: Table) -> None:
        """Does nothing, for the same reason as `lock`."""

    def cascade_deletions(self, connection: Connection) -> None:
        """As `Dialect`: SQLite enforces foreign keys only for connections that ask for it, and Optuna's do not."""
        for trigger in _TRIGGERS:
            connection.exec_driver_sql(trigger)
        # A program that rebuilds Optuna's tables drops the triggers, and can delete trials before they are made again.
        connection.exec_driver_sql("DELETE FROM search_runs WHERE trial_id NOT IN (SELECT trial_id FROM trials)")

    def sync(self, connection: Connection) -> None:
        """As `Dialect`."""
        # After the commit, not with it: a sync takes longer than the transaction, and would keep the write lock.
        if (log := connection.info["log"]) is None:
            return  # each commit is synced
        try:
            with open(log, "rb") as file:
                _sync(file.fileno())
        except FileNotFoundError:
            pass  # someone has deleted the database
        except OSError as error:
            fault = sqlite3.OperationalError(f"cannot sync {log}: {error.strerror}")
            fault.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise OperationalError("sync", None, fault) from error

    def update_statistics(self, connection: Connection, tables: Sequence[Table]) -> None:
        """Does nothing: the statements of trials find their rows by an index without it."""

    def upsert(self, table: Table, columns: Sequence[str], key: Sequence[str]) -> Executable:
        """As `Dialect`."""
        statement = insert(table)
        changed = {name: statement.excluded[name] for name in columns if name not in key}
        return statement.on_conflict_do_update(index_elements=key, set_=changed)

    def diagnose(self, error: DBAPIError) -> Fault:
        """As `Dialect`."""
        found = _FAULTS.get(int(getattr(error.orig, "sqlite_errorcode", 0)) & 0xFF)
        if found is None and "no such table" in str(error.orig):
            found = ("final", "a table is missing; another program deleted it, so restore a backup")
        return Fault("bug", None) if found is None else Fault(*found)

    def check_encoding(self, connection: Connection) -> None:
        """Checks nothing: SQLite stores Unicode."""

    def back_up(self, connection: Connection, name: str) -> str | None:
        """As `Dialect`: a second file next to the database."""
        path = str(connection.engine.url.database)
        copy = f"{path}{name}"
        try:
            create_private(Path(copy))
            # A separate connection sees what was committed before this transaction.
            with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
        except (OSError, sqlite3.Error) as error:
            Path(copy).unlink(missing_ok=True)
            raise StorageError(
                f"{display_url(connection.engine.url)}: cannot copy it to {copy} before the upgrade ({error}); "
                "free some disk space, then run the same command again"
            ) from error
        return copy

    def backup_command(self, url: URL) -> str:
        """As `Dialect`."""
        path = str(url.database)
        return f"cp {shlex.quote(path)} {shlex.quote(path + '.bak')}"


def open_memory() -> Engine:
    """A new database in memory, with one connection."""
    return _listened(create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}))


def _listened(engine: Engine) -> Engine:
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _check_file(_dialect: Any, _record: Any, arguments: Sequence[Any], _keywords: Any) -> None:
    """Create the file, if there is none, for this user alone.

    Raises:
        StorageError: It is on a read-only mount.
    """
    path = str(arguments[0])
    if path.startswith("file:"):
        return
    with contextlib.suppress(OSError):  # SQLite reports it
        # SQLite would let every user read it; its other files take the rights of this one.
        create_private(Path(path))
        # Even a reader writes beside a file with a write-ahead log. SQLite's own answer does not tell that it is final.
        if os.statvfs(path).f_flag & os.ST_RDONLY and not has_log(Path(path)):
            raise StorageError(f"{path} is on a read-only mount; copy it to a folder that can be written")


def _prepare(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
    record.info["is_read_only"] = isinstance(connection, ReadOnlyConnection)
    # The sqlite3 module would open transactions too late and in the wrong mode, so `_begin` sends BEGIN.
    connection.isolation_level = None
    cursor = connection.cursor()
    tables = table_names(connection)
    # The file stores the WAL mode. Another program's file must stay unchanged.
    if not record.info["is_read_only"] and (not tables or schema_info.name in tables):
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    (mode,) = cursor.execute("PRAGMA journal_mode").fetchone()
    (_, _, file) = cursor.execute("PRAGMA database_list").fetchone()
    record.info["log"] = f"{file}-wal" if mode == "wal" else None
    # With a log a killed process loses no commit; a power cut can lose those since the last `sync`.
    cursor.execute(f"PRAGMA synchronous={'NORMAL' if mode == 'wal' else 'FULL'}")
    cursor.close()


def _begin(connection: Connection) -> None:
    # IMMEDIATE takes the write lock at once. A deferred transaction that reads first and writes later cannot
    # wait for the lock: SQLite answers "database is locked" whatever the timeout.
    options, info = connection.get_execution_options(), connection.info
    if options.get("search_read_only", False) or info["is_read_only"]:
        connection.exec_driver_sql("BEGIN")
    elif not _begins_soon(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begins_soon(connection: Connection) -> bool:
    """Begin a writing transaction if the write lock gets free within some milliseconds.

    SQLite sleeps for 1, 2, 5, 10, … ms between two looks, and most transactions are shorter: two workers with short
    trials would take longer than one.

    Returns:
        False if it has not begun.
    """
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, sqlite3.Connection)
    (wait_ms,) = driver.execute("PRAGMA busy_timeout").fetchone()
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        for _ in range(LOOKS):
            try:
                driver.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:  # if it is more than a lock, the statement after this one says so
                time.sleep(LOOK_S)
            else:
                return True
        return False
    finally:
        driver.execute(f"PRAGMA busy_timeout = {wait_ms}")

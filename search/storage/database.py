"""One database behind one URL: engine settings, transactions that outlast an outage, and its clock.

Above this module only the queue's one-statement path, and Optuna's connections, know which dialect they talk to.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Float,
    Row,
    cast,
    create_engine,
    event,
    extract,
    func,
    literal_column,
    text,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from search.storage.errors import StorageUnavailable
from search.storage.url import display_url

log = logging.getLogger("storage")

Result = TypeVar("Result")

SQLITE_BUSY_TIMEOUT_S = 60
INTERRUPTED_OUTAGE_S = 3.0
# Primary result codes: busy, locked, I/O error, full disk, cannot open. All of them can pass by themselves.
_SQLITE_TRANSIENT = frozenset({5, 6, 10, 13, 14})
# SQLSTATE classes: connection, transaction rollback (deadlock), out of resources, operator intervention (shutdown).
_POSTGRES_TRANSIENT = ("08", "40", "53", "57P", "55P03")


@dataclass(frozen=True)
class Database:
    """A database that is used by short transactions only, each of which may be repeated.

    Attributes:
        engine: The SQLAlchemy engine; share it with Optuna's storage so that its settings hold there too.
        outage_s: How long a transaction is tried again while the database is away, in seconds.
        interrupt: Once set, by somebody who wants to end, a database that is away is given up after a few seconds.
    """

    engine: Engine
    outage_s: float = 600.0
    interrupt: threading.Event = field(default_factory=threading.Event, compare=False)

    @property
    def is_postgres(self) -> bool:
        return self.engine.dialect.name == "postgresql"

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in one transaction and commit it; again from the start if the database went away.

        The acknowledgement of a commit can be lost with the connection, so `work` must be harmless when it runs
        a second time after it took effect.

        Raises:
            StorageUnavailable: The database stayed away for `outage_s`.
        """
        return self._until_answered(lambda: self._transaction(work, read_only=False))

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` on a consistent snapshot; it never waits for a writer.

        Raises:
            StorageUnavailable: The database stayed away for `outage_s`.
        """
        return self._until_answered(lambda: self._transaction(work, read_only=True))

    def execute_autocommit(self, statement: Executable, parameters: Mapping[str, Any]) -> Sequence[Row[Any]]:
        """Run one statement that is a transaction of its own, without a BEGIN and a COMMIT around it.

        Raises:
            StorageUnavailable: The database stayed away for `outage_s`.
        """

        def attempt() -> Sequence[Row[Any]]:
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                return connection.execute(statement, parameters).all()

        return self._until_answered(attempt)

    def _transaction(self, work: Callable[[Connection], Result], *, read_only: bool) -> Result:
        with self.engine.connect() as connection:
            connection = connection.execution_options(search_read_only=read_only)
            with connection.begin():
                return work(connection)

    @property
    def _patience_s(self) -> float:
        return min(INTERRUPTED_OUTAGE_S, self.outage_s) if self.interrupt.is_set() else self.outage_s

    def _until_answered(self, attempt: Callable[[], Result]) -> Result:
        started, failures = time.monotonic(), 0
        while True:
            try:
                result = attempt()
            except DBAPIError as error:
                away_s = time.monotonic() - started
                if not is_transient(error):
                    raise
                if away_s >= self._patience_s:
                    url = display_url(self.engine.url)
                    raise StorageUnavailable(
                        f"{url} did not answer for {away_s:.0f} s ({first_line(error)}); start it, then run the same "
                        "command again: finished trials are kept"
                    ) from error
                if failures == 0:
                    log.warning("%s is away (%s); trying again", display_url(self.engine.url), first_line(error))
                failures += 1
                # Jitter, so that a hundred workers do not come back in the same millisecond.
                time.sleep(random.uniform(0.5, 1.0) * min(2.0, 0.05 * 2**failures))
            else:
                if failures:
                    log.warning("%s is back", display_url(self.engine.url))
                return result

    def now(self) -> ColumnElement[float]:
        """The database's own clock as an SQL expression: seconds since 1970, whatever any time zone says.

        Workers on several machines agree on it although their own clocks may differ by hours.
        """
        if self.is_postgres:
            # clock_timestamp, not now(): a transaction that waited for a lock must see the time after the wait.
            return cast(extract("epoch", func.clock_timestamp()), Float(53))
        return literal_column("((julianday('now') - 2440587.5) * 86400.0)")

    def lock(self, connection: Connection, name: str) -> None:
        """Hold the lock called `name` until the transaction ends.

        On SQLite every writing transaction is alone already (BEGIN IMMEDIATE).
        """
        if self.is_postgres:
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})

    @contextmanager
    def closing(self) -> Iterator[Database]:
        """Give all connections back at the end."""
        try:
            yield self
        finally:
            self.engine.dispose()


def open_engine(url: URL, *, look_first: bool = False) -> Engine:
    """An engine for `url` with the settings that parallel workers need.

    Args:
        look_first: Ask a server before each transaction whether it is still there: for transactions that are not
            tried again, unlike those of `Database`.

    Raises:
        ModuleNotFoundError: The driver is not installed.
    """
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_S})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    patience = {"connect_timeout": 10}
    return create_engine(url, pool_pre_ping=look_first, pool_size=2, max_overflow=8, connect_args=patience)


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # The sqlite3 module would open transactions by itself, too late and in the wrong mode: we say BEGIN.
    connection.isolation_level = None
    cursor = connection.cursor()
    tables = {name for (name,) in cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    # WAL stays in the file; another program's file is refused later, and must be as it was.
    if not tables or "version_info" in tables:
        cursor.execute("PRAGMA journal_mode=WAL")
    # With WAL this loses at most the last commits of a power cut, never those of a killed process.
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # IMMEDIATE takes the write lock at once. A deferred transaction that reads first and writes later cannot
    # wait for the lock: SQLite answers "database is locked" whatever the timeout.
    read_only = connection.get_execution_options().get("search_read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def is_transient(error: DBAPIError) -> bool:
    """True for errors that pass: the server is away or starting, a lock was not to be had, a disk is full."""
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return (getattr(cause, "sqlite_errorcode", 0) & 0xFF) in _SQLITE_TRANSIENT
    state = getattr(cause, "sqlstate", None)
    if state is None:
        return error.connection_invalidated or type(cause).__name__ in {"OperationalError", "ConnectionTimeout"}
    return bool(state.startswith(_POSTGRES_TRANSIENT))


def first_line(error: DBAPIError) -> str:
    """What the driver said, without SQL text, parameters or further lines."""
    return str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__

"""What differs between kinds of databases, in one object each; everything else in storage/ is the same SQL for all.

To add a kind of database, write one file with a class as `Dialect` describes it, and add one line to `DIALECTS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import ColumnElement, Connection, Engine, Executable, Row, Table
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from search.storage.errors import StorageError

if TYPE_CHECKING:
    from optuna.trial import TrialState

    from search.storage.database import Database

EXAMPLES = "sqlite:///search.db or postgresql://user:password@host/database"

# By SQLAlchemy's name of the backend, as it stands in front of a URL. A module is imported when its kind is used.
DIALECTS: dict[str, str] = {
    "sqlite": "search.storage.dialect_sqlite:SqliteDialect",
    "postgresql": "search.storage.dialect_postgresql:PostgresDialect",
}
# Other spellings of those names.
SYNONYMS = {"postgres": "postgresql"}


class OneStatementQueue(Protocol):
    """Claim, report and finish as one statement each, for servers where every round trip counts."""

    def claim(
        self, database: Database, studies: Sequence[str], owner: str, limit: int, lease_s: float, max_attempts: int
    ) -> Sequence[Row[Any]]:
        """Claim up to `limit` trials: the columns of a lease, and how many exhausted trials were passed over."""
        ...

    def report(
        self,
        database: Database,
        queue_id: int,
        token: int,
        lease_s: float,
        step: int,
        train_loss: float,
        val_loss: float,
    ) -> bool:
        """Store one evaluation and renew the lease; False when the token is old."""
        ...

    def finish(
        self,
        database: Database,
        queue_id: int,
        token: int,
        outcome: str,
        state: TrialState,
        value: float | None,
        attrs: Mapping[str, Any],
        reason: str | None,
        system_attrs: Mapping[str, Any],
    ) -> bool:
        """End a trial; False when the token is old, or another program has ended it."""
        ...


class Dialect(Protocol):
    """A kind of database."""

    @property
    def one_statement_queue(self) -> OneStatementQueue | None:
        """A quick way for the queue's frequent calls; None to use the transactions that work everywhere."""
        ...

    def complete_url(self, url: URL) -> URL:
        """The URL with its driver and password settled.

        Raises:
            StorageError: Such a URL cannot be used.
        """
        ...

    def check_place(self, url: URL, *, create: bool) -> None:
        """Look at what can be seen before connecting, such as a file's permissions.

        Raises:
            NoStudyYet: There is no database, and none is to be created.
            StorageError: It cannot be used.
        """
        ...

    def open_engine(self, url: URL, *, look_first: bool) -> Engine:
        """An engine with the settings that parallel workers need.

        Args:
            look_first: Ask a server before each transaction whether it is still there: for transactions that are not
                tried again, unlike those of `Database`.
        """
        ...

    def optuna_engine(self, engine: Engine) -> Engine:
        """The engine for what Optuna does itself, which is not tried again; `engine` where that does no harm."""
        ...

    def now(self) -> ColumnElement[float]:
        """The database's clock as an SQL expression: seconds since 1970, whatever any time zone says."""
        ...

    def lock(self, connection: Connection, name: str) -> None:
        """Hold the lock called `name` until the transaction ends."""
        ...

    def lock_table(self, connection: Connection, table: Table) -> None:
        """Let no other transaction write to `table` until this one ends; readers go on."""
        ...

    def upsert(self, table: Table, columns: Sequence[str], key: Sequence[str]) -> Executable:
        """An INSERT of `columns` that replaces the other values of a row whose `key` is there already."""
        ...

    def is_transient(self, error: DBAPIError) -> bool:
        """True for errors that pass: the server is away or starting, a lock was not to be had, a disk is full."""
        ...

    def is_final(self, error: DBAPIError) -> bool:
        """True for a first connection that waiting will not help, such as a wrong password."""
        ...

    def advice(self, error: DBAPIError) -> str:
        """What the user can do about an error, after "URL: what the driver said"."""
        ...

    def back_up(self, connection: Connection, name: str) -> str | None:
        """Copy the database, as this transaction found it.

        Args:
            name: What to append to its name.

        Returns:
            Where the copy is; None where only the server's administrator can make one.

        Raises:
            StorageError: It cannot be written.
        """
        ...

    def backup_command(self, url: URL) -> str:
        """The command that a person copies the database with; it holds no password."""
        ...


def backend_name(url: URL) -> str:
    """The key of `DIALECTS` that a URL stands for; it may be missing there."""
    name = url.get_backend_name()
    return SYNONYMS.get(name, name)


@cache
def dialect_of(name: str) -> Dialect:
    """The dialect of a backend.

    Args:
        name: A key of `DIALECTS`.

    Raises:
        StorageError: There is none of this name.
    """
    if name not in DIALECTS:
        raise StorageError(f"databases of kind {name!r} are not supported; write {EXAMPLES}")
    module, _, found = DIALECTS[name].partition(":")
    dialect: Dialect = getattr(import_module(module), found)()
    return dialect


def upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], key: tuple[str, ...]) -> None:
    """Insert rows, replacing those whose `key` is there already.

    Args:
        rows: All with the same columns.
    """
    if rows:
        connection.execute(_upsert_statement(connection.dialect.name, table, tuple(rows[0]), key), list(rows))


@cache
def _upsert_statement(name: str, table: Table, columns: tuple[str, ...], key: tuple[str, ...]) -> Executable:
    # Built once: building it takes longer than running it.
    return dialect_of(name).upsert(table, columns, key)


def first_line(error: DBAPIError) -> str:
    """What the driver said, without SQL text, parameters or further lines."""
    return str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__

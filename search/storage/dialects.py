"""What differs between databases, one object per kind; the rest of storage/ is the same SQL for all kinds.

To add a kind of database, write one file with a class that implements `Dialect`, and add one line to `DIALECTS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

from sqlalchemy import ColumnElement, Connection, Engine, Executable, Table
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from search.storage.errors import StorageError

if TYPE_CHECKING:
    from optuna.trial import TrialState

    from search.storage.database import Database
    from search.storage.leases import ClaimedNow, Lease, Report

EXAMPLES = "sqlite:///search.db, server:FOLDER or postgresql://user:password@host/database"

# By SQLAlchemy's backend name, the start of a URL. A module is imported when its kind is first used.
DIALECTS: dict[str, str] = {
    "sqlite": "search.storage.dialect_sqlite:SqliteDialect",
    "postgresql": "search.storage.dialect_postgresql:PostgresDialect",
}
# Other starts of a URL for those names.
SYNONYMS = {"postgres": "postgresql", "server": "postgresql"}


FaultKind = Literal["outage", "crowded", "final", "bug"]


@dataclass(frozen=True)
class Fault:
    """What an error of a database means.

    Attributes:
        kind: "outage": it can pass, such as a server that is starting, a lock or a full disk; "crowded": the server
            answers that it has no free connection; "final": waiting cannot help, as with a wrong password; "bug": a
            wrong statement or broken constraint.
        advice: What the user can do; it follows "URL: the driver's message". None for a bug.
    """

    kind: FaultKind
    advice: str | None

    @property
    def can_pass(self) -> bool:
        """Whether to retry."""
        return self.kind in ("outage", "crowded")


class OneStatementQueue(Protocol):
    """Claim, report and finish as one statement each, for servers where every round trip counts."""

    def claim(
        self, database: Database, uids: Sequence[str], owner: str, limit: int, lease_s: float, max_attempts: int
    ) -> ClaimedNow:
        """Claim up to `limit` trials of the studies with these uids."""
        ...

    def report(self, database: Database, one: Report, lease_s: float) -> bool:
        """Store one evaluation and renew its lease; False if the lease was lost or the trial ended elsewhere."""
        ...

    def finish(
        self,
        database: Database,
        lease: Lease,
        outcome: str,
        state: TrialState,
        value: float | None,
        attrs: Mapping[str, Any],
        reason: str | None,
        system_attrs: Mapping[str, Any],
    ) -> bool:
        """End a trial; False if the lease was lost, or if another program has ended the trial."""
        ...


class Dialect(Protocol):
    """A kind of database."""

    @property
    def one_statement_queue(self) -> OneStatementQueue | None:
        """Single statements for the queue's frequent calls; None uses the transactions that work everywhere."""
        ...

    @property
    def one_host(self) -> bool:
        """Whether all programs that use a database must be on one host."""
        ...

    @property
    def snapshot_options(self) -> Mapping[str, Any]:
        """Options of a connection whose transaction sees one moment in all of its queries."""
        ...

    def read_url(self, text: str) -> URL:
        """Parse a URL of this kind.

        Raises:
            ArgumentError, ValueError: It is not a URL.
            StorageError: It has an option that does not exist.
        """
        ...

    def complete_url(self, url: URL) -> URL:
        """The URL with its driver and password filled in.

        Raises:
            StorageError: The URL cannot be used.
        """
        ...

    def check_place(self, url: URL, *, create: bool) -> None:
        """Check what can be checked before connecting, such as a file's permissions.

        Raises:
            NoStudyYet: The database does not exist, and `create` is False.
            StorageError: The database cannot be used.
        """
        ...

    def open_engine(self, url: URL, *, outage_s: float) -> Engine:
        """An engine with the settings that parallel workers need.

        Args:
            outage_s: How long transactions are retried, in seconds; no attempt may take that long.

        Connections have the execution options `search_read_only`, for a transaction that writes nothing, and
        `search_silence_s`, a function that returns how many seconds a statement may wait for an answer.
        """
        ...

    def keep_unchanged(self, engine: Engine) -> None:
        """Make new connections of `engine` leave a database without our tables as it is, to the last byte."""
        ...

    def now(self) -> ColumnElement[float]:
        """The database's clock as an SQL expression: seconds since 1970, independent of time zones."""
        ...

    def lock(self, connection: Connection, name: str) -> None:
        """Hold the lock called `name` until the transaction ends."""
        ...

    def lock_table(self, connection: Connection, table: Table) -> None:
        """Block other transactions' writes to `table` until this one ends; reads continue."""
        ...

    def cascade_deletions(self, connection: Connection) -> None:
        """Make the database delete our rows with Optuna's, also for programs that do not enforce foreign keys."""
        ...

    def sync(self, connection: Connection) -> None:
        """Make all that was committed survive a power cut; called after the commit.

        Raises:
            DBAPIError: It cannot.
        """
        ...

    def update_statistics(self, connection: Connection, tables: Sequence[Table]) -> None:
        """Let statements be planned for tables that have just grown; called outside a transaction.

        Raises:
            DBAPIError: It cannot, which does no harm.
        """
        ...

    def upsert(self, table: Table, columns: Sequence[str], key: Sequence[str]) -> Executable:
        """An INSERT of `columns` that updates the row if its `key` exists."""
        ...

    def diagnose(self, error: DBAPIError) -> Fault:
        """What an error means."""
        ...

    def check_encoding(self, connection: Connection) -> None:
        """Check that the database can store any text.

        Raises:
            StorageError: It cannot.
        """
        ...

    def back_up(self, connection: Connection, name: str) -> str | None:
        """Copy the database in its state before this transaction.

        Args:
            name: Suffix of the copy's name.

        Returns:
            The copy's path; None if only the server's administrator can make one.

        Raises:
            StorageError: The copy cannot be written.
        """
        ...

    def backup_command(self, url: URL) -> str:
        """The command that copies the database; it contains no password."""
        ...


def backend_name(url: URL) -> str:
    """The key of `DIALECTS` for a URL; unsupported kinds have no entry there."""
    name = url.get_backend_name()
    return SYNONYMS.get(name, name)


@cache
def dialect_of(name: str) -> Dialect:
    """The dialect of a backend.

    Args:
        name: A key of `DIALECTS`.

    Raises:
        StorageError: `DIALECTS` has no such key.
    """
    if name not in DIALECTS:
        raise StorageError(f"databases of kind {name!r} are not supported; use {EXAMPLES}")
    module, _, found = DIALECTS[name].partition(":")
    dialect: Dialect = getattr(import_module(module), found)()
    return dialect


def upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], key: tuple[str, ...]) -> None:
    """Insert rows, or update those whose `key` exists.

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
    """The first line of the driver's message, without SQL text or parameters."""
    return str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__

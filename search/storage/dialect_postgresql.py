"""PostgreSQL: a server that workers on many machines share."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Float,
    Table,
    cast,
    extract,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError

from search.storage import dialect_postgresql_errors, postgres_queue
from search.storage.dialects import Fault, OneStatementQueue
from search.storage.errors import StorageError
from search.storage.url import display_url

# Names a file that holds the password, so that neither command line nor environment shows it.
PASSWORD_FILE_VARIABLE = "SEARCH_PASSWORD_FILE"


class PostgresDialect:
    """Implements `search.storage.dialects.Dialect`."""

    one_statement_queue: OneStatementQueue | None = postgres_queue
    one_host = False
    snapshot_options: Mapping[str, Any] = {"isolation_level": "REPEATABLE READ"}

    def read_url(self, text: str) -> URL:
        """As `Dialect`."""
        return make_url(text)

    def complete_url(self, url: URL) -> URL:
        """As `Dialect`: the driver is psycopg, and the password can come from a file."""
        password = url.password if url.password is not None else _password_from_file()
        return url.set(drivername="postgresql+psycopg", password=password)

    def check_place(self, url: URL, *, create: bool) -> None:
        """Checks nothing: only connecting to the server can show an error."""

    def open_engine(self, url: URL, *, outage_s: float) -> Engine:
        """As `Dialect`."""
        from search.storage import dialect_postgresql_connection  # needs the driver

        return dialect_postgresql_connection.open_engine(url, outage_s)

    def keep_unchanged(self, engine: Engine) -> None:
        """Does nothing: only a statement changes a database."""

    def now(self) -> ColumnElement[float]:
        """As `Dialect`."""
        # clock_timestamp, not now(): a transaction that waited for a lock must see the time after the wait.
        return cast(extract("epoch", func.clock_timestamp()), Float(53))

    def lock(self, connection: Connection, name: str) -> None:
        """As `Dialect`."""
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})

    def lock_table(self, connection: Connection, table: Table) -> None:
        """As `Dialect`."""
        connection.execute(text(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE"))

    def cascade_deletions(self, connection: Connection) -> None:
        """Does nothing: foreign keys are always enforced."""

    def sync(self, connection: Connection) -> None:
        """Does nothing: the server syncs each commit."""

    def upsert(self, table: Table, columns: Sequence[str], key: Sequence[str]) -> Executable:
        """As `Dialect`."""
        statement = insert(table)
        changed = {name: statement.excluded[name] for name in columns if name not in key}
        return statement.on_conflict_do_update(index_elements=key, set_=changed)

    def diagnose(self, error: DBAPIError) -> Fault:
        """As `Dialect`."""
        return dialect_postgresql_errors.diagnose(error)

    def check_encoding(self, connection: Connection) -> None:
        """As `Dialect`; an SQL_ASCII database stores the bytes as they are."""
        encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
        if encoding not in ("UTF8", "SQL_ASCII"):
            url = connection.engine.url
            raise StorageError(
                f"{display_url(url)} has the encoding {encoding}, which cannot store every text; use a database made "
                "with: createdb -E UTF8 -T template0 NAME"
            )

    def back_up(self, connection: Connection, name: str) -> str | None:
        """Returns None: the user makes a dump with `pg_dump`."""
        return None

    def backup_command(self, url: URL) -> str:
        """As `Dialect`."""
        port = f" --port {url.port}" if url.port else ""
        user = f" --username {url.username}" if url.username else ""
        host = f" --host {url.host}" if url.host else ""
        return f"pg_dump{host}{port}{user} --file {url.database}.sql {url.database}"


def _password_from_file() -> str | None:
    path = os.environ.get(PASSWORD_FILE_VARIABLE)
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\n") or None
    except OSError as error:
        raise StorageError(
            f"cannot read the password file {path} ({error.strerror}); {PASSWORD_FILE_VARIABLE} names it"
        ) from error

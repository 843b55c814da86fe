"""PostgreSQL: a server that workers on many machines share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Float,
    Table,
    cast,
    create_engine,
    extract,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from search.storage import postgres_queue
from search.storage.dialects import OneStatementQueue, first_line
from search.storage.errors import StorageError

# Names a file that holds the password, so that neither command line nor environment shows it.
PASSWORD_FILE_VARIABLE = "SEARCH_PASSWORD_FILE"

# SQLSTATE classes: connection, transaction rollback (deadlock), out of resources, operator intervention (shutdown).
_TRANSIENT = ("08", "40", "53", "57P", "55P03")
# SQLSTATEs that waiting cannot fix, with advice.
_ADVICE = {
    "28P01": "the password is wrong; fix it in the URL",
    "28000": "the server refuses this user; fix the URL or the server's pg_hba.conf",
    "3D000": "there is no such database; create it with: createdb NAME",
}
_CHECK_SERVER = "check that the server is running and the URL is correct"
# psycopg gives no SQLSTATE for a refused login, only the server's text.
_ADVICE_BY_TEXT = {
    "password authentication failed": _ADVICE["28P01"],
    "no password supplied": "the server requires a password; put it into the URL or into ~/.pgpass",
    "does not exist": _ADVICE["3D000"],
    "no pg_hba.conf entry": _CHECK_SERVER,
}


class PostgresDialect:
    """Implements `search.storage.dialects.Dialect`."""

    one_statement_queue: OneStatementQueue | None = postgres_queue

    def complete_url(self, url: URL) -> URL:
        """As `Dialect`: the driver is psycopg, and the password can come from a file."""
        password = url.password if url.password is not None else _password_from_file()
        return url.set(drivername="postgresql+psycopg", password=password)

    def check_place(self, url: URL, *, create: bool) -> None:
        """Checks nothing: only connecting to the server can show an error."""

    def open_engine(self, url: URL, *, look_first: bool) -> Engine:
        """As `Dialect`."""
        timeout = {"connect_timeout": 10}
        return create_engine(url, pool_pre_ping=look_first, pool_size=2, max_overflow=8, connect_args=timeout)

    def optuna_engine(self, engine: Engine) -> Engine:
        """As `Dialect`: this engine tests each pooled connection before use, because it can be dead."""
        return self.open_engine(engine.url, look_first=True)

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

    def upsert(self, table: Table, columns: Sequence[str], key: Sequence[str]) -> Executable:
        """As `Dialect`."""
        statement = insert(table)
        changed = {name: statement.excluded[name] for name in columns if name not in key}
        return statement.on_conflict_do_update(index_elements=key, set_=changed)

    def is_transient(self, error: DBAPIError) -> bool:
        """As `Dialect`."""
        cause = error.orig
        state = getattr(cause, "sqlstate", None)
        if state is None:
            return error.connection_invalidated or type(cause).__name__ in {"OperationalError", "ConnectionTimeout"}
        return bool(state.startswith(_TRANSIENT))

    def is_final(self, error: DBAPIError) -> bool:
        """As `Dialect`."""
        return not self.is_transient(error) or any(words in str(error.orig) for words in _ADVICE_BY_TEXT)

    def advice(self, error: DBAPIError) -> str:
        """As `Dialect`."""
        by_state = _ADVICE.get(getattr(error.orig, "sqlstate", None) or "")
        by_text = (step for words, step in _ADVICE_BY_TEXT.items() if words in first_line(error))
        return by_state or next(by_text, _CHECK_SERVER)

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

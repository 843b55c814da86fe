"""PostgreSQL: a server that workers on many machines share."""

from __future__ import annotations

import os
import shlex
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
from search.storage.errors import NoStudyYet, StorageError
from search.storage.server.folder import DATABASE, PREFIX, USER, server_folder
from search.storage.url import SERVER_KEY, display_url

# Names a file that holds the password, so that neither command line nor environment shows it.
PASSWORD_FILE_VARIABLE = "SEARCH_PASSWORD_FILE"


class PostgresDialect:
    """Implements `search.storage.dialects.Dialect`."""

    one_statement_queue: OneStatementQueue | None = postgres_queue
    one_host = False
    snapshot_options: Mapping[str, Any] = {"isolation_level": "REPEATABLE READ"}

    def read_url(self, text: str) -> URL:
        """As `Dialect`; "server:DIR" is the private server of a folder."""
        if not text.startswith(PREFIX):
            return make_url(text)
        folder = text.removeprefix(PREFIX)
        if not folder or folder.startswith("//"):
            raise StorageError(f"the storage {PREFIX}{folder[:2]} names no folder; write for example {PREFIX}search-db")
        return URL.create("postgresql", USER, database=DATABASE, query={SERVER_KEY: folder})

    def complete_url(self, url: URL) -> URL:
        """As `Dialect`: the driver is psycopg, and the password can come from a file."""
        has_password = url.password is not None or SERVER_KEY in url.query
        password = url.password if has_password else _password_from_file()
        return url.set(drivername="postgresql+psycopg", password=password)

    def check_place(self, url: URL, *, create: bool) -> None:
        """As `Dialect`; of a server with an address only connecting can show an error."""
        if (name := url.query.get(SERVER_KEY)) is None:
            return
        folder = server_folder(str(name))
        folder.check()
        if not create and not folder.is_made:
            raise NoStudyYet(f"{display_url(url)}: there is no database yet; give --storage, or plan a study first")

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

    def update_statistics(self, connection: Connection, tables: Sequence[Table]) -> None:
        """As `Dialect`; of another role's tables the server only warns."""
        connection.execute(text(f"ANALYZE {', '.join(each.name for each in tables)}"))

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
        if SERVER_KEY in url.query:
            return f"lm-search database --folder {shlex.quote(str(url.query[SERVER_KEY]))} --backup search.dump"
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

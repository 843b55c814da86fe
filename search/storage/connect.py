"""The one place where a storage URL becomes a database: drivers, waiting, schema, messages."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from search.storage import schema
from search.storage.database import Database, first_line, is_transient, open_engine
from search.storage.errors import NoStudyYet, StorageError
from search.storage.url import display_url, parse_url

log = logging.getLogger("storage")

# SQLSTATEs that waiting does not mend, with what to do.
_ADVICE = {
    "28P01": "the password is wrong; mend it in the URL",
    "28000": "the server refuses this user; mend the URL or the server's pg_hba.conf",
    "3D000": "there is no such database; create it with: createdb NAME",
}


def open_database(storage: str, *, create: bool, wait_s: float = 60.0, outage_s: float = 600.0) -> Database:
    """Open `storage`, wait for a server that is still starting, and settle the schema.

    Args:
        storage: A storage URL.
        create: Create the tables (and the SQLite file) when there are none; otherwise that is an error.
        wait_s: How long to wait for a server that does not answer, in seconds.
        outage_s: How long later transactions outlast an outage, in seconds.

    Raises:
        NoStudyYet: There are no tables yet, and `create` is False.
        StorageError: Something else that the user can mend; one line, no password.
    """
    url = parse_url(storage)
    if url.get_backend_name() == "sqlite":
        _check_sqlite_file(url, create=create)
    try:
        engine = open_engine(url)
    except ModuleNotFoundError as error:
        raise StorageError(
            f"{display_url(url)} needs the driver {error.name}; install it with: pip install 'lm-search[postgres]'"
        ) from error
    database = Database(engine, outage_s)
    try:
        _wait_for_answer(database, wait_s)
        _translated(url, lambda: schema.migrate(database) if create else schema.check(database))
    except BaseException:
        engine.dispose()
        raise
    return database


def _check_sqlite_file(url: URL, *, create: bool) -> None:
    # SQLite's own message for all of these is "unable to open database file".
    path, shown = Path(url.database or ""), display_url(url)
    if path.is_dir():
        raise StorageError(f"{shown}: {path} is a directory; name a file in it, such as {path / 'search.db'}")
    if not path.exists():
        if not create:
            raise NoStudyYet(f"{shown}: there is no such file; give --storage, or start with: python -m search.run")
        if not path.parent.is_dir():
            raise StorageError(f"{shown}: the folder {path.parent} does not exist; create it first")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise StorageError(f"{shown}: the folder {path.parent} is not writable; give another --storage")
    elif not os.access(path, os.R_OK):
        raise StorageError(f"{shown}: the file is not readable; mend its permissions")
    elif create and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        raise StorageError(f"{shown}: the file or its folder is read-only; mend its permissions or give another")


def _wait_for_answer(database: Database, wait_s: float) -> None:
    started, told = time.monotonic(), False
    while True:
        try:
            with database.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
            return
        except DBAPIError as error:
            left = wait_s - (time.monotonic() - started)
            if left <= 0 or not _may_pass(error):
                raise _as_storage_error(database.engine.url, error) from error
            if not told:
                shown = display_url(database.engine.url)
                log.warning("%s does not answer yet (%s); waiting up to %.0f s", shown, first_line(error), wait_s)
                told = True
            time.sleep(min(0.5, left))


def _may_pass(error: DBAPIError) -> bool:
    said = str(error.orig)
    # psycopg gives no SQLSTATE for a refused log-in, only the server's text.
    final = ("password authentication failed", "does not exist", "no pg_hba.conf entry", "no password supplied")
    return is_transient(error) and not any(words in said for words in final)


def _translated(url: URL, work: Callable[[], None]) -> None:
    try:
        work()
    except DBAPIError as error:
        raise _as_storage_error(url, error) from error


def _as_storage_error(url: URL, error: DBAPIError) -> StorageError:
    shown, said = display_url(url), first_line(error)
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        if getattr(cause, "sqlite_errorcode", 0) & 0xFF == 26:  # SQLITE_NOTADB
            return StorageError(f"{shown} is not an SQLite database; give another file")
        return StorageError(f"{shown}: {said}; check the file, its folder and the disk's free space")
    advice = _ADVICE.get(getattr(cause, "sqlstate", None) or "")
    if advice is None and "password authentication failed" in said:
        advice = _ADVICE["28P01"]
    if advice is None and "no password supplied" in said:
        advice = "the server wants a password; put it into the URL or into ~/.pgpass"
    if advice is None and "does not exist" in said:
        advice = _ADVICE["3D000"]
    return StorageError(f"{shown}: {said}; {advice or 'is the server running, and the URL right?'}")

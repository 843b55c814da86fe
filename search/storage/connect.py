"""Opens a database from its storage URL: driver, waiting, schema, error messages."""

from __future__ import annotations

import logging
import time

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from search.storage.database import Database, open_engine
from search.storage.dialects import backend_name, dialect_of, first_line
from search.storage.errors import StorageError
from search.storage.migrations.runner import Outdated, ensure_schema
from search.storage.url import display_url, parse_url

log = logging.getLogger("storage")


def open_database(
    storage: str,
    *,
    create: bool,
    outdated: Outdated | None = None,
    wait_s: float = 60.0,
    outage_s: float = 600.0,
) -> Database:
    """Open `storage`, wait for a server that is still starting, and create or upgrade its tables.

    Args:
        storage: A storage URL.
        create: Create missing tables (and the SQLite file); False raises NoStudyYet instead.
        outdated: What to do with tables of an older version: "upgrade", "read" (without upgrading) or "refuse"; None
            is "upgrade" if `create` is True, else "read".
        wait_s: How long to wait for a server that does not answer, in seconds.
        outage_s: How long later transactions are retried during an outage, in seconds.

    Raises:
        NoStudyYet: There are no tables yet, and `create` is False.
        StorageError: Any other error that the user can fix; one line, no password.
    """
    url = parse_url(storage)
    dialect_of(backend_name(url)).check_place(url, create=create)
    try:
        engine = open_engine(url)
    except ModuleNotFoundError as error:
        raise StorageError(
            f"{display_url(url)} needs the driver {error.name}; install it with: pip install 'lm-search[postgres]'"
        ) from error
    database = Database(engine, outage_s)
    try:
        _wait_for_answer(database, wait_s)
        ensure_schema(database, create=create, outdated=outdated or ("upgrade" if create else "read"))
    except DBAPIError as error:
        engine.dispose()
        raise _as_storage_error(database, error) from error
    except BaseException:
        engine.dispose()
        raise
    return database


def _wait_for_answer(database: Database, wait_s: float) -> None:
    started, warned = time.monotonic(), False
    while True:
        try:
            with database.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
            return
        except DBAPIError as error:
            left = wait_s - (time.monotonic() - started)
            if left <= 0 or database.dialect.is_final(error):
                raise _as_storage_error(database, error) from error
            if not warned:
                shown = display_url(database.engine.url)
                log.warning("%s does not answer yet (%s); waiting up to %.0f s", shown, first_line(error), wait_s)
                warned = True
            time.sleep(min(0.5, left))


def _as_storage_error(database: Database, error: DBAPIError) -> StorageError:
    shown, advice = display_url(database.engine.url), database.dialect.advice(error)
    return StorageError(f"{shown}: {first_line(error)}; {advice}")

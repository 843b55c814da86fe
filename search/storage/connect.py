"""Opens a database from its storage URL: driver, waiting, schema, error messages."""

from __future__ import annotations

import logging
import math
import time

from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError

from search.storage.database import OUTAGE_S, Database, open_engine
from search.storage.dialects import backend_name, dialect_of, first_line
from search.storage.errors import StorageError
from search.storage.migrations.runner import OptunaAlone, Outdated, ensure_schema
from search.storage.texts import printable
from search.storage.url import SERVER_KEY, display_url, parse_url

log = logging.getLogger("storage")

NO_ADVICE = "check the URL and the server's log"


def open_database(
    storage: str,
    *,
    create: bool,
    outdated: Outdated | None = None,
    wait_s: float = 60.0,
    outage_s: float = OUTAGE_S,
    optuna_alone: OptunaAlone = "refuse",
) -> Database:
    """Open `storage`, wait for a server that is still starting, and create or upgrade its tables.

    Args:
        storage: A storage URL.
        create: Create missing tables (and the SQLite file); False raises NoStudyYet instead.
        outdated: What to do with tables of an older version: "upgrade", "read" (without upgrading) or "refuse"; None
            is "upgrade" if `create` is True, else "read".
        wait_s: How long to wait for a server that does not answer, in seconds.
        outage_s: How long later transactions are retried during an outage, in seconds.
        optuna_alone: What to do, if `create` is False, with a database that has Optuna's tables without ours: "refuse"
            it, open it to "read", so that nothing changes it, or to "write" Optuna's tables.

    Raises:
        NoStudyYet: There are no tables yet, and `create` is False.
        StorageError: Any other error that the user can fix; one line, no password.
    """
    url = check_storage(storage, create=create)
    try:
        engine = open_engine(url, outage_s)
    except (TypeError, ValueError) as error:
        raise _wrong_option(url, error) from error
    except ModuleNotFoundError as error:
        extra = "server" if SERVER_KEY in url.query else "postgres"
        raise StorageError(
            f"{display_url(url)} needs the driver {error.name}; install it with: pip install 'lm-search[{extra}]'"
        ) from error
    outdated = outdated or ("upgrade" if create else "read")
    if optuna_alone == "read":
        dialect_of(backend_name(url)).keep_unchanged(engine)
    # A worker is patient with a crowded server; who only reads wants an answer.
    database = Database(engine, outage_s, waits_when_full=outdated == "upgrade")
    try:
        try:
            _wait_for_answer(database, wait_s)
        except (TypeError, ValueError) as error:  # of the driver, before it connects
            raise _wrong_option(url, error) from error
        ensure_schema(database, create=create, outdated=outdated, optuna_alone=optuna_alone)
    except BaseException:
        engine.dispose()
        raise
    return database


def check_storage(storage: str, *, create: bool) -> URL:
    """Check what can be known of a storage URL without opening it: that it is one, and for SQLite its file.

    Args:
        create: Whether a missing SQLite file would be created.

    Raises:
        NoStudyYet: The SQLite file does not exist, and `create` is False.
        StorageError: The URL is wrong, or the file cannot be used.
    """
    url = parse_url(storage)
    dialect_of(backend_name(url)).check_place(url, create=create)
    return url


def _wrong_option(url: URL, error: Exception) -> StorageError:
    return StorageError(f"{display_url(url)}: an option of the URL is wrong: {printable(error)}")


def _wait_for_answer(database: Database, wait_s: float) -> None:
    started, warned = time.monotonic(), False
    shown = display_url(database.engine.url)
    while True:
        try:
            with database.engine.connect().execution_options(search_read_only=True) as connection:
                connection.execute(text("SELECT 1"))
            return
        except DBAPIError as error:
            fault = database.dialect.diagnose(error)
            left = wait_s - (time.monotonic() - started)
            if fault.kind == "crowded" and database.waits_when_full:
                left = math.inf
            if left <= 0 or not fault.can_pass:
                raise StorageError(f"{shown}: {first_line(error)}; {fault.advice or NO_ADVICE}") from error
            if not warned:
                limit = "" if left == math.inf else f"; waiting up to {wait_s:.0f} s"
                log.warning("%s does not answer yet (%s)%s", shown, first_line(error), limit)
                warned = True
            time.sleep(min(0.5, left))

"""One database: transactions that are retried during an outage, its clock and its locks."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Executable, Row
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from search.storage.dialects import Dialect, backend_name, dialect_of, first_line
from search.storage.errors import StorageUnavailable
from search.storage.url import display_url

log = logging.getLogger("storage")

Result = TypeVar("Result")

INTERRUPTED_OUTAGE_S = 3.0


@dataclass(frozen=True)
class Database:
    """A database for short transactions, each of which can be repeated.

    Attributes:
        engine: The SQLAlchemy engine; share it with Optuna's storage so that its settings apply there too.
        outage_s: How long a transaction is retried while the database is unavailable, in seconds.
        interrupt: Once set, retries end after a few seconds, because the program is stopping.
    """

    engine: Engine
    outage_s: float = 600.0
    interrupt: threading.Event = field(default_factory=threading.Event, compare=False)

    @property
    def dialect(self) -> Dialect:
        """What is specific to this kind of database."""
        return dialect_of(self.engine.dialect.name)

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in one transaction and commit it; rerun it if the database becomes unavailable.

        The acknowledgement of a commit can be lost with the connection, so `work` must be safe to run again after it
        took effect.

        Raises:
            StorageUnavailable: The database was unavailable for `outage_s`.
        """
        return self._until_answered(lambda: self._transaction(work, read_only=False))

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` on a consistent snapshot; it never waits for a writer.

        Raises:
            StorageUnavailable: The database was unavailable for `outage_s`.
        """
        return self._until_answered(lambda: self._transaction(work, read_only=True))

    def execute_autocommit(self, statement: Executable, parameters: Mapping[str, Any]) -> Sequence[Row[Any]]:
        """Run one statement as its own transaction, without BEGIN and COMMIT.

        Raises:
            StorageUnavailable: The database was unavailable for `outage_s`.
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
                if not self.dialect.is_transient(error):
                    raise
                if away_s >= self._patience_s:
                    url = display_url(self.engine.url)
                    raise StorageUnavailable(
                        f"{url} did not answer for {away_s:.0f} s ({first_line(error)}); start it, then run the same "
                        "command again: finished trials are kept"
                    ) from error
                if failures == 0:
                    log.warning("%s is unavailable (%s); retrying", display_url(self.engine.url), first_line(error))
                failures += 1
                # Jitter, so that a hundred workers do not retry in the same millisecond.
                time.sleep(random.uniform(0.5, 1.0) * min(2.0, 0.05 * 2**failures))
            else:
                if failures:
                    log.warning("%s is available again", display_url(self.engine.url))
                return result

    def now(self) -> ColumnElement[float]:
        """The database's clock as an SQL expression: seconds since 1970, independent of time zones.

        Workers on several machines share it, even if their own clocks differ by hours.
        """
        return self.dialect.now()

    def lock(self, connection: Connection, name: str) -> None:
        """Hold the lock called `name` until the transaction ends."""
        self.dialect.lock(connection, name)

    @contextmanager
    def closing(self) -> Iterator[Database]:
        """Close all connections at the end."""
        try:
            yield self
        finally:
            self.engine.dispose()


def open_engine(url: URL, *, look_first: bool = False) -> Engine:
    """An engine for `url` with the settings that parallel workers need.

    Args:
        look_first: Test the connection before each transaction; for transactions that are not retried, unlike those
            of `Database`.

    Raises:
        ModuleNotFoundError: The driver is not installed.
    """
    return dialect_of(backend_name(url)).open_engine(url, look_first=look_first)

"""One database: transactions that are retried during an outage, its clock and its locks."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Executable, Row, Select, Table, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from search.storage.dialects import Dialect, backend_name, dialect_of, first_line
from search.storage.errors import StorageError, StorageUnavailable
from search.storage.url import display_url

log = logging.getLogger("storage")

Result = TypeVar("Result")
# What the functions that run in a transaction get.
Transaction: TypeAlias = Connection

OUTAGE_S = 600.0
INTERRUPTED_OUTAGE_S = 3.0
# A busy server may think this long about one statement.
MIN_SILENCE_S = 2.0
MAX_SILENCE_S = 60.0
# A server that plans statements by statistics gathers them by itself, but only after a minute.
MANY_ROWS = 1_000


@dataclass(frozen=True)
class Database:
    """A database for short transactions, each of which can be repeated.

    Attributes:
        engine: The SQLAlchemy engine; share it with Optuna's storage so that its settings apply there too.
        outage_s: How long a transaction is retried while the database is unavailable, in seconds.
        interrupt: Once set, retries end after a few seconds, because the program is stopping.
        waits_when_full: Whether to wait without limit for a server that answers, but has no free connection.
    """

    engine: Engine
    outage_s: float = OUTAGE_S
    interrupt: threading.Event = field(default_factory=threading.Event, compare=False)
    waits_when_full: bool = False

    @property
    def dialect(self) -> Dialect:
        """What is specific to this kind of database."""
        return dialect_of(self.engine.dialect.name)

    def write(self, work: Callable[[Connection], Result], *, durable: bool = False) -> Result:
        """Run `work` in one transaction and commit it; rerun it if the database becomes unavailable.

        The acknowledgement of a commit can be lost with the connection, so `work` must be safe to run again after it
        took effect.

        Args:
            durable: Commit so that a power cut cannot lose it, nor anything that was committed before.

        Raises:
            See `retry`.
        """
        return self.retry(lambda: self._transaction(work, durable, search_read_only=False))

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` on a consistent snapshot; it never waits for a writer.

        Raises:
            StorageUnavailable: The database was unavailable for `outage_s`.
        """
        return self.retry(lambda: self._transaction(work, search_read_only=True))

    def snapshot(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` so that all of its queries see the same moment; for many queries that belong together.

        Raises:
            StorageUnavailable: The database was unavailable for `outage_s`.
        """
        return self.retry(lambda: self._transaction(work, search_read_only=True, **self.dialect.snapshot_options))

    def execute_autocommit(self, statement: Executable, parameters: Mapping[str, Any]) -> Sequence[Row[Any]]:
        """Run one statement as its own transaction, without BEGIN and COMMIT.

        Raises:
            StorageUnavailable: The database was unavailable for `outage_s`.
        """

        def attempt() -> Sequence[Row[Any]]:
            with self.limited_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                return connection.execute(statement, parameters).all()

        return self.retry(attempt)

    def update_statistics(self, tables: Sequence[Table], rows: int) -> None:
        """Let statements be planned for tables that have just got `rows` rows, if these are many."""
        if rows < MANY_ROWS:
            return
        try:
            with self.limited_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                self.dialect.update_statistics(connection, tables)
        except DBAPIError as error:  # not worth a retry: statements are only slower
            log.debug("no statistics of %d new rows: %s", rows, first_line(error))

    def retry(self, attempt: Callable[[], Result]) -> Result:
        """Run `attempt` until the database answers; everything that touches the database goes through here.

        Raises:
            StorageUnavailable: The database was unavailable for `outage_s`.
            StorageError: An error that waiting cannot fix.
            DBAPIError: A wrong statement or a broken constraint: a bug.
        """
        started, failures = time.monotonic(), 0
        while True:
            began = time.monotonic()
            try:
                result = attempt()
            except DBAPIError as error:
                started = self._check_can_pass(error, started, began)
                if failures == 0:
                    log.warning("%s is unavailable (%s); retrying", display_url(self.engine.url), first_line(error))
                failures += 1
                # Jitter, so that a hundred workers do not retry in the same millisecond.
                time.sleep(random.uniform(0.5, 1.0) * min(2.0, 0.05 * 2**failures))
            else:
                if failures:
                    log.warning("%s is available again", display_url(self.engine.url))
                return result

    def _check_can_pass(self, error: DBAPIError, started: float, began: float) -> float:
        """Raise the error of `retry` if another attempt is useless.

        Args:
            started, began: When the outage and when the last attempt began.

        Returns:
            When the outage began: now, while the server answers that it has no free connection.
        """
        fault, shown = self.dialect.diagnose(error), display_url(self.engine.url)
        if fault.kind == "bug":
            raise error
        if fault.kind == "final":
            raise StorageError(f"{shown}: {first_line(error)}; {fault.advice}") from error
        now = time.monotonic()
        if fault.kind == "crowded" and self.waits_when_full and not self.interrupt.is_set():
            return now
        # A program that stops tries again only what fails at once: the next attempt could take long too.
        is_silent = self.interrupt.is_set() and now - began >= self._silence_s()
        if now - started >= self._patience_s or is_silent:
            raise StorageUnavailable(
                f"{shown} did not answer for {now - started:.0f} s ({first_line(error)}); {fault.advice}, then run "
                "the same command again: finished trials are kept"
            ) from error
        return started

    @cached_property
    def limited_engine(self) -> Engine:
        """The engine, whose statements wait no longer than this object allows; it shares the connections."""
        return self.engine.execution_options(search_silence_s=self._silence_s)

    def _transaction(self, work: Callable[[Connection], Result], durable: bool = False, **options: Any) -> Result:
        with self.limited_engine.connect() as connection:
            connection = connection.execution_options(**options)
            with connection.begin():
                result = work(connection)
            if durable:
                self.dialect.sync(connection)
            return result

    @property
    def _patience_s(self) -> float:
        return min(INTERRUPTED_OUTAGE_S, self.outage_s) if self.interrupt.is_set() else self.outage_s

    def _silence_s(self) -> float:
        limit_s = silence_limit_s(self.outage_s)
        return min(INTERRUPTED_OUTAGE_S, limit_s) if self.interrupt.is_set() else limit_s

    def now(self) -> ColumnElement[float]:
        """The database's clock as an SQL expression: seconds since 1970, independent of time zones.

        Workers on several machines share it, even if their own clocks differ by hours.
        """
        return self.dialect.now()

    def time(self, connection: Connection) -> float:
        """The database's clock: seconds since 1970."""
        return float(connection.execute(self._clock).scalar_one())

    @cached_property
    def _clock(self) -> Select[float]:
        # Built once: building it takes longer than running it.
        return select(self.now())

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


def open_engine(url: URL, outage_s: float = OUTAGE_S) -> Engine:
    """An engine for `url` with the settings that parallel workers need.

    Args:
        outage_s: How long transactions are retried, in seconds.

    Raises:
        ModuleNotFoundError: The driver is not installed.
        StorageError: The URL's query is wrong.
    """
    return dialect_of(backend_name(url)).open_engine(url, outage_s=outage_s)


def silence_limit_s(outage_s: float) -> float:
    """How long one attempt waits for an answer: a third of an outage, so that new connections are tried."""
    return min(MAX_SILENCE_S, max(MIN_SILENCE_S, outage_s / 3))

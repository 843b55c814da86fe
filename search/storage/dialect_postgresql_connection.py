"""Connections to PostgreSQL: they give up a silent server, take turns on a crowded one, and work behind a pooler."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from search.storage.errors import StorageError
from search.storage.server.client import reach, start
from search.storage.server.folder import server_folder

Result = TypeVar("Result")

# A connection that was not used for this long is closed after its next use, so that many processes can take turns on a
# server that allows few connections. Connecting takes some 10 ms, much less than this.
KEEP_S = 5.0
MAX_CONNECT_S = 10
# A dead network is noticed sooner than a slow server.
MAX_DEAD_S = 15


class PatientConnection(psycopg.Connection[Any]):
    """A connection that is given up when the server has been silent for too long.

    TCP notices only a dead peer. A stopped server, pooler or proxy still acknowledges what it never reads.
    """

    silence_s: Callable[[], float] = staticmethod(lambda: float(MAX_CONNECT_S))  # for the first statements

    def wait(self, gen: PQGen[Result], *args: Any, **kwargs: Any) -> Result:
        """As psycopg's; raises OperationalError when nothing was received for `silence_s()` seconds."""
        return super().wait(self._limited(gen), *args, **kwargs)

    def _limited(self, gen: PQGen[Result]) -> PQGen[Result]:
        heard_at = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    heard_at = time.monotonic()
                elif (silent_s := time.monotonic() - heard_at) >= self.silence_s():
                    self.pgconn.finish()  # without it, a rollback would wait as long again
                    raise psycopg.OperationalError(f"no answer for {silent_s:.0f} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: Result = end.value
            return result


def open_engine(url: URL, outage_s: float) -> Engine:
    """As `Dialect.open_engine`."""
    url, threshold = _prepare_threshold(url)
    arguments = {key: value for key, value in _arguments(outage_s).items() if key not in url.query}
    # One connection is kept. Threads that overlap get more, which are closed after use.
    engine = create_engine(url, pool_size=1, max_overflow=9, connect_args={**arguments, "prepare_threshold": threshold})
    event.listen(engine, "do_connect", lambda _dialect, _record, args, named: _connect(*args, **named))
    event.listen(engine, "connect", _prepare_nothing_behind_a_pooler)
    event.listen(engine, "begin", _limit)
    _take_turns(engine)
    return engine


def _connect(*args: Any, server: str | None = None, **named: Any) -> PatientConnection:
    """Connect; if a folder is given, to its private server, which is started if it does not answer."""
    if server is None:
        return PatientConnection.connect(*args, **named)
    folder = server_folder(server)
    if (reached := reach(folder)) is None:
        failure = "its server is being started"
    else:
        place, arguments = reached
        try:
            return PatientConnection.connect(**{**named, **arguments})
        except psycopg.OperationalError as error:
            if "FATAL:" in str(error):  # it answers
                raise
            # Never taken for a wrong certificate: another program may have the port of a server that is gone.
            failure = f"its server on {place.host}, port {place.port}, does not answer"
    try:
        is_started = start(folder)
    except StorageError as error:
        if reached is None:
            raise
        raise psycopg.OperationalError(f"{failure}, and {error}") from error  # this can pass
    if not is_started or (reached := reach(folder)) is None:
        raise psycopg.OperationalError(failure)
    return PatientConnection.connect(**{**named, **reached[1]})


def _arguments(outage_s: float) -> dict[str, Any]:
    """Arguments of libpq; the URL's query can replace each of them."""
    dead_s = max(1, min(MAX_DEAD_S, int(outage_s / 3)))
    return {
        # Else an SQL_ASCII database answers with bytes.
        "client_encoding": "utf8",
        "connect_timeout": max(2, min(MAX_CONNECT_S, int(outage_s / 3))),
        "keepalives_idle": dead_s,
        "keepalives_interval": max(1, dead_s // 3),
        "keepalives_count": 3,
        "tcp_user_timeout": dead_s * 1000,
    }


def _prepare_threshold(url: URL) -> tuple[URL, int | None]:
    given = url.query.get("prepare_threshold", "5")
    if given == "none":
        return url.difference_update_query(["prepare_threshold"]), None
    if isinstance(given, str) and given.isdecimal():
        return url.difference_update_query(["prepare_threshold"]), int(given)
    raise StorageError(f"prepare_threshold={given} in the URL: give a number, or none")


def _prepare_nothing_behind_a_pooler(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # Behind pgbouncer in transaction mode each transaction can run in another session, where a prepared statement is
    # missing or, worse, is another one of the same name. Such a pooler invents the process id that it gives a client.
    assert isinstance(connection, psycopg.Connection)
    connection.autocommit = True
    [pid] = connection.execute("SELECT pg_backend_pid()", prepare=False).fetchone() or [None]
    connection.autocommit = False
    if pid != connection.info.backend_pid:
        connection.prepare_threshold = None


def _limit(connection: Connection) -> None:
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, PatientConnection)
    driver.silence_s = connection.get_execution_options().get("search_silence_s", PatientConnection.silence_s)
    if driver.autocommit:
        return
    # The server ends what this process left behind: a transaction whose locks would stop all others. The settings end
    # with the transaction, because a pooler gives the session to another program.
    connection.execute(_LIMITS, {"limit": f"{1000 * (driver.silence_s() + 5):.0f}"})


_LIMITS = text(
    "SELECT set_config('statement_timeout', :limit, true), "
    "set_config('idle_in_transaction_session_timeout', :limit, true)"
)


def _take_turns(engine: Engine) -> None:
    returned_at = [time.monotonic()]
    idle_s = [0.0]

    def checkout(_connection: DBAPIConnection, _record: ConnectionPoolEntry, _proxy: Any) -> None:
        idle_s[0] = time.monotonic() - returned_at[0]

    def checkin(connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        returned_at[0] = time.monotonic()
        if connection is not None and idle_s[0] >= KEEP_S:
            record.invalidate()

    event.listen(engine, "checkout", checkout)
    event.listen(engine, "checkin", checkin)

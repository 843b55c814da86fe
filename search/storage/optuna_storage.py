"""Optuna's storage on our engine."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from search.storage.database import Database, open_engine
from search.storage.url import parse_url

Result = TypeVar("Result")


class SearchStorage(RDBStorage):
    """Optuna's storage with the engine, the timeouts and the locks of `Database`.

    It stores exactly what Optuna's own storage would, so optuna-dashboard and a user's scripts can open the same URL.
    It connects at its first use: Optuna then imports Alembic and its models, which takes a tenth of a second, and many
    workers never ask.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """What Optuna's constructor sets."""
            known = vars(self)
            if name.startswith("__") or "database" not in known or "engine" in known:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            known.update(self._opened())
            return getattr(self, name)

    def _opened(self) -> dict[str, Any]:
        """The attributes of Optuna's storage, connected to our database."""
        from sqlalchemy.orm import scoped_session, sessionmaker

        database = self.database
        # Optuna replaces {SCHEMA_VERSION} in the URL, so braces in a password are escaped.
        url = database.engine.url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
        # The constructor connects; its connection is made as all others are, and closed at once.
        pool = {"creator": lambda: _new_connection(database), "poolclass": NullPool}
        # The tables exist: `open_database` created them under a lock.
        made = self._retry(lambda: RDBStorage(url, pool, skip_table_creation=True, skip_compatibility_check=True))
        engine = database.limited_engine
        return {**vars(made), "engine": engine, "scoped_session": scoped_session(sessionmaker(bind=engine))}

    def _retry(self, attempt: Callable[[], Result]) -> Result:
        def unwrapped() -> Result:
            try:
                return attempt()
            except StorageInternalError as error:
                if isinstance(error.__cause__, DBAPIError):
                    raise error.__cause__ from None
                raise

        return self.database.retry(unwrapped)

    def __getstate__(self) -> dict[Any, Any]:
        url = self.database.engine.url.render_as_string(hide_password=False)
        return {"url": url, "outage_s": self.database.outage_s}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        SearchStorage.__init__(
            self, Database(open_engine(parse_url(state["url"]), state["outage_s"]), state["outage_s"])
        )
        # No other object uses this engine.
        weakref.finalize(self, self.database.engine.dispose)


def _new_connection(database: Database) -> DBAPIConnection:
    pooled = database.engine.raw_connection()
    connection = pooled.dbapi_connection
    assert connection is not None
    pooled.detach()
    return connection


def _retried(name: str, *, repeatable: bool) -> Callable[..., Any]:
    method: Callable[..., Any] = getattr(RDBStorage, name)

    @functools.wraps(method)
    def call(self: SearchStorage, *args: Any, **kwargs: Any) -> Any:
        if repeatable:
            return self._retry(lambda: method(self, *args, **kwargs))
        # The answer to a commit can be lost, so only the way to the database is tried again.
        self.database.read(lambda connection: connection.execute(select(1)))
        return method(self, *args, **kwargs)

    return call


# A second creation or deletion would fail or make a second trial.
_ONCE = frozenset({"create_new_study", "delete_study", "create_new_trial", "set_trial_state_values"})
for _name in sorted(name for name in dir(BaseStorage) if name.startswith(("get_", "set_", "create_", "delete_"))):
    if _name in RDBStorage.__dict__:
        setattr(SearchStorage, _name, _retried(_name, repeatable=_name not in _ONCE))

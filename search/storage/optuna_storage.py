"""Optuna's storage on our engine, and a faster storage for pruners."""

from __future__ import annotations

import copy
import functools
import time
import weakref
from bisect import insort
from collections.abc import Callable, Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from optuna._typing import JSONSerializable
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from search.storage import optuna_queries, optuna_tables
from search.storage.compared_metric import ComparedMetric, as_compared
from search.storage.database import Database, open_engine
from search.storage.metrics import read_metrics, reported
from search.storage.schema import LATE_COMMIT_S, queue_table
from search.storage.url import parse_url

Result = TypeVar("Result")


class SearchStorage(RDBStorage):
    """Optuna's storage with the engine, the timeouts and the locks of `Database`.

    It stores exactly what Optuna's own storage would, so optuna-dashboard and a user's scripts can open the same URL.
    It connects at its first use: Optuna then imports Alembic, which takes a third of the time to import Optuna, and
    many workers never ask.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """What Optuna's constructor sets."""
            if name.startswith("__") or vars(self).keys() != {"database"}:
                raise AttributeError(name)
            vars(self).update(self._opened())
            return getattr(self, name)

    def _opened(self) -> dict[str, Any]:
        """The attributes of Optuna's storage, connected to our database."""
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


class PrunerStorage(_CachedStorage):
    """A cache for pruners: reads each finished trial once, and running trials at most once per second.

    A pruner compares one metric: what trials report to Optuna, the first of several objectives, or another one, which
    it then sees in place of that.
    Optuna reads all trials of the study at the first check, and every unfinished trial again at each check. Its storage
    also fails as soon as the database does not answer, which would fail a worker's trial.
    """

    objectives: int | None = 1  # how many are seen; None for all

    def __init__(
        self, backend: SearchStorage, study: str, refresh_s: float = 1.0, metric: ComparedMetric | None = None
    ) -> None:
        super().__init__(backend)
        self._metric = metric
        self._database, self._study, self._refresh_s = backend.database, study, refresh_s
        self._finished: dict[int, FrozenTrial] = {}
        self._by_number: list[FrozenTrial] = []  # the same ones
        self._ended_at: dict[int, float] = {}
        self._complete: list[FrozenTrial] = []
        self._with_result: list[FrozenTrial] = []
        self._running: list[FrozenTrial] = []
        self._columns: dict[int, _Column] = {}
        # What the pruner stored on trials, such as the rungs of successive halving.
        self.written_attrs: dict[int, dict[str, Any]] = {}
        self._seen_until = 0.0
        self._refreshed_at = -float("inf")
        # A running trial that this process knows best; -1 for none.
        self._held_id = -1
        self._directions: list[StudyDirection] = []

    def get_study_id_from_name(self, study_name: str) -> int:
        study_id = self._database.read(lambda connection: optuna_tables.study_id(connection, study_name))
        if study_id is None:
            raise KeyError(study_name)
        return study_id

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        if self._metric is not None:
            return [self._metric.direction]
        if not self._directions:
            stored = self._database.read(lambda connection: optuna_tables.directions(connection, study_id))
            self._directions = stored[: self.objectives]
        return self._directions

    def get_trial(self, trial_id: int) -> FrozenTrial:
        trials = self._database.read(lambda connection: optuna_queries.read_trials(connection, [trial_id]))
        if not trials:
            raise KeyError(trial_id)
        return trials[0]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        self._refresh()
        if states == (TrialState.COMPLETE,) and not deepcopy:
            return self._complete
        trials = list(self._by_number)
        for trial in self._running:
            insort(trials, trial, key=_number)
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        self._refresh()
        ranked = [trial for trial in self._complete if trial.value is not None]
        if not ranked:
            raise ValueError("no trial is complete")  # what Optuna's own storage raises, and its pruners expect
        [direction] = self.get_study_directions(study_id)
        sign = -1 if direction == StudyDirection.MAXIMIZE else 1
        return min(ranked, key=lambda trial: (sign * (trial.value or 0.0), trial.number))

    def set_trial_system_attr(self, trial_id: int, key: str, value: JSONSerializable) -> None:
        self._database.write(lambda connection: optuna_tables.write_system_attrs(connection, trial_id, {key: value}))
        self.written_attrs.setdefault(trial_id, {})[key] = value

    def ended(self) -> Sequence[FrozenTrial]:
        """The complete and pruned trials in the order in which they were read: the sequence only grows."""
        self._refresh()
        return self._with_result

    def running(self) -> Sequence[FrozenTrial]:
        """The running trials, at most `refresh_s` old."""
        self._refresh()
        return self._running

    def complete_values(self, step: int) -> tuple[int, npt.NDArray[np.float64]]:
        """The values that complete trials had at `step`.

        Returns:
            How many trials are complete, and the values (n,) of those that reported at `step`.
        """
        self._refresh()
        column = self._columns.get(step)
        return len(self._complete), np.empty(0) if column is None else column.values()

    def expire(self) -> None:
        """Let the next look at the study be a new one."""
        self._refreshed_at = -float("inf")

    def _refresh(self) -> None:
        if time.monotonic() - self._refreshed_at < self._refresh_s:
            return
        ended_at, finished, self._running = self._database.read(self._read_changes)
        self._ended_at |= ended_at
        self._seen_until = max([self._seen_until, *ended_at.values()])
        for trial in self._running:
            self._forget(trial._trial_id)  # it had failed, and was put back into the queue
        for trial in finished:
            trial.values = trial.values[: self.objectives] if trial.values else None
            self._forget(trial._trial_id)
            self._finished[trial._trial_id] = trial
            insort(self._by_number, trial, key=_number)
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
                self._with_result.append(trial)
            if trial.state == TrialState.COMPLETE:
                self._complete.append(trial)
                for step, value in trial.intermediate_values.items():
                    self._columns.setdefault(step, _Column()).append(value)
        self._refreshed_at = time.monotonic()

    def _forget(self, trial_id: int) -> None:
        if (trial := self._finished.pop(trial_id, None)) is not None:
            self._by_number = [each for each in self._by_number if each is not trial]

    def _read_changes(self, connection: Connection) -> tuple[dict[int, float], list[FrozenTrial], list[FrozenTrial]]:
        # Leaves the object unchanged: `Database` reruns it when the database becomes unavailable.
        since = self._seen_until - LATE_COMMIT_S
        ended = connection.execute(
            select(queue_table.c.trial_id, queue_table.c.finished_at).where(
                queue_table.c.study == self._study, queue_table.c.state == "done", queue_table.c.finished_at >= since
            )
        )
        # A failed trial that was put back into the queue ends a second time.
        new = {trial_id: at for trial_id, at in ended if self._ended_at.get(trial_id) != at}
        running = select(queue_table.c.trial_id).where(
            queue_table.c.study == self._study,
            queue_table.c.state == "running",
            queue_table.c.trial_id != self._held_id,
        )
        return (
            new,
            self._read_trials(connection, new),
            self._read_trials(connection, connection.execute(running).scalars()),
        )

    def _read_trials(self, connection: Connection, trial_ids: Iterable[int]) -> list[FrozenTrial]:
        trials = optuna_queries.read_trials(connection, trial_ids)
        return trials if self._metric is None else as_compared(connection, trials, self._metric)

    def metric_names(self, trial: FrozenTrial) -> list[str]:
        """The names of what a trial has reported besides the value for Optuna."""
        by_step = self._database.read(lambda connection: read_metrics(connection, [trial._trial_id]))
        return list({name: None for each in by_step.get(trial._trial_id, {}).values() for name in reported(each)})

    def as_compared(self, trial: FrozenTrial) -> FrozenTrial:
        """A running trial as the pruner sees it; it shares its attributes with `trial`."""
        metric = self._metric
        if metric is None:
            return trial
        # Read each time: another attempt, or a report of an earlier step, may have removed values.
        return self._database.read(lambda connection: as_compared(connection, [trial], metric))[0]


def _number(trial: FrozenTrial) -> int:
    return trial.number


class _Column:
    """A growing array of the values at one step."""

    def __init__(self) -> None:
        self._buffer, self._length = np.empty(64), 0

    def append(self, value: float) -> None:
        if self._length == len(self._buffer):
            self._buffer = np.concatenate([self._buffer, np.empty_like(self._buffer)])
        self._buffer[self._length] = value
        self._length += 1

    def values(self) -> npt.NDArray[np.float64]:
        return self._buffer[: self._length]

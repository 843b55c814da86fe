"""A storage for pruners and samplers that reads each ended trial once."""

from __future__ import annotations

import copy
import time
from bisect import insort
from collections.abc import Container, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna._typing import JSONSerializable
from optuna.storages._cached_storage import _CachedStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, select

from search.storage import optuna_queries, optuna_tables
from search.storage.compared_metric import ComparedMetric, as_compared
from search.storage.metrics import read_metrics, reported
from search.storage.optuna_storage import SearchStorage
from search.storage.schema import LATE_COMMIT_S, queue_table


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

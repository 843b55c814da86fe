"""Trials that have ended before a measurement begins, written at once."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, insert, select, update

from benchmarks.sampler_throughput.objective import HIGH, LOW, loss
from search.storage import optuna_tables
from search.storage.database import Database
from search.storage.optuna_layout import TrialValueType, trial_values, trials
from search.storage.optuna_tables import Parameter
from search.storage.schema import queue_table

AXIS = FloatDistribution(LOW, HIGH)


def ended_trials(count: int) -> list[FrozenTrial]:
    """Complete trials with parameters drawn at random, the same at each call."""
    draw = random.Random(0)
    cells = [{"x": draw.uniform(LOW, HIGH), "y": draw.uniform(LOW, HIGH)} for _ in range(count)]
    axes: dict[str, BaseDistribution] = {"x": AXIS, "y": AXIS}
    return [optuna.trial.create_trial(params=cell, distributions=axes, value=loss(**cell)) for cell in cells]


def end_first(database: Database, study: str, count: int) -> None:
    """End the first trials of a planned study whose objective suggests its parameters."""

    def work(connection: Connection) -> None:
        queue, now = queue_table.c, time.time()
        first = (queue.study == study) & (queue.number < count)
        ids = connection.execute(select(queue.trial_id).where(first).order_by(queue.number)).scalars().all()
        _end(connection, ids)
        done = {"state": "done", "outcome": "complete", "token": 1, "attempts": 1}
        done |= {"started_at": now - 62, "finished_at": now - 60}
        connection.execute(update(queue_table).where(first).values(done))

    database.write(work)


def fill_stock(storage: optuna.storages.RDBStorage, study: optuna.Study, count: int) -> None:
    """Give a study of Optuna alone ended trials; Optuna would commit each by itself."""
    with storage.engine.begin() as connection:
        made = optuna_tables.insert_waiting_trials(connection, study._study_id, [{}] * count)
        _end(connection, [trial_id for trial_id, _ in made])


def _end(connection: Connection, ids: Sequence[int]) -> None:
    if not ids:
        return
    ended = list(zip(ids, ended_trials(len(ids)), strict=True))
    parameters = [(at, {name: Parameter(value, AXIS) for name, value in each.params.items()}) for at, each in ended]
    optuna_tables._insert_parameters(connection, parameters)
    kind = TrialValueType.FINITE
    values = [{"trial_id": at, "objective": 0, "value": each.value, "value_type": kind} for at, each in ended]
    connection.execute(insert(trial_values), values)
    now = time.time()
    times = {"datetime_start": optuna_tables.utc(now - 2), "datetime_complete": optuna_tables.utc(now - 1)}
    which = trials.c.trial_id.between(min(ids), max(ids))
    connection.execute(update(trials).where(which).values(state=TrialState.COMPLETE, **times))

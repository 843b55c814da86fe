"""A study of 12 cells per seed, and functions that read and change its rows."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, Engine, Row, event, select, update

from search.storage.database import Database
from search.storage.leases import Lease
from search.storage.optuna_tables import Parameter
from search.storage.planning import PlannedTrial, StudyPlan
from search.storage.schema import queue_table
from search.storage.url import parse_url

STUDY = "small"
CELLS = 12
_AXES: dict[str, list[Any]] = {"block_size": [8, 64], "n_embd": [64, 128], "pe_type": ["randn", "sinpe", "rope"]}
_DISTRIBUTIONS = {name: CategoricalDistribution(values) for name, values in _AXES.items()}


def sample_plan(seeds: int = 1, study: str = STUDY, definition: str = "small") -> StudyPlan:
    """The plan of the small study; trials are numbered and ordered seed by seed."""
    points = itertools.product(range(seeds), itertools.product(*_AXES.values()))
    trials = [
        _planned(dict(zip(_AXES, values, strict=True)), 1337 + seed, at) for at, (seed, values) in enumerate(points)
    ]
    return StudyPlan(study, {"grid": _AXES, "called": definition}, {"description": "a small study"}, trials)


def _planned(cell: dict[str, Any], seed: int, priority: int) -> PlannedTrial:
    parameters = {name: Parameter(value, _DISTRIBUTIONS[name]) for name, value in cell.items()}
    parameters["seed"] = Parameter(seed, IntDistribution(0, 2**31 - 1))
    shape = json.dumps({name: cell[name] for name in ("block_size", "n_embd")})
    return PlannedTrial(json.dumps({**cell, "seed": seed}, sort_keys=True), parameters, shape, priority)


def row(database: Database, number: int, study: str = STUDY) -> Row[Any]:
    """The queue's row of a trial."""
    query = select(queue_table).where(queue_table.c.study == study, queue_table.c.number == number)
    return database.read(lambda connection: connection.execute(query).one())


def rows(database: Database, study: str = STUDY) -> list[Row[Any]]:
    """All rows of a study, by number."""
    query = select(queue_table).where(queue_table.c.study == study).order_by(queue_table.c.number)
    return list(database.read(lambda connection: connection.execute(query).all()))


def change(database: Database, number: int, study: str = STUDY, **values: Any) -> None:
    """Change the queue's row of a trial directly."""
    statement = update(queue_table).where(queue_table.c.study == study, queue_table.c.number == number).values(values)
    assert database.write(lambda connection: connection.execute(statement).rowcount) == 1


def expire(database: Database, lease: Lease) -> None:
    """Set the end of a trial's lease to a second ago."""
    change(
        database,
        lease.number,
        lease.study,
        lease_until=database.read(lambda connection: connection.execute(select(database.now())).scalar_one()) - 1,
    )


@contextmanager
def engines_closed() -> Iterator[None]:
    """Close the engines that are used inside, also those of a dashboard or of Optuna, which nothing else can reach."""
    used: set[Engine] = set()

    def note(connection: Connection) -> None:
        used.add(connection.engine)

    event.listen(Engine, "engine_connect", note)
    try:
        yield
    finally:
        event.remove(Engine, "engine_connect", note)
        for engine in used:
            engine.dispose()


def optuna_storage(url: str) -> RDBStorage:
    """Optuna's storage, with our driver: SQLAlchemy's own choice is another one before version 2.1."""
    return RDBStorage(parse_url(url).render_as_string(hide_password=False))


def optuna_trials(url: str, study: str = STUDY) -> list[FrozenTrial]:
    """The trials that Optuna reads from the URL."""
    storage = optuna_storage(url)
    try:
        return optuna.load_study(study_name=study, storage=storage).trials
    finally:
        storage.engine.dispose()

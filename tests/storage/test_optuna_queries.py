"""Trials are read by their ids, whether or not these follow one another."""

from __future__ import annotations

import gc

import pytest
from sample_study import CELLS, optuna_trials

from search.storage import optuna_queries
from search.storage.database import Database
from search.storage.queue import TrialQueue


@pytest.mark.parametrize("numbers", [range(CELLS), [4], [3, 4, 5], [1, 2, 7], [7, 1, 2], []])
def test_those_asked_for_are_read(database: Database, queue: TrialQueue, storage_url: str, numbers: list[int]) -> None:
    stored = optuna_trials(storage_url)
    ids = [stored[number]._trial_id for number in numbers]

    read = database.read(lambda connection: optuna_queries.read_trials(connection, ids))
    parameters = database.read(lambda connection: optuna_queries.read_parameters(connection, ids))

    wanted = [stored[number] for number in sorted(numbers)]
    assert read == wanted
    assert parameters == {each._trial_id: each.params for each in wanted}


@pytest.mark.parametrize("is_enabled", [True, False])
def test_the_collection_of_garbage_is_as_before(database: Database, queue: TrialQueue, is_enabled: bool) -> None:
    (gc.enable if is_enabled else gc.disable)()
    try:
        database.read(lambda connection: optuna_queries.read_trials(connection, [1]))
        assert gc.isenabled() == is_enabled
    finally:
        gc.enable()

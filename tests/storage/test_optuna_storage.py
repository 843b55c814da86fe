"""Optuna's storage on our engine: it connects when it is asked."""

from __future__ import annotations

import pickle

import optuna
import pytest

from search.storage.database import Database
from search.storage.optuna_storage import SearchStorage


def test_it_connects_at_its_first_use(database: Database) -> None:
    storage = SearchStorage(database)
    storage.note = "set by someone else"  # type: ignore[attr-defined]
    assert "engine" not in vars(storage)
    study = optuna.create_study(study_name="own", storage=storage)
    study.add_trial(optuna.trial.create_trial(value=1.0))
    assert storage.engine is database.limited_engine
    assert [each.study_name for each in storage.get_all_studies()] == ["own"]
    with pytest.raises(AttributeError, match="'SearchStorage' object has no attribute 'nothing'"):
        _ = storage.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("is_used", [False, True])
def test_a_pickled_one_reads_the_same(database: Database, is_used: bool) -> None:
    storage = SearchStorage(database)
    if is_used:
        storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "own")
    again = pickle.loads(pickle.dumps(storage))
    assert [each.study_name for each in again.get_all_studies()] == (["own"] if is_used else [])
    again.database.engine.dispose()

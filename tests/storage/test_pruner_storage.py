"""What pruners see and decide: the same as with Optuna's own storage and pruners."""

from __future__ import annotations

import math
import warnings
from typing import Any

import optuna
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sample_study import CELLS, STUDY, optuna_storage, optuna_trials, sample_plan
from sqlalchemy import event

from search.storage.database import Database
from search.storage.leases import Lease, Report
from search.storage.optuna_storage import SearchStorage
from search.storage.planning import plan
from search.storage.pruner_storage import PrunerStorage
from search.storage.queue import TrialQueue
from search.strategies.pruners import MedianPruner
from search.strategies.pruning_judge import PruningJudge
from search.study.pruner_settings import PrunerSettings

STEPS = (0, 500, 1000, 1500)


def fresh(storage: PrunerStorage) -> list[FrozenTrial]:
    """All trials of the study after a forced look at the database."""
    storage._refreshed_at = -math.inf
    return storage.get_all_trials(0)


def train(queue: TrialQueue, lease: Lease, losses: list[float]) -> None:
    queue.report([Report(lease, step, loss, loss) for step, loss in zip(STEPS, losses, strict=False)])


def test_pruners_see_what_optuna_sees(database: Database, queue: TrialQueue, storage_url: str) -> None:
    storage = PrunerStorage(SearchStorage(database), STUDY)
    assert fresh(storage) == []
    leases = queue.claim([STUDY], "ann", limit=5)
    for lease in leases:
        train(queue, lease, [4.0, 3.0 + lease.number, math.nan])
    queue.finish(leases[3], "complete", 2.0, {"n_params": 1})
    queue.finish(leases[1], "pruned", 2.5, reason="made up")
    queue.finish(leases[4], "failed", None)

    expected = [trial for trial in optuna_trials(storage_url) if trial.state != TrialState.WAITING]
    seen = fresh(storage)

    assert repr(seen) == repr(expected)  # NaN is not equal to itself
    assert [trial.number for trial in storage.get_all_trials(0, deepcopy=False, states=(TrialState.COMPLETE,))] == [3]
    assert repr(storage.get_trial(leases[0].trial_id)) == repr(expected[0])
    count, values = storage.complete_values(500)
    assert (count, list(values)) == (1, [6.0])
    assert list(storage.complete_values(1500)[1]) == []


def test_news_are_seen_when_they_are_a_second_old(database: Database, queue: TrialQueue) -> None:
    storage = PrunerStorage(SearchStorage(database), STUDY)
    assert storage.complete_values(0)[0] == 0
    [lease] = queue.claim([STUDY], "ann")
    queue.finish(lease, "complete", 2.0)
    assert storage.complete_values(0)[0] == 0, "within the second nothing is asked"
    storage._refreshed_at -= 1.0
    assert storage.complete_values(0)[0] == 1


def test_each_finished_trial_is_read_once(database: Database, queue: TrialQueue) -> None:
    storage = PrunerStorage(SearchStorage(database), STUDY)
    read: list[Any] = []
    event.listen(database.engine, "before_cursor_execute", lambda *args: read.append((args[2], args[3])))
    for _ in range(6):
        [lease] = queue.claim([STUDY], "ann")
        train(queue, lease, [4.0, 3.0])
        queue.finish(lease, "complete", 3.0)
        read.clear()
        fresh(storage)
        asked = [parameters for statement, parameters in read if "FROM trials" in statement]
        assert [set(_values(each)) for each in asked] == [{lease.trial_id}]
    fresh(storage)
    assert storage.complete_values(500)[0] == 6


def _values(parameters: Any) -> list[Any]:
    return list(parameters.values() if isinstance(parameters, dict) else parameters)


def test_a_trial_that_failed_and_was_put_back_counts_once(database: Database, queue: TrialQueue) -> None:
    storage = PrunerStorage(SearchStorage(database), STUDY)
    [lease] = queue.claim([STUDY], "ann")
    queue.finish(lease, "failed", None)
    assert [trial.state for trial in fresh(storage)] == [TrialState.FAIL]
    queue.retry_failed([STUDY])
    [lease] = queue.claim([STUDY], "bob")
    assert [trial.state for trial in fresh(storage)] == [TrialState.RUNNING]
    train(queue, lease, [4.0, 3.0])
    queue.finish(lease, "complete", 3.0)
    assert [trial.state for trial in fresh(storage)] == [TrialState.COMPLETE]
    fresh(storage)
    assert (storage.complete_values(500)[0], list(storage.complete_values(500)[1])) == (1, [3.0])


losses = st.one_of(st.just(math.nan), st.floats(1, 5).map(lambda loss: round(loss, 1)), st.just(math.inf))
curves = st.lists(losses, max_size=len(STEPS))


class MemoryHistory:
    """The part of `PrunerStorage` that the median pruner asks, of given curves."""

    def __init__(self, complete: list[list[float]]) -> None:
        self.complete = complete

    def complete_values(self, step: int) -> Any:
        import numpy as np

        at = STEPS.index(step)
        return len(self.complete), np.array([curve[at] for curve in self.complete if len(curve) > at])


@given(
    complete=st.lists(curves, max_size=8),
    running=curves,
    warmup=st.sampled_from([0, 500, 1200]),
    least=st.integers(1, 4),
)
@hypothesis_settings(max_examples=100)
def test_the_median_pruner_decides_like_optunas(
    complete: list[list[float]], running: list[float], warmup: int, least: int
) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    for curve in complete:
        study.add_trial(trial_of(curve, TrialState.COMPLETE))
    trial = trial_of(running, TrialState.RUNNING)
    theirs = optuna.pruners.MedianPruner(n_startup_trials=least, n_warmup_steps=warmup, n_min_trials=least)
    ours = MedianPruner(MemoryHistory(complete), warmup, least)  # type: ignore[arg-type]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Optuna's, of nothing but NaN
        expected = theirs.prune(study, trial)

    assert ours.prune(study, trial) == expected


def trial_of(curve: list[float], state: TrialState) -> FrozenTrial:
    values = dict(zip(STEPS, curve, strict=False))
    trial = optuna.trial.create_trial(state=state, value=1.0 if state.is_finished() else None)
    trial.intermediate_values = values
    return trial


@given(complete=st.lists(curves, min_size=1, max_size=6), running=curves)
@example(
    [[math.nan, math.nan, 1.0], [math.nan, math.nan, math.inf], [math.nan, math.nan, 1.0]],
    [math.nan, math.nan, math.inf],
)
@hypothesis_settings(max_examples=8)
def test_the_judge_decides_like_optuna_on_the_database(
    judged: tuple[Database, str, Any], complete: list[list[float]], running: list[float]
) -> None:
    database, url, names = judged
    study = f"study-{next(names)}"
    plan(database, [sample_plan(study=study)])
    queue = TrialQueue(database)
    settings = PrunerSettings.model_validate({"name": "median", "warmup_steps": 500, "min_trials": 2})
    for curve in complete:
        [lease] = queue.claim([study], f"{next(names)}")
        train(queue, lease, curve)
        queue.finish(lease, "complete", 2.0)
    [lease] = queue.claim([study], "ann")
    judge = PruningJudge(SearchStorage(database), study, settings)
    trial = judge.trial(lease)
    theirs = optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=500, n_min_trials=2)
    storage = optuna_storage(url)
    for step, loss in zip(STEPS, running, strict=False):
        queue.report([Report(lease, step, loss, loss)])
        trial.intermediate_values[step] = loss
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            told = storage.get_trial(lease.trial_id)
            expected = theirs.prune(Study(study_name=study, storage=storage), told)
        assert judge.should_prune(trial) == expected
    storage.engine.dispose()


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import itertools

    from search.storage.connect import open_database

    url = f"sqlite:///{tmp_path_factory.mktemp('judge') / 'search.db'}"
    with open_database(url, create=True).closing() as database:
        yield database, url, itertools.count()


@pytest.mark.parametrize(("name", "key"), [("sha", "completed_rung_"), ("hyperband", "completed_rung_")])
def test_rungs_of_other_pruners_are_in_the_database(
    database: Database, queue: TrialQueue, storage_url: str, name: Any, key: str
) -> None:
    settings = PrunerSettings.model_validate({"name": name, "warmup_steps": 500})
    judge = PruningJudge(SearchStorage(database), STUDY, settings)
    judge._history._refresh_s = 0.0
    pruned = 0
    for lease in queue.claim([STUDY], "ann", limit=CELLS):
        trial = judge.trial(lease)
        outcome: Any = "complete"
        for step in (0, 500, 1000, 2000, 4000):
            loss = 3.0 + (lease.number * 7 % CELLS) / 10 - step / 10_000
            queue.report([Report(lease, step, loss, loss)])
            trial.intermediate_values[step] = loss
            if judge.should_prune(trial):
                outcome = "pruned"
                break
        queue.finish(lease, outcome, loss)
        pruned += outcome == "pruned"

    trials = optuna_trials(storage_url)
    assert 0 < pruned < CELLS
    assert sum(trial.state == TrialState.PRUNED for trial in trials) == pruned
    # Of hyperband's brackets some have no rung so early.
    assert sum(any(key in attr for attr in trial.system_attrs) for trial in trials) >= pruned


def test_no_pruner_asks_nothing(database: Database, queue: TrialQueue) -> None:
    [lease] = queue.claim([STUDY], "ann")
    judge = PruningJudge(SearchStorage(database), STUDY, PrunerSettings(name="none"))
    trial = judge.trial(lease)
    asked: list[Any] = []
    event.listen(database.engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    trial.intermediate_values[5000] = math.inf
    assert judge.should_prune(trial) is False
    assert asked == []

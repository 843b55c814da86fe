"""Planning: each cell once, whatever happened before and whoever plans at the same time."""

from __future__ import annotations

import math
from typing import Any

import optuna
import pytest
import swarm
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState
from sample_study import CELLS, STUDY, change, optuna_trials, row, rows, sample_plan
from scenario import reading
from sqlalchemy import text

from search.storage import optuna_tables
from search.storage.database import Database
from search.storage.errors import StorageError
from search.storage.leases import Report
from search.storage.optuna_storage import SearchStorage
from search.storage.planning import DefinitionChanged, Planned, plan
from search.storage.queries import study_attrs, study_names
from search.storage.queue import TrialQueue
from search.storage.state_transitions import ENDED_ELSEWHERE


def everything(database: Database, url: str) -> Any:
    names = study_names(database)
    return {name: (study_attrs(database, name), rows(database, name), optuna_trials(url, name)) for name in names}


def test_planning_makes_a_row_and_a_trial_of_each_cell(database: Database, storage_url: str) -> None:
    assert plan(database, [sample_plan()]) == Planned(added=CELLS, repaired=0)

    planned, trials = rows(database), optuna_trials(storage_url)
    assert [each.number for each in planned] == [trial.number for trial in trials] == list(range(CELLS))
    assert [each.trial_id for each in planned] == [trial._trial_id for trial in trials]
    assert {(each.state, each.attempts, each.token) for each in planned} == {("waiting", 0, 0)}
    assert {trial.state for trial in trials} == {TrialState.WAITING}
    assert trials[4].params == {"block_size": 8, "n_embd": 128, "pe_type": "sinpe", "seed": 1337}
    assert trials[4].distributions == {
        "block_size": CategoricalDistribution([8, 64]),
        "n_embd": CategoricalDistribution([64, 128]),
        "pe_type": CategoricalDistribution(["randn", "sinpe", "rope"]),
        "seed": IntDistribution(0, 2**31 - 1),
    }


def test_planning_again_adds_nothing(database: Database, storage_url: str) -> None:
    plan(database, [sample_plan()])
    before = everything(database, storage_url)

    assert plan(database, [sample_plan()]) == Planned(added=0, repaired=0)

    assert everything(database, storage_url) == before


def test_more_seeds_add_what_is_missing_and_fewer_take_nothing(database: Database, queue: TrialQueue) -> None:
    [lease] = queue.claim([STUDY], "ann")

    assert plan(database, [sample_plan(seeds=3)]) == Planned(added=2 * CELLS, repaired=0)
    assert plan(database, [sample_plan(seeds=1)]) == Planned(added=0, repaired=0)

    assert [each.number for each in rows(database)] == list(range(3 * CELLS))
    assert row(database, lease.number).state == "running"


def test_eight_planners_at_once_plan_each_cell_once(storage_url: str) -> None:
    added = swarm.run_at_once(8, swarm.plan_small, storage_url, 3)

    assert sum(added) == 3 * CELLS
    trials = optuna_trials(storage_url)
    assert [trial.number for trial in trials] == list(range(3 * CELLS))
    assert len({tuple(trial.params.items()) for trial in trials}) == 3 * CELLS


def test_another_definition_changes_nothing(database: Database, queue: TrialQueue, storage_url: str) -> None:
    before = everything(database, storage_url)

    with pytest.raises(DefinitionChanged, match="'small' exists with another definition") as caught:
        plan(database, [sample_plan(seeds=2, definition="other")])

    assert (caught.value.stored or {})["called"] == "small"
    assert caught.value.wanted["called"] == "other"
    assert everything(database, storage_url) == before


def test_plans_come_all_or_none(database: Database, queue: TrialQueue, storage_url: str) -> None:
    before = everything(database, storage_url)

    with pytest.raises(DefinitionChanged, match="'small' exists with another definition"):
        plan(database, [sample_plan(study="a-new-one"), sample_plan(definition="other")])

    assert everything(database, storage_url) == before
    assert optuna_tables_has(database, "a-new-one") is False


def optuna_tables_has(database: Database, study: str) -> bool:
    return database.read(lambda connection: optuna_tables.study_id(connection, study)) is not None


def test_a_study_that_optuna_made_is_not_taken_over(database: Database, storage_url: str) -> None:
    optuna.create_study(study_name=STUDY, storage=SearchStorage(database))

    with pytest.raises(DefinitionChanged, match="'small' exists") as caught:
        plan(database, [sample_plan()])

    assert caught.value.stored is None
    assert optuna_trials(storage_url) == []


def test_a_deleted_study_is_planned_anew(database: Database, queue: TrialQueue, storage_url: str) -> None:
    [lease] = queue.claim([STUDY], "ann")
    queue.finish(lease, "complete", 2.0)
    before = study_attrs(database, STUDY)
    optuna.delete_study(study_name=STUDY, storage=SearchStorage(database))

    assert plan(database, [sample_plan()]) == Planned(added=CELLS, repaired=0)

    after = study_attrs(database, STUDY)
    assert before is not None
    assert after is not None
    assert (after["definition"], after["uid"] == before["uid"]) == (before["definition"], False)
    assert {each.state for each in rows(database)} == {"waiting"}
    assert {trial.state for trial in optuna_trials(storage_url)} == {TrialState.WAITING}


def delete_with_sql(url: str, *statements: str) -> None:
    """Delete rows as a person with an SQL prompt does: on a connection with plain settings."""
    with reading(url) as connection:
        for statement in statements:
            connection.execute(text(statement))
        connection.commit()


def test_a_trial_that_is_gone_is_made_again(database: Database, queue: TrialQueue, storage_url: str) -> None:
    gone, kept = queue.claim([STUDY], "ann", limit=2)
    queue.report([Report(gone, 0, 4.0, 4.1)])
    queue.finish(gone, "failed", None, reason="made up")
    tables = ("trial_params", "trial_intermediate_values", "trial_user_attributes", "trials")
    delete_with_sql(storage_url, *(f"DELETE FROM {table} WHERE trial_id = {gone.trial_id}" for table in tables))
    assert [each.number for each in rows(database)] == list(range(1, CELLS)), "the row is deleted with it"

    assert plan(database, [sample_plan()]) == Planned(added=1, repaired=0)

    [made] = [each for each in rows(database) if each.cell == gone.cell]
    assert made.number not in {kept.number, *range(2, CELLS - 1)}
    assert made.id > CELLS, "an id is never used again"
    assert (made.state, made.outcome, made.attempts, made.finished_at, made.step) == ("waiting", None, 0, None, None)
    [trial] = [trial for trial in optuna_trials(storage_url) if trial._trial_id == made.trial_id]
    assert (trial.state, trial.params["pe_type"]) == (TrialState.WAITING, "randn")
    assert [each.state for each in rows(database)].count("running") == 1


@pytest.mark.parametrize(
    ("outcome", "state"),
    [("complete", TrialState.COMPLETE), ("pruned", TrialState.PRUNED), ("diverged", TrialState.FAIL)],
)
def test_an_end_that_optuna_was_not_told_is_told(
    database: Database, queue: TrialQueue, storage_url: str, outcome: str, state: TrialState
) -> None:
    [lease] = queue.claim([STUDY], "ann")
    change(database, 0, state="done", outcome=outcome, value=2.5, reason="made up", finished_at=1e9)

    assert plan(database, [sample_plan()]) == Planned(added=0, repaired=1)

    trial = optuna_trials(storage_url)[lease.number]
    assert (trial.state, trial.value) == (state, 2.5)
    assert trial.user_attrs == {"outcome": outcome, "reason": "made up"}
    assert plan(database, [sample_plan()]).repaired == 0


@pytest.mark.parametrize(
    ("state", "values", "outcome"),
    [
        (TrialState.FAIL, None, "failed"),
        (TrialState.COMPLETE, [1.5], "complete"),
        (TrialState.COMPLETE, [1.5, 2.5], "complete"),
        (TrialState.COMPLETE, [math.inf], "diverged"),
        (TrialState.COMPLETE, [1.5, -math.inf], "diverged"),
        (TrialState.PRUNED, None, "pruned"),
    ],
)
def test_an_end_through_optuna_ends_the_row(
    database: Database, queue: TrialQueue, state: TrialState, values: list[float] | None, outcome: str
) -> None:
    [lease] = queue.claim([STUDY], "ann")
    SearchStorage(database).set_trial_state_values(lease.trial_id, state, values)

    assert plan(database, [sample_plan()]) == Planned(added=0, repaired=1)

    ended = row(database, 0)
    value = values[0] if values else None
    assert (ended.state, ended.outcome, ended.value, ended.reason) == ("done", outcome, value, ENDED_ELSEWHERE)
    assert queue.report([Report(lease, 500, 1.0, 1.0)]) == [lease]


def test_trials_of_others_are_left_alone(database: Database, queue: TrialQueue, storage_url: str) -> None:
    study = optuna.load_study(study_name=STUDY, storage=SearchStorage(database))
    study.enqueue_trial({"n_embd": 64})

    assert plan(database, [sample_plan(seeds=2)]) == Planned(added=CELLS, repaired=0)

    trials = optuna_trials(storage_url)
    assert [trial.number for trial in trials] == list(range(2 * CELLS + 1))
    assert (trials[CELLS].state, trials[CELLS].params) == (TrialState.WAITING, {})
    assert len(queue.claim([STUDY], "ann", limit=100)) == 2 * CELLS


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM trial_values",
        "DELETE FROM trial_values WHERE trial_id IN (SELECT trial_id FROM trials WHERE number = 3)",
        "UPDATE trial_values SET value = value + 1",
        "DELETE FROM trial_params",
        "DELETE FROM trial_params WHERE param_name = 'seed'",
        "DELETE FROM trial_params WHERE trial_id IN (SELECT trial_id FROM trials WHERE number IN (3, 11))",
    ],
)
def test_values_and_parameters_are_repaired(
    database: Database, queue: TrialQueue, storage_url: str, statement: str
) -> None:
    for lease in queue.claim([STUDY], "ann", limit=CELLS - 1):
        queue.finish(lease, "complete", 1.0 + lease.number)
    before = optuna_trials(storage_url)
    delete_with_sql(storage_url, statement)
    assert optuna_trials(storage_url) != before

    assert plan(database, [sample_plan()]).repaired > 0

    assert optuna_trials(storage_url) == before
    assert plan(database, [sample_plan()]) == Planned(added=0, repaired=0)


@pytest.mark.parametrize(
    "statements",
    [
        ["DELETE FROM search_studies"],
        ["DELETE FROM search_runs", "DELETE FROM search_studies"],
    ],
)
def test_half_a_study_is_refused(
    database: Database, queue: TrialQueue, storage_url: str, statements: list[str]
) -> None:
    delete_with_sql(storage_url, *statements)

    assert (study_names(database), study_attrs(database, STUDY)) == ([], None)
    with pytest.raises(StorageError, match="'small' is in Optuna's tables but not in those of lm-search") as caught:
        plan(database, [sample_plan()])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seeds", [1, 2])
def test_importances_can_be_computed(database: Database, queue: TrialQueue, seeds: int) -> None:
    plan(database, [sample_plan(seeds)])
    for lease in queue.claim([STUDY], "ann", limit=100):
        width = 1.0 if '"n_embd": 64' in lease.cell else 2.0
        queue.finish(lease, "complete", width + (lease.number * 7) % CELLS * 0.001)

    study = optuna.load_study(study_name=STUDY, storage=SearchStorage(database))

    found = optuna.importance.get_param_importances(study)
    assert set(found) == {"block_size", "n_embd", "pe_type", "seed"}
    assert max(("block_size", "n_embd", "pe_type"), key=lambda name: found[name]) == "n_embd"
    assert study.best_trial.number == 0

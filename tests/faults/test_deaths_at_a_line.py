"""A process is killed exactly between two steps, and the next normal start repairs the state it left."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest
from deaths import Death
from scenario import MakeStudy

PLANNING = [
    Death("search.storage.migrations.runner:_upgrade", "before"),
    # The tables exist, in a transaction that was never committed.
    Death("search.storage.migrations.runner:_upgrade", "after"),
    Death("search.storage.connect:ensure_schema", "after"),
    Death("search.storage.optuna_tables:create_study", "before"),
    Death("search.storage.optuna_tables:create_study", "after"),
    Death("search.storage.planning:repair", "after"),
    # The trials exist, but no row refers to them.
    Death("search.storage.optuna_tables:insert_waiting_trials", "after"),
    Death("search.storage.planning:insert", "before"),
    Death("search.storage.planning:plan_one", "after"),
    Death("search.study.planner:plan", "after"),
]

WORK = [
    # The row is claimed, but Optuna's trial has not started.
    Death("search.storage.optuna_states:start_trials", "before"),
    Death("search.storage.optuna_states:start_trials", "after"),
    Death("search.storage.queue:TrialQueue.claim", "after", 2),
    # The lease is renewed, but the loss is not written.
    Death("search.storage.optuna_tables:write_intermediate_values", "before", 5),
    Death("search.storage.optuna_tables:write_intermediate_values", "after", 5),
    # The evaluation is reported, but no checkpoint has it.
    Death("search.workers.trained_trial:TrainedTrial._save", "before", 4),
    # In the middle of writing the checkpoint: the old one and a part of the new one exist.
    Death("os:fsync", "before", 4),
    Death("pathlib:Path.replace", "before", 4),
    Death("pathlib:Path.replace", "after", 4),
    # The row is finished, but Optuna's trial is not.
    Death("search.storage.optuna_states:finish_trial", "before"),
    Death("search.storage.optuna_states:finish_trial", "after"),
    # The trial is finished, but its checkpoint still exists.
    Death("search.storage.queue:TrialQueue.finish", "after"),
    Death("search.storage.checkpoint_store:CheckpointStore.remove_checkpoint", "before", 3),
]

# PostgreSQL runs these transactions as one statement, so a process can only die before or after them.
ONE_STATEMENT = {
    "search.storage.optuna_states:start_trials": "search.storage.postgres_queue:claim",
    "search.storage.optuna_tables:write_intermediate_values": "search.storage.postgres_queue:report",
    "search.storage.optuna_states:finish_trial": "search.storage.postgres_queue:finish",
}

STOPPING = [
    Death("search.workers.trained_trial:TrainedTrial.save_and_release", "before"),
    Death("search.storage.queue:TrialQueue.release", "before"),
    Death("search.storage.optuna_states:release_trials", "before"),
    Death("search.storage.queue:TrialQueue.release", "after"),
]


@pytest.mark.parametrize("death", PLANNING, ids=str)
def test_planner_dies(make_study: MakeStudy, death: Death) -> None:
    study = make_study(3, ms=1)
    assert study.fork_worker(death, plan=True) == -signal.SIGKILL
    study.repair()
    rows = study.check_exactly_once()
    assert [row.attempts for row in rows] == [1, 1, 1]


@pytest.mark.parametrize("death", WORK, ids=str)
def test_worker_dies(make_study: MakeStudy, death: Death) -> None:
    study = make_study(3, ms=1, lease_s=60)
    study.plan()
    if study.url.startswith("postgresql"):
        death = replace(death, function=ONE_STATEMENT.get(death.function, death.function))
    assert study.fork_worker(death) == -signal.SIGKILL
    study.expire_leases()
    study.repair()
    study.check_exactly_once()


@pytest.mark.parametrize("death", STOPPING, ids=str)
def test_worker_dies_while_it_releases_its_trial(make_study: MakeStudy, death: Death) -> None:
    study = make_study(2, ms=1, lease_s=60)
    study.plan()
    gate = study.close_gate(7)
    assert study.fork_worker(death, stop_at=gate) == -signal.SIGKILL
    gate.open()
    study.expire_leases()
    study.repair()
    study.check_exactly_once()


def test_planner_dies_while_it_adds_seeds(make_study: MakeStudy) -> None:
    study = make_study(2, ms=1)
    study.repair()
    study.check_exactly_once()
    more = make_study(2, ms=1, seeds=3)
    assert more.fork_worker(Death("search.storage.planning:insert", "after"), plan=True) == -signal.SIGKILL
    assert len(study.rows()) == 2
    more.repair()
    assert [row.attempts for row in more.check_exactly_once()] == [1] * 6


@pytest.mark.soak
def test_one_death_after_the_other(make_study: MakeStudy) -> None:
    """All deaths in the same study, without a normal start in between."""
    study = make_study(4, ms=1, lease_s=0.05)
    for death in [*PLANNING[:1], *PLANNING[3:-1], *WORK]:
        study.fork_worker(death, plan=True)
    study.repair()
    study.check_exactly_once()

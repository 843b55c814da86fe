"""A process dies exactly between two steps, and the next ordinary start repairs what it left."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest
from deaths import Death
from scenario import MakeStudy

PLANNING = [
    Death("search.storage.migrations.runner:_upgrade", "before"),
    # The tables are there, in a transaction that never ends.
    Death("search.storage.migrations.runner:_upgrade", "after"),
    Death("search.storage.connect:settle", "after"),
    Death("search.storage.optuna_tables:create_study", "before"),
    Death("search.storage.optuna_tables:create_study", "after"),
    Death("search.storage.planning:_repair", "after"),
    # The trials are there, and no row is linked to them.
    Death("search.storage.optuna_tables:insert_waiting_trials", "after"),
    Death("search.storage.planning:insert", "before"),
    Death("search.storage.planning:_plan_one", "after"),
    Death("search.study.planner:plan", "after"),
]

WORK = [
    # The row is claimed, and Optuna's trial not started.
    Death("search.storage.optuna_tables:start_trials", "before"),
    Death("search.storage.optuna_tables:start_trials", "after"),
    Death("search.storage.queue:TrialQueue.claim", "after", 2),
    # The lease is renewed, and the loss not written.
    Death("search.storage.optuna_tables:write_intermediate_value", "before", 5),
    Death("search.storage.optuna_tables:write_intermediate_value", "after", 5),
    # Reported, no checkpoint of it.
    Death("search.workers.leased_trial:LeasedTrial._save", "before", 4),
    # In the middle of writing the checkpoint: the old one is there, and a part of the new.
    Death("os:fsync", "before", 4),
    Death("pathlib:Path.replace", "before", 4),
    Death("pathlib:Path.replace", "after", 4),
    # The row is finished, and Optuna's trial is not.
    Death("search.storage.optuna_tables:finish_trial", "before"),
    Death("search.storage.optuna_tables:finish_trial", "after"),
    # Finished, and the checkpoint still there.
    Death("search.storage.queue:TrialQueue.finish", "after"),
    Death("search.storage.checkpoint_store:CheckpointStore.remove_checkpoint", "before", 3),
]

# PostgreSQL does these transactions in one statement: there is no line within them, only one before and one after.
ONE_STATEMENT = {
    "search.storage.optuna_tables:start_trials": "search.storage.postgres_queue:claim",
    "search.storage.optuna_tables:write_intermediate_value": "search.storage.postgres_queue:report",
    "search.storage.optuna_tables:finish_trial": "search.storage.postgres_queue:finish",
}

STOPPING = [
    Death("search.workers.leased_trial:LeasedTrial.save_and_release", "before"),
    Death("search.storage.queue:TrialQueue.release", "before"),
    Death("search.storage.optuna_tables:release_trials", "before"),
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
    """All of them in the same study, without an ordinary start in between."""
    study = make_study(4, ms=1, lease_s=0.05)
    for death in [*PLANNING[:1], *PLANNING[3:-1], *WORK]:
        study.fork_worker(death, plan=True)
    study.repair()
    study.check_exactly_once()

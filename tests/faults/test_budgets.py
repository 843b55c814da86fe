"""`--budget` holds to within the trials that were running, over workers, kills and restarts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scenario import FaultStudy, MakeStudy
from study_files import opened

from search.planning import open_planned
from search.storage.left_out import OVER_BUDGET
from search.storage.queries import counts, study_uids
from search.storage.spending import Spent, count_spending, spent_on
from search.study.planner import Study


def plan(study: FaultStudy, budget: str | None) -> Study:
    """Plan a study as a run with this budget does."""
    database, planned = open_planned(replace(study.options, budget=budget))
    with database.closing():
        return planned


def spend(study: FaultStudy, seconds: float) -> None:
    """Count what another worker has taken in all."""
    with opened(study.url).closing() as database:
        uid = study_uids(database, [study.name])[study.name]
        count_spending(database, uid, "another", Spent(seconds), busy_s=None)


def found(study: FaultStudy) -> dict[str, int]:
    with opened(study.url).closing() as database:
        return {state: count for state, count in counts(database, [study.name]).items() if count}


def test_killed_workers_and_restarts(make_study: MakeStudy) -> None:
    """Two workers hold a trial each when the budget is spent. They are killed, and both trials go on to their end."""
    study = make_study(8, ms=1)
    plan(study, "1h")
    gate = study.close_gate(4)
    study.start_workers(2)
    gate.wait(2)
    spend(study, 3600)
    for worker in study.workers:
        worker.kill()
        worker.wait()
    study.expire_leases()
    study.workers.clear()
    study.gates = ()
    plan(study, "1h")
    assert found(study) == {"running": 2, OVER_BUDGET: 6}
    study.start_workers(3)
    assert set(study.join()) == {0}, study.logs()
    assert found(study) == {"complete": 2, OVER_BUDGET: 6}
    with opened(study.url).closing() as database:
        assert spent_on(database, [study.name]).seconds > 3600, "what killed attempts took counts too"
    study.workers.clear()
    # Raised, and spent again by a worker that is already training.
    plan(study, "2h")
    gate = study.close_gate(4)
    study.start_workers(2)
    gate.wait(2)
    spend(study, 7200)
    gate.open()
    assert set(study.join()) == {0}, study.logs()
    assert found(study) == {"complete": 4, OVER_BUDGET: 4}
    study.workers.clear()
    plan(study, None)
    study.start_workers(2)
    assert set(study.join()) == {0}, study.logs()
    study.check_exactly_once()


def test_the_last_trial_began_before_the_budget_was_spent(make_study: MakeStudy) -> None:
    budget_s = 0.5
    study = make_study(400, ms=20)
    plan(study, f"{budget_s}s")
    study.start_workers(2)
    assert set(study.join()) == {0}, study.logs()
    begun = [row for row in study.rows() if row.started_at is not None]
    assert 1 < len(begun) < 400
    last = max(row.started_at for row in begun)
    assert sum(min(row.finished_at, last) - row.started_at for row in begun) < budget_s + 1  # a slow machine
    with opened(study.url).closing() as database:
        spent = spent_on(database, [study.name]).seconds
    assert max(budget_s, sum(row.finished_at - row.started_at for row in begun)) <= spent + 0.01


@pytest.mark.parametrize("raised", [None, "10h"])
def test_a_run_that_changes_the_budget_reaches_workers_that_train(make_study: MakeStudy, raised: str | None) -> None:
    study = make_study(4, ms=1)
    plan(study, "1h")
    gate = study.close_gate(4, {"slot": 0})
    study.start_worker()
    gate.wait()
    spend(study, 4000)
    plan(study, raised)
    gate.open()
    assert study.join() == [0], study.logs()
    study.check_exactly_once()

"""Each trial of a group ends exactly once, whatever happens to the worker or to another trial of the group."""

from __future__ import annotations

import signal

import pytest
from deaths import Death
from scenario import FIRST_SEED, FaultStudy, MakeStudy

# Deaths, each with the number of trials that the worker holds at that moment.
DEATHS = [
    (Death("search.storage.queue:TrialQueue.claim_alike", "before"), 1),
    (Death("search.storage.queue:TrialQueue.claim_alike", "after"), 3),
    (Death("search.storage.queue:TrialQueue.report", "before", 4), 3),
    (Death("search.storage.queue:TrialQueue.report", "after", 4), 3),
    (Death("search.workers.trained_trial:TrainedTrial._save", "before", 5), 3),
    (Death("search.storage.queue:TrialQueue.finish", "before", 2), 2),
    (Death("search.storage.queue:TrialQueue.finish", "after", 2), 1),
]


@pytest.mark.parametrize(("death", "held"), DEATHS, ids=str)
def test_a_worker_with_a_group_dies(make_study: MakeStudy, death: Death, held: int) -> None:
    study = make_study(2, seeds=4, ms=1, lease_s=60, fuse="3")
    study.plan()
    assert study.fork_worker(death) == -signal.SIGKILL
    study.expire_leases()
    study.repair()
    rows = study.check_exactly_once()
    assert sum(row.token - 1 for row in rows) == held


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_with_a_group_is_killed_while_it_stops(make_study: MakeStudy, when: str) -> None:
    study = make_study(1, seeds=3, ms=1, lease_s=60, fuse="3")
    study.plan()
    gate = study.close_gate(7)
    death = Death("search.storage.queue:TrialQueue.release", when, 2)
    assert study.fork_worker(death, stop_at=gate) == -signal.SIGKILL
    gate.open()
    study.expire_leases()
    study.repair()
    study.check_exactly_once()


def test_a_worker_with_a_group_releases_all_of_it(make_study: MakeStudy) -> None:
    study = make_study(1, seeds=3, ms=1, lease_s=60, fuse="3")
    study.plan()
    gate = study.close_gate(7)
    assert study.fork_worker(stop_at=gate) == 0
    assert [(row.state, row.attempts) for row in study.rows()] == [("waiting", 0)] * 3
    gate.open()
    study.repair()
    study.check_exactly_once()


def outcomes(study: FaultStudy) -> list[tuple[str | None, int, str | None]]:
    return [(row.outcome, row.attempts, row.reason) for row in study.rows()]


def test_one_of_a_group_fails_alone(make_study: MakeStudy) -> None:
    study = make_study(grid={"fault": [f"error@{FIRST_SEED + 1}"]}, seeds=4, ms=2, fuse="4")
    study.repair()
    complete = ("complete", 1, None)
    assert outcomes(study) == [complete, ("failed", 1, "ZeroDivisionError: made up"), complete, complete]
    log = study.fork_log.read_text()
    assert "error in a group of 4 trials of faulty: ZeroDivisionError: made up; retrying" in log
    assert "in groups of 2" in log


def test_a_group_without_memory_is_halved(make_study: MakeStudy) -> None:
    study = make_study(grid={"fault": [f"memory@{FIRST_SEED + 2}"]}, seeds=4, ms=2, fuse="4", max_attempts=2)
    study.repair()
    complete = ("complete", 1, None)
    assert outcomes(study) == [complete, complete, ("failed", 2, "MemoryError: made up"), complete]


def test_one_of_a_group_diverges(make_study: MakeStudy) -> None:
    study = make_study(grid={"fault": [f"nan@{FIRST_SEED}"]}, seeds=3, ms=2, fuse="3")
    study.repair()
    complete = ("complete", 1, None)
    assert outcomes(study) == [("diverged", 1, "the loss was not finite at step 2"), complete, complete]

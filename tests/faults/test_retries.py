"""Errors inside a trial: transient ones are retried, others are not, and each failed trial has a reason."""

from __future__ import annotations

import math
import time

import fake_objective
import pytest
from fault_results import by_fault, optuna_trials
from scenario import MakeStudy, reading
from study_files import program

from search.planning import open_planned
from search.storage.queue import TrialQueue


def test_faults(make_study: MakeStudy) -> None:
    study = make_study(grid={"fault": ["none", "memory", "error", "nan"]}, ms=2, max_attempts=3)
    started = time.monotonic()
    study.repair()
    assert time.monotonic() - started >= 0.1 + 0.2, "no back-off"
    rows, trials, log = by_fault(study), optuna_trials(study), study.fork_log.read_text()
    facts = {fault: (row.state, row.outcome, row.attempts, row.reason) for fault, row in rows.items()}
    assert facts == {
        "none": ("done", "complete", 1, None),
        "memory": ("done", "failed", 3, "MemoryError: made up"),
        "error": ("done", "failed", 1, "ZeroDivisionError: made up"),
        "nan": ("done", "diverged", 1, "the loss was not finite at step 2"),
    }
    for fault, trial in trials.items():
        assert trial.user_attrs["outcome"] == facts[fault][1]
        assert trial.user_attrs.get("reason") == facts[fault][3]
        assert trial.state.name == ("COMPLETE" if fault == "none" else "FAIL")
    assert math.isnan(trials["nan"].intermediate_values[2])
    assert "retrying in 0.1 s" in log
    assert "retrying in 0.2 s" in log
    assert "retrying in 0.4 s" not in log


def test_trial_that_kills_its_worker(make_study: MakeStudy) -> None:
    study = make_study(grid={"fault": ["exit", "none"]}, ms=2, max_attempts=3, lease_s=0.2)
    study.plan()
    codes = [study.fork_worker()]
    while codes[-1] != 0:
        codes.append(study.fork_worker())
        assert len(codes) < 10
    assert codes == [11, 11, 11, 0]
    row, trial = by_fault(study)["exit"], optuna_trials(study)["exit"]
    assert (row.outcome, row.attempts, row.value) == ("failed", 3, None)
    assert row.reason.startswith("3 workers crashed while training this trial; last: ")
    assert (trial.state.name, trial.user_attrs["reason"]) == ("FAIL", row.reason)
    assert by_fault(study)["none"].outcome == "complete"


def test_failed_trials_are_retried_when_asked(make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(grid={"fault": ["error", "none", "memory"]}, ms=2, max_attempts=2)
    study.repair()
    before = study.rows()
    assert [row.outcome for row in before] == ["failed", "complete", "failed"]
    # The fault is fixed, and the failed trials are put back.
    monkeypatch.setattr(fake_objective.FakeRun, "_misbehave", lambda self: None)
    database, planned = open_planned(study.options)
    with database.closing():
        assert TrialQueue(database).retry_failed(planned.names) == 2
        assert TrialQueue(database).retry_failed(planned.names) == 0
    assert [(row.state, row.attempts, row.reason) for row in study.rows()] == [
        ("waiting", 0, None),
        ("done", 1, None),
        ("waiting", 0, None),
    ]
    study.repair()
    rows = study.check_exactly_once()
    assert [row.attempts for row in rows] == [1, 1, 1]
    assert rows[1] == before[1]
    assert all("reason" not in trial.user_attrs for trial in optuna_trials(study).values())


def test_run_reports_failed_trials(make_sqlite_study: MakeStudy) -> None:
    """`search.run` trains the other trials when one kills its worker, and ends with 1."""
    study = make_sqlite_study(grid={"fault": ["exit", "none", "error"]}, ms=2, max_attempts=3)
    options = [*study.arguments, "--workers", "1", "--devices", "cpu", "--quiet"]
    done = program("run", *options, cwd=study.folder)
    assert done.returncode == 1, done.stderr
    assert "worker cpu-0 ended with exit code 11" in done.stderr
    assert {fault: row.outcome for fault, row in by_fault(study).items()} == {
        "exit": "failed",
        "none": "complete",
        "error": "failed",
    }


@pytest.mark.parametrize("fault", ["none"])
def test_claiming_again_after_a_lost_answer_counts_no_attempt(make_study: MakeStudy, fault: str) -> None:
    """The connection loses the answer to a claim: the worker claims again, and no attempt is counted."""
    study = make_study(grid={"fault": [fault]}, max_attempts=1)
    database, planned = open_planned(study.options)
    with database.closing():
        queue = TrialQueue(database, lease_s=60, max_attempts=1)
        [lost] = queue.claim(planned.names, "me")
        [again] = queue.claim(planned.names, "me")
    assert (lost.attempt, again.attempt) == (1, 1)
    assert again.token > lost.token
    with reading(study.url):
        assert [row.state for row in study.rows()] == ["running"]

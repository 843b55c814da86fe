"""A study's own code cannot speak for the worker: whatever it raises ends its trial, not the worker."""

from __future__ import annotations

import pytest
from fault_results import by_fault, optuna_trials
from scenario import FaultStudy, MakeStudy

from search.planning import open_planned
from search.storage.queries import trial_summaries

FAILED = {
    "sys.exit(0)": "SystemExit: 0",
    "sys.exit(2)": "SystemExit: 2",
    "sys.exit(text)": "SystemExit: no GPU",
    "interrupt": "KeyboardInterrupt",
    "generator exit": "GeneratorExit",
    "storage": "StorageUnavailable: a database of the objective's own",
    "lease": "LeaseLost: made up",
    "usage": "UsageError: wrong option",
}


@pytest.mark.parametrize("fuse", ["off", "3"])
def test_raised(make_sqlite_study: MakeStudy, fuse: str) -> None:
    """In a group of stacked trials, too, an error ends only the trial that raised it."""
    study = make_sqlite_study(grid={"fault": [*FAILED, "none", "fork"]}, ms=2, fuse=fuse)
    study.repair()
    for fault, row in by_fault(study).items():
        expected = ("failed", FAILED[fault]) if fault in FAILED else ("complete", None)
        assert (row.state, row.outcome, row.reason) == ("done", *expected), fault


@pytest.mark.parametrize("fuse", ["off", "2"])
def test_pruned_by_the_objective(make_study: MakeStudy, fuse: str) -> None:
    study = make_study(grid={"fault": ["pruned", "none"]}, ms=2, fuse=fuse)
    study.repair()
    row, trial = by_fault(study)["pruned"], optuna_trials(study)["pruned"]
    assert (row.state, row.outcome, row.reason) == ("done", "pruned", "pruned by the objective at step 0")
    assert (row.value, row.attempts) == (row.val_loss, 1)
    assert (trial.state.name, trial.value) == ("PRUNED", row.val_loss)
    assert by_fault(study)["none"].outcome == "complete"


def test_pruned_before_its_first_evaluation(make_sqlite_study: MakeStudy) -> None:
    study = make_sqlite_study(grid={"fault": ["pruned at once", "none"]}, ms=2)
    study.repair()
    row = by_fault(study)["pruned at once"]
    assert (row.outcome, row.value, row.step) == ("pruned", None, None)
    assert row.reason == "pruned by the objective before its first evaluation"
    assert optuna_trials(study)["pruned at once"].state.name == "PRUNED"
    database, planned = open_planned(study.options)
    with database.closing():
        assert [trial.val_loss for trial in trial_summaries(database, planned.names, ("pruned",))] == [None]


def exit_codes(study: FaultStudy) -> list[int]:
    codes = [study.fork_worker()]
    while codes[-1] != 0:
        codes.append(study.fork_worker())
        assert len(codes) < 10
    return codes


@pytest.mark.parametrize("fuse", ["off", "2"])
def test_error_of_a_gpu_ends_the_process(make_sqlite_study: MakeStudy, fuse: str) -> None:
    """After such an error every call fails; no other trial may pay for it."""
    study = make_sqlite_study(grid={"fault": ["none", "CUDA"]}, ms=2, max_attempts=2, fuse=fuse)
    study.plan()
    assert exit_codes(study) == [70, 70, 0]
    rows = by_fault(study)
    assert (rows["CUDA"].outcome, rows["CUDA"].attempts) == ("failed", 2)
    assert rows["CUDA"].reason == "RuntimeError: CUDA error: device-side assert triggered"
    assert rows["none"].outcome == "complete"

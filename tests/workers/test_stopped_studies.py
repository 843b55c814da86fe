"""`trial.study.stop()`: what had not begun is not run, and shown as that, until someone asks for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from optuna.trial import TrialState
from sample_study import optuna_trials
from study_files import all_rows, opened

from search.options import PlanningOptions
from search.planning import open_planned
from search.reporting.missing_text import not_run_line
from search.reporting.progress import Snapshot, end_line, summary_line
from search.reporting.render import render
from search.reporting.status_text import status_as_json, status_as_text
from search.storage.queries import counts
from search.storage.queue import TrialQueue
from search.workers.setup import open_worker

OBJECTIVES = """
def suggests(trial):
    x = trial.suggest_float("x", 0, 1)
    if trial.number % 2:
        trial.study.stop()
    return x

def returns(params, trial):
    if trial.number % 2:
        trial.study.stop()
    return params["x"]

def yields(params, trial):
    yield 1, params["x"]
    if trial.number % 2:
        trial.study.stop()
    yield 2, params["x"]

def raises(trial):
    if trial.number % 2:
        trial.study.stop()
        raise ValueError("too late")
    return 1.0
"""
AXES = "[grid]\nx = [1, 2, 3, 4, 5]\n[pruner]\nname = 'none'"
SAMPLED = "sampler = 'random'\ntrials = 5\nseeds = 1\n[axes]\nx = { low = 0.0, high = 1.0 }"
KINDS = {"suggests": "trials = 5", "returns": AXES, "yields": AXES, "raises": "trials = 5", "returns ": SAMPLED}
SAYS = "its objective stopped the study with study.stop()"


def work(chosen: PlanningOptions) -> list[str]:
    """Train what is left, and return how each trial ended, sorted."""
    database, _ = open_planned(chosen)
    database.engine.dispose()
    worker = open_worker(str(chosen.study), chosen.storage, "cpu", out=chosen.out)
    try:
        assert worker.run()
    finally:
        worker.queue.database.engine.dispose()
    return sorted(row["outcome"] or row["state"] for row in all_rows(chosen.storage))


@pytest.mark.parametrize("kind", KINDS)
def test_the_trials_to_come_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    module = f"stopping_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(OBJECTIVES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "it.toml"
    file.write_text(f'objective = "{module}:{kind.strip()}"\n{KINDS[kind]}\n')
    url = f"sqlite:///{tmp_path}/search.db"
    chosen = PlanningOptions(study=str(file), storage=url, out=tmp_path / "out")
    end = "failed" if kind == "raises" else "complete"
    once = ["complete", end, *["not run"] * 3]
    assert work(chosen) == once
    assert work(chosen) == once, "another start leaves them out too"
    trials = optuna_trials(url, "it")
    assert [trial.state for trial in trials].count(TrialState.WAITING) == 3
    with opened(url).closing() as database:
        found = counts(database, ["it"])
        assert (found["waiting"], found["pruned"], found["not run"]) == (0, 0, 3)
        status, facts = status_as_text(database, ["it"], None), json.loads(status_as_json(database, ["it"], None))
        assert f"3 not run: {SAYS}; train them with: python -m search.run --study it.toml --resume-stopped" in status
        assert facts["counts"] == found
        for text in (render(database, ["it"], "markdown"), render(database, ["it"], "html")):
            assert f"3 of 5 trials were not run: {SAYS}." in text
            assert "pruned" not in text.partition("<style")[0]
            assert "not ended yet" not in text
        snapshot = Snapshot(database, ["it"])
        assert (snapshot.done, snapshot.total, snapshot.counts["running"]) == (2, 2, 0)
        assert "3 not run" in summary_line(snapshot, 0)
        has_no_seed = kind in ("suggests", "raises")
        assert (
            "seed="
            in summary_line(snapshot, 0) + status + "".join(end_line(each, 1, snapshot) for each in snapshot.ended)
        ) is not has_no_seed
        queue = TrialQueue(database)
        assert (queue.unfinished(["it"]), queue.resume_stopped(["it"]), queue.unfinished(["it"])) == (0, 3, 3)
        assert not_run_line(counts(database, ["it"]), "it") == ""
    assert work(chosen) == sorted(["complete", end, "complete", end, "not run"])


def test_what_has_begun_is_resumed(tmp_path: Path, storage_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted trial is no trial to come."""
    module = f"stopping_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(OBJECTIVES)
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "it.toml"
    file.write_text(f'objective = "{module}:suggests"\ntrials = 5\n')
    chosen = PlanningOptions(study=str(file), storage=storage_url, out=tmp_path / "out")
    database, _ = open_planned(chosen)
    with database.closing():
        queue = TrialQueue(database)
        for lease in queue.claim(["it"], "first", limit=3):
            assert queue.release(lease)
    assert work(chosen) == ["complete", "complete", "complete", "not run", "not run"]

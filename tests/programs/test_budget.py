"""`run --budget`: exit codes, messages, resuming, automatic seeds, and budgets of floating-point operations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from study_files import REAL, all_rows, opened, sqlite, write_corpus, write_study

from search import run_study
from search.errors import UsageError
from search.options import PlanningOptions
from search.planning import open_planned
from search.reporting.progress import Snapshot, summary_line
from search.reporting.render import render
from search.reporting.status_text import status_as_json, status_as_text
from search.run import _print as print_result
from search.storage.database import Database
from search.storage.errors import NoStudyYet
from search.storage.left_out import OVER_BUDGET
from search.storage.queries import counts, study_uids, trial_summaries
from search.storage.spending import Spent, count_spending, spent_on
from search.workers.setup import open_worker
from search.workers.trained_trial import TrainedTrial

pytestmark = pytest.mark.usefixtures("forked_workers")

GRID = """
objective = "fake_objective:start"
{seeds}

[grid]
n_embd = [8, 16, 32]

[training]
max_iters = 4
eval_interval = 2

[pruner]
name = "none"
"""


def plan(options: PlanningOptions, budget: str | None) -> None:
    database, _ = open_planned(replace(options, budget=budget))
    database.engine.dispose()


def work(options: PlanningOptions) -> bool:
    """Train in this process; returns whether the worker found nothing left."""
    worker = open_worker(str(options.study), options.storage, "cpu", corpus=options.corpus, out=options.out)
    with worker.queue.database.closing():
        return worker.run()


def spend(database: Database, study: str, seconds: float) -> None:
    count_spending(database, study_uids(database, [study])[study], "another", Spent(seconds), busy_s=None)


@pytest.fixture
def options(tmp_path: Path, storage_url: str) -> PlanningOptions:
    """A study of three trials."""
    file = write_study(tmp_path, GRID.format(seeds="seeds = 1"))
    corpus = Path(write_corpus(tmp_path))
    return PlanningOptions(study=file, storage=storage_url, corpus=corpus, out=tmp_path / "out")


def test_a_run_ends_with_75_and_a_larger_budget_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, corpus, storage = (
        write_study(tmp_path, GRID.format(seeds="seeds = 4")),
        write_corpus(tmp_path),
        sqlite(tmp_path),
    )
    given: dict[str, Any] = {"corpus": corpus, "storage": storage, "out": tmp_path / "out", "workers": 1, "quiet": True}
    monkeypatch.setenv("FAKE_TRIAL_MS", "300")
    result = run_study(file, budget="0.5s", **given)
    left = result.counts[OVER_BUDGET]
    assert (result.exit_code, result.counts["complete"] + left) == (75, 12)
    assert 0 < left < 12
    assert result.budget is not None
    assert result.spent is not None
    assert result.spent.has_reached(result.budget)
    print_result(result, file, as_json=False)
    shown = capsys.readouterr().err
    told = f"{left} trials are left: run the same command again with a larger --budget, or without one"
    assert shown.count(told) == shown.count("budget: ") == 1
    assert "interrupted" not in shown
    print_result(result, file, as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert (facts["budget"], facts["counts"][OVER_BUDGET]) == ({"seconds": 0.5}, left)
    assert facts["spent"]["seconds"] >= 0.5
    # What was spent counts: nothing is trained, and no worker starts.
    again = run_study(file, budget="0.5s", **given)
    assert (again.exit_code, again.counts, again.spent) == (75, result.counts, result.spent)
    met = run_study(file, budget="0.5s", target=100.0, **given)
    assert (met.exit_code, met.counts) == (0, result.counts), "its target is met"
    monkeypatch.setenv("FAKE_TRIAL_MS", "1")
    rest = run_study(file, **given)
    assert (rest.exit_code, rest.counts["complete"], rest.budget) == (0, 12, None)


def test_status_progress_and_report_say_what_is_left_out(options: PlanningOptions) -> None:
    plan(options, "1h")
    with opened(options.storage).closing() as database:
        spend(database, "small", 4000)
        plan(options, "1h")
        assert work(options)
        status, facts = status_as_text(database, ["small"], None), json.loads(status_as_json(database, ["small"], None))
        assert "small: 3 trials; 0 waiting, 0 running, 3 over budget, 0 complete" in status
        assert "budget: 66.7 min of 60 min spent; 3 trials are left: run the same command again with a larger" in status
        assert (facts["budget"], facts["spent"]) == ({"seconds": 3600.0}, {"seconds": 4000.0, "flops": 0.0})
        snapshot = Snapshot(database, ["small"])
        assert (snapshot.done, snapshot.total, snapshot.counts["running"]) == (0, 3, 0)
        assert summary_line(snapshot, 0) == "0/3 done; 3 over budget; 66.7 min of 60 min spent"
        for text in (render(database, ["small"], "markdown"), render(database, ["small"], "html")):
            assert "3 of 3 trials were not run: the budget of the study was spent." in text
            assert "3 trials were left out when the budget was spent: train them." in text
        plan(options, "2h")
        assert work(options)
        assert {row["outcome"] for row in all_rows(options.storage)} == {"complete"}
        assert "budget: 66.7 min of 2 h spent" in status_as_text(database, ["small"], None)


def test_no_further_seeds_are_planned_once_it_is_spent(options: PlanningOptions, tmp_path: Path) -> None:
    write_study(tmp_path, GRID.format(seeds="seeds = 2"))
    plan(options, None)
    assert work(options)
    write_study(tmp_path, GRID.format(seeds='seeds = "auto"') + "[auto_seeds]\nmax_seeds = 3\nbudget = 100\n")
    with opened(options.storage).closing() as database:
        spend(database, "small", 4000)
        plan(options, "1h")
        assert counts(database, ["small"])["waiting"] == 0, "not by a start"
        assert work(options)
        assert len(all_rows(options.storage)) == 6, "nor by a worker"
        plan(options, "2h")
        assert counts(database, ["small"])["waiting"] > 0


def test_operations_are_counted_over_interruptions(
    options: PlanningOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(options, study=write_study(tmp_path, f"seeds = 2\n{REAL}"))
    plan(options, "1flops")
    judge, judged = TrainedTrial.judge, list[int]()

    def interrupting(trial: TrainedTrial, evaluation: Any) -> bool:
        judged.append(evaluation.step)
        if len(judged) == 3:
            trial._context.queue.database.interrupt.set()
        return judge(trial, evaluation)

    monkeypatch.setattr(TrainedTrial, "judge", interrupting)
    with opened(options.storage).closing() as database:
        assert not work(options), "it was interrupted"
        partly = spent_on(database, ["small"]).flops
        assert work(options)
        assert counts(database, ["small"]) | {"pruned": 0} == {
            **dict.fromkeys(("waiting", "running", "pruned", "diverged", "failed"), 0), OVER_BUDGET: 3, "complete": 1,
        }  # fmt: skip
        [whole] = [each.attrs["flops"] for each in trial_summaries(database, ["small"], ("complete",), ("flops",))]
        assert 0 < partly < whole == spent_on(database, ["small"]).flops
        plan(options, f"{1.5 * whole}flops")
        assert work(options)
        assert (counts(database, ["small"])["complete"], counts(database, ["small"])[OVER_BUDGET]) == (2, 2)
        ended = trial_summaries(database, ["small"], ("complete",), ("flops",))
        assert spent_on(database, ["small"]).flops == sum(each.attrs["flops"] for each in ended)


@pytest.mark.parametrize("budget", ["8", "8x", "-1h", "0h", "nan", "1e18"])
def test_a_wrong_budget_is_refused_before_anything_is_made(options: PlanningOptions, budget: str) -> None:
    with pytest.raises(UsageError, match=rf"^--budget {budget}: give a time .* or a number of floating-point "):
        plan(options, budget)
    with pytest.raises(NoStudyYet):
        opened(options.storage)


def test_operations_need_an_objective_that_counts_them(options: PlanningOptions) -> None:
    why = r"^--budget 1e9flops: the objective fake_objective:start does not count .*; give a time, such as 8h$"
    with pytest.raises(UsageError, match=why):
        plan(options, "1e9flops")

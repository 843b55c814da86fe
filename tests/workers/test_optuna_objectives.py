"""Objectives of Optuna run unchanged: the same values for the same parameters, as many trials as asked for."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import optuna
import optuna_objectives
import pytest
from gates import wait_until
from kept_studies import expire_leases
from optuna.trial import FixedTrial, FrozenTrial, TrialState
from sample_study import optuna_storage
from study_files import all_rows, opened
from swarm import ForkedWorker

from search.errors import UsageError
from search.options import PlanningOptions
from search.planning import open_planned
from search.statistics.ranking import ranked_rows
from search.statistics.study_verdicts import judge
from search.storage.errors import StorageError
from search.storage.metrics import read_metrics
from search.storage.queries import trial_summaries
from search.storage.url import parse_url
from search.study.stored import read_stored_study
from search.workers.replay import Comparison, read_recorded_trial, replay_trial
from search.workers.setup import open_worker

N_TRIALS = 14


def options(folder: Path, url: str, objective: str, head: str = "", trials: int = N_TRIALS) -> PlanningOptions:
    file = folder / "theirs.toml"
    file.write_text(f'objective = "optuna_objectives:{objective}"\ntrials = {trials}\n{head}\n')
    return PlanningOptions(study=str(file), storage=url, out=folder / "out")


def plan(chosen: PlanningOptions) -> None:
    database, _ = open_planned(chosen)
    database.engine.dispose()


def work(chosen: PlanningOptions) -> bool:
    """Run one worker to its end in this process."""
    worker = open_worker(str(chosen.study), chosen.storage, "cpu", out=chosen.out)
    try:
        return worker.run()
    finally:
        worker.queue.database.engine.dispose()


def trials_of(url: str, study: str = "theirs") -> list[FrozenTrial]:
    """The trials as Optuna reads them."""
    storage = optuna.storages.RDBStorage(parse_url(url).render_as_string(hide_password=False))
    try:
        return optuna.load_study(study_name=study, storage=storage).trials
    finally:
        storage.engine.dispose()


def own_values(objective: str, trial: FrozenTrial) -> list[float]:
    """What the objective returns for the parameters of a trial, without lm-search."""
    fixed = FixedTrial(trial.params, trial.number)
    fixed.study = optuna.create_study()  # type: ignore[attr-defined]
    returned = optuna_objectives.call(objective, fixed)
    return [float(each) for each in returned] if isinstance(returned, (tuple, list)) else [float(returned)]


@pytest.mark.parametrize("objective", optuna_objectives.KINDS)
def test_an_objective_of_optuna_runs_unchanged(tmp_path: Path, objective: str) -> None:
    url = f"sqlite:///{tmp_path}/search.db"
    chosen = options(tmp_path, url, objective, optuna_objectives.KINDS[objective])
    plan(chosen)
    assert work(chosen)
    trials = trials_of(url)
    assert [trial.number for trial in trials] == list(range(N_TRIALS))
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    done = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    assert len(done) >= N_TRIALS // 3
    for trial in done:
        assert trial.values == own_values(objective, trial)
    assert len({str(trial.params) for trial in trials}) > N_TRIALS // 3  # each trial draws its own
    # Under stock Optuna the same function gives the same.
    stock = optuna.create_study(directions=["minimize"] * len(done[0].values))
    stock.enqueue_trial(done[0].params)
    stock.optimize(lambda trial: optuna_objectives.call(objective, trial), n_trials=1)
    assert stock.trials[0].values == done[0].values


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
def test_a_sampler_sees_what_has_ended_before_each_trial(tmp_path: Path, sampler: str) -> None:
    url = f"sqlite:///{tmp_path}/search.db"
    chosen = options(tmp_path, url, "counts_ended", f'sampler = "{sampler}"', trials=6)
    plan(chosen)
    work(chosen)
    assert [trial.value for trial in trials_of(url)] == [0, 1, 2, 3, 4, 5]


def test_tpe_keeps_what_it_has_read(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/search.db"
    head = 'sampler = { name = "tpe", n_startup_trials = 2 }'
    chosen = options(tmp_path, url, "counts_read", head, trials=6)
    plan(chosen)
    work(chosen)
    assert [trial.value for trial in trials_of(url)] == [0, 0, 2, 3, 4, 5]


@pytest.mark.parametrize("sampler", ["tpe", "NSGAIISampler"])
def test_a_sampler_learns_from_the_trials_of_its_own_worker(tmp_path: Path, sampler: str) -> None:
    url = f"sqlite:///{tmp_path}/search.db"
    head = f'sampler = {{ name = "{sampler}", population_size = 10 }}' if sampler == "NSGAIISampler" else None
    chosen = options(tmp_path, url, "sphere", head or f'sampler = "{sampler}"', trials=80)
    plan(chosen)
    work(chosen)
    values = [trial.value or 0.0 for trial in trials_of(url)]
    half = len(values) // 2
    assert median(values[half:]) < 0.5 * median(values[:half])


def test_constraints_and_attributes_are_stored(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/search.db"
    chosen = options(tmp_path, url, "constrained", trials=3)
    plan(chosen)
    work(chosen)
    for trial in trials_of(url):
        assert trial.constraints == {"inside": trial.params["x"] ** 2 + trial.params["y"] ** 2 - 9}


def test_reports_are_stored_and_judged(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/search.db"
    head = optuna_objectives.KINDS["network"] + "\npruner = { name = 'MedianPruner', n_startup_trials = 2 }"
    chosen = options(tmp_path, url, "network", head)
    plan(chosen)
    work(chosen)
    states = {trial.state for trial in trials_of(url)}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in trials_of(url):
        assert sorted(trial.intermediate_values) == list(range(len(trial.intermediate_values)))
        if trial.state is TrialState.PRUNED:
            assert trial.value == trial.intermediate_values[max(trial.intermediate_values)]
        else:
            assert len(trial.intermediate_values) == 8


def test_summaries_have_the_suggested_parameters(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/search.db"
    chosen = options(tmp_path, url, "layers", trials=4)
    plan(chosen)
    work(chosen)
    database, _ = open_planned(chosen)
    with database.closing():
        summaries = trial_summaries(database, ["theirs"])
        stored = read_stored_study(database, "theirs")
        assert stored is not None
        notes = " ".join(judge(summaries, stored, ranked_rows(database, ["theirs"])).notes)
    assert "Each cell has one seed" in notes
    assert "--seeds" not in notes  # it takes none
    for summary, trial in zip(summaries, trials_of(url), strict=True):
        assert summary.cell == {**trial.params, "seed": summary.seed}
        assert summary.val_loss == trial.value


def lines(folder: Path) -> dict[int, list[list[str]]]:
    """What each attempt of each trial has said: its process, and its parameters."""
    found = folder.glob("trial-*")
    return {
        int(path.name.removeprefix("trial-")): [line.split() for line in path.read_text().splitlines()]
        for path in found
    }


@pytest.mark.parametrize(
    ("sampler", "n_trials", "n_workers"),
    [
        ("random", 14, 6),
        ('{ name = "tpe", multivariate = true, group = true }', 14, 6),
        pytest.param("tpe", 60, 8, marks=pytest.mark.soak),
        pytest.param("NSGAIISampler", 60, 8, marks=pytest.mark.soak),
    ],
)
def test_kills_and_stops_keep_parameters_and_number(
    tmp_path: Path, storage_url: str, monkeypatch: pytest.MonkeyPatch, sampler: str, n_trials: int, n_workers: int
) -> None:
    """Five workers are killed in a trial, the others stopped; two new ones finish the study."""
    waiting = tmp_path / "waiting"
    waiting.mkdir()
    (waiting / "tick").touch()
    monkeypatch.setenv("WAITING", str(waiting))
    named = sampler if sampler.startswith("{") else f'"{sampler}"'
    chosen = options(tmp_path, storage_url, "waits", f"sampler = {named}\n[workers]\nlease_s = 60", trials=n_trials)
    plan(chosen)
    environment = {"WAITING": str(waiting)}
    workers = [ForkedWorker(chosen, environment, tmp_path / f"{at}.log") for at in range(n_workers)]
    wait_until(lambda: len(lines(waiting)) == n_workers, "a trial of each worker that waits")
    first = lines(waiting)
    for worker in workers[:5]:
        worker.kill()
        worker.wait()
    for worker in workers[5:]:
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)
    with opened(storage_url).closing() as database:
        expire_leases(database)
    (waiting / "open").touch()
    again = [ForkedWorker(chosen, environment, tmp_path / f"again-{at}.log") for at in range(2)]
    assert {worker.wait(120) for worker in again} == {0}, (tmp_path / "again-0.log").read_text()
    assert len(all_rows(storage_url)) == n_trials
    trials = trials_of(storage_url)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * n_trials
    said = lines(waiting)
    assert set(said) == set(range(n_trials))
    for number, trial in enumerate(trials):
        attempts = said[number]
        assert len({tuple(attempt[1:]) for attempt in attempts}) == 1  # the same parameters in each attempt
        assert len(attempts) == (2 if number in first else 1)
        _, x, kind, y = attempts[0]
        assert trial.params == {"x": float(x), "kind": kind, **({"y": float(y)} if kind == "a" else {})}
        assert trial.value == float(x) + float(y)
        assert trial.intermediate_values == {0: float(x), 1: float(x) + float(y)}
    assert len({tuple(attempts[0][1:]) for attempts in said.values()}) == n_trials


WRONG = """
import argparse
import math
import os
import optuna
import search

def nothing(trial): trial.suggest_float("x", 0, 1)
def text(trial): return "low"
def nan(trial): return math.nan
def infinite(trial): return math.inf if trial.number == 1 else trial.suggest_float("x", 0, 1)
def three(trial): return 1, 2, 3
def fails(trial): return 1 / 0
def other(trial): return trial.suggest_float("x", 0, 1) + trial.suggest_int("x", 0, 1)
def shrinks(trial): return trial.suggest_categorical("x", list(range(trial.number + 2)))
class Reads:
    def __init__(self):
        parser = argparse.ArgumentParser()
        parser.add_argument("--factor", type=int, default=2)
        self.factor = parser.parse_args().factor
    def __call__(self, trial): return self.factor * trial.suggest_float("x", 0, 1)
def moody(trial): return {}["now"] if "MOODY" in os.environ else trial.suggest_float("x", 0, 1)
def two(trial):
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    x, y = trial.suggest_float("x", 0, 1), len(trial.study.directions)
    for epoch in range(parser.parse_args().epochs):
        trial.report(x / (epoch + 1), epoch)
        if trial.number == 1 and epoch == 1:
            raise optuna.TrialPruned
    return x, y
def swallows(trial):
    try:
        trial.report(float(trial.suggest_float("x", 0, 1)), 0)
        trial.report("low", 1)
    except TypeError as error:
        trial.set_user_attr("said", str(error))
    return 1.0
"""


def outcomes(folder: Path, monkeypatch: pytest.MonkeyPatch, function: str, head: str = "") -> list[dict[str, Any]]:
    """The rows of a study of one of the functions of `WRONG`."""
    module = f"wrong_{folder.name}"
    (folder / f"{module}.py").write_text(WRONG)
    monkeypatch.syspath_prepend(str(folder))
    url = f"sqlite:///{folder}/search.db"
    chosen = options(folder, url, "empty", head, trials=3)
    file = Path(chosen.study)
    file.write_text(file.read_text().replace("optuna_objectives:empty", f"{module}:{function}"))
    plan(chosen)
    work(chosen)
    return all_rows(url)


def replayed(folder: Path, number: int) -> Comparison:
    with opened(f"sqlite:///{folder}/search.db").closing() as database:
        return replay_trial(read_recorded_trial(database, "theirs", number), None, None, lambda _: None)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("nothing", "the objective returned None; it must return a number, several numbers, or numbers by metric"),
        ("text", "the objective returned 'low'; it must return a number"),
        ("nan", "the objective returned NaN; return a number, or raise optuna.TrialPruned"),
        ("three", "the objective returned 3 values, but the study has 1 directions; write in the study file"),
        ("fails", "ZeroDivisionError: division by zero"),
        ("other", "ValueError: Cannot set different distribution kind to the same parameter name."),
    ],
)
def test_wrong_results_fail_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, reason: str
) -> None:
    rows = outcomes(tmp_path, monkeypatch, function)
    assert [row["outcome"] for row in rows] == ["failed"] * 3
    assert {row["attempts"] for row in rows} == {1}
    for row in rows:
        assert reason in row["reason"]
        assert "\n" not in row["reason"]


def test_an_infinite_value_diverges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = outcomes(tmp_path, monkeypatch, "infinite")
    assert [row["outcome"] for row in rows] == ["complete", "diverged", "complete"]
    assert rows[1]["reason"] == "its value is not finite"
    trials = trials_of(f"sqlite:///{tmp_path}/search.db")
    assert (trials[1].state, trials[1].value) == (TrialState.COMPLETE, math.inf)  # samplers learn from it
    assert replayed(tmp_path, 1).verdict == "match (exact)"


def test_a_replay_calls_an_objective_as_a_worker_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = outcomes(tmp_path, monkeypatch, "two", 'directions = ["minimize", "maximize"]')
    assert [row["outcome"] for row in rows] == ["complete", "pruned", "complete"]
    monkeypatch.setattr(sys, "argv", ["replay", "--study", "theirs", "--trial", "1"])
    assert [replayed(tmp_path, number).verdict for number in range(3)] == ["match (exact)"] * 3


def test_a_class_is_created_without_a_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run", "--study", "theirs", "--factor", "3"])
    outcomes(tmp_path, monkeypatch, "Reads")
    assert all(trial.value == 2 * trial.params["x"] for trial in trials_of(f"sqlite:///{tmp_path}/search.db"))
    assert replayed(tmp_path, 0).exact


def test_a_replay_says_in_one_line_what_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes(tmp_path, monkeypatch, "moody")
    assert replayed(tmp_path, 0).exact
    monkeypatch.setenv("MOODY", "1")
    with pytest.raises(
        UsageError, match=r"^--trial 0: the objective \w+:moody failed: KeyError: 'now'; replay it with"
    ):
        replayed(tmp_path, 0)


def test_choices_that_change_between_trials_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = outcomes(tmp_path, monkeypatch, "shrinks")
    assert [row["outcome"] for row in rows] == ["complete", "failed", "failed"]
    assert "CategoricalDistribution does not support dynamic value space" in rows[1]["reason"]


def test_errors_of_report_are_optunas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = outcomes(tmp_path, monkeypatch, "swallows")
    assert {row["outcome"] for row in rows} == {"complete"}
    assert {trial.user_attrs["said"] for trial in trials_of(f"sqlite:///{tmp_path}/search.db")} == {
        "report('low', 1): give a number, and a whole number as step"
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trials = 3\nseeds = 2", r"seeds = 2: .* suggests its parameters itself and takes no seed; set seeds = 1"),
        ("grid = { x = [1, 2] }", r"suggests its parameters itself, so the axis x has no effect; remove"),
        ('trials = 3\nsampler = "tpee"', r"tpee"),
        ("", r"grid is missing: give it at least one axis, or trials = N for an objective that suggests"),
        ('trials = 3\ndirection = "up"', r"direction"),
        ('trials = 3\nmetric = "a"\nmetrics = ["a", "b"]', r"metric and metrics exclude each other"),
        ('trials = 3\nmetrics = ["a", "a"]', r"has a name twice"),
        ('trials = 3\nmetrics = ["a", "b"]', r'needs directions, .* directions = \["minimize", "maximize"\]'),
        ('trials = 3\nmetrics = ["a", "b"]\ndirections = ["minimize"]', r"needs as many directions"),
    ],
)
def test_wrong_study_files(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(f'objective = "optuna_objectives:empty"\n{text}\n')
    with pytest.raises(UsageError, match=message):
        open_planned(PlanningOptions(study=str(file), storage=f"sqlite:///{tmp_path}/a.db", out=tmp_path / "out"))
    assert not (tmp_path / "a.db").exists()


def test_further_seeds_are_refused_for_a_planned_study_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/search.db"
    chosen = options(tmp_path, url, "empty", trials=3)
    plan(chosen)
    with pytest.raises(
        UsageError, match=r"^seeds = 3: .* suggests its parameters itself and takes no seed; set seeds = 1"
    ):
        plan(replace(chosen, seeds="3"))
    assert len(all_rows(url)) == 3


def test_functions_can_return_numbers_or_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = f"returning_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(
        "def number(params, seed): return params['x'] + seed\n"
        "def metrics(params, settings, trial):\n"
        "    (trial.folder / 'note.txt').write_text(str(params['x']))\n"
        "    trial.keep('note.txt')\n"
        "    trial.report(0.5, 3)\n"
        "    return {'accuracy': params['x'] * settings.factor, 'size': 7}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    url = f"sqlite:///{tmp_path}/search.db"
    for name, head in (
        ("number", ""),
        ("metrics", 'metric = "accuracy"\ndirection = "maximize"\nsettings = { factor = 10 }'),
    ):
        file = tmp_path / f"{name}.toml"
        file.write_text(f'objective = "{module}:{name}"\nfirst_seed = 5\n{head}\n[grid]\nx = [1, 2]\n')
        chosen = PlanningOptions(study=str(file), storage=url, out=tmp_path / "out")
        plan(chosen)
        assert work(chosen)
    assert [trial.value for trial in trials_of(url, "number")] == [6.0, 7.0]
    found = trials_of(url, "metrics")
    assert sorted(trial.value or math.nan for trial in found) == [10.0, 20.0]
    assert [trial.intermediate_values for trial in found] == [{3: 0.5}, {3: 0.5}]
    storage = optuna_storage(url)
    try:
        study = optuna.load_study(study_name="metrics", storage=storage)
        assert study.best_value == 20.0
        assert study.metric_names == ["accuracy"]
    finally:
        storage.engine.dispose()
    assert {path.read_text() for path in (tmp_path / "out").rglob("note.txt")} == {"1", "2"}
    assert any("note.txt" in str(trial.system_attrs) for trial in found)


STOLEN = """
import sqlite3

def steal(trial):
    # Another worker takes the trial, and dies at once.
    if trial.attempt == 1:
        with sqlite3.connect("{database}") as connection:
            taken = "UPDATE search_runs SET token = token + 1, owner = 'thief', lease_until = 0 WHERE state = 'running'"
            connection.execute(taken)
        connection.close()

def changes(trial):
    name = "x" if trial.attempt == 1 else "z"
    value = trial.suggest_float(name, 0, 1)
    steal(trial)
    trial.report(value, 0)
    return value

def suggests(trial):
    x = trial.suggest_float("x", 0, 1)
    trial.report(x, 0)
    steal(trial)
    for step in range(1, 4):
        try:
            trial.report(x + step, step)
        except Exception:
            return -1.0
    return x

def yields(params, trial):
    with (trial.folder / "seen").open("a") as file:
        file.write("x")
    yield 1, {{"val_loss": params["x"], "extra": 1.0}}
    steal(trial)
    trial.log({{"more": 2.0}}, 1)
    yield 2, {{"val_loss": params["x"] / 2, "extra": float(len((trial.folder / "seen").read_text()))}}
"""


def stolen_study(folder: Path, monkeypatch: pytest.MonkeyPatch, function: str, space: str) -> PlanningOptions:
    """Run a study of one of the functions of `STOLEN` to its end."""
    module = f"stolen_{folder.name}"
    (folder / f"{module}.py").write_text(STOLEN.format(database=folder / "search.db"))
    monkeypatch.syspath_prepend(str(folder))
    file = folder / "theirs.toml"
    file.write_text(f'objective = "{module}:{function}"\n{space}\n')
    chosen = PlanningOptions(study=str(file), storage=f"sqlite:///{folder}/search.db", out=folder / "out")
    plan(chosen)
    assert work(chosen)
    return chosen


@pytest.mark.parametrize("function", ["suggests", "yields"])
def test_a_lost_lease_ends_the_attempt_whatever_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    space = "trials = 1" if function == "suggests" else "[grid]\nx = [0.5]\n[training]\nmax_iters = 2"
    chosen = stolen_study(tmp_path, monkeypatch, function, space)
    url = chosen.storage
    [row] = all_rows(url)
    assert (row["outcome"], row["token"]) == ("complete", 3)  # the first attempt, the thief, and the last attempt
    [trial] = trials_of(url)
    if function == "suggests":
        x = trial.params["x"]
        assert trial.value == x
        assert trial.intermediate_values == {0: x, 1: x + 1, 2: x + 2, 3: x + 3}
    else:
        assert trial.intermediate_values == {1: 0.5, 2: 0.25}
        database, _ = open_planned(chosen)
        with database.closing():
            found = database.read(lambda connection: read_metrics(connection, [trial._trial_id]))[trial._trial_id]
        named = {step: {k: v for k, v in each.items() if k[0] != "@"} for step, each in found.items()}
        assert named == {1: {"extra": 1.0, "more": 2.0}, 2: {"extra": 2.0}}  # the same folder in both attempts


def test_an_attempt_that_suggests_other_parameters_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [row] = all_rows(stolen_study(tmp_path, monkeypatch, "changes", "trials = 1").storage)
    assert row["outcome"] == "failed"
    assert "attempt 3 did not suggest x, as an earlier one did; which parameters an objective" in row["reason"]


def test_a_script_that_optimizes_when_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "optimizing.py").write_text(
        "import optuna\n"
        "def objective(trial): return trial.suggest_float('x', 0, 1)\n"
        "study = optuna.create_study()\nstudy.optimize(objective, n_trials=1000000)\n"
    )
    file = tmp_path / "theirs.toml"
    file.write_text('objective = "optimizing:objective"\ntrials = 2\n')
    with pytest.raises(UsageError, match=r"'optimizing' calls study.optimize when it is imported, .* put the call"):
        open_planned(PlanningOptions(study=str(file), storage=f"sqlite:///{tmp_path}/a.db", out=tmp_path / "out"))
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert len(study.trials) == 1


RESUMING = """
import time
from pathlib import Path

def train(params, trial):
    checkpoint, here = trial.folder / "checkpoint", Path(__file__).parent
    done = int(checkpoint.read_text()) if trial.resumed else 0
    for step in range(done + 1, 7):
        time.sleep(0.05)
        checkpoint.write_text(str(step))
        yield step, {"val_loss": params["x"] / step, "extra": float(step)}
        while step == 4 and not (here / "open").exists():
            (here / "reached").touch()
            time.sleep(0.01)
            yield
"""


def test_a_function_resumes_from_its_own_checkpoint(tmp_path: Path, storage_url: str) -> None:
    """The worker is killed; the curve, the metrics and the seconds of all attempts are there in the end."""
    (tmp_path / "resuming.py").write_text(RESUMING)
    file = tmp_path / "theirs.toml"
    workers = "[workers]\ncheckpoint_s = 1000\nlease_s = 2\n"
    file.write_text(f'objective = "resuming:train"\n[grid]\nx = [12.0]\n[training]\nmax_iters = 6\n{workers}')
    chosen = PlanningOptions(study=str(file), storage=storage_url, out=tmp_path / "out")
    with subprocess_imports(tmp_path):
        plan(chosen)
    killed = ForkedWorker(chosen, {}, tmp_path / "killed.log")
    wait_until((tmp_path / "reached").exists, "step 4")
    killed.kill()
    killed.wait()
    (tmp_path / "open").touch()
    again = ForkedWorker(chosen, {}, tmp_path / "again.log")
    assert again.wait(60) == 0, (tmp_path / "again.log").read_text()
    assert "not reproducible" not in (tmp_path / "again.log").read_text()
    [trial] = trials_of(storage_url)
    assert trial.intermediate_values == {step: 12.0 / step for step in range(1, 7)}
    assert trial.user_attrs["train_seconds"] >= 6 * 0.05
    with opened(storage_url).closing() as database:
        metrics = database.read(lambda connection: read_metrics(connection, [trial._trial_id]))[trial._trial_id]
    assert {step: each["extra"] for step, each in metrics.items()} == {step: float(step) for step in range(1, 7)}
    seconds = [each["@seconds"] for each in metrics.values()]
    assert seconds == sorted(seconds)


@contextmanager
def subprocess_imports(folder: Path) -> Iterator[None]:
    """Let this process import a module of `folder` for now, as its workers do."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("resuming", None)


def test_equal_parameters_are_ranked_by_their_complete_trials(tmp_path: Path) -> None:
    """Few choices are drawn again and again, and some of the trials are pruned."""
    url = f"sqlite:///{tmp_path}/search.db"
    chosen = options(tmp_path, url, "few", 'pruner = { name = "MedianPruner", n_startup_trials = 2 }')
    plan(chosen)
    work(chosen)
    trials = trials_of(url)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    database, _ = open_planned(chosen)
    with database.closing():
        rows = ranked_rows(database, ["theirs"])
    complete = {trial.params["depth"] for trial in trials if trial.state is TrialState.COMPLETE}
    assert {row.cell["depth"] for row in rows if row.rank is not None} == complete


@pytest.mark.parametrize("place", ["file/artifacts", "artifacts"])
def test_artifacts_that_cannot_be_written_are_refused_before_planning(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "artifacts").write_text("")
    url = f"sqlite:///{tmp_path}/search.db"
    chosen = replace(options(tmp_path, url, "empty"), artifacts=str(tmp_path / place))
    with pytest.raises((UsageError, StorageError), match="--artifacts"):
        plan(chosen)
    assert not (tmp_path / "search.db").exists()


def test_several_objectives_are_pruned_by_the_first(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/search.db"
    head = 'directions = ["minimize", "minimize"]\npruner = { name = "MedianPruner", n_startup_trials = 2 }'
    chosen = options(tmp_path, url, "pair_with_reports", head)
    plan(chosen)
    work(chosen)
    trials = trials_of(url)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in trials:
        if trial.state is TrialState.COMPLETE:
            assert trial.values == [trial.params["x"], 1 - trial.params["x"]]


LOGGING = """
def suggests(trial):
    x = trial.suggest_float("x", 0, 1)
    trial.log({"before": 1.0}, 0)
    trial.report(x, 0)
    trial.log({"after": 2.0}, 0)
    trial.log({"after": 3.0, "again": 4.0}, 0)
    return x

def yields(params, trial):
    trial.log({"before": 1.0}, 1)
    yield 1, {"val_loss": 0.5}
    trial.log({"after": 2.0}, 1)
    trial.log({"after": 3.0, "again": 4.0}, 1)
    yield 2, 0.25
"""


@pytest.mark.parametrize("function", ["suggests", "yields"])
def test_metrics_of_a_step_are_added_to_each_other(
    tmp_path: Path, storage_url: str, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    module = f"logging_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(LOGGING)
    monkeypatch.syspath_prepend(str(tmp_path))
    space = "trials = 1" if function == "suggests" else "[grid]\nx = [0.5]"
    (tmp_path / "theirs.toml").write_text(f'objective = "{module}:{function}"\n{space}\n')
    chosen = PlanningOptions(study=str(tmp_path / "theirs.toml"), storage=storage_url, out=tmp_path / "out")
    plan(chosen)
    assert work(chosen)
    [trial] = trials_of(storage_url)
    with opened(storage_url).closing() as database:
        found = database.read(lambda connection: read_metrics(connection, [trial._trial_id]))[trial._trial_id]
    first = found[0 if function == "suggests" else 1]
    assert first.pop("@seconds") >= 0
    assert first == {"before": 1.0, "after": 3.0, "again": 4.0}

"""`metric` in [pruner]: trials are judged by one named metric, as Optuna judges a study of that metric alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from judged_objectives import CELLS, STEPS, accuracy_at
from optuna import Trial, TrialPruned
from study_files import opened, sqlite

from search.errors import UsageError
from search.options import PlanningOptions
from search.planning import load_study, open_planned
from search.reporting.render import render
from search.statistics.ranking import ranked_rows
from search.storage.pruner_storage import PrunerStorage
from search.storage.queries import trial_summaries
from search.strategies.pruners import OPTUNAS, read_pruner
from search.study.definition import load_definition
from search.study.pruner_settings import PrunerSettings
from search.workers.setup import open_worker

HERE = "judged_objectives"
PROGRAM = f"""
import sys
x = int(sys.argv[1])
for step in range(1, {STEPS + 1}):
    print(f"step={{step}} loss=1.0 accuracy={{(x * 7 % {CELLS}) / {CELLS} + (x * 5 % 7) * step / 100!r}}", flush=True)
"""


@pytest.fixture(autouse=True)
def _looks_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a pruner see each trial as soon as it has ended, as Optuna's do."""
    refresh = PrunerStorage._refresh

    def anew(self: PrunerStorage) -> None:
        self.expire()
        refresh(self)

    monkeypatch.setattr(PrunerStorage, "_refresh", anew)


def run(folder: Path, head: str, pruner: str, name: str = "judged", *, grid: bool = True) -> dict[int, tuple[str, Any]]:
    """Plan and train a study in this process; the state and the last step, or the reason, of each trial."""
    xs = list(range(CELLS))
    axes = f"[grid]\nx = {xs}\n" if grid else ""
    (folder / f"{name}.toml").write_text(f"{head}\n{axes}[pruner]\n{pruner}\n")
    chosen = PlanningOptions(study=str(folder / f"{name}.toml"), storage=sqlite(folder), out=folder / "out")
    database, _ = open_planned(chosen)
    database.engine.dispose()
    worker = open_worker(str(chosen.study), chosen.storage, "cpu", out=chosen.out)
    try:
        worker.run()
        trials = trial_summaries(worker.queue.database, [name])
    finally:
        worker.queue.database.engine.dispose()
    return {each.number: (each.state, each.reason if each.state == "failed" else each.step) for each in trials}


def stock(pruner: optuna.pruners.BasePruner) -> dict[int, tuple[str, int]]:
    """What Optuna makes of a study of the accuracy alone."""

    def objective(trial: Trial) -> float:
        x = trial.suggest_int("x", 0, CELLS - 1)
        for step in range(1, STEPS + 1):
            trial.report(accuracy_at(x, step), step)
            if step < STEPS and trial.should_prune():
                raise TrialPruned
        return accuracy_at(x, STEPS)

    study = optuna.create_study(direction="maximize", pruner=pruner, study_name="judged")
    for x in range(CELLS):
        study.enqueue_trial({"x": x})
    study.optimize(objective, n_trials=CELLS)
    return {each.number: (each.state.name.lower(), each.last_step or 0) for each in study.trials}


GENERATOR = f'objective = "{HERE}:judged_generator"\nmetric = "loss"\ntraining = {{ max_iters = {STEPS} }}'
PRUNERS = {
    "median": 'name = "median"\nwarmup_steps = 2\nmin_trials = 2',
    "MedianPruner": 'name = "MedianPruner"\nn_startup_trials = 2',
    "PercentilePruner": 'name = "PercentilePruner"\npercentile = 25.0\nn_startup_trials = 1',
    "SuccessiveHalvingPruner": 'name = "SuccessiveHalvingPruner"',
    "HyperbandPruner": 'name = "HyperbandPruner"\nmin_resource = 1\nmax_resource = 8',
    "ThresholdPruner": 'name = "ThresholdPruner"\nlower = 0.4',
    "WilcoxonPruner": 'name = "WilcoxonPruner"\nn_startup_steps = 0',
    "PatientPruner": 'name = "PatientPruner"\npatience = 0\n'
    'wrapped_pruner = { name = "MedianPruner", n_startup_trials = 2 }',
}


def stock_pruner(name: str) -> optuna.pruners.BasePruner:
    """Optuna's own of `PRUNERS`."""
    theirs = optuna.pruners
    made: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "median": lambda: theirs.MedianPruner(2, 2, n_min_trials=2),
        "MedianPruner": lambda: theirs.MedianPruner(2),
        "PercentilePruner": lambda: theirs.PercentilePruner(25.0, 1),
        "SuccessiveHalvingPruner": theirs.SuccessiveHalvingPruner,
        "HyperbandPruner": lambda: theirs.HyperbandPruner(1, 8),
        "ThresholdPruner": lambda: theirs.ThresholdPruner(lower=0.4),
        "WilcoxonPruner": lambda: theirs.WilcoxonPruner(n_startup_steps=0),
        "PatientPruner": lambda: theirs.PatientPruner(theirs.MedianPruner(2), patience=0),
    }
    return made[name]()


DIRECTIONS = 'directions = ["minimize", "maximize"]'
JUDGED = '\nmetric = "accuracy"\ndirection = "maximize"'


@pytest.mark.parametrize("pruner", PRUNERS)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_pruner_judges_by_the_metric_as_optuna_a_study_of_it_alone(tmp_path: Path, pruner: str) -> None:
    expected = stock(stock_pruner(pruner))
    assert run(tmp_path, GENERATOR, PRUNERS[pruner] + JUDGED) == expected
    if pruner not in ("WilcoxonPruner", "PatientPruner"):
        assert {state for state, _ in expected.values()} == {"complete", "pruned"}


def test_every_pruner_of_optuna_is_among_them() -> None:
    assert set(OPTUNAS) - set(PRUNERS) == {"NopPruner"}


def test_without_it_the_study_s_metric_is_judged(tmp_path: Path) -> None:
    text = PRUNERS["PercentilePruner"]
    assert run(tmp_path, GENERATOR, text) == dict.fromkeys(range(CELLS), ("complete", STEPS))


def test_the_default_pruner_judges_as_in_a_study_that_ranks_by_the_metric(tmp_path: Path) -> None:
    text = 'name = "top"\nwarmup_steps = 2\nkeep = 2'
    ranked = GENERATOR.replace('"loss"', '"accuracy"\ndirection = "maximize"')
    expected = run(tmp_path, ranked, text, "ranked")
    assert {state for state, _ in expected.values()} == {"complete", "pruned"}
    assert run(tmp_path, GENERATOR, text + JUDGED) == expected


def test_each_kind_of_objective_is_judged_alike(tmp_path: Path) -> None:
    text, expected = PRUNERS["MedianPruner"], stock(stock_pruner("MedianPruner"))
    logging = GENERATOR.replace("judged_generator", "logging_generator")
    assert run(tmp_path, logging, text + JUDGED, "logging") == expected
    pair = GENERATOR.replace('metric = "loss"', f"metrics = ['loss', 'accuracy']\n{DIRECTIONS}")
    assert run(tmp_path, pair, text + '\nmetric = "accuracy"', "pair") == expected
    (tmp_path / "program.py").write_text(PROGRAM)
    command = (
        f"command = {[sys.executable, 'program.py', '{x}']}\nmetric = 'loss'\ntraining = {{ max_iters = {STEPS} }}"
    )
    ended = run(tmp_path, command, text + JUDGED, "command")
    assert ended == expected
    for objective in ("pair_objective", "quiet_objective"):
        head = f'objective = "{HERE}:{objective}"\nmetrics = ["loss", "accuracy"]\n{DIRECTIONS}\ntrials = {CELLS}'
        found = run(tmp_path, head, f'{text}\nmetric = "accuracy"', objective, grid=False)
        with opened(sqlite(tmp_path)).closing() as database:
            # Those that were pruned show what they were judged by, whether or not they reported a value.
            assert all("accuracy" in row.further for row in ranked_rows(database, [objective]))
        assert {number: state for number, (state, _) in found.items()} == {
            n: state for n, (state, _) in expected.items()
        }


def test_a_report_without_the_metric_is_not_judged_and_no_report_with_it_is_an_error(tmp_path: Path) -> None:
    text = PRUNERS["ThresholdPruner"]
    rare = GENERATOR.replace("judged_generator", "rarely_generator")
    ended = run(tmp_path, rare, text + JUDGED, "rare")
    assert {step for state, step in ended.values() if state == "pruned"} == {1}
    wrong = JUDGED.replace("accuracy", "acuracy")
    reasons = {
        "generator": run(tmp_path, GENERATOR, text + wrong, "generator"),
        "silent": run(
            tmp_path,
            f'objective = "{HERE}:silent_objective"\nmetrics = ["loss", "accuracy"]\n{DIRECTIONS}\ntrials = 2',
            text + '\nmetric = "accuracy"',
            "silent",
            grid=False,
        ),
    }
    assert reasons["generator"][0] == (
        "failed",
        "UsageError: pruner.metric = 'acuracy', but the trial reports loss, accuracy and no 'acuracy' at step 1; "
        "report it too, or name another metric in [pruner]",
    )
    assert reasons["silent"][1] == (
        "failed",
        "UsageError: pruner.metric = 'accuracy', but the trial reports loss, accuracy and no 'accuracy' at step 1; "
        "report it too, or name another metric in [pruner]",
    )


WRONG = {
    'metric = "accuracy"': "is no metric that the study ranks by (loss), so it needs pruner.direction",
    'direction = "maximize"': "needs pruner.metric",
    'metric = "loss"\ndirection = "maximize"': "remove pruner.direction",
    'metric = ""': "pruner.metric = ''",
    'metric = "accuracy"\ndirection = "up"': "pruner.direction = 'up'",
    'metric = "acuracy"\ndirection = "maximize"': "did you mean 'accuracy'?); choices: loss, accuracy",
    'name = "PatientPruner"\npatience = 1\nwrapped_pruner = { name = "MedianPruner", metric = "loss" }': "beside it",
}


@pytest.mark.parametrize("pruner", WRONG)
def test_a_wrong_metric_is_refused_before_anything_is_planned(tmp_path: Path, pruner: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(
        f"command = 'true {{x}}'\nmetric = 'loss'\n[grid]\nx = [1]\n[pruner]\n{pruner}\n[settings]\n"
        "pattern = 'at (?P<step>.*): (?P<loss>.*), (?P<accuracy>.*)'\n"
    )
    with pytest.raises(UsageError) as caught:
        load_study(PlanningOptions(study=str(file), storage=sqlite(tmp_path), out=tmp_path / "out"))
    assert WRONG[pruner] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_losses_of_a_language_model_are_known_before_it_runs(tmp_path: Path) -> None:
    out = tmp_path / "out"
    load_study(PlanningOptions(study="bigram", settings=(), storage=sqlite(tmp_path), out=out))
    file = tmp_path / "own.toml"
    file.write_text(
        "[grid]\nmodel = ['bigram']\nblock_size = [8]\n[pruner]\nmetric = 'train_los'\ndirection = 'minimize'\n"
    )
    with pytest.raises(
        UsageError, match=r"does not report it \(did you mean 'train_loss'\?\); choices: val_loss, train"
    ):
        load_study(PlanningOptions(study=str(file), storage=sqlite(tmp_path), out=out))


def test_settings_keep_the_metric_where_it_belongs(tmp_path: Path) -> None:
    plain = PrunerSettings.model_validate({"name": "median"})
    assert plain.model_dump() == {"name": "median", "warmup_steps": 2000, "keep": 5, "min_trials": 4}
    given = PrunerSettings.model_validate({"name": "median", "metric": "accuracy", "direction": "maximize"})
    assert (given.arguments, given.model_dump()["metric"]) == (plain.arguments, "accuracy")
    for text in ("sha", "PercentilePruner(25.0)", "ThresholdPruner(lower=0.1)"):
        assert read_pruner(text, given).metric == "accuracy"
    assert read_pruner("ThresholdPruner(lower=0.1, metric='recall', direction='maximize')", given).metric == "recall"
    (tmp_path / "theirs.toml").write_text('objective = "mine:objective"\ntrials = 1\n[pruner]\nmetric = "value"')
    assert load_definition(str(tmp_path / "theirs.toml")).pruner.name == "MedianPruner"  # as without [pruner]
    (tmp_path / "own.toml").write_text(f"{GENERATOR}\n[grid]\nx = [1]\n[pruner]{JUDGED}")
    with pytest.raises(UsageError, match="unknown key 'metric'"):  # which could be the study's
        load_definition(str(tmp_path / "own.toml"), ["metric=loss"])


def test_the_report_and_the_study_file_in_it_name_the_metric(tmp_path: Path) -> None:
    run(tmp_path, GENERATOR, "name = 'ThresholdPruner'\nlower = 0.4" + JUDGED)
    with opened(sqlite(tmp_path)).closing() as database:
        text, page = (render(database, ["judged"], format) for format in ("markdown", "html"))
    assert "- pruner: ThresholdPruner (lower 0.4), judges by accuracy (higher is better)" in text
    assert "metric = &#34;accuracy&#34;\ndirection = &#34;maximize&#34;" in page

"""Studies that stock Optuna makes, of every kind of trial, for tests of the programs that show them."""

from __future__ import annotations

import random
import warnings

import optuna
from optuna.samplers import GridSampler, NSGAIISampler, RandomSampler
from optuna.trial import TrialState

STUDIES = ("conditional", "empty", "repeated", "two goals")


def _conditional(trial: optuna.Trial) -> float:
    model = trial.suggest_categorical("model", ["svm", "forest", None])
    rate = trial.suggest_float("learning rate", 1e-4, 1e-1, log=True)
    depth = trial.suggest_int("max|depth", 1, 8) if model == "forest" else 0
    seed = trial.suggest_int("seed", 0, 3)
    trial.set_user_attr("note", "=1+1")
    if trial.number == 2:
        raise ValueError("broken")
    for step in range(4):
        trial.report(step + 10 * rate - depth + seed / 100, step)
        if trial.number == 3:
            raise optuna.TrialPruned
    return 3 + 10 * rate - depth + seed / 100


def make_optuna_studies(url: str) -> None:
    """Make `STUDIES` in the database of `url`, with nothing but Optuna."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(url)
    study = optuna.create_study(study_name="conditional", storage=storage, sampler=RandomSampler(seed=0))
    study.optimize(_conditional, n_trials=12, catch=ValueError)
    study.add_trial(optuna.create_trial(state=TrialState.COMPLETE, value=float("inf")))
    study.enqueue_trial({"model": "svm"})
    study.ask()
    reporting = study.ask()
    reporting.suggest_float("learning rate", 1e-4, 1e-1, log=True)
    reporting.report(2.5, 7)
    study.enqueue_trial({"model": "svm"})

    draws = random.Random(0)
    widths, rates = (16, 32), (0.1, 0.2)
    sampler: optuna.samplers.BaseSampler = GridSampler({"width": widths, "rate": rates}, seed=0)
    study = optuna.create_study(study_name="repeated", storage=storage, sampler=sampler)
    for _ in range(3):
        for width in widths:
            for rate in rates:
                distributions: dict[str, optuna.distributions.BaseDistribution] = {
                    "width": optuna.distributions.IntDistribution(8, 64),
                    "rate": optuna.distributions.FloatDistribution(0, 1),
                }
                value = width / 16 + rate + draws.random() / 100
                params = {"width": width, "rate": rate}
                study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=value))

    sampler = NSGAIISampler(seed=1)
    both = optuna.create_study(
        study_name="two goals", storage=storage, sampler=sampler, directions=["minimize", "maximize"]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental
        both.set_metric_names(["loss", "accuracy"])
    both.optimize(lambda trial: (trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)), n_trials=8)
    optuna.create_study(study_name="empty", storage=storage)
    storage.remove_session()
    storage.engine.dispose()

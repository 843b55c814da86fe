"""Stock Optuna and Ray Tune on the study `bigram`: their savings by pruning, and their overhead."""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage

from benchmarks.compare.plain_costs import Cost
from search.storage.connect import open_database
from search.storage.optuna_storage import SearchStorage
from search.study.cells import without_seed

DRAWS = 20  # orders in which the grid sampler may go through the cells

Curve = Sequence[tuple[int, float]]


def curves(storage: str, cells: Sequence[Mapping[str, Any]]) -> list[list[tuple[int, float]]]:
    """The validation losses by step of each cell of a finished, unpruned study `bigram` of one seed."""
    found = {}
    with open_database(storage, create=False, wait_s=10).closing() as database:
        backend = SearchStorage(database)
        for name in ("bigram", "bigram-baselines"):
            for trial in optuna.load_study(study_name=name, storage=backend).trials:
                cell = without_seed(trial.params)
                found[frozenset(cell.items())] = sorted(trial.intermediate_values.items())
    return [found[frozenset(cell.items())] for cell in cells]


def saving(its_curves: Sequence[Curve], costs: Sequence[Cost]) -> dict[str, float]:
    """Let stock Optuna search the grid; each trial reports its measured curve instead of training.

    Returns:
        share: The cost after pruning as a share of the cost of all trials, mean over some orders of the cells.
        storage_s: Seconds of Optuna itself, on SQLite.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    shares = [_one_search(its_curves, costs, seed, None) for seed in range(DRAWS)]
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        storage = optuna.storages.RDBStorage(f"sqlite:///{Path(folder) / 'stock.db'}")
        _one_search(its_curves, costs, 0, storage)
        storage_s = time.monotonic() - began
        storage.engine.dispose()
    return {"share": statistics.mean(shares), "storage_s": storage_s}


def _one_search(its_curves: Sequence[Curve], costs: Sequence[Cost], seed: int, storage: BaseStorage | None) -> float:
    spent = whole = 0.0
    for curve, cost in zip(its_curves, costs, strict=True):
        whole += curve[-1][0] * cost.step_s + len(curve) * cost.evaluation_s

    def objective(trial: optuna.Trial) -> float:
        nonlocal spent
        index = trial.suggest_categorical("cell", range(len(its_curves)))
        before = 0
        for step, loss in its_curves[index]:
            spent += (step - before) * costs[index].step_s + costs[index].evaluation_s
            before = step
            trial.report(loss, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return its_curves[index][-1][1]

    with warnings.catch_warnings(action="ignore"):
        sampler = optuna.samplers.GridSampler({"cell": list(range(len(its_curves)))}, seed=seed)
    study = optuna.create_study(sampler=sampler, pruner=optuna.pruners.MedianPruner(), storage=storage)
    study.optimize(objective, n_trials=len(its_curves))
    return spent / whole


def ray_overhead(cells: Sequence[Mapping[str, Any]], processes: int) -> dict[str, float] | None:
    """What Ray Tune takes for the same number of trials that do nothing; None when it is not installed.

    Returns:
        wall_s: Seconds, the start of Ray included.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # a benchmark must not send reports
    try:
        import ray
        from ray import tune
    except ImportError:
        return None

    def nothing(config: dict[str, Any]) -> None:
        for step in range(11):
            tune.report({"step": step, "val_loss": 0.0})

    began = time.monotonic()
    with warnings.catch_warnings(action="ignore"), tempfile.TemporaryDirectory() as folder:
        ray.init(num_cpus=processes, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        space = {"cell": tune.grid_search(list(range(len(cells))))}
        run_config = tune.RunConfig(storage_path=folder, verbose=0)
        tune.Tuner(tune.with_resources(nothing, {"cpu": 1}), param_space=space, run_config=run_config).fit()
        ray.shutdown()
    return {"wall_s": time.monotonic() - began}

"""Runs all of the work with a contender: `python -m benchmarks.compare.whole_runs plain|optuna|ray`.

`benchmarks.compare` starts it, because threads and the treatment of denormal numbers belong to a process. Each way is
written as a sensible user would write it around the plain loop.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.compare.plain_loop import PlainLoop
from benchmarks.compare.task import Task
from search.objectives.corpus import Corpus, load_corpus


def plain_loop(cell: dict[str, Any], corpus: Corpus, device: str) -> PlainLoop:
    """The loop for a cell of the study."""
    return PlainLoop(cell, torch.tensor(corpus.train), torch.tensor(corpus.validation), corpus.vocab_size, device)


def run_plain(task: Task, folder: Path) -> None:
    """Train one cell after another; each finished cell adds a line to cells.jsonl and is skipped the next time."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "cells.jsonl"
    finished = len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0
    cells, corpus = task.cells, load_corpus()
    for index, cell in list(enumerate(cells))[finished:]:
        began, cpu_began = time.perf_counter(), time.process_time()
        *_, (_, loss) = plain_loop(cell, corpus, task.device).train(task.max_iters, task.eval_interval)
        took = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu_began, "val_loss": loss}
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(took) + "\n")
        name = " ".join(str(value) for value in cell.values())
        print(f"{index + 1}/{len(cells)} {name}: {took['wall_s']:.1f} s", file=sys.stderr, flush=True)


def run_optuna(task: Task, storage: str) -> None:
    """Run one process of stock Optuna's grid search, which has as many processes as cores."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)  # one process per core: more threads would compete
    cells, corpus = task.cells, load_corpus()

    def objective(trial: optuna.Trial) -> float:
        loss = float("nan")
        loop = plain_loop(cells[trial.suggest_categorical("cell", range(len(cells)))], corpus, task.device)
        for step, loss in loop.train(task.max_iters, task.eval_interval):
            trial.report(loss, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return loss

    with warnings.catch_warnings(action="ignore"):
        sampler = optuna.samplers.GridSampler({"cell": list(range(len(cells)))})
    study = optuna.load_study(study_name="stock", storage=storage, sampler=sampler)
    study.optimize(objective)  # GridSampler stops it when all cells are done


def run_ray(task: Task, folder: Path, processes: int) -> None:
    """Search the grid with Ray Tune, as many trials at a time; writes ray.json: trials and their CPU seconds."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # a benchmark must not send reports
    folders = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(folders)
    import ray
    from ray import tune

    cells = task.cells

    def train(config: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        loop = plain_loop(cells[config["cell"]], load_corpus(), task.device)
        for step, loss in loop.train(task.max_iters, task.eval_interval):
            tune.report({"step": step, "val_loss": loss, "cpu_s": time.process_time()})

    with warnings.catch_warnings(action="ignore"):
        ray.init(
            num_cpus=processes,
            num_gpus=0 if task.device == "cpu" else 1,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        space = {"cell": tune.grid_search(list(range(len(cells))))}
        run_config = tune.RunConfig(storage_path=str(folder.absolute()), verbose=0)
        needs = {"cpu": 1.0, "gpu": 0.0 if task.device == "cpu" else 1 / processes}
        results = tune.Tuner(tune.with_resources(train, needs), param_space=space, run_config=run_config).fit()
        ray.shutdown()
    assert not results.errors, results.errors[0]
    metrics = [results[index].metrics or {} for index in range(len(results))]
    (folder / "ray.json").write_text(
        json.dumps({"trials": len(results), "cpu_s": sum(each["cpu_s"] for each in metrics)}), encoding="utf-8"
    )


def main() -> None:
    """Run the task on stdin, as JSON: the fields of `Task`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=("plain", "optuna", "ray"))
    parser.add_argument("place", help="a folder for the results, or Optuna's storage")
    parser.add_argument("--flush", action="store_true", help="round denormal numbers to zero")
    parser.add_argument("--processes", type=int, default=1, help="trials at a time of Ray Tune")
    options = parser.parse_args()
    if options.flush:
        torch.set_flush_denormal(True)
    given = json.loads(sys.stdin.read())
    task = Task(**{**given, "settings": tuple(given["settings"])})
    if options.way == "optuna":
        run_optuna(task, options.place)
    elif options.way == "plain":
        run_plain(task, Path(options.place))
    else:
        run_ray(task, Path(options.place), options.processes)


if __name__ == "__main__":
    main()

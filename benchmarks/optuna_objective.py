"""The cost of a trial of an empty Optuna objective under leases, compared with `study.optimize`.

`python -m benchmarks.storage` prints it. One worker and `study.optimize` take turns, one trial each, on SQLite files in
the same folder, so that whatever else the machine does slows both. Then one worker process trains a study, and two.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna

from search.options import PlanningOptions
from search.planning import open_planned
from search.workers.setup import open_worker

ROOT = Path(__file__).parent.parent
TARGET = 0.6
SAMPLERS: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
    "random": lambda: optuna.samplers.RandomSampler(seed=0),
    "tpe": lambda: optuna.samplers.TPESampler(seed=0),
}


def measure(folder: Path, trials: int) -> list[dict[str, Any]]:
    """The medians of `trials` trials for each sampler, in milliseconds."""
    return [_measure(folder, sampler, trials) for sampler in SAMPLERS]


def _measure(folder: Path, sampler: str, trials: int) -> dict[str, Any]:
    with ExitStack() as stack:
        our_trial = _ours(stack, _study(folder, f"one_{sampler}", sampler, trials), folder)
        their_trial = _stock(stack, folder, sampler)
        times = [(timed(our_trial), timed(their_trial)) for _ in range(trials)]
    ours_ms, stock_ms = (statistics.median(side) for side in zip(*times, strict=True))
    alone, together = (_processes(folder, sampler, trials, workers) for workers in (1, 2))
    medians = {"ours_ms": ours_ms, "stock_ms": stock_ms, "ratio": ours_ms / stock_ms}
    return {"sampler": sampler, "trials": trials, **medians, "one_worker_ms": alone, "two_workers_ms": together}


def timed(work: Callable[[], object]) -> float:
    """Wall milliseconds."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def _study(folder: Path, name: str, sampler: str, trials: int) -> PlanningOptions:
    file = folder / f"{name}.toml"
    file.write_text(f'objective = "optuna_objectives:empty"\nsampler = "{sampler}"\ntrials = {trials}\n')
    options = PlanningOptions(study=str(file), storage=f"sqlite:///{folder}/{name}.db", out=folder / "out")
    open_planned(options)[0].engine.dispose()
    return options


def _ours(stack: ExitStack, options: PlanningOptions, folder: Path) -> Callable[[], object]:
    worker = open_worker(str(options.study), options.storage, "cpu", out=folder / "out")
    stack.callback(worker.queue.database.engine.dispose)
    return lambda: worker._work_on(worker._claim(list(worker.studies)))


def _stock(stack: ExitStack, folder: Path, sampler: str) -> Callable[[], object]:
    from optuna_objectives import empty

    storage = optuna.storages.RDBStorage(f"sqlite:///{folder}/stock_{sampler}.db")
    stack.callback(storage.engine.dispose)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(storage=storage, sampler=SAMPLERS[sampler]())
    return lambda: study.optimize(empty, n_trials=1)


def _processes(folder: Path, sampler: str, trials: int, workers: int) -> float:
    """Milliseconds a trial from the first claim to the last end, with some worker processes."""
    name = f"processes_{workers}_{sampler}"
    options = _study(folder, name, sampler, trials)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    command = [sys.executable, "-m", "search.worker", "--study", options.study, "--storage", options.storage]
    environment = {**os.environ, "PYTHONPATH": path}
    started = [
        subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(workers)
    ]
    assert [each.wait() for each in started] == [0] * workers
    query = "SELECT (max(finished_at) - min(started_at)) * 1000 / count(*) FROM search_runs"
    with sqlite3.connect(folder / f"{name}.db") as connection:
        found = connection.execute(query).fetchone()[0]
    connection.close()
    return float(found)


def as_table(found: list[dict[str, Any]]) -> str:
    """The measurements as Markdown."""
    lines = [
        "An empty Optuna objective on SQLite: median milliseconds a trial, a worker and study.optimize in turns; and "
        "worker processes, first claim to last end.",
        "",
        f"| sampler | trials | ours ms | stock ms | ratio (target {TARGET}) | 1 worker ms | 2 workers ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in found:
        turns = f"{each['ours_ms']:.1f} | {each['stock_ms']:.1f} | {each['ratio']:.2f}"
        processes = f"{each['one_worker_ms']:.1f} | {each['two_workers_ms']:.1f}"
        lines.append(f"| {each['sampler']} | {each['trials']:,} | {turns} | {processes} |")
    return "\n".join(lines)

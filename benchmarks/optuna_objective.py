"""The cost of a trial of an empty objective under leases, compared with `study.optimize`.

`python -m benchmarks.storage` prints it, for an objective of Optuna, which suggests its parameter, and for a function
whose axis is in the study file. One worker and `study.optimize` take turns, one trial each, on SQLite files in the same
folder, so that whatever else the machine does slows both. Then one worker process trains a study, and two.
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
# By where the parameter comes from. "axes" needs the module PARABOLA, next to the study file.
STUDIES = {
    "objective": 'objective = "optuna_objectives:empty"\nsampler = "{sampler}"\ntrials = {trials}\n',
    "axes": 'objective = "parabola:loss"\nsampler = "{sampler}"\ntrials = {trials}\n'
    "[axes]\nx = {{ low = -10.0, high = 10.0 }}\n",
}
PARABOLA = 'def loss(params):\n    return (params["x"] - 2) ** 2\n'


def measure(folder: Path, trials: int) -> list[dict[str, Any]]:
    """The medians of `trials` trials for each sampler, in milliseconds."""
    (folder / "parabola.py").write_text(PARABOLA)
    return [_measure(folder, kind, sampler, trials) for kind in STUDIES for sampler in SAMPLERS]


def _measure(folder: Path, kind: str, sampler: str, trials: int) -> dict[str, Any]:
    with ExitStack() as stack:
        our_trial = _ours(stack, _study(folder, "one", kind, sampler, trials), folder)
        their_trial = _stock(stack, folder / f"stock_{kind}_{sampler}.db", sampler)
        times = [(timed(our_trial), timed(their_trial)) for _ in range(trials)]
    ours_ms, stock_ms = (statistics.median(side) for side in zip(*times, strict=True))
    # The last tenth shows what grows with the study.
    late = times[-max(1, trials // 10) :]
    ours_late_ms, stock_late_ms = (statistics.median(side) for side in zip(*late, strict=True))
    alone, together = (_processes(folder, kind, sampler, trials, workers) for workers in (1, 2))
    return {
        "parameter": kind,
        "sampler": sampler,
        "trials": trials,
        "ours_ms": ours_ms,
        "stock_ms": stock_ms,
        "ratio": ours_ms / stock_ms,
        "ours_late_ms": ours_late_ms,
        "stock_late_ms": stock_late_ms,
        "one_worker_ms": alone,
        "two_workers_ms": together,
    }


def timed(work: Callable[[], object]) -> float:
    """Wall milliseconds."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def _study(folder: Path, use: str, kind: str, sampler: str, trials: int) -> PlanningOptions:
    name = f"{use}_{kind}_{sampler}"
    file = folder / f"{name}.toml"
    file.write_text(STUDIES[kind].format(sampler=sampler, trials=trials))
    options = PlanningOptions(study=str(file), storage=f"sqlite:///{folder}/{name}.db", out=folder / "out")
    open_planned(options)[0].engine.dispose()
    return options


def _ours(stack: ExitStack, options: PlanningOptions, folder: Path) -> Callable[[], object]:
    worker = open_worker(str(options.study), options.storage, "cpu", out=folder / "out")
    stack.callback(worker.queue.database.engine.dispose)
    return lambda: worker._work_on(worker._claim(list(worker.studies)))


def _stock(stack: ExitStack, file: Path, sampler: str) -> Callable[[], object]:
    from optuna_objectives import empty

    storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
    stack.callback(storage.engine.dispose)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(storage=storage, sampler=SAMPLERS[sampler]())
    return lambda: study.optimize(empty, n_trials=1)


def _processes(folder: Path, kind: str, sampler: str, trials: int, workers: int) -> float:
    """Milliseconds a trial from the first claim to the last end, with some worker processes."""
    options = _study(folder, f"processes_{workers}", kind, sampler, trials)
    file = Path(str(options.study)).with_suffix(".db")
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    command = [sys.executable, "-m", "search.worker", "--study", options.study, "--storage", options.storage]
    environment = {**os.environ, "PYTHONPATH": path}
    started = [
        subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(workers)
    ]
    assert [each.wait() for each in started] == [0] * workers
    query = "SELECT (max(finished_at) - min(started_at)) * 1000 / count(*) FROM search_runs"
    with sqlite3.connect(file) as connection:
        found = connection.execute(query).fetchone()[0]
    connection.close()
    return float(found)


def as_table(found: list[dict[str, Any]]) -> str:
    """The measurements as Markdown."""
    lines = [
        "An empty objective with one parameter on SQLite: median milliseconds a trial, a worker and study.optimize in "
        "turns, of all trials and of the last tenth; and worker processes, first claim to last end.",
        "",
        f"| parameter of | sampler | trials | ours ms | stock ms | ratio (target {TARGET}) | last tenth: both ms "
        "| 1 worker ms | 2 workers ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        turns = f"{each['ours_ms']:.1f} | {each['stock_ms']:.1f} | {each['ratio']:.2f}"
        late = f"{each['ours_late_ms']:.1f}, {each['stock_late_ms']:.1f}"
        processes = f"{each['one_worker_ms']:.1f} | {each['two_workers_ms']:.1f}"
        name = f"{each['parameter']} | {each['sampler']} | {each['trials']:,}"
        lines.append(f"| {name} | {turns} | {late} | {processes} |")
    return "\n".join(lines)

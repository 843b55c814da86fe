"""The same work on the same GPU with a plain loop, stock Optuna and Ray Tune."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.compare.plain_costs import CellCosts, Timers, as_json
from benchmarks.compare.task import Task
from benchmarks.compare.whole_contenders import has_ray, optuna_whole, ray_whole, start_up_s

TASK = Task(device="cuda")
STEPS, BATCHES = 15, 3


def plain(processes: int) -> dict[str, Any]:
    """The cost of the plain loop for each cell, with as many processes at work on the GPU, and the time of a start."""
    timers = Timers("--device", "cuda", "--threads", "1", count=processes)
    try:
        measured = CellCosts(TASK.cells, [[""]] * len(TASK.cells), timers, steps=STEPS, batches=BATCHES)
        for index in range(len(TASK.cells)):
            measured.measure(index)
    finally:
        timers.close()
    costs = measured.means()
    start_s = start_up_s()
    return {
        "costs": as_json(costs),
        "processes": processes,
        "wall_s": start_s + sum(each.run_s() for each in costs) / processes,
    }


def optuna(folder: Path, processes: int, limit_s: float) -> dict[str, Any]:
    """Stock Optuna's grid search with its median pruner: the whole work, or what it does of it within the limit."""
    return {**optuna_whole(TASK, folder, processes, limit_s), "processes": processes}


def ray(folder: Path, processes: int, limit_s: float) -> dict[str, Any] | None:
    """Ray Tune's grid search without pruning, as `optuna`; None without Ray."""
    return {**ray_whole(TASK, folder, processes, limit_s), "processes": processes} if has_ray() else None

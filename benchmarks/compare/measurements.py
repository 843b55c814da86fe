"""The measurements of `benchmarks.compare`: each is made once and stored with its date and the load of the machine."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.compare import stock
from benchmarks.compare.answered import run_until_answered
from benchmarks.compare.plain_costs import Cost, Timers, all_states, as_json, plain_costs
from benchmarks.compare.service_run import ROOT, children_cpu_s, database_of, run_service
from benchmarks.compare.stored import StoredMeasurements
from benchmarks.compare.task import Task

SERVICE = ("service", "pruned")
ANSWERED = "answered"
ESTIMATED = ("states", "plain", "flushed", "parallel", "stock", "ray", "check")
WHOLE = ("plain-whole", "flushed-whole", "optuna-whole", "ray-whole")
# Chosen before any measurement: cells of medium cost, some of which get stuck.
CHECKED = ("n_embd=128", "block_size=32")


class Measurements(StoredMeasurements):
    """The measurements of one task.

    Args:
        work: The folder that stores them.
        cores: The number of parallel processes.
        task: The work.

    Raises:
        ValueError: The folder has measurements of another task.
    """

    def __init__(self, work: Path, cores: int, task: Task) -> None:
        self.work, self.cores, self.task = work, cores, task
        super().__init__(work, self._all_makers())
        file = work / "task.json"
        text = _task_json(task)
        if file.exists() and file.read_text(encoding="utf-8") != text:
            raise ValueError(f"{work} has measurements of {file.read_text(encoding='utf-8')}; name another --work")
        file.write_text(text, encoding="utf-8")

    def costs_of(self, name: str) -> list[Cost]:
        """The cost of each cell according to an estimate."""
        return [Cost(**cost) for cost in self.measure(name)["costs"]]

    def _all_makers(self) -> Mapping[str, Callable[[], Any]]:
        task, work = self.task, self.work
        return {
            "service": lambda: run_service(task, work / "service-run", "--pruner", "none"),
            "pruned": lambda: run_service(task, work / "pruned-run"),
            ANSWERED: lambda: run_until_answered(task, work / "answered-run"),
            "states": lambda: all_states(task.cells, work / "states", self.cores),
            "plain": lambda: {"costs": self._costs(), "start_up_s": start_up_s()},
            "flushed": lambda: {"costs": self._costs("--flush")},
            "parallel": lambda: {"costs": self._costs("--threads", "1", count=self.cores)},
            "stock": lambda: stock.saving(self._curves(), self.costs_of("parallel")),
            "ray": lambda: stock.ray_overhead(task.cells, self.cores) if has_ray() else None,
            "check": lambda: plain_whole(Task(CHECKED), work / "check-run"),
            "plain-whole": lambda: plain_whole(task, work / "plain-run"),
            "flushed-whole": lambda: plain_whole(task, work / "flushed-run", "--flush"),
            "optuna-whole": lambda: optuna_whole(task, work / "optuna-run", self.cores),
            "ray-whole": lambda: ray_whole(task, work / "ray-run", self.cores) if has_ray() else None,
        }

    def _costs(self, *options: str, count: int = 1) -> list[dict[str, float]]:
        states = self.measure("states")
        timers = Timers(*options, count=count)
        try:
            return as_json(plain_costs(self.task.cells, states, timers, lambda text: print(text, file=sys.stderr)))
        finally:
            timers.close()

    def _curves(self) -> list[list[tuple[int, float]]]:
        """The validation losses of every cell by step, from the service's unpruned run."""
        self.measure("service")
        return stock.curves(database_of(self.work / "service-run"), self.task.cells)


def has_ray() -> bool:
    """Whether the extra `benchmarks` is installed."""
    return importlib.util.find_spec("ray") is not None


def start_up_s() -> float:
    """Seconds from starting the plain loop's program to its first step."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "benchmarks.compare.plain_timing"], input="", text=True, check=True, cwd=ROOT)
    return time.monotonic() - began


def plain_whole(task: Task, folder: Path, *options: str) -> dict[str, Any]:
    """All runs of the plain loop, one after another; resumes after an interruption."""
    start_s = start_up_s()
    _wait(_start(task, "plain", str(folder.absolute()), *options))
    lines = (folder / "cells.jsonl").read_text(encoding="utf-8").splitlines()
    cells = [json.loads(line) for line in lines]
    wall_s, cpu_s = (start_s + sum(cell[key] for cell in cells) for key in ("wall_s", "cpu_s"))
    return {"wall_s": wall_s, "cpu_s": cpu_s, "cells": cells}


def optuna_whole(task: Task, folder: Path, processes: int, limit_s: float | None = None) -> dict[str, Any]:
    """Stock Optuna's search, in as many processes; starts from the beginning after an interruption.

    Args:
        limit_s: After it the processes are stopped. Then `stopped_s` stands in for wall_s, and `running` says how many
            trials had not ended.
    """
    import optuna

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    storage = f"sqlite:///{(folder / 'optuna.db').absolute()}"
    began, cpu_began = time.monotonic(), children_cpu_s()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name="stock", storage=storage, pruner=optuna.pruners.MedianPruner())
    is_whole = _wait(*[_start(task, "optuna", storage) for _ in range(processes)], limit_s=limit_s)
    took_s, cpu_s = time.monotonic() - began, children_cpu_s() - cpu_began
    trials = [(trial.params.get("cell"), trial.state.name) for trial in study.trials]
    running = sum(state == "RUNNING" for _, state in trials)
    pruned = sum(state == "PRUNED" for _, state in trials)
    cells = len({cell for cell, _ in trials})
    figures = {"cpu_s": cpu_s, "trials": len(trials) - running, "pruned": pruned, "cells": cells}
    return {**figures, **({"wall_s": took_s} if is_whole else {"stopped_s": took_s, "running": running})}


def ray_whole(task: Task, folder: Path, processes: int, limit_s: float | None = None) -> dict[str, Any]:
    """Ray Tune's grid search, as many trials at a time; the rest is as in `optuna_whole`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.monotonic()
    is_whole = _wait(_start(task, "ray", str(folder.absolute()), "--processes", str(processes)), limit_s=limit_s)
    took_s = time.monotonic() - began
    if is_whole:
        return {"wall_s": took_s, **json.loads((folder / "ray.json").read_text(encoding="utf-8"))}
    last = [file.read_text(encoding="utf-8").splitlines()[-1:] for file in folder.rglob("result.json")]
    ended = sum(json.loads(line)["step"] >= task.max_iters for lines in last for line in lines)
    return {"stopped_s": took_s, "trials": ended, "running": len(last) - ended}


def _task_json(task: Task) -> str:
    return json.dumps(asdict(task))


def _start(task: Task, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.compare.whole_runs", *arguments]
    # Ray Tune prints a banner, which is no part of the page.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sys.stderr, text=True, cwd=ROOT)
    assert process.stdin is not None
    process.stdin.write(_task_json(task))
    process.stdin.close()
    return process


def _wait(*processes: subprocess.Popen[str], limit_s: float | None = None) -> bool:
    """Whether all ended by themselves, within the limit."""
    deadline = None if limit_s is None else time.monotonic() + limit_s
    try:
        codes = [process.wait(deadline and max(0.0, deadline - time.monotonic())) for process in processes]
    except subprocess.TimeoutExpired:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
        return False
    if any(codes):
        raise RuntimeError(f"a contender's process ended with exit codes {codes}; see its messages above")
    return True

"""The measurements of `benchmarks.compare` in which a contender runs all of the work by itself."""

from __future__ import annotations

import importlib.util
import json
import resource
import shutil
import subprocess
import sys
import time
from math import inf
from pathlib import Path
from typing import Any

from benchmarks.compare.task import Task
from benchmarks.compare.turns import ROOT, Program, take_turns


def has_ray() -> bool:
    """Whether the extra `benchmarks` is installed."""
    return importlib.util.find_spec("ray") is not None


def start_up_s() -> float:
    """Seconds from starting the plain loop's program to its first step."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "benchmarks.compare.plain_timing"], input="", text=True, check=True, cwd=ROOT)
    return time.monotonic() - began


def plain_program(task: Task, folder: Path, *options: str, turn_s: float = inf) -> Program:
    """All runs of the plain loop, one after another; resumes after an interruption."""
    return _program(task, "plain", str(folder.absolute()), *options, turn_s=turn_s)


def plain_whole(task: Task, folder: Path, *options: str) -> dict[str, Any]:
    """What all runs of the plain loop take; resumes after an interruption."""
    start_s = start_up_s()
    take_turns({"plain": plain_program(task, folder, *options)})
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
    is_whole = _wait(*[_program(task, "optuna", storage).start() for _ in range(processes)], limit_s=limit_s)
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
    program = _program(task, "ray", str(folder.absolute()), "--processes", str(processes))
    is_whole = _wait(program.start(), limit_s=limit_s)
    took_s = time.monotonic() - began
    if is_whole:
        return {"wall_s": took_s, **json.loads((folder / "ray.json").read_text(encoding="utf-8"))}
    last = [file.read_text(encoding="utf-8").splitlines()[-1:] for file in folder.rglob("result.json")]
    ended = sum(json.loads(line)["step"] >= task.max_iters for lines in last for line in lines)
    return {"stopped_s": took_s, "trials": ended, "running": len(last) - ended}


def children_cpu_s() -> float:
    """CPU seconds of all child processes that have ended, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _program(task: Task, *arguments: str, turn_s: float = inf) -> Program:
    return Program(["-m", "benchmarks.compare.whole_runs", *arguments], task.as_json(), turn_s)


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

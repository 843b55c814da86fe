"""Whole processes on one SQLite file: workers, or `study.optimize`."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import optuna

from benchmarks.sampler_throughput.history import end_first, fill_stock
from benchmarks.sampler_throughput.objective import GATE
from search.options import PlanningOptions
from search.planning import open_planned
from search.workers.devices import worker_slots

ROOT = Path(__file__).parents[2]
NAME = "throughput"
# One thread, as `search.run` starts its workers; with more threads than cores a time says little about the sampler.
ON_A_CPU = worker_slots("cpu", "1")[0].environment
STOCK = [sys.executable, "-m", "benchmarks.sampler_throughput.stock"]


@dataclass(frozen=True)
class Case:
    """A study, and which part of it is measured.

    Attributes:
        trials: Of the study.
        measured: How many of them are run and timed; the others have ended before.
        objective: A function of `benchmarks.sampler_throughput.objective`.
    """

    sampler: str
    trials: int
    measured: int
    objective: str = "free"

    @property
    def history(self) -> int:
        """How many trials have ended before."""
        return self.trials - self.measured


@dataclass(frozen=True)
class Cost:
    """What a trial costs.

    Attributes:
        ms: From the moment when each process has begun its first trial to the last end, divided by the trials between.
        cpu_ms: Processor time of all processes since that moment up to their last trials, divided by the same.
    """

    ms: float
    cpu_ms: float


def workers(case: Case, count: int, folder: Path) -> Cost:
    """Workers of lm-search."""
    file, url = folder / f"{NAME}.toml", f"sqlite:///{folder}/ours.db"
    head = f'objective = "benchmarks.sampler_throughput.objective:{case.objective}"\n'
    file.write_text(f'{head}sampler = "{case.sampler}"\ntrials = {case.trials}\n')
    options = PlanningOptions(study=str(file), storage=url, out=folder / "out")
    with open_planned(options)[0].closing() as database:
        end_first(database, NAME, case.history)
    command = [sys.executable, "-m", "search.worker", "--study", str(file), "--storage", url]

    def last_end() -> float:
        with closing(sqlite3.connect(folder / "ours.db")) as connection:
            [found] = connection.execute("SELECT max(finished_at) FROM search_runs").fetchone()
        return float(found)

    return _gated([command] * count, case, folder, last_end)


def optimizers(case: Case, count: int, folder: Path) -> Cost:
    """Processes of `study.optimize`, which share the trials."""
    url = f"sqlite:///{folder}/stock.db"
    shutil.copy(_stock_database(case.history, folder.parent), folder / "stock.db")
    share = [case.measured // count + (at < case.measured % count) for at in range(count)]
    commands = [[*STOCK, url, NAME, case.sampler, str(at), str(n), case.objective] for at, n in enumerate(share)]
    return _gated(commands, case, folder, lambda: _last_end(folder))


def alone(case: Case, folder: Path) -> Cost:
    """One process of `study.optimize` with its study in memory: the sampler, and little else."""
    command = [*STOCK, f"memory:{case.history}", NAME, case.sampler, "0", str(case.measured), case.objective]
    return _gated([command], case, folder, lambda: _last_end(folder))


def _stock_database(history: int, folder: Path) -> Path:
    """A file that Optuna alone has made, with ended trials."""
    file = folder / f"history{history}.db"
    if not file.exists():
        storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
        fill_stock(storage, optuna.create_study(storage=storage, study_name=NAME), history)
        storage.engine.dispose()
    return file


def _gated(commands: Sequence[Sequence[str]], case: Case, folder: Path, last_end: Callable[[], float]) -> Cost:
    """Run processes to their ends; their objective waits until each has begun a trial."""
    environment = {**os.environ, **ON_A_CPU, "PYTHONPATH": str(ROOT), GATE: str(folder)}
    with (folder / "log").open("wb") as log:
        processes = [subprocess.Popen(each, cwd=folder, env=environment, stdout=log, stderr=log) for each in commands]
        while len(list(folder.glob("*.ready"))) < len(processes):
            assert all(each.poll() is None for each in processes), (folder / "log").read_text()
            time.sleep(0.01)
        opened = time.time()
        (folder / "open").touch()
        for each in processes:
            each.wait()
    assert not any(each.returncode for each in processes), (folder / "log").read_text()
    trials = case.measured - len(processes)  # the first ones had begun
    cpu_s = _sum(folder, "used") - _sum(folder, "ready")
    return Cost((last_end() - opened) * 1000 / trials, cpu_s * 1000 / trials)


def _sum(folder: Path, ending: str) -> float:
    return sum(float(each.read_text()) for each in folder.glob(f"*.{ending}"))


def _last_end(folder: Path) -> float:
    return max(float(each.read_text()) for each in folder.glob("*.ended"))

"""The measurements of `benchmarks.compare`: each is made once and stored with its date and the load of the machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.compare import stock
from benchmarks.compare.answered import run_until_answered
from benchmarks.compare.measured_in_turns import CHECKED, in_turns, pruned_folder, service_folder
from benchmarks.compare.plain_costs import Cost, all_states
from benchmarks.compare.service_run import database_of, run_service
from benchmarks.compare.stored import StoredMeasurements
from benchmarks.compare.task import Task
from benchmarks.compare.whole_contenders import has_ray, optuna_whole, plain_whole, ray_whole

SERVICE = ("service", "pruned")
ANSWERED = "answered"
IN_TURNS = "in-turns"
ESTIMATED = ("states", IN_TURNS, "stock", "ray")
WHOLE = ("plain-whole", "flushed-whole", "optuna-whole", "ray-whole")


class Measurements(StoredMeasurements):
    """The measurements of one task.

    Args:
        work: The folder that stores them.
        cores: The number of parallel processes.
        task: The work.
        checked: Which cells `in_turns` runs as a whole, as `Task.settings`; none for all cells.

    Raises:
        ValueError: The folder has measurements of another task.
    """

    def __init__(self, work: Path, cores: int, task: Task, checked: Sequence[str] = CHECKED) -> None:
        self.work, self.cores, self.task, self.checked = work, cores, task, checked
        super().__init__(work, self._all_makers())
        file = work / "task.json"
        text = task.as_json() if checked == CHECKED else json.dumps({**asdict(task), "checked": checked})
        if file.exists() and file.read_text(encoding="utf-8") != text:
            raise ValueError(f"{work} has measurements of {file.read_text(encoding='utf-8')}; name another --work")
        file.write_text(text, encoding="utf-8")

    def costs_of(self, name: str) -> list[Cost]:
        """The cost of each cell with one of the ways of `measured_in_turns`."""
        return [Cost(**cost) for cost in self.measure(IN_TURNS)[name]]

    def _all_makers(self) -> Mapping[str, Callable[[], Any]]:
        task, work = self.task, self.work
        return {
            "service": lambda: run_service(task, service_folder(work), "--pruner", "none"),
            "pruned": lambda: run_service(task, pruned_folder(work)),
            ANSWERED: lambda: run_until_answered(task, work / "answered-run"),
            "states": lambda: all_states(task.cells, work / "states", self.cores),
            IN_TURNS: lambda: in_turns(task, self.measure("states"), work, self.cores, self.checked),
            "stock": lambda: stock.saving(self._curves(), self.costs_of("parallel")),
            "ray": lambda: stock.ray_overhead(task.cells, self.cores) if has_ray() else None,
            "plain-whole": lambda: plain_whole(task, work / "plain-run"),
            "flushed-whole": lambda: plain_whole(task, work / "flushed-run", "--flush"),
            "optuna-whole": lambda: optuna_whole(task, work / "optuna-run", self.cores),
            "ray-whole": lambda: ray_whole(task, work / "ray-run", self.cores) if has_ray() else None,
        }

    def _curves(self) -> list[list[tuple[int, float]]]:
        """The validation losses of every cell by step, from the service's unpruned run."""
        self.measure(IN_TURNS)
        return stock.curves(database_of(service_folder(self.work)), self.task.cells)

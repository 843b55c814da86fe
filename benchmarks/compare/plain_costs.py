"""The cost of the plain loop for each cell over a complete run, estimated from short measurements.

A full run of all cells takes hours. The cost of a step depends on the cell and, unless denormal numbers are flushed, on
the progress of the training: cells that get stuck become several times slower. So this service trains each cell once
(with the same model, optimizer and batches, denormals kept) and saves its state at some steps, and the plain loop is
timed from each state. The cost of a run is the mean step cost over the run, times its steps, plus its evaluations.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from statistics import fmean
from typing import IO, Any

from benchmarks.compare.plain_loop import EVAL_BATCHES, EVAL_INTERVAL, MAX_ITERS

# Steps at which a state is saved; costs between two of them are interpolated.
POINTS = (0, 500, 1500, 3000, 5000)
TIMED_STEPS = 7
TIMED_BATCHES = 5


@dataclass(frozen=True)
class Cost:
    """The cost of one cell: wall seconds, and CPU seconds of all cores."""

    step_s: float
    step_cpu_s: float
    evaluation_s: float
    evaluation_cpu_s: float

    def run_s(self, max_iters: int = MAX_ITERS) -> float:
        """Wall seconds of a run."""
        return max_iters * self.step_s + (max_iters // EVAL_INTERVAL + 1) * self.evaluation_s

    def run_cpu_s(self, max_iters: int = MAX_ITERS) -> float:
        """CPU seconds of a run."""
        return max_iters * self.step_cpu_s + (max_iters // EVAL_INTERVAL + 1) * self.evaluation_cpu_s


def save_states(cell: Mapping[str, Any], folder: Path) -> list[str]:
    """Train a cell with denormals kept, and save its state at `POINTS`, unless the files exist.

    Returns:
        A file for each point; "" for the untrained model.
    """
    import torch

    from search.objectives.corpus import load_corpus
    from search.objectives.language_model.objective import start
    from search.objectives.settings import TrainingSettings

    name = "-".join(str(value) for value in cell.values())
    files = [folder / f"{name}-{point}.pt" for point in POINTS[1:]]
    if not all(file.exists() for file in files):
        torch.set_num_threads(1)
        folder.mkdir(parents=True, exist_ok=True)
        run = start(cell, 1337, TrainingSettings(eval_interval=500), load_corpus(), "cpu")
        saved = iter(zip(POINTS[1:], files, strict=True))
        point, file = next(saved)
        while run.curve[-1].step < point if run.curve else True:
            run.advance(lambda: False)
            if run.curve[-1].step == point:
                torch.save({"model": run.model.state_dict(), "optimizer": run.optimizer.state_dict()["state"]}, file)
                point, file = next(saved, (0, file))
    return ["", *map(str, files)]


def all_states(cells: Sequence[Mapping[str, Any]], folder: Path, processes: int) -> list[list[str]]:
    """`save_states` of every cell, in as many processes."""
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(save_states, cells, [folder] * len(cells)))


class Timers:
    """Processes of `plain_timing.py` with the same options, which work on the same task side by side."""

    def __init__(self, *options: str, count: int = 1) -> None:
        command = [sys.executable, "-m", "benchmarks.compare.plain_timing", *options]
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
        ]

    def measure(self, task: Mapping[str, Any]) -> dict[str, float]:
        """The mean answer of the processes."""
        for process in self._processes:
            _pipe(process.stdin).write(json.dumps(task) + "\n")
            _pipe(process.stdin).flush()
        answers = [json.loads(_pipe(process.stdout).readline()) for process in self._processes]
        return {key: sum(answer[key] for answer in answers) / len(answers) for key in answers[0]}

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            with process:  # which closes its pipes and waits
                pass


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


class CellCosts:
    """The cost of each cell over a complete run, the mean of any number of measurements.

    Args:
        cells: The cells.
        states: For each cell, a file for each of `POINTS`; one alone stands for the whole run.
        timers: The processes that time the loop.
        steps: Timed from each state.
        batches: Timed of an evaluation.
    """

    def __init__(
        self,
        cells: Sequence[Mapping[str, Any]],
        states: Sequence[Sequence[str]],
        timers: Timers,
        steps: int = TIMED_STEPS,
        batches: int = TIMED_BATCHES,
    ) -> None:
        self._cells, self._states, self._timers, self._steps, self._batches = cells, states, timers, steps, batches
        self._measured: list[list[Cost]] = [[] for _ in cells]

    def measure(self, index: int) -> None:
        """Measure the cost of a cell once more."""
        task = {"cell": self._cells[index], "steps": self._steps, "batches": self._batches}
        answers = [self._timers.measure({**task, "state": file}) for file in self._states[index]]
        cost = Cost(
            step_s=mean_over_run([each["step_s"] for each in answers]),
            step_cpu_s=mean_over_run([each["step_cpu_s"] for each in answers]),
            evaluation_s=EVAL_BATCHES * mean_over_run([each["batch_s"] for each in answers]),
            evaluation_cpu_s=EVAL_BATCHES * mean_over_run([each["batch_cpu_s"] for each in answers]),
        )
        self._measured[index].append(cost)
        name = " ".join(map(str, self._cells[index].values()))
        print(f"{index + 1}/{len(self._cells)} {name}: {1000 * cost.step_s:.1f} ms a step", file=sys.stderr)

    def means(self) -> list[Cost]:
        """The cost of each cell; all have been measured."""
        return [_mean_cost(costs) for costs in self._measured]


def _mean_cost(costs: Sequence[Cost]) -> Cost:
    return Cost(*(fmean(values) for values in zip(*map(astuple, costs), strict=True)))


def mean_over_run(values: Sequence[float], points: Sequence[int] = POINTS) -> float:
    """The mean over the steps of a run of values at some steps, interpolated linearly; a single one stands for all."""
    if len(values) == 1:
        return values[0]
    areas = [
        (after - before) * (left + right) / 2
        for before, after, left, right in zip(points, points[1:], values, values[1:], strict=False)
    ]
    return sum(areas) / (points[-1] - points[0])


def as_json(costs: Sequence[Cost]) -> list[dict[str, float]]:
    """Return the costs as JSON-able values."""
    return [asdict(cost) for cost in costs]

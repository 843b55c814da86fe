"""This service beside what people use: `python -m benchmarks.compare`.

The work is the study `bigram`: 36 cells and 2 baselines, one seed, 5000 steps each. The service really does it, with
and without pruning. The plain loop would take hours, so its cost is put together from short measurements of every
cell, see `benchmarks.plain_costs`; what stock Optuna saves by pruning comes from its own sampler and pruner, shown the
curves that the service's unpruned run found. What is measured is kept in the folder `--work`: started again, the
command goes on with what is missing, and `--only` names the measurements to make.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import stock
from benchmarks.plain_costs import Cost, Timers, all_states, as_json, plain_costs
from benchmarks.tables import Contender, markdown
from search.definition import load_definition
from search.planner import grid_cells
from storage.opening import open_database
from storage.summaries import run_summaries

ROOT = Path(__file__).parent.parent
MEASUREMENTS = ("service", "pruned", "states", "plain", "flushed", "parallel", "stock", "ray")


def the_cells() -> list[dict[str, Any]]:
    """The baselines and the grid of the study `bigram`."""
    definition = load_definition("bigram")
    return [*definition.baselines, *grid_cells(definition.grid)]


def run_service(work: Path, name: str, *arguments: str) -> dict[str, float]:
    """Run the study with this service in a fresh folder, as a user would.

    Returns:
        wall_s and cpu_s of the whole command; train_s, the sum over its trials; evaluated: how many were complete.
    """
    folder = work / name
    storage = f"sqlite:///{folder / 'search.db'}"
    # What an interrupted measurement left would be gone on with, and the time would be that of the rest alone.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [
        sys.executable,
        "-m",
        "search.run",
        "--study",
        "bigram",
        "--storage",
        storage,
        "--out",
        str(folder / "out"),
    ]
    began, cpu_began = time.monotonic(), _children_cpu_s()
    subprocess.run([*command, "--json", *arguments], check=True, cwd=ROOT, stdout=subprocess.PIPE)
    wall_s, cpu_s = time.monotonic() - began, _children_cpu_s() - cpu_began
    with open_database(storage, create=False, wait_s=10).closing() as database:
        trials = run_summaries(database, ["bigram", "bigram-baselines"], attrs=("train_seconds",))
    train_s = sum(trial.attrs["train_seconds"] for trial in trials)
    return {"wall_s": wall_s, "cpu_s": cpu_s, "train_s": train_s, "trials": len(trials)}


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def start_up_s() -> float:
    """Seconds from starting the plain loop's program to its first step."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "benchmarks.plain_timing"], input="", text=True, check=True, cwd=ROOT)
    return time.monotonic() - began


class Comparison:
    """The measurements, each made once and kept as a file.

    Args:
        work: Where they are kept.
        cores: Processes of what runs in parallel.
    """

    def __init__(self, work: Path, cores: int) -> None:
        self._work, self._cores = work, cores
        self._cells = the_cells()

    def measure(self, name: str) -> Any:
        """One of `MEASUREMENTS`, from its file if it was made before."""
        file = self._work / f"{name}.json"
        if not file.exists():
            self._work.mkdir(parents=True, exist_ok=True)
            print(f"measuring: {name}", file=sys.stderr)
            makers: Mapping[str, Callable[[], Any]] = {
                "service": lambda: run_service(self._work, "service-run", "--pruner", "none"),
                "pruned": lambda: run_service(self._work, "pruned-run"),
                "states": lambda: all_states(self._cells, self._work / "states", self._cores),
                "plain": lambda: {"costs": self._costs(), "start_up_s": start_up_s()},
                "flushed": lambda: {"costs": self._costs("--flush")},
                "parallel": lambda: {"costs": self._costs("--threads", "1", count=self._cores)},
                "stock": lambda: stock.saving(self._curves(), self._costs_of("parallel")),
                "ray": lambda: stock.ray_overhead(self._cells, self._cores),
            }
            file.write_text(json.dumps(makers[name]()), encoding="utf-8")
        return json.loads(file.read_text(encoding="utf-8"))

    def _costs(self, *options: str, count: int = 1) -> list[dict[str, float]]:
        states = self.measure("states")
        timers = Timers(*options, count=count)
        try:
            return as_json(plain_costs(self._cells, states, timers, lambda text: print(text, file=sys.stderr)))
        finally:
            timers.close()

    def _costs_of(self, name: str) -> list[Cost]:
        return [Cost(**cost) for cost in self.measure(name)["costs"]]

    def _curves(self) -> list[list[tuple[int, float]]]:
        """The validation losses of every cell by step, from the service's unpruned run."""
        self.measure("service")
        return stock.curves(f"sqlite:///{self._work / 'service-run' / 'search.db'}", self._cells)

    def contenders(self) -> list[Contender]:
        """What every contender takes for all trials."""
        start = float(self.measure("plain")["start_up_s"])
        plain, flushed, parallel = (self._costs_of(name) for name in ("plain", "flushed", "parallel"))
        saving, ray = self.measure("stock"), self.measure("ray")
        service, pruned = self.measure("service"), self.measure("pruned")

        def wall(costs: Sequence[Cost], processes: int = 1) -> float:
            return start + sum(cost.run_s() for cost in costs) / processes

        def cpu(costs: Sequence[Cost]) -> float:
            return start + sum(cost.run_cpu_s() for cost in costs)

        rows = [
            Contender("plain loop, one run after the other", wall(plain), cpu(plain), "put together"),
            Contender("the same, denormals flushed", wall(flushed), cpu(flushed), "put together"),
            Contender(
                f"Optuna, GridSampler and MedianPruner, {self._cores} processes",
                start + saving["storage_s"] + saving["share"] * (wall(parallel, self._cores) - start),
                saving["share"] * cpu(parallel),
                f"put together; pruning leaves {saving['share']:.0%} of the work",
            ),
        ]
        if ray is not None:
            took = ray["wall_s"] + wall(parallel, self._cores) - start
            rows.append(Contender("Ray Tune, grid search", took, cpu(parallel), "put together"))
        for name, figures in (("this service, no pruning", service), ("this service, default pruner", pruned)):
            idle = 1 - figures["train_s"] / (self._cores * figures["wall_s"])
            note = f"measured; {idle:.1%} of its time is not training"
            rows.append(Contender(name, figures["wall_s"], figures["cpu_s"], note))
        return rows


def main() -> None:
    """Measure what is missing, print the table, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("benchmark-work"), help="keeps what was measured")
    parser.add_argument("--only", help=f"make only these measurements: {','.join(MEASUREMENTS)}")
    parser.add_argument("--output", type=Path, help="write the table to this file too")
    options = parser.parse_args()
    comparison = Comparison(options.work, len(os.sched_getaffinity(0)))
    for name in (options.only or ",".join(MEASUREMENTS)).split(","):
        if name not in MEASUREMENTS:
            parser.error(f"--only {name}: choices are {', '.join(MEASUREMENTS)}")
        comparison.measure(name)
    if options.only is None:
        page = markdown(comparison.contenders(), len(the_cells()), datetime.now(UTC))
        print(page)
        if options.output is not None:
            options.output.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()

"""The measurement of `benchmarks.compare` in which the service and the plain loop take turns."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import cycle, product
from pathlib import Path
from typing import Any

from benchmarks.compare.plain_costs import CellCosts, Timers, as_json
from benchmarks.compare.service_run import service_figures, service_program
from benchmarks.compare.task import Task
from benchmarks.compare.turns import take_turns
from benchmarks.compare.whole_contenders import plain_program, start_up_s

# How the plain loop is timed: options of each process, and the number of processes.
WAYS: Mapping[str, tuple[Sequence[str], int | None]] = {
    "plain": ((), 1),
    "flushed": (("--flush",), 1),
    "parallel": (("--threads", "1"), None),  # one for each core
}
# Chosen before any measurement: cells of medium cost, some of which get stuck.
CHECKED = ("n_embd=128", "block_size=32")
# About in proportion to what each takes, so that all end at about the same time.
TURN_S = {"service": 6.0, "pruned": 2.2, "check": 2.9, "whole check": 36.0}


def service_folder(work: Path) -> Path:
    """Where the service runs without pruning."""
    return work / "service-run"


def pruned_folder(work: Path) -> Path:
    """Where the service runs with its default pruner."""
    return work / "pruned-run"


def in_turns(
    task: Task, states: Sequence[Sequence[str]], work: Path, cores: int, checked: Sequence[str] = CHECKED
) -> dict[str, Any]:
    """Measure the service, the cost of the plain loop, and whole runs that check it, all in turns.

    Args:
        states: For each cell, its files of `plain_costs.save_states`.
        checked: Which cells are run as a whole to check the estimate, as `Task.settings`; none for all cells.

    Returns:
        The figures of the service and of the check, the costs by way of timing, and start_up_s of the plain loop.
    """
    start_s, check_folder = start_up_s(), work / "check-run"
    shutil.rmtree(check_folder, ignore_errors=True)
    programs = {
        "service": service_program(task, service_folder(work), "--pruner", "none", turn_s=TURN_S["service"]),
        "pruned": service_program(task, pruned_folder(work), turn_s=TURN_S["pruned"]),
        "check": plain_program(
            Task(tuple(checked)), check_folder, turn_s=TURN_S["check" if checked else "whole check"]
        ),
    }
    timers = {way: Timers(*options, count=count or cores) for way, (options, count) in WAYS.items()}
    costs = {way: CellCosts(task.cells, states, its_timers) for way, its_timers in timers.items()}
    each_once = list(product(range(len(task.cells)), costs))
    missing, further = deque(each_once), cycle(each_once)

    def measure_one() -> None:
        if missing or checked:  # once suffices where the loop itself runs as a whole
            index, way = missing.popleft() if missing else next(further)
            costs[way].measure(index)

    try:
        ran = take_turns(programs, between=measure_one)
        while missing:
            measure_one()
    finally:
        for its_timers in timers.values():
            its_timers.close()
    return {
        "service": service_figures(service_folder(work), ran["service"]),
        "pruned": service_figures(pruned_folder(work), ran["pruned"]),
        "check": {"wall_s": ran["check"].wall_s, "cpu_s": ran["check"].cpu_s},
        "start_up_s": start_s,
        **{way: as_json(each.means()) for way, each in costs.items()},
    }

"""Compares this service with common alternatives: `python -m benchmarks.compare`.

The work is the study `bigram`: 36 cells and 2 baselines, one seed, 5000 steps each. The service runs all of it, with
and without pruning. The plain loop takes much longer, so its cost is estimated from short measurements of every cell
(see `plain_costs.py`) and checked against complete runs of a few, or with --check-all of every cell, which takes an
hour more; service, measurements and check take turns. The savings of stock Optuna come from its sampler and pruner on
the curves of the service's unpruned run. With --whole or --max-iters all contenders run all of the work, one after
another. At last the service answers the claims of the study, with seeds where they decide something. The folder
`--work` stores the measurements: the same command again makes the missing ones, and `--only` selects measurements.
"""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from benchmarks.compare.answered import answered_lines
from benchmarks.compare.measured_in_turns import CHECKED
from benchmarks.compare.measurements import ANSWERED, ESTIMATED, IN_TURNS, SERVICE, WHOLE, Measurements
from benchmarks.compare.tables import Contender, Page, markdown
from benchmarks.compare.task import FULL_LENGTH, Task, the_cells
from search.errors import UsageError

ALL = (*SERVICE, *ESTIMATED, ANSWERED, *WHOLE)
PLAIN, FLUSHED, RAY = "plain loop, one run after the other", "the same, denormals flushed", "Ray Tune, grid search"


def contenders(made: Measurements, whole: bool) -> list[Contender]:
    """The cost of all trials, for every contender."""
    rows = whole_rows(made) if whole else estimated_rows(made)
    for name, key in (("this service, no pruning", "service"), ("this service, default pruner", "pruned")):
        figures = made.measure(key) if whole else made.measure(IN_TURNS)[key]
        note = f"measured; {shares(figures, made.cores)}"
        rows.append(Contender(name, figures["wall_s"], figures["cpu_s"], note, prunes=key == "pruned"))
    return rows


def shares(figures: Mapping[str, float], cores: int) -> str:
    """How much of the cores the service used, and what its workers waited for the last trial."""
    available = cores * figures["wall_s"]
    return (
        f"{figures['cpu_s'] / available:.0%} of the cores used, waiting for the last trial "
        f"{figures['tail_s'] / available:.1%} of the time"
    )


def estimated_rows(made: Measurements) -> list[Contender]:
    """The other contenders, estimated from short measurements."""
    start, cores = float(made.measure(IN_TURNS)["start_up_s"]), made.cores
    plain, flushed, parallel = (made.costs_of(name) for name in ("plain", "flushed", "parallel"))
    saving, ray = made.measure("stock"), made.measure("ray")
    trained, trained_cpu = sum(cost.run_s() for cost in parallel) / cores, sum(cost.run_cpu_s() for cost in parallel)
    check = made.measure(IN_TURNS)["check"]
    return [
        Contender(PLAIN, start + sum(c.run_s() for c in plain), start + sum(c.run_cpu_s() for c in plain), "estimated")
        if made.checked
        else Contender(PLAIN, check["wall_s"], check["cpu_s"], "measured"),
        Contender(
            FLUSHED,
            start + sum(c.run_s() for c in flushed),
            start + sum(c.run_cpu_s() for c in flushed),
            "estimated",
        ),
        Contender(
            _optuna(cores),
            start + saving["storage_s"] + saving["share"] * trained,
            cores * start + saving["storage_s"] + saving["share"] * trained_cpu,
            f"estimated; pruning leaves {saving['share']:.0%} of the work",
            prunes=True,
        ),
        Contender(RAY, ray["wall_s"] + trained, trained_cpu, "estimated; CPU time of the training alone")
        if ray
        else Contender(RAY, None, None, "Ray is not installed"),
    ]


def whole_rows(made: Measurements) -> list[Contender]:
    """The other contenders, measured on all of the work."""
    plain, flushed, optuna, ray = (made.measure(name) for name in WHOLE)
    repeated = optuna["trials"] - optuna["cells"]
    note = f"measured; {optuna['pruned']} of {optuna['trials']} trials pruned, {repeated} cells repeated"
    return [
        Contender(PLAIN, plain["wall_s"], plain["cpu_s"], "measured"),
        Contender(FLUSHED, flushed["wall_s"], flushed["cpu_s"], "measured"),
        Contender(_optuna(made.cores), optuna["wall_s"], optuna["cpu_s"], note, prunes=True),
        Contender(RAY, ray["wall_s"], ray["cpu_s"], "measured; CPU time of the trials' processes alone")
        if ray
        else Contender(RAY, None, None, "Ray is not installed"),
    ]


def _optuna(processes: int) -> str:
    return f"Optuna, GridSampler and MedianPruner, {processes} processes"


def checked(made: Measurements) -> str:
    """Compare complete runs with the estimates for them, and say what that makes of the speed-ups."""
    figures, costs, cells = made.measure(IN_TURNS), made.costs_of("plain"), made.task.cells
    chosen, whole, start_s = the_cells(made.checked), figures["check"]["wall_s"], figures["start_up_s"]
    estimate = start_s + sum(cost.run_s() for cell, cost in zip(cells, costs, strict=True) if cell in chosen)
    times = (
        f"took {whole / 60:.1f} min; the estimate for them is {estimate / 60:.1f} min ({estimate / whole:.2f} of it)."
    )
    if not made.checked:
        return f"Check of the estimates: whole runs of the plain loop, of all cells, {times}"
    plain_s = (start_s + sum(cost.run_s() for cost in costs)) * whole / estimate
    unpruned, pruned = (plain_s / figures[name]["wall_s"] for name in ("service", "pruned"))
    return (
        f"Check of the estimate: whole runs of {len(chosen)} cells ({', '.join(made.checked)}, and the "
        f"baselines), chosen in advance, {times} If all estimates of the plain loop are off by that factor, the "
        f"speed-ups over it are {unpruned:.1f} without pruning and {pruned:.1f} with the default pruner."
    )


def main() -> None:
    """Make the missing measurements, print the page, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("benchmark-work"), help="folder for the measurements")
    parser.add_argument("--only", help=f"make only these: {','.join(ALL)}")
    parser.add_argument("--whole", action="store_true", help="measure every contender on all of the work; takes hours")
    parser.add_argument(
        "--check-all", action="store_true", help="run the plain loop as a whole, in turns with the rest"
    )
    parser.add_argument("--max-iters", type=int, default=FULL_LENGTH, help="fewer steps, for a quick comparison")
    parser.add_argument("--set", action="append", default=[], metavar="AXIS=V[,V...]", help="fewer cells")
    parser.add_argument("--output", type=Path, help="also write the page to this file, such as docs/benchmarks.md")
    options = parser.parse_args()
    if options.max_iters < 1:
        parser.error(f"--max-iters {options.max_iters}: give a number from 1 up")
    task = Task(tuple(options.set), options.max_iters)
    whole = options.whole or task != Task()
    of_whole_study = (*ESTIMATED, ANSWERED)
    names = [*WHOLE, *SERVICE] if whole else [*ESTIMATED]
    names += [ANSWERED] if task == Task() else []  # the claims are about the whole study
    if whole and options.check_all:
        parser.error("--check-all: with --whole, --max-iters or --set nothing is estimated; leave --check-all out")
    names = options.only.split(",") if options.only else names
    for name in names:
        if name not in ALL:
            parser.error(f"--only {name}: choices are {', '.join(ALL)}")
        if name in of_whole_study and task != Task():
            parser.error(f"--only {name}: it is measured for the whole study only; remove --max-iters and --set")
    try:
        task.check()
        made = Measurements(options.work, len(os.sched_getaffinity(0)), task, () if options.check_all else CHECKED)
    except (UsageError, ValueError) as error:
        parser.error(str(error))
    # As Ctrl-C: what waits for its turn is stopped, and would stay so.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for name in names:
        made.measure(name)
    if options.only is None:
        note = "" if whole else checked(made)
        rows = contenders(made, whole)
        answered = answered_lines(rows, len(task.cells), made.measure(ANSWERED)) if task == Task() else ()
        page = markdown(rows, Page(len(task.cells), task.max_iters, note, made.circumstances(), answered))
        print(page)
        if options.output is not None:
            options.output.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()

"""`python -m benchmarks.sampler_throughput`: what a trial costs whose parameters a sampler chooses.

Workers, `study.optimize` with as many processes, and the sampler alone with its study in memory take turns, so that
other load affects all of them. The objective suggests two numbers and costs nothing; then it takes 50 ms.
"""

from __future__ import annotations

import math
import os
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import optuna

from benchmarks.list_options import names_of, numbers_of
from benchmarks.sampler_throughput.runs import Case, Cost, alone, optimizers, workers
from search.command_line import new_program
from search.errors import user_errors
from search.option_fields import Option, Options

# TPE with Optuna alone takes a quarter of an hour for 5,000 trials, so only the last ones of large studies are run.
CASES = (
    Case("random", 500, 500),
    Case("random", 5000, 200),
    Case("tpe", 500, 500),
    Case("tpe", 5000, 100),
    Case("gp", 50, 30),
    Case("gp", 200, 24),
)
SLOW = (Case("random", 500, 100, "slow"), Case("tpe", 500, 100, "slow"))
SAMPLERS = tuple(dict.fromkeys(case.sampler for case in CASES))


@dataclass(frozen=True, kw_only=True)
class ThroughputOptions(Options):
    """The options of this program."""

    samplers: Annotated[str, Option(f"Some of {', '.join(SAMPLERS)}.", "NAME,NAME")] = ",".join(SAMPLERS)
    workers: Annotated[str, Option("Processes.", "N,N")] = "1,2,8"
    rounds: Annotated[int, Option("The median of as many runs.", "N", minimum=1)] = 3
    trials: Annotated[int, Option("The most trials that are timed in a study.", "N", minimum=10)] = 500


def measure(options: ThroughputOptions) -> None:
    """Measure what a trial costs whose parameters a sampler chooses."""
    with user_errors():
        wanted, counts = names_of(options.samplers, SAMPLERS), numbers_of(options.workers)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    cases = [_limited(each, options.trials) for each in CASES if each.sampler in wanted]
    slow = [_limited(each, options.trials) for each in SLOW if each.sampler in wanted]
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M UTC}, {os.cpu_count()} cores; milliseconds a trial", flush=True)
    with tempfile.TemporaryDirectory(prefix="lm-search-throughput-") as name:
        print(f"\n{HEAD}", flush=True)
        found = {}
        for case in cases:
            found[case] = compared(case, counts, options.rounds, Path(name))
            print("\n".join(rows(case, found[case])), flush=True)
        print(f"\n{as_exponents({case: each[counts[0]] for case, each in found.items()})}\n\n{SLOW_HEAD}", flush=True)
        for case in slow:
            print(slow_row(case, compared(case, [1, 2], options.rounds, Path(name))), flush=True)


def _limited(case: Case, most: int) -> Case:
    return replace(case, measured=min(case.measured, most))


@dataclass(frozen=True)
class Compared:
    """Medians with some number of processes; those of one process of Optuna are beside each number."""

    ours: Cost
    stock: Cost
    one: Cost
    alone: Cost
    load: float


def compared(case: Case, counts: list[int], rounds: int, folder: Path) -> dict[int, Compared]:
    """The costs by the number of processes."""
    kinds: dict[tuple[str, int], Callable[[Path], Cost]] = {("alone", 1): lambda at: alone(case, at)}
    for count in dict.fromkeys([1, *counts]):
        kinds["ours", count] = lambda at, count=count: workers(case, count, at)  # type: ignore[misc]
        kinds["stock", count] = lambda at, count=count: optimizers(case, count, at)  # type: ignore[misc]
    costs: dict[tuple[str, int], list[Cost]] = {kind: [] for kind in kinds}
    loads = []
    for _ in range(rounds):
        for kind, run in kinds.items():
            with tempfile.TemporaryDirectory(dir=folder) as name:
                loads.append(os.getloadavg()[0])
                costs[kind].append(run(Path(name)))
    middle = {kind: _median(each) for kind, each in costs.items()}
    one, memory, load = middle["stock", 1], middle["alone", 1], statistics.median(loads)
    return {count: Compared(middle["ours", count], middle["stock", count], one, memory, load) for count in counts}


def _median(costs: list[Cost]) -> Cost:
    return Cost(statistics.median(each.ms for each in costs), statistics.median(each.cpu_ms for each in costs))


HEAD = """\
| sampler | trials | timed | workers | here | study.optimize, as many | ratio | ratio of processor time \
| study.optimize, one | ratio | sampler alone | load |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""
SLOW_HEAD = """\
| sampler, 50 ms | here, 1 | here, 2 | throughput | study.optimize, 1 | study.optimize, 2 | throughput | load |
|---|---:|---:|---:|---:|---:|---:|---:|"""


def rows(case: Case, found: dict[int, Compared]) -> list[str]:
    """A row for each number of processes; processor time is in brackets."""
    return [
        f"| {case.sampler} | {case.trials:,} | {case.measured} | {count} | {_text(each.ours)} | {_text(each.stock)} "
        f"| {each.ours.ms / each.stock.ms:.2f} | {each.ours.cpu_ms / each.stock.cpu_ms:.2f} "
        f"| {_text(each.one)} | {each.ours.ms / each.one.ms:.2f} "
        f"| {_text(each.alone)} | {each.load:.0f} |"
        for count, each in found.items()
    ]


def slow_row(case: Case, found: dict[int, Compared]) -> str:
    """How much more two processes do than one."""
    cells = []
    for one, two in ((found[1].ours, found[2].ours), (found[1].stock, found[2].stock)):
        cells += [f"{one.ms:.1f}", f"{two.ms:.1f}", f"{one.ms / two.ms:.2f}"]
    return f"| {case.sampler} | {' | '.join(cells)} | {found[1].load:.0f} |"


def _text(cost: Cost) -> str:
    return f"{cost.ms:.1f} ({cost.cpu_ms:.1f})"


def as_exponents(found: dict[Case, Compared]) -> str:
    """By what power of the ended trials the processor time of a trial grows between the two sizes of a sampler."""
    lines = ["| exponent of processor time | here | study.optimize | sampler alone |", "|---|---:|---:|---:|"]
    for sampler in dict.fromkeys(case.sampler for case in found):
        few, many = sorted((case for case in found if case.sampler == sampler), key=lambda case: case.trials)
        costs = [(each.ours, each.one, each.alone) for each in (found[few], found[many])]
        cells = [f"{exponent(few, many, *pair):.2f}" for pair in zip(*costs, strict=True)]
        lines.append(f"| {sampler} | {' | '.join(cells)} |")
    return "\n".join(lines)


def exponent(few: Case, many: Case, least: Cost, most: Cost) -> float:
    """That of a trial's processor time between two studies; each is at the middle of its timed trials."""
    sizes = [case.trials - case.measured / 2 for case in (few, many)]
    return math.log(most.cpu_ms / least.cpu_ms) / math.log(sizes[1] / sizes[0])


EXAMPLES = (("all samplers, an hour on a busy machine", ""), ("a quick look", "--rounds 1 --trials 50 --workers 1,2"))
app = new_program(measure, ThroughputOptions, EXAMPLES)

if __name__ == "__main__":
    app()

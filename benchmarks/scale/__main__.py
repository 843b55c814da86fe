"""`python -m benchmarks.scale`: what a study costs besides training, from 100 to 100,000 trials.

Studies of three kinds are planned and their trials ended in bulk, with 11 evaluations each. Then planning again,
status, the reports, the note of the dashboard and `run` are timed, and single trials in a study of that size, with
stock Optuna beside them. The exponent says how a cost grows: 1 is in proportion to the trials, 0 not at all.
"""

from __future__ import annotations

import math
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import optuna

from benchmarks.list_options import names_of, numbers_of
from benchmarks.scale.measurements import Cost, durable_write_s, study_costs, trial_costs
from benchmarks.scale.studies import KINDS
from benchmarks.storage import ROOT, databases
from search.command_line import new_program
from search.errors import user_errors
from search.option_fields import Option, Options

DATABASES = ("sqlite", "postgresql")
TRIALS = "single trials in a study with many finished ones, in milliseconds"

Costs = dict[str, dict[int, Cost]]  # by what was measured, and the number of trials


@dataclass(frozen=True, kw_only=True)
class ScaleOptions(Options):
    """The options of this program."""

    sizes: Annotated[str, Option("Numbers of trials, at least 100 each.", "N,N")] = "100,1000,10000,100000"
    kinds: Annotated[str, Option(f"Kinds of study: {', '.join(KINDS)}.", "KIND,KIND")] = ",".join(KINDS)
    databases: Annotated[str, Option("sqlite, postgresql (started here, without fsync), or both.", "NAME,NAME")] = (
        "sqlite"
    )
    repeat: Annotated[int, Option("Single trials that are timed.", "N", minimum=1)] = 50


def measure(options: ScaleOptions) -> None:
    """Measure what a study costs besides training, by its number of trials."""
    with user_errors():
        sizes = numbers_of(options.sizes)
        kinds, wanted = names_of(options.kinds, KINDS), names_of(options.databases, DATABASES)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sys.path.insert(0, str(ROOT / "tests" / "support"))  # postgres
        with tempfile.TemporaryDirectory(prefix="lm-search-scale-") as name:
            folder = Path(name)
            print(f"{_setting()}; a synced write: {1000 * durable_write_s(folder):.2f} ms", flush=True)
            for database in wanted:
                with databases(database, folder) as (_, new_url):
                    for kind in kinds:
                        found = costs_of(kind, sizes, new_url, folder)
                        print(f"\n{database}: {KINDS[kind].title}\n\n{as_table(found)}", flush=True)
                    found = costs_of_trials(sizes, options.repeat, new_url, folder)
                    print(f"\n{database}: {TRIALS}\n\n{as_table(found, 1000)}", flush=True)


def costs_of(kind: str, sizes: Sequence[int], new_url: Callable[[], str], folder: Path) -> Costs:
    """The costs of studies of one kind."""
    found: Costs = {}
    for size in sizes:
        for what, cost in study_costs(new_url(), KINDS[kind], size, folder):
            found.setdefault(what, {})[size] = cost
    return found


def costs_of_trials(sizes: Sequence[int], repeat: int, new_url: Callable[[], str], folder: Path) -> Costs:
    """The costs of single trials in studies with many finished ones."""
    found: Costs = {}
    for size in sizes:
        for what, cost in trial_costs(new_url(), KINDS["seeds"], size, repeat, folder):
            found.setdefault(what, {})[size] = cost
    return found


def exponent(costs: Mapping[int, float]) -> float | None:
    """By what power of the number of trials a cost has grown over the two largest sizes; None with one size."""
    if len(costs) < 2:
        return None
    (few, least), (many, most) = sorted(costs.items())[-2:]
    return math.log(most / least) / math.log(many / few)


def as_table(found: Costs, factor: float = 1.0) -> str:
    """The measurements as markdown: seconds, and processor seconds in brackets.

    Args:
        factor: Of the unit in a second.
    """
    sizes = sorted({size for costs in found.values() for size in costs})
    lines = [
        f"| cost | {' | '.join(f'{size:,}' for size in sizes)} | exponent | memory, MB | output, kB |",
        f"|---|{'---:|' * (len(sizes) + 3)}",
    ]
    for what, costs in found.items():
        grown = exponent({size: cost.cpu_seconds for size, cost in costs.items()})
        last = costs[max(costs)]
        cells = [f"{factor * costs[at].seconds:.2f} ({factor * costs[at].cpu_seconds:.2f})" for at in sizes]
        cells.append("" if grown is None else f"{grown:.2f}")
        cells.append("" if last.megabytes is None else f"{last.megabytes:.0f}")
        cells.append("" if last.size is None else f"{last.size / 1000:,.0f}")
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _setting() -> str:
    now, load = datetime.now(UTC), os.getloadavg()[0]
    return f"{now:%Y-%m-%d %H:%M UTC}; {platform.machine()}, {os.cpu_count()} cores, load {load:.1f}"


EXAMPLES = (
    ("all sizes and kinds on SQLite, half an hour", ""),
    ("a quick look at both databases", "--sizes 100,1000 --databases sqlite,postgresql"),
)
app = new_program(measure, ScaleOptions, EXAMPLES)

if __name__ == "__main__":
    app()

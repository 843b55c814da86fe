"""`python -m benchmarks.startup`: the run time of the reading programs, compared with the import of their libraries.

Every round starts each command once, one after another, so that other load affects all of them.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from search.command_line import new_program
from search.errors import UsageError, user_errors
from search.option_fields import Option
from search.shared_options import StorageOptions, StudyNameOptions

LIBRARIES = ("-c", "import optuna, sqlalchemy")


@dataclass(frozen=True, kw_only=True)
class StartupOptions(StorageOptions, StudyNameOptions):
    """The options of this program."""

    rounds: Annotated[int, Option("Counted rounds; one before them is not counted.", "N", minimum=1)] = 11


def measure(options: StartupOptions) -> None:
    """Time status and report of a study, and the import of optuna and sqlalchemy."""
    with user_errors():
        study = ["--study", options.study, "--storage", options.storage]
        commands: dict[str, Sequence[str]] = {
            "python -c pass": ("-c", "pass"),
            'python -c "import optuna, sqlalchemy"': LIBRARIES,
            "status --help": ("-m", "search.status", "--help"),
            "status": ("-m", "search.status", *study),
            "report": ("-m", "search.report", *study),
            "report --format html": ("-m", "search.report", *study, "--format", "html"),
        }
        print(as_table(take_times(commands, options.rounds), commands))


def take_times(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each command in each round.

    Raises:
        UsageError: A command fails.
    """
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, arguments in commands.items():
            began = time.perf_counter()
            done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
            took = time.perf_counter() - began
            if done.returncode:
                raise UsageError(f"{name}: {done.stderr.strip()}")
            if turn:  # the first round compiles, and fills the file cache
                times[name].append(took)
    return times


def as_table(times: Mapping[str, Sequence[float]], commands: Mapping[str, Sequence[str]]) -> str:
    """The times as markdown, with their ratio to the import of the libraries."""
    unit = next(statistics.median(times[name]) for name, arguments in commands.items() if arguments is LIBRARIES)
    lines = ["| command | median, s | least, s | most, s | times the libraries |", "|---|---:|---:|---:|---:|"]
    for name, taken in times.items():
        middle = statistics.median(taken)
        lines.append(f"| `{name}` | {middle:.3f} | {min(taken):.3f} | {max(taken):.3f} | {middle / unit:.2f} |")
    return "\n".join(lines)


app = new_program(measure, StartupOptions, [("with the built-in study, run before", "--study bigram")])

if __name__ == "__main__":
    app()

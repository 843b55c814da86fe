"""`python -m benchmarks.first_trial`: seconds from the command to the start of the first trial.

An objective without torch and the built-in study, on a new database and on one with the planned study, each beside the
import of the libraries that it needs. All are timed once in every round, so that other load affects all of them.
"""

from __future__ import annotations

import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from search.command_line import new_program
from search.option_fields import Option, Options

ROOT = Path(__file__).parents[1]
OBJECTIVE = "def train(params, seed):\n    return params['a'] * 1.0\n"
STUDY = 'objective = "quick:train"\n[grid]\na = [1, 2, 3, 4]\n'
OPTUNA, TORCH = "import optuna, sqlalchemy", "import optuna, sqlalchemy, torch"
# One short trial of each encoding.
BUILT_IN = ["--study", "bigram", "--no-baselines", "--set", "max_iters=20", "--set", "eval_interval=20"]
BUILT_IN += ["--set", "n_embd=64", "--set", "block_size=8"]


@dataclass(frozen=True, kw_only=True)
class FirstTrialOptions(Options):
    """The options of this program."""

    rounds: Annotated[int, Option("Counted rounds; one before them is not counted.", "N", minimum=1)] = 11


def measure(options: FirstTrialOptions) -> None:
    """Time the start of the first trial, and the imports."""
    with tempfile.TemporaryDirectory(prefix="lm-search-start-") as name:
        folder = Path(name)
        (folder / "quick.py").write_text(OBJECTIVE)
        (folder / "quick.toml").write_text(STUDY)
        own = ["--study", "quick.toml"]
        timed: dict[str, Callable[[], float]] = {
            OPTUNA: lambda: _import_s(OPTUNA),
            "objective without torch": lambda: _first_trial_s(own, folder, is_planned=False),
            "the same, planned before": lambda: _first_trial_s(own, folder, is_planned=True),
            TORCH: lambda: _import_s(TORCH),
            "built-in study": lambda: _first_trial_s(BUILT_IN, folder, is_planned=False),
            "the same, planned before ": lambda: _first_trial_s(BUILT_IN, folder, is_planned=True),
        }
        times: dict[str, list[float]] = {name: [] for name in timed}
        for turn in range(options.rounds + 1):
            for name, work in timed.items():
                took = work()
                if turn:  # the first round compiles, and fills the file cache
                    times[name].append(took)
    print(as_table(times))


def _import_s(statement: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - began


def _first_trial_s(study: Sequence[str], folder: Path, *, is_planned: bool) -> float:
    """Seconds from the start of a run to the start of its first trial, by the clock of this machine."""
    file = folder / "search.db"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "search.run", *study, "--storage", f"sqlite:///{file}", "--quiet"]
    if is_planned:
        _run([*command, "--plan-only"], folder)
    began = time.time()
    _run(command, folder)
    with closing(sqlite3.connect(file)) as connection:
        [first] = connection.execute("SELECT min(started_at) FROM search_runs").fetchone()
    return float(first) - began


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def as_table(times: Mapping[str, Sequence[float]]) -> str:
    """The times as markdown, with their ratio to the import above them."""
    lines = ["| from the command to | median, s | least, s | most, s | times the import |", "|---|---:|---:|---:|---:|"]
    unit = 1.0
    for name, taken in times.items():
        middle = statistics.median(taken)
        unit = middle if name in (OPTUNA, TORCH) else unit
        lines.append(f"| {name.strip()} | {middle:.2f} | {min(taken):.2f} | {max(taken):.2f} | {middle / unit:.2f} |")
    return "\n".join(lines)


EXAMPLES = (("eleven rounds, two minutes", ""), ("a quick look", "--rounds 3"))
app = new_program(measure, FirstTrialOptions, EXAMPLES)

if __name__ == "__main__":
    app()

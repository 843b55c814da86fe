"""The objective of `benchmarks.sampler_throughput`, for workers and for Optuna alike."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna

# The folder through which the processes of a measurement wait for each other.
GATE = "SAMPLER_THROUGHPUT_GATE"
LOW, HIGH = -5.0, 5.0
# The file to which this process writes the processor time that it has used.
_clock: list[int] = []


def loss(x: float, y: float) -> float:
    """The least is 0, at (1, -2)."""
    return (x - 1) ** 2 + (y + 2) ** 2


def free(trial: optuna.Trial) -> float:
    """Costs nothing."""
    return _after(trial, 0.0)


def slow(trial: optuna.Trial) -> float:
    """Takes 50 ms, in which it needs no processor."""
    return _after(trial, 0.05)


def _after(trial: optuna.Trial, seconds: float) -> float:
    found = loss(trial.suggest_float("x", LOW, HIGH), trial.suggest_float("y", LOW, HIGH))
    if not _clock:
        _wait()
    os.pwrite(_clock[0], f"{time.process_time():.6f}".encode(), 0)
    time.sleep(seconds)
    return found


def _wait() -> None:
    """Once in each process: wait until all have begun a trial."""
    file = Path(os.environ[GATE]) / f"{os.getpid()}.used"
    _clock.append(os.open(file, os.O_CREAT | os.O_WRONLY))
    file.with_suffix(".ready").write_text(f"{time.process_time():.6f}")
    while not (file.parent / "open").exists():
        time.sleep(0.005)

"""Objectives of each kind with a metric that the study does not rank by, or ranks by second: the accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from optuna import Trial, TrialPruned

STEPS, CELLS = 8, 12


def accuracy_at(x: int, step: int) -> float:
    """Better with each step; which cell leads changes with the step."""
    return (x * 7 % CELLS) / CELLS + (x * 5 % 7) * step / 100


def judged_generator(params: dict[str, Any]) -> Iterator[Any]:
    """The study's metric is the same for all."""
    for step in range(1, STEPS + 1):
        yield step, {"loss": 1.0, "accuracy": accuracy_at(params["x"], step)}


def logging_generator(params: dict[str, Any], trial: Any) -> Iterator[Any]:
    """The further metric comes through the trial."""
    for step in range(1, STEPS + 1):
        trial.log({"accuracy": accuracy_at(params["x"], step)}, step)
        yield step, 1.0


def rarely_generator(params: dict[str, Any]) -> Iterator[Any]:
    """Every other evaluation has the further metric."""
    for step in range(1, STEPS + 1):
        yield step, {"loss": 1.0} | ({"accuracy": accuracy_at(params["x"], step)} if step % 2 else {})


def pair_objective(trial: Trial) -> tuple[float, float]:
    """Two objectives; it reports the first and logs the second."""
    x = trial.number
    for step in range(1, STEPS + 1):
        trial.report(1.0, step)
        trial.log({"accuracy": accuracy_at(x, step)}, step)  # type: ignore[attr-defined]
        if step < STEPS and trial.should_prune():
            raise TrialPruned
    return 1.0, accuracy_at(x, STEPS)


def quiet_objective(trial: Trial) -> tuple[float, float]:
    """It only logs."""
    x = trial.number
    for step in range(1, STEPS + 1):
        trial.log({"accuracy": accuracy_at(x, step)}, step)  # type: ignore[attr-defined]
        if step < STEPS and trial.should_prune():
            raise TrialPruned
    return 1.0, accuracy_at(x, STEPS)


def silent_objective(trial: Trial) -> tuple[float, float]:
    """It forgets the step of what it logs."""
    for step in range(3):
        trial.report(1.0, step)
        trial.log({"accuracy": 0.5})  # type: ignore[attr-defined]
        if trial.should_prune():
            raise TrialPruned
    return 1.0, 0.5

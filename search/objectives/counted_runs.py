"""Runs that count their floating-point operations, and objectives that make such runs: for `run --budget 1e18flops`."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from search.objectives.protocol import TrainingRun


@runtime_checkable
class CountsFlops(TrainingRun, Protocol):
    """A `TrainingRun` that counts its floating-point operations."""

    def count_flops(self) -> float | None:
        """Those of its steps and evaluations so far, also before a restore; None if its model cannot be counted.

        Called between two calls of `advance`.
        """
        ...


@runtime_checkable
class MakesCountedRuns(Protocol):
    """An `Objective` whose runs are `CountsFlops`."""

    counts_flops: Literal[True]

"""The cells of two studies side by side: what each study found for a cell, and which one is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from search.statistics.answers import Verdict
from search.statistics.comparison import (
    BETTER_DIVERGED,
    BOTH_DIVERGED,
    PRUNED,
    UNFINISHED,
    WORSE_DIVERGED,
    Comparison,
    Setting,
)
from search.statistics.comparisons import MAX_SETTINGS
from search.statistics.inference import Floats
from search.statistics.losses import Losses
from search.storage.values import canonical


@dataclass(frozen=True)
class CellResult:
    """What one study found for a cell.

    Attributes:
        value: The mean over its seeds; None without a value that can be compared.
        reach: Half of its 95 % interval; None with one seed a cell.
        seeds: The number of seeds.
        state: "complete", or why it has no such value: "pruned", "diverged", "unfinished".
    """

    value: float | None
    reach: float | None
    seeds: int
    state: str


@dataclass(frozen=True)
class CellComparison:
    """A cell that both studies have.

    Attributes:
        first, second: What each study found.
        difference: The value of the second study minus that of the first; None unless compared.
        low, high: Its 95 % interval, which holds together with those of all other cells and of the mean.
        verdict: Which study is better, or why that is open.
    """

    cell: Mapping[str, Any]
    first: CellResult
    second: CellResult
    difference: float | None
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class StudyView:
    """Turns a comparison of losses into values of the first and the second study.

    Attributes:
        first, second: What the studies are called.
        axis: The axis of `losses` that tells them apart.
        losses: The trials of both.
        comparison: Of the two levels of `axis`.
    """

    first: str
    second: str
    axis: str
    losses: Losses
    comparison: Comparison

    @cached_property
    def _reach(self) -> Floats | None:
        """Half of the 95 % interval of each cell's mean; None with one seed a cell."""
        return None if self.losses.posterior is None else self.losses.posterior.noise.mean_reach

    @property
    def _first_is_better(self) -> bool:
        return bool(self.comparison.better == self.first)

    def second_minus_first(
        self, mean: float | None, low: float | None, high: float | None
    ) -> tuple[float | None, float | None, float | None]:
        """A difference of losses, worse minus better, with its interval, as one of values."""
        if mean is None:
            return None, None, None
        sign = self.losses.metric.sign * (1 if self._first_is_better else -1)
        if low is None or high is None:
            return sign * mean, None, None
        low, high = sorted((sign * low, sign * high))
        return sign * mean, low, high

    def cell(self, setting: Setting) -> CellComparison:
        """The values of both studies in a cell, and the verdict."""
        one, other = (self._result({self.axis: name, **setting.rest}) for name in (self.first, self.second))
        difference, low, high = self.second_minus_first(setting.mean, setting.low, setting.high)
        return CellComparison(setting.rest, one, other, difference, low, high, self._cell_verdict(setting))

    def _result(self, cell: Mapping[str, Any]) -> CellResult:
        losses = self.losses
        row = losses.row_by_cell[canonical(cell)]
        count = int(losses.count[row])
        if not losses.comparable[row]:
            state = "diverged" if losses.diverged[row] else "pruned" if losses.pruned[row] else "unfinished"
            return CellResult(None, None, count, state)
        reach = None if self._reach is None else float(self._reach[row]) * losses.unit
        return CellResult(losses.metric.sign * float(losses.mean[row]) * losses.unit, reach, count, "complete")

    def _cell_verdict(self, setting: Setting) -> str:
        better, worse = (self.first, self.second) if self._first_is_better else (self.second, self.first)
        if setting.state == PRUNED:
            return f"{Verdict.NOT_ANSWERABLE} (pruned)"
        if setting.state == UNFINISHED:
            return f"{Verdict.CANNOT_TELL} (not finished)"
        if setting.state == BOTH_DIVERGED:
            return f"{Verdict.NOT_ANSWERABLE} (both diverged or failed)"
        if setting.state in (BETTER_DIVERGED, WORSE_DIVERGED):
            lost, won = (better, worse) if setting.state == BETTER_DIVERGED else (worse, better)
            return f"{won} is better ({lost} diverged or failed)"
        if setting.low is None or setting.high is None:
            has_noise = self.comparison.low is not None
            return f"not judged (more than {MAX_SETTINGS} cells)" if has_noise else str(Verdict.CANNOT_TELL)
        if setting.sign:
            return f"{better if setting.sign > 0 else worse} is better"
        margin = self.comparison.margin
        if margin is not None and -margin < setting.low and setting.high < margin:
            return str(Verdict.NO_CLEAR_DIFFERENCE)
        return str(Verdict.CANNOT_TELL)

    def order(self, cell: CellComparison) -> tuple[float, str]:
        """The best value of either study first."""
        values = [each.value for each in (cell.first, cell.second) if each.value is not None]
        best = self.losses.metric.best(values)
        return (np.inf if best is None else self.losses.metric.loss(best)), canonical(cell.cell)

    def only(self) -> tuple[int, int]:
        """The number of cells that only the first study has, and only the second."""
        names: Sequence[str] = [cell[self.axis] for cell in self.losses.cells]
        both = len(self.comparison.settings)
        return names.count(self.first) - both, names.count(self.second) - both

    def equal_trials(self) -> tuple[int, int]:
        """Pairs of complete trials with the same cell and seed: those with the same value, and all."""
        same = pairs = 0
        for setting in self.comparison.settings:
            one, other = (
                self.losses.table[self.losses.row_by_cell[canonical({self.axis: name, **setting.rest})]]
                for name in (self.first, self.second)
            )
            there = ~np.isnan(one) & ~np.isnan(other)
            pairs += int(there.sum())
            same += int((one[there] == other[there]).sum())
        return same, pairs

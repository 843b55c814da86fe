"""The final losses of a study as a table of cells and seeds, and the trials that have none.

Statistics need to know no direction: they work on losses, of which lower ones are better. `Losses.of` makes them from
values.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from search.statistics.inference import Flags, Floats, unit
from search.statistics.noise import fit_noise
from search.statistics.posterior import Posterior
from search.storage.queries import TrialSummary
from search.storage.values import canonical
from search.study.cells import without_seed
from search.study.claims import Scalar
from search.study.formatting import axis_digits, describe_level
from search.study.metrics import DEFAULT_METRIC, Metric


@dataclass(frozen=True)
class Losses:
    """The trials of a study.

    Attributes:
        cells: K cells without their seeds, those without any loss included.
        seeds: S seeds.
        table: (K, S) float64; NaN where a trial has no final loss. Cells may have different numbers of seeds.
        others: For each cell the number of its trials without a final loss, by state.
        metric: Whose values are behind the losses.
    """

    cells: Sequence[Mapping[str, Any]]
    seeds: Sequence[int]
    table: Floats
    others: Sequence[Mapping[str, int]]
    metric: Metric = DEFAULT_METRIC

    @classmethod
    def of(
        cls,
        observations: Iterable[tuple[Mapping[str, Any], int, float]],
        metric: Metric = DEFAULT_METRIC,
        others: Iterable[tuple[Mapping[str, Any], str]] = (),
    ) -> Losses:
        """Tabulate (cell, seed, value) triples.

        Args:
            metric: What the values are of.
            others: The cell and the state of each trial without a final value.
        """
        # Keys are made once: for many trials they cost more than all sums.
        triples = [(canonical(cell), cell, seed, value) for cell, seed, value in observations]
        pairs = [(canonical(cell), cell, state) for cell, state in others]
        cells = {key: cell for key, cell, _, _ in triples}
        cells |= {key: cell for key, cell, _ in pairs if key not in cells}
        rows = {key: row for row, key in enumerate(cells)}
        seeds = sorted({seed for _, _, seed, _ in triples})
        columns = {seed: column for column, seed in enumerate(seeds)}
        table = np.full((len(cells), len(seeds)), np.nan)
        for key, _, seed, value in triples:
            table[rows[key], columns[seed]] = metric.loss(value)
        states: list[Counter[str]] = [Counter() for _ in cells]
        for key, _, state in pairs:
            states[rows[key]][state] += 1
        return cls(list(cells.values()), seeds, table, states, metric)

    @cached_property
    def unit(self) -> float:
        """The power of two that the noise model is in units of: sums and squares of such losses stay finite."""
        return unit(self.table.flat)

    def in_values(self, size: float) -> float:
        """A difference of the noise model in units of the values; at most the largest float."""
        return min(max(float(size) * self.unit, -sys.float_info.max), sys.float_info.max)

    @cached_property
    def digits(self) -> Mapping[str, int]:
        """The digits that tell the values of each axis apart, by axis."""
        return axis_digits(self.cells)

    def describe(self, factor: str, value: Any) -> str:
        """A level of a factor, or a cell, in a few words."""
        return describe_level(factor, value, self.digits)

    @cached_property
    def count(self) -> npt.NDArray[np.int64]:
        """The number of seeds of each cell that have a loss, (K,) int64."""
        return np.asarray((~np.isnan(self.table)).sum(axis=1))

    def has_state(self, *states: str) -> Flags:
        """Whether a cell has a trial in one of these states, (K,) bool."""
        return np.array([any(each.get(state) for state in states) for each in self.others], dtype=np.bool_)

    @cached_property
    def pruned(self) -> Flags:
        """Whether the pruner took a trial of a cell, (K,) bool: the seeds that are left are the better ones."""
        return self.has_state("pruned")

    @cached_property
    def diverged(self) -> Flags:
        """Whether a trial of a cell diverged or failed, (K,) bool: an outcome worse than any loss."""
        return self.has_state("diverged", "failed")

    @cached_property
    def comparable(self) -> Flags:
        """Whether a cell's mean can be compared, (K,) bool."""
        return np.asarray((self.count > 0) & ~self.pruned & ~self.diverged)

    @cached_property
    def finished(self) -> Flags:
        """Whether a cell can be the best, (K,) bool: all its trials are complete."""
        return np.asarray(self.comparable & ~self.has_state("waiting", "running"))

    @cached_property
    def posterior(self) -> Posterior | None:
        """The noise model of the comparable cells, in units of `unit`; None if no cell has two seeds."""
        noise = fit_noise(np.where(self.comparable[:, np.newaxis], self.table / self.unit, np.nan))
        return None if noise is None else Posterior(noise)

    @cached_property
    def mean(self) -> Floats:
        """The mean loss of each cell, (K,) float64, in units of `unit`; NaN without a loss."""
        scaled = np.where(np.isnan(self.table), 0.0, self.table / self.unit)
        return np.where(self.count > 0, scaled.sum(axis=1) / np.maximum(self.count, 1), np.nan)

    @cached_property
    def row_by_cell(self) -> Mapping[str, int]:
        """Rows by canonical cell."""
        return {canonical(cell): row for row, cell in enumerate(self.cells)}

    @cached_property
    def factors(self) -> dict[str, list[Scalar]]:
        """The axes that have more than one level, and their levels."""
        levels: dict[str, dict[Scalar, None]] = {}
        for cell in self.cells:
            for axis, value in cell.items():
                levels.setdefault(axis, {}).setdefault(value)
        return {axis: list(values) for axis, values in levels.items() if len(values) > 1}

    @cached_property
    def rows_by_rest(self) -> dict[str, dict[str, dict[Scalar, int]]]:
        """Rows of all cells: by factor, by all other axes, and then by the factor's level."""
        found: dict[str, dict[str, dict[Scalar, int]]] = {factor: {} for factor in self.factors}
        for row, cell in enumerate(self.cells):
            for factor in found.keys() & cell.keys():
                rest = canonical({axis: value for axis, value in cell.items() if axis != factor})
                found[factor].setdefault(rest, {})[cell[factor]] = row
        return found


def losses_of(trials: Iterable[TrialSummary], metric: Metric, *, is_drawn: bool = False) -> Losses:
    """The trials of one or more studies as losses: final ones, and the states of those without one.

    Args:
        is_drawn: Whether parameters are drawn. Then equal ones are chance, and a pruned trial says nothing about a
            complete one.
    """
    observations, others = [], []
    for trial in trials:
        cell = without_seed(trial.cell)
        if trial.state == "complete" and trial.val_loss is not None:
            observations.append((cell, trial.seed, trial.val_loss))
        elif cell or trial.state not in ("waiting", "running"):  # a slot without a cell yet says nothing
            others.append((cell, trial.state))
    if is_drawn:
        complete = {canonical(cell) for cell, _, _ in observations}
        others = [(cell, state) for cell, state in others if canonical(cell) not in complete]
    return Losses.of(observations, metric, others)

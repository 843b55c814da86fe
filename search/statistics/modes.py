"""Cells whose seeds end in two places: their mean lies where no run ends, and its interval says little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.statistics.inference import Floats
from search.statistics.losses import Losses

# With fewer seeds two groups cannot be told from chance.
MIN_SEEDS = 4
# The gap between the two groups, in widths of the wider one and in standard deviations that are usual in the study.
MIN_WIDTHS, MIN_DEVIATIONS = 4.0, 5.0


@dataclass(frozen=True)
class Modes:
    """A cell with two groups of seeds.

    Attributes:
        cell: Its values.
        low, high: The means of the two groups, as values of the metric.
        seeds: The number of seeds in each.
    """

    cell: Mapping[str, Any]
    low: float
    high: float
    seeds: tuple[int, int]


def find_modes(losses: Losses) -> list[Modes]:
    """The cells with two groups of seeds, or with one seed far from all others."""
    posterior = losses.posterior
    if posterior is None:
        return []
    usual = float(np.sqrt(posterior.noise.prior_variance))
    found = []
    for row in map(int, np.flatnonzero(losses.comparable & (losses.count >= MIN_SEEDS))):
        values = np.sort(losses.table[row][~np.isnan(losses.table[row])])
        split = _split(values / losses.unit, usual)
        if split is not None:
            ends = [losses.metric.loss(float(part.mean())) for part in (values[:split], values[split:])]
            found.append(Modes(losses.cells[row], min(ends), max(ends), (split, len(values) - split)))
    return found


def _split(values: Floats, usual: float) -> int | None:
    """Where sorted values part into two groups; None if they are one."""
    gaps = np.diff(values)
    split = int(np.argmax(gaps)) + 1
    width = max(values[split - 1] - values[0], values[-1] - values[split])
    gap = gaps[split - 1]
    return split if gap > MIN_WIDTHS * width and gap > MIN_DEVIATIONS * usual else None

"""What the analyses of a study take: its cells with their losses, sorted into groups that differ in one axis alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from search.statistics.inference import Floats
from search.statistics.noise import fit_noise
from search.statistics.noise_trend import trended
from search.statistics.optimum import MIN_POINTS, Points
from search.storage.values import canonical

# The variance of a mean is at least this share of the variance of all losses: a function may have no randomness.
LEAST_VARIANCE = 1e-10


@dataclass(frozen=True)
class Measured:
    """A cell with its final losses.

    Attributes:
        cell: Without the seed.
        losses: Lower is better; one for each seed.
        is_complete: Whether all its ended trials have one; if not, it is left out.
        quantities: Numbers that belong to it, by name: its axes, parameters, tokens and metrics.
    """

    cell: Mapping[str, Any]
    losses: Sequence[float]
    is_complete: bool = True
    quantities: Mapping[str, float] = field(default_factory=dict)


def axis_groups(cells: Sequence[Measured], axis: str) -> list[list[int]]:
    """The indices of cells that differ in an axis alone, by ascending values of it."""
    found: dict[str, list[int]] = {}
    for row, each in enumerate(cells):
        rest = {name: value for name, value in each.cell.items() if name != axis}
        found.setdefault(canonical(rest), []).append(row)
    return [sorted(rows, key=lambda row: float(cells[row].cell[axis])) for rows in found.values()]


def fit_measured(cells: Sequence[Measured], groups: Sequence[Sequence[int]], axis: str) -> list[Points] | None:
    """The mean losses of groups over the logarithm of an axis, with the noise of the whole study.

    Without a second seed of any cell, what parabolas near the lowest points miss counts as noise.

    Returns:
        Of each group; None if nothing is known of the noise.
    """
    if not cells:
        return None
    table = np.full((len(cells), max(len(each.losses) for each in cells)), np.nan)
    for row, each in enumerate(cells):
        table[row, : len(each.losses)] = each.losses
    places = [np.log([float(cells[row].cell[axis]) for row in rows]) for rows in groups]
    noise = fit_noise(table)
    floor = max(LEAST_VARIANCE * float(np.nanvar(table)), 1e-300)
    if noise is not None:
        trend = trended(noise, places, groups)
        of_trial = noise.variance if trend is None else trend.variance
        variance = np.maximum(of_trial / np.maximum(noise.count, 1), floor)
        found = []
        for at, group in zip(places, groups, strict=True):
            rows = list(group)
            df = float(noise.df[rows].mean()) if trend is None else trend.joint_df(rows, variance[rows])
            found.append(Points(at, noise.mean[rows], variance[rows], df))
        return found
    bare = [
        Points(at, table[list(rows), 0], np.ones(len(rows)), np.inf) for at, rows in zip(places, groups, strict=True)
    ]
    misfit, spare = _misfit([each for each in bare if len(each.at) > MIN_POINTS])
    if spare == 0:
        return None
    return [Points(each.at, each.mean, np.full(len(each.at), max(misfit / spare, floor)), spare) for each in bare]


def _misfit(groups: Sequence[Points]) -> tuple[float, int]:
    """The sum of squares that parabolas near the lowest points miss, and its degrees of freedom."""
    total, df = 0.0, 0
    for each in groups:
        near = each.near_lowest()
        if len(near.at) <= MIN_POINTS:
            continue
        powers: Floats = (near.at - near.at.mean())[:, np.newaxis] ** np.arange(3)
        residuals = near.mean - powers @ np.linalg.lstsq(powers, near.mean, rcond=None)[0]
        total += float(residuals @ residuals)
        df += len(near.at) - 3
    return total, df

"""How much more compute one arm of a study needs than another one for the same loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.statistics.configurations import FLOPS, Configuration, varying
from search.statistics.inference import Floats
from search.statistics.power_law import LawFit
from search.statistics.scaling import ScalingResult, fit_scaling, frontier


@dataclass(frozen=True)
class SpeedUpResult:
    """How much more of a quantity one arm needs than another for the same loss.

    Attributes:
        quantity: "flops", "tokens" or "parameters".
        loss: The lowest loss that both arms reach.
        factor, low, high: The ratio at that loss, with its 95 % interval; above 1 the first arm is faster.
    """

    quantity: str
    loss: float
    factor: float
    low: float
    high: float


def speed_up(of: Sequence[Configuration], over: Sequence[Configuration]) -> SpeedUpResult | None:
    """How much more compute the second arm needs than the first for the lowest loss that both reach.

    By the law of each arm: along the best split of compute if both quantities vary, else along the one that varies.
    """
    quantities = varying(of)
    if quantities != varying(over) or not quantities:
        return None
    fits = [fit_scaling(of), fit_scaling(over)]
    if fits[0] is None or fits[1] is None:
        return None
    loss = max(min(each.loss for each in arm) for arm in (of, over))
    if len(quantities) == 2:
        quantity, arms = FLOPS, [_needed_flops(each, loss) for each in fits if each is not None]
    else:
        quantity, arms = quantities[0], [_needed(each.fit, loss) for each in fits if each is not None]
    point, replicates = arms[1][0] / arms[0][0], arms[1][1] / arms[0][1]
    known = replicates[np.isfinite(replicates)]
    if not math.isfinite(point) or len(known) < 0.9 * len(replicates):
        return None
    low, high = np.quantile(known, (0.025, 0.975))
    return SpeedUpResult(quantity, loss, point, float(low), float(high))


def _needed(fit: LawFit, loss: float) -> tuple[float, Floats]:
    """The quantity of a law with one term at a loss: of the law, and of each replicate."""
    found = []
    for laws in (fit.law, fit.replicates):
        rest = np.where(loss > laws.irreducible, loss - laws.irreducible, np.nan)
        found.append(fit.law.center[0] * (laws.sizes[:, 0] / rest) ** (1 / laws.exponents[:, 0]))
    return float(found[0][0]), found[1]


def _needed_flops(result: ScalingResult, loss: float) -> tuple[float, Floats]:
    """The compute at a loss along the best split: of the law, and of each replicate."""
    assert result.per_product is not None
    amounts = [each.flops for each in result.configurations if each.flops]
    grid = np.geomspace(min(amounts) / 1e3, max(amounts) * 1e3, 400)
    found = []
    for name in ("law", "replicates"):
        _, losses = frontier(result.fit, grid, result.per_product, name)
        found.append(np.array([_crossing(grid, each, loss) for each in losses]))
    return float(found[0][0]), found[1]


def _crossing(grid: Floats, losses: Floats, loss: float) -> float:
    """Where falling losses reach a loss; NaN if they do not."""
    if not losses[-1] <= loss <= losses[0]:
        return math.nan
    return math.exp(float(np.interp(-loss, -losses, np.log(grid))))

"""Iso-FLOP curves: the loss over parameters at equal compute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.statistics.configurations import Configuration
from search.statistics.optimum import MIN_POINTS, Curve, Points, fit_curves
from search.storage.values import canonical

MOST_LEVELS = 6  # of compute


@dataclass(frozen=True)
class IsoFlop:
    """The loss over parameters at one amount of compute.

    Attributes:
        flops: The amount.
        curve: Over the logarithm of parameters.
    """

    flops: float
    curve: Curve


def iso_flops(found: Sequence[Configuration]) -> list[IsoFlop]:
    """Curves of the loss over parameters, at amounts of compute that three sizes or more have on both sides.

    Along each size the loss is interpolated in the logarithm of compute.
    """
    sizes: dict[str, list[Configuration]] = {}
    for each in found:
        if each.parameters and each.flops and each.variance >= 0:
            sizes.setdefault(canonical(each.parameters), []).append(each)
    lines = [sorted(each, key=lambda one: one.flops or 0.0) for each in sizes.values() if len(each) > 1]
    amounts = [math.log(each.flops or 1.0) for line in lines for each in line]
    if not amounts:
        return []
    levels = np.linspace(min(amounts), max(amounts), MOST_LEVELS + 2)[1:-1]
    points = [(float(level), _at_level(lines, float(level))) for level in levels]
    enough = [(level, each) for level, each in points if len(each.at) > MIN_POINTS]
    curves = fit_curves([each for _, each in enough])
    return [IsoFlop(math.exp(level), curve) for (level, _), curve in zip(enough, curves, strict=True)]


def _at_level(lines: Sequence[Sequence[Configuration]], level: float) -> Points:
    found = np.empty((0, 3))
    for line in lines:
        amounts = np.log([each.flops or 1.0 for each in line])
        if not amounts[0] <= level <= amounts[-1]:
            continue
        after = int(np.clip(np.searchsorted(amounts, level), 1, len(line) - 1))
        share = (level - amounts[after - 1]) / (amounts[after] - amounts[after - 1])
        one, other = line[after - 1], line[after]
        loss = math.exp((1 - share) * math.log(one.loss) + share * math.log(other.loss))
        variance = (1 - share) ** 2 * one.variance + share**2 * other.variance
        found = np.append(found, [[math.log(line[0].parameters or 1.0), loss, variance]], axis=0)
    at, losses, variances = found[np.argsort(found[:, 0])].T
    usual = float(np.median(variances)) if len(variances) else 0.0
    return Points(at, losses, np.maximum(variances, max(usual, 1e-12)), math.inf)

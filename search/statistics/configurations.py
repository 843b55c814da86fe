"""The configurations of a study: a size and a length of training each, with the loss of the best tuned value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.statistics.measured import Measured, axis_groups, fit_measured
from search.statistics.optimum import MIN_POINTS, fit_curves

FLOPS_PER_PARAMETER = 6.0  # and token, forward and backward (Kaplan et al. 2020)
PARAMETERS, TOKENS, FLOPS = "parameters", "tokens", "flops"
MIN_SIZES = 3  # different values of a quantity that a law can have a term for


@dataclass(frozen=True)
class Configuration:
    """A size and a length of training, with the loss of its best value of the tuned axis.

    Attributes:
        measured: One of its cells.
        parameters, tokens: None if they are not known.
        flops: Of the whole training; None if they are not known.
        loss, variance: The loss, and the variance of its noise.
        at_end: Whether the best value of the tuned axis is at an end of its values.
    """

    measured: Measured
    parameters: float | None
    tokens: float | None
    flops: float | None
    loss: float
    variance: float
    at_end: bool


@dataclass(frozen=True)
class Names:
    """What counts as parameters, tokens and floating-point operations, and the tuned axis; None for the default."""

    tune: str | None = None
    parameters: str | None = None
    tokens: str | None = None
    flops: str | None = None


def configurations(cells: Sequence[Measured], names: Names) -> list[Configuration]:
    """The best of each group of cells that differ in the tuned axis alone; each cell if there is none."""
    used = [each for each in cells if each.is_complete and each.losses]
    if names.tune is None:
        return [
            _configuration(each, names, float(np.mean(each.losses)), _variance(each), at_end=False) for each in used
        ]
    used = [each for each in used if names.tune in each.cell]
    groups = axis_groups(used, names.tune)
    long = [each for each in groups if len(each) >= MIN_POINTS]
    points = fit_measured(used, long, names.tune) if long else None
    curves = [] if points is None else fit_curves(points)
    by_group = dict(zip(map(tuple, long), curves, strict=False))
    found = []
    for rows in groups:
        means = [float(np.mean(used[row].losses)) for row in rows]
        lowest = int(np.argmin(means))
        best, curve = used[rows[lowest]], by_group.get(tuple(rows))
        loss, variance = means[lowest], _variance(best)
        if curve is not None and curve.minimum is not None:
            place = min(max(curve.minimum, float(curve.points.at[0])), float(curve.points.at[-1]))
            loss = float(curve.weights(np.array([place]))[0] @ curve.points.mean)
            variance = float(curve.height_variance(np.array([place]))[0])
        at_end = len(rows) > 1 and lowest in (0, len(rows) - 1)
        found.append(_configuration(best, names, loss, variance, at_end=at_end))
    return found


def _variance(each: Measured) -> float:
    return float(np.var(each.losses, ddof=1) / len(each.losses)) if len(each.losses) > 1 else 0.0


def _configuration(measured: Measured, names: Names, loss: float, variance: float, *, at_end: bool) -> Configuration:
    known = measured.quantities
    parameters, tokens = known.get(names.parameters or PARAMETERS), known.get(names.tokens or TOKENS)
    if names.flops is not None:
        flops = known.get(names.flops)
    else:
        flops = None if parameters is None or tokens is None else FLOPS_PER_PARAMETER * parameters * tokens
    return Configuration(measured, parameters, tokens, flops, loss, variance, at_end)


def varying(found: Sequence[Configuration]) -> list[str]:
    """The quantities with enough different values for a term of a law."""
    return [
        name
        for name in (PARAMETERS, TOKENS)
        if all(getattr(each, name) for each in found) and len({getattr(each, name) for each in found}) >= MIN_SIZES
    ]

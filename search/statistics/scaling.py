"""How the loss falls with parameters, tokens and compute: a law, the best split of compute, and predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.statistics.configurations import MIN_SIZES, Configuration, varying
from search.statistics.inference import Floats
from search.statistics.iso_flops import IsoFlop, iso_flops
from search.statistics.power_law import LawFit, fit_law


@dataclass(frozen=True)
class HeldOut:
    """Predictions for the configurations of the largest size, from a law that is fitted to the others.

    Attributes:
        x: (m, k) float64.
        losses: (m,) float64, measured.
        predicted, low, high: (m,) float64, with the 95 % interval of a configuration.
    """

    x: Floats
    losses: Floats
    predicted: Floats
    low: Floats
    high: Floats

    @property
    def inside(self) -> int:
        """How many losses are inside of their intervals."""
        return int(((self.low <= self.losses) & (self.losses <= self.high)).sum())


@dataclass(frozen=True)
class ScalingResult:
    """A fitted law.

    Attributes:
        configurations: What it was fitted to.
        quantities: What the loss is a function of: "parameters", "tokens" or both, in the order of the law's terms.
        fit: The law.
        per_product: Floating-point operations a parameter and token; None if they are not known.
        held_out: None if too few configurations are left without the largest size.
        iso_flops: Empty unless parameters and tokens vary.
    """

    configurations: Sequence[Configuration]
    quantities: Sequence[str]
    fit: LawFit
    per_product: float | None
    held_out: HeldOut | None
    iso_flops: Sequence[IsoFlop]

    @property
    def share(self) -> tuple[float, float, float] | None:
        """The power of compute with which the best number of parameters grows, with its 95 % interval."""
        if len(self.quantities) < 2:
            return None
        low, high = self.fit.interval(lambda law: law.exponents[:, 1] / law.exponents.sum(axis=1))
        exponents = self.fit.law.exponents[0]
        return float(exponents[1] / exponents.sum()), low, high


def fit_scaling(found: Sequence[Configuration], replicates: int | None = None) -> ScalingResult | None:
    """Fit a law to configurations.

    Args:
        found: Their losses are above 0.
        replicates: Of the bootstrap; None for the usual number.

    Returns:
        The law; None if neither parameters nor tokens vary enough, or if there are too few configurations.
    """
    quantities = varying(found)
    if not quantities:
        return None
    x = np.array([[getattr(each, name) for name in quantities] for each in found], dtype=np.float64)
    losses = np.array([each.loss for each in found])
    fit = _fit(x, losses, replicates)
    if fit is None:
        return None
    products = [
        each.flops / (each.parameters * each.tokens) for each in found if each.flops and each.parameters and each.tokens
    ]
    per_product = math.exp(float(np.mean(np.log(products)))) if products else None
    iso = iso_flops(found) if len(quantities) == 2 and per_product is not None else []
    return ScalingResult(found, quantities, fit, per_product, _held_out(x, losses, replicates), iso)


def _fit(x: Floats, losses: Floats, replicates: int | None) -> LawFit | None:
    return fit_law(x, losses) if replicates is None else fit_law(x, losses, replicates)


def _held_out(x: Floats, losses: Floats, replicates: int | None) -> HeldOut | None:
    largest = x[:, 0] == x[:, 0].max()
    left = x[~largest]
    if any(len(set(column)) < MIN_SIZES for column in left.T.tolist()):
        return None
    fit = _fit(left, losses[~largest], replicates)
    if fit is None:
        return None
    predicted, low, high = fit.predict(x[largest])
    return HeldOut(x[largest], losses[largest], predicted, low, high)


def frontier(fit: LawFit, flops: Floats, per_product: float, law: str = "law") -> tuple[Floats, Floats]:
    """The best number of parameters at amounts of compute, and the loss that it gives.

    Args:
        flops: (m,) float64.
        law: "law" for the fitted one, "replicates" for those of the bootstrap.

    Returns:
        Parameters (R, m), and losses (R, m).
    """
    laws = fit.law if law == "law" else fit.replicates
    a, b = laws.exponents[:, :1], laws.exponents[:, 1:]
    big, long = laws.sizes[:, :1], laws.sizes[:, 1:]
    # With N = u N0 and D = v D0: minimize big u^-a + long v^-b for u v = amount.
    amount = flops / (per_product * fit.law.center.prod())
    u = (a * big / (b * long)) ** (1 / (a + b)) * amount ** (b / (a + b))
    losses = laws.irreducible[:, np.newaxis] + big * u**-a + long * (amount / u) ** -b
    return u * fit.law.center[0], losses

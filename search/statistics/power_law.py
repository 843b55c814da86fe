"""Power laws with an irreducible loss, L = E + A / x^a + B / y^b, fitted robustly to the logarithms of losses.

The fit minimizes Huber's function of the residuals of log L (as Hoffmann et al. 2022 do), whose threshold follows
their spread. Intervals come from a bootstrap of the residuals: each configuration gets the residual of another one,
which holds the noise of its seeds and what the law misses there; the law is fitted again to each of many such studies.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from search.statistics.inference import ALPHA, Flags, Floats

# Huber's function is quadratic up to this number of standard deviations: 95 % as precise as least squares for normal
# residuals.
HUBER = 1.345
REPLICATES, SEED = 400, 1337
STEPS, SPREAD_STEPS, CONVERGED, MOST_DAMPING = 50, 6, 1e-7, 1e5
# Exponents between these are fitted; and an irreducible loss above this share of the lowest loss.
MIN_EXPONENT, MAX_EXPONENT, MIN_SHARE = 0.01, 4.0, 1e-4
MIN_SPARE = 2  # configurations more than parameters


@dataclass(frozen=True)
class Law:
    """Parameters of one law, or of R of them.

    Attributes:
        irreducible: (R,) float64, E.
        sizes: (R, k) float64, the terms at `center`: A / center^a.
        exponents: (R, k) float64, a.
        center: (k,) float64, the geometric means of the quantities.
    """

    irreducible: Floats
    sizes: Floats
    exponents: Floats
    center: Floats

    def loss(self, at: Floats) -> Floats:
        """The losses of all laws at places, (R, m).

        Args:
            at: (m, k) float64.
        """
        logs = np.log(at / self.center)  # (m, k)
        terms = self.sizes[:, np.newaxis, :] * np.exp(-self.exponents[:, np.newaxis, :] * logs)
        return np.asarray(self.irreducible[:, np.newaxis] + terms.sum(axis=-1))

    @property
    def factors(self) -> Floats:
        """(R, k) float64: A."""
        return np.asarray(self.sizes * self.center**self.exponents)


@dataclass(frozen=True)
class LawFit:
    """A law with its bootstrap.

    Attributes:
        x: (n, k) float64, what the losses are a function of.
        losses: (n,) float64.
        law: The fitted law, one of R = 1.
        replicates: The laws of the bootstrap.
        spread: The standard deviation of log L around the law, robust.
        errors: (n,) float64, the residuals of log L as they are around the true law.
    """

    x: Floats
    losses: Floats
    law: Law
    replicates: Law
    spread: float
    errors: Floats

    @property
    def df(self) -> int:
        """Configurations minus parameters."""
        return len(self.losses) - 1 - 2 * int(self.x.shape[1])

    def interval(self, of: Callable[[Law], Floats]) -> tuple[float, float]:
        """The 95 % interval of a quantity of a law.

        Args:
            of: Its value for each of R laws, (R,).
        """
        low, high = np.quantile(of(self.replicates), self._levels)
        return float(low), float(high)

    def predict(self, at: Floats) -> tuple[Floats, Floats, Floats]:
        """Losses at places: of the law, and between which a new configuration lies with 95 %, (m,) each.

        Args:
            at: (m, k) float64.
        """
        draws = np.random.default_rng(SEED).choice(self.errors, (len(self.replicates.irreducible), len(at)))
        logs = np.log(self.replicates.loss(at)) + draws
        low, high = np.exp(np.quantile(logs, self._levels, axis=0))
        return self.law.loss(at)[0], low, high

    @cached_property
    def _levels(self) -> tuple[float, float]:
        """The levels of a 95 % interval for so few configurations (Hesterberg 2015, expanded percentiles)."""
        from scipy.special import ndtr, stdtrit

        tail = float(ndtr(stdtrit(self.df, ALPHA / 2)))
        return tail, 1 - tail


def fit_law(x: Floats, losses: Floats, replicates: int = REPLICATES) -> LawFit | None:
    """Fit a law.

    Args:
        x: (n, k) float64, above 0.
        losses: (n,) float64, above 0.
        replicates: Of the bootstrap.

    Returns:
        The fit; None with too few configurations.
    """
    n, k = x.shape
    df = n - 1 - 2 * k
    if df < MIN_SPARE:
        return None
    center = np.exp(np.log(x).mean(axis=0))
    logs, target = np.log(x / center), np.log(losses)
    starts = _starts(losses, k)
    spread = np.full(len(starts), np.inf)
    found = _fit(starts, logs, np.tile(target, (len(starts), 1)), spread)
    best = int(np.argmin(_squares(found, logs, target)))
    theta = found[best : best + 1]
    for _ in range(SPREAD_STEPS):
        residuals = target - _model(theta, logs)[0][0]
        scale = _scale(residuals, df)
        theta = _fit(theta, logs, target[np.newaxis], np.array([scale]))
    residuals = target - _model(theta, logs)[0][0]
    scale = _scale(residuals, df)
    rng = np.random.default_rng(SEED)
    errors = _around_truth(residuals, _model(theta, logs)[1][0])
    drawn = rng.choice(errors, (replicates, n))
    again = _fit(np.tile(theta, (replicates, 1)), logs, target - residuals + drawn, np.full(replicates, scale))
    return LawFit(x, losses, _law(theta, center), _law(again, center), scale, errors)


def _around_truth(residuals: Floats, derivatives: Floats) -> Floats:
    """Residuals of a fit without the configuration itself (HC3): a fit makes them smaller where it follows one."""
    basis, _ = np.linalg.qr(derivatives / np.maximum(np.linalg.norm(derivatives, axis=0), 1e-300))
    leverage = np.minimum((basis**2).sum(axis=1), 0.9)
    widened = residuals / (1 - leverage)
    return np.asarray(widened - widened.mean())


def _scale(residuals: Floats, df: int) -> float:
    """A robust standard deviation: Huber's proposal 2."""
    scale = max(1.4826 * float(np.median(np.abs(residuals))), 1e-12)
    expected = 0.7102  # of the square of a standard normal variable that is cut at HUBER
    for _ in range(30):
        cut = np.clip(residuals / scale, -HUBER, HUBER)
        scale = max(scale * math.sqrt(float((cut**2).sum()) / (df * expected)), 1e-12)
    return scale


def _starts(losses: Floats, k: int) -> Floats:
    """Starting points of the fit: (R, 1 + 2 k) float64."""
    low, middle = float(losses.min()), float(np.median(losses))
    found = []
    for share in (0.2, 0.6, 0.9):
        rest = math.log(max(middle - share * low, 0.05 * low) / k)
        for exponents in itertools.product((0.15, 0.4, 0.9), repeat=k):
            found.append([math.log(share * low), *[rest] * k, *map(math.log, exponents)])
    return np.array(found)


def _model(theta: Floats, logs: Floats) -> tuple[Floats, Floats]:
    """log L (R, n) and its derivatives (R, n, p) by the parameters: log E, the logarithms of sizes and of exponents."""
    k = logs.shape[1]
    exponents = np.exp(theta[:, 1 + k :])  # (R, k)
    terms = np.exp(theta[:, np.newaxis, 1 : 1 + k] - exponents[:, np.newaxis, :] * logs)  # (R, n, k)
    constant = np.exp(theta[:, :1])  # (R, 1)
    total = constant + terms.sum(axis=-1)
    derivatives = np.concatenate(
        [
            np.broadcast_to(constant[:, :, np.newaxis], (*total.shape, 1)),
            terms,
            -terms * exponents[:, np.newaxis, :] * logs,
        ],
        axis=-1,
    )
    return np.log(total), derivatives / total[..., np.newaxis]


def _squares(theta: Floats, logs: Floats, target: Floats) -> Floats:
    return np.asarray(((target - _model(theta, logs)[0]) ** 2).sum(axis=-1))


def _objective(residuals: Floats, spread: Floats) -> Floats:
    """Huber's function, summed, (R,)."""
    limit = HUBER * spread[:, np.newaxis]
    size = np.abs(residuals)
    inside = size <= limit
    outer = np.where(inside, 0.0, limit * size - np.where(inside, 0.0, limit) ** 2 / 2)
    return np.asarray(np.where(inside, size**2 / 2, outer).sum(axis=-1))


def _fit(theta: Floats, logs: Floats, target: Floats, spread: Floats) -> Floats:
    """Levenberg-Marquardt steps for R fits at once.

    Args:
        theta: (R, p) float64, where they start.
        target: (R, n) float64, log L.
        spread: (R,) float64, for Huber's function; infinite for least squares.
    """
    low, high = _bounds(target, theta.shape[1])
    theta = np.clip(theta, low, high)
    active = np.arange(len(theta))
    state = _State.at(theta, logs, target, np.where(np.isinf(spread), 1e100, spread))
    for _ in range(STEPS):
        state, done = state.step(logs, low[active], high[active])
        theta[active] = state.theta
        active, state = active[~done], state.part(~done)
        if not len(active):
            break
    return theta


@dataclass(frozen=True)
class _State:
    """R fits on their way: parameters, what they are fitted to, and the model there."""

    theta: Floats
    target: Floats
    spread: Floats
    derivatives: Floats
    residuals: Floats
    value: Floats
    damping: Floats

    @classmethod
    def at(cls, theta: Floats, logs: Floats, target: Floats, spread: Floats) -> _State:
        model, derivatives = _model(theta, logs)
        residuals = target - model
        value = _objective(residuals, spread)
        return cls(theta, target, spread, derivatives, residuals, value, np.full(len(theta), 1e-2))

    def part(self, keep: Flags) -> _State:
        return _State(*(getattr(self, each.name)[keep] for each in fields(self)))

    def step(self, logs: Floats, low: Floats, high: Floats) -> tuple[_State, Flags]:
        """One step of each, taken where it improves the fit, and which of them have converged."""
        p = self.theta.shape[1]
        weight = np.minimum(1.0, HUBER * self.spread[:, np.newaxis] / np.maximum(np.abs(self.residuals), 1e-100))
        weighted = (self.derivatives * weight[..., np.newaxis]).swapaxes(1, 2)
        normal = weighted @ self.derivatives
        right = weighted @ self.residuals[..., np.newaxis]
        lift = self.damping[:, np.newaxis] * (np.diagonal(normal, axis1=1, axis2=2) + 1e-12)
        change = np.linalg.solve(normal + lift[:, :, np.newaxis] * np.eye(p), right)[..., 0]
        tried = _State.at(np.clip(self.theta + change, low, high), logs, self.target, self.spread)
        better = tried.value <= self.value
        small = self.value - tried.value <= CONVERGED * self.value
        done = (better & small) | (self.damping > MOST_DAMPING)
        damping = np.clip(np.where(better, self.damping / 5, self.damping * 4), 1e-9, None)
        one, two = better[:, np.newaxis], better[:, np.newaxis, np.newaxis]
        return _State(
            np.where(one, tried.theta, self.theta),
            self.target,
            self.spread,
            np.where(two, tried.derivatives, self.derivatives),
            np.where(one, tried.residuals, self.residuals),
            np.where(better, tried.value, self.value),
            damping,
        ), done


def _bounds(target: Floats, p: int) -> tuple[Floats, Floats]:
    k = (p - 1) // 2
    lowest = target.min(axis=1)  # (R,)
    low, high = np.full((len(target), p), -60.0), np.full((len(target), p), 60.0)
    low[:, 0], high[:, 0] = lowest + math.log(MIN_SHARE), lowest + 0.5
    low[:, 1 + k :], high[:, 1 + k :] = math.log(MIN_EXPONENT), math.log(MAX_EXPONENT)
    return low, high


def _law(theta: Floats, center: Floats) -> Law:
    k = len(center)
    return Law(np.exp(theta[:, 0]), np.exp(theta[:, 1 : 1 + k]), np.exp(theta[:, 1 + k :]), center)

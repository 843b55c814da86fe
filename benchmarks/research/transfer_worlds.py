"""Made-up studies of learning rates whose optima are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from search.statistics.inference import Floats
from search.statistics.measured import Measured
from search.statistics.transfer import transfer

RATES = np.array([2.5e-3, 6.3e-3, 1.6e-2, 4e-2, 1e-1])
WIDTHS, DEPTHS = (16, 24, 32, 48, 64, 96), (1, 3)
WIDTH, STEEPNESS, SPREAD = 39.2, -0.7, 0.1  # the middle width; the power of a drift; of single optima around the line


def parabola(distance: Floats) -> Floats:
    """The loss above its minimum at a distance from the optimum, in logarithms."""
    return 0.08 * distance**2


def skewed(distance: Floats) -> Floats:
    """The same for a curve that is steeper on the side of high rates, as real ones are."""
    return np.asarray(0.2 * (np.exp(0.7 * distance) - 0.7 * distance - 1))


def gaussian(rng: np.random.Generator, distance: Floats, seeds: int) -> Floats:
    """Noise of one size, (..., seeds)."""
    return rng.normal(0, 0.02, (*distance.shape, seeds))


def heavy(rng: np.random.Generator, distance: Floats, seeds: int) -> Floats:
    """Student's t with 3 degrees of freedom, of the same standard deviation."""
    return np.asarray(rng.standard_t(3, (*distance.shape, seeds)) * 0.02 / 3**0.5)


def growing(rng: np.random.Generator, distance: Floats, seeds: int) -> Floats:
    """Noise that doubles with each factor e above the optimum."""
    size = 0.015 * 2.0 ** np.maximum(distance, 0.0)
    return np.asarray(rng.normal(0, 1, (*distance.shape, seeds)) * size[..., np.newaxis])


@dataclass(frozen=True)
class TransferWorld:
    """A kind of study.

    Attributes:
        curve: The loss above the minimum.
        noise: Of one trial.
        slope: The power of the width that the optimum goes with.
        has_bound: Whether intervals must hold the truth in 93 to 97 %; if not, in at least 93 %.
    """

    name: str
    curve: Callable[[Floats], Floats]
    noise: Callable[[np.random.Generator, Floats, int], Floats]
    slope: float
    has_bound: bool = True


TRANSFER_WORLDS = [
    TransferWorld(f"{name}, {drift}", curve, noise, slope, has_bound)
    for name, curve, noise, has_bound in (
        ("parabola, Gaussian", parabola, gaussian, True),
        ("parabola, t3", parabola, heavy, True),
        ("parabola, noise grows", parabola, growing, True),
        ("skewed curve, Gaussian", skewed, gaussian, False),
    )
    for drift, slope in (("no drift", 0.0), ("drift", STEEPNESS))
]


def transfer_scores(world: TransferWorld, seeds: int, rng: np.random.Generator) -> dict[str, float]:
    """One study: which of its intervals hold the truth; NaN for what it does not say."""
    heights = {depth: rng.normal(0, 0.2) for depth in DEPTHS}
    first = float(np.log(1.6e-2) + rng.uniform(-0.3, 0.3))
    cells, optima = [], {}
    for depth in DEPTHS:
        for width in WIDTHS:
            line = first + heights[depth] + world.slope * np.log(width / WIDTH)
            optimum = float(line + rng.normal(0, SPREAD))
            optima[depth, width] = optimum
            distance = np.log(RATES) - optimum
            losses = 2 + world.curve(distance)[:, np.newaxis] + world.noise(rng, distance, seeds)
            cells += [
                Measured({"depth": depth, "width": width, "rate": float(rate)}, row.tolist())
                for rate, row in zip(RATES, losses, strict=True)
            ]
    found = transfer(cells, "rate", "width")
    assert found is not None
    middle = first + float(np.mean(list(heights.values())))
    singles = [
        each.interval[0] <= np.exp(optima[each.rest["depth"], int(each.level)]) <= each.interval[1]
        for each in found.slices
    ]
    levels = [
        each.low <= np.exp(middle + world.slope * np.log(each.level / WIDTH)) <= each.high
        for each in found.levels
        if each.optimum is not None
    ]
    drift = found.drift
    lost = []
    for choice in found.choices:
        truth = np.mean([world.curve(np.array(np.log(choice.value) - each)) for each in optima.values()])
        lost.append(abs(choice.mean - truth) <= choice.reach)
    nothing = float("nan")
    return {
        "single optima": float(np.mean(singles)),
        "optima of levels": float(np.mean(levels)) if levels else nothing,
        "power": nothing if drift is None else float(abs(drift.slope - world.slope) <= drift.reach),
        "loss of one choice": float(np.mean(lost)),
        "false drift": nothing if world.slope else float(drift is not None and not drift.low <= 1 <= drift.high),
    }

"""What the benchmarks of samplers share: functions with a known minimum, and Optuna's samplers by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import optuna

# Low and high of each parameter.
Ranges = Mapping[str, tuple[float, float]]

_HARTMANN_WEIGHTS = (1.0, 1.2, 3.0, 3.2)
_HARTMANN_SCALES = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
_HARTMANN_CENTRES = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)


def branin(params: Mapping[str, float]) -> float:
    """Three minima of 0.397887 in two dimensions."""
    x, y = params["x0"], params["x1"]
    bend = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return bend**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def hartmann6(params: Mapping[str, float]) -> float:
    """A minimum of -3.32237 in six dimensions, and five others."""
    x = [params[f"x{i}"] for i in range(6)]
    total = 0.0
    for weight, scales, centres in zip(_HARTMANN_WEIGHTS, _HARTMANN_SCALES, _HARTMANN_CENTRES, strict=True):
        distance = sum(a * (at - p) ** 2 for a, at, p in zip(scales, x, centres, strict=True))
        total -= weight * math.exp(-distance)
    return total


def ackley5(params: Mapping[str, float]) -> float:
    """A minimum of 0 among many shallow ones, in five dimensions."""
    x = [params[f"x{i}"] for i in range(5)]
    far = math.sqrt(sum(each**2 for each in x) / 5)
    waves = sum(math.cos(2 * math.pi * each) for each in x) / 5
    return 20 - 20 * math.exp(-0.2 * far) + math.e - math.exp(waves)


RANGES: dict[str, Ranges] = {
    "branin": {"x0": (-5.0, 10.0), "x1": (0.0, 15.0)},
    "hartmann6": {f"x{i}": (0.0, 1.0) for i in range(6)},
    "ackley5": {f"x{i}": (-20.0, 30.0) for i in range(5)},
}
FUNCTIONS: dict[str, Callable[[Mapping[str, float]], float]] = {
    "branin": branin,
    "hartmann6": hartmann6,
    "ackley5": ackley5,
}

SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "CmaEsSampler": lambda seed: optuna.samplers.CmaEsSampler(seed=seed),
    "NSGAIISampler": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
}

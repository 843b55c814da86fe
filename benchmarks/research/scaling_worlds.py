"""Made-up studies of sizes and lengths of training whose law is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from search.statistics.configurations import Configuration, Names, configurations
from search.statistics.inference import Floats
from search.statistics.measured import Measured
from search.statistics.scaling import fit_scaling
from search.statistics.speed_up import speed_up

SIZES = (4e3, 8e3, 1.5e4, 2.5e4, 2.8e4, 5.4e4, 7e4, 1e5, 1.2e5, 2e5, 2.3e5, 4.5e5)
LENGTHS = (1.5e5, 3e5, 6e5, 1.2e6)
IRREDUCIBLE, SIZE, LENGTH, ALPHA, BETA = 1.3, 0.25, 0.35, 0.35, 0.4
CENTER = (6e4, 4e5)
RATES, FAR = np.array([1e-3, 3e-3, 1e-2, 3e-2]), (1.5e6, 1.2e6)
SPEED = 1.5  # how many times the tokens of the first arm the second one needs
REPLICATES = 400


def law(parameters: Floats | float, tokens: Floats | float) -> Floats:
    """The true loss."""
    return np.asarray(IRREDUCIBLE + SIZE * (parameters / CENTER[0]) ** -ALPHA + LENGTH * (tokens / CENTER[1]) ** -BETA)


Noise = Callable[[np.random.Generator, int], Floats]


@dataclass(frozen=True)
class ScalingWorld:
    """A kind of study.

    Attributes:
        noise: Of the logarithms of losses, of so many configurations: it holds what the law misses, too.
        is_tuned: Whether each configuration has learning rates, of which the best counts, and two seeds.
        is_one: Whether the number of parameters is the same everywhere, and tokens vary.
    """

    name: str
    noise: Noise
    is_tuned: bool = False
    is_one: bool = False


def gaussian(size: float) -> Noise:
    """Normal noise of a size."""
    return lambda rng, n: rng.normal(0, size, n)


def heavy(size: float) -> Noise:
    """Student's t with 3 degrees of freedom, of that standard deviation."""
    return lambda rng, n: np.asarray(rng.standard_t(3, n) * size / 3**0.5)


SCALING_WORLDS = [
    ScalingWorld("N and D, Gaussian 0.3 %", gaussian(0.003)),
    ScalingWorld("N and D, Gaussian 1 %", gaussian(0.01)),
    ScalingWorld("N and D, t3 0.5 %", heavy(0.005)),
    ScalingWorld("N and D, rates tuned, two seeds", gaussian(0.005), is_tuned=True),
    ScalingWorld("D alone, Gaussian 0.3 %", gaussian(0.003), is_one=True),
]


def scaling_scores(world: ScalingWorld, rng: np.random.Generator) -> dict[str, float]:
    """One study: which of its intervals hold the truth; NaN for what it does not say."""
    found = _study(world, rng, 1.0)
    result, nothing = fit_scaling(found, REPLICATES), float("nan")
    assert result is not None
    fit, truths = result.fit, {}
    names = {"parameters": ALPHA, "tokens": BETA}
    for at, name in enumerate(result.quantities):
        low, high = fit.interval(lambda each, at=at: each.exponents[:, at])  # type: ignore[misc]
        truths[f"power of {name}"] = float(low <= names[name] <= high)
    low, high = fit.interval(lambda each: each.irreducible)
    fixed = SIZE * (SIZES[5] / CENTER[0]) ** -ALPHA if world.is_one else 0.0
    truths["irreducible"] = float(low <= IRREDUCIBLE + fixed <= high)
    truths["best split"] = nothing
    if result.share is not None:
        truths["best split"] = float(result.share[1] <= BETA / (ALPHA + BETA) <= result.share[2])
    place = np.array([[FAR[1] * 3]]) if world.is_one else np.array([FAR])
    far = law(SIZES[5], FAR[1] * 3) if world.is_one else law(*FAR)
    low, high = fit.interval(lambda each: each.loss(place)[:, 0])
    truths["law at 3 times"] = float(low <= far <= high)
    held = result.held_out
    truths["held-out losses"] = nothing if held is None else held.inside / len(held.losses)
    faster = speed_up(found, _study(world, rng, SPEED)) if world.is_one else None
    truths["speed-up"] = nothing if faster is None else float(faster.low <= SPEED <= faster.high)
    return truths


def _study(world: ScalingWorld, rng: np.random.Generator, slower: float) -> list[Configuration]:
    """The configurations of a study.

    Args:
        slower: By how many times fewer tokens it learns as much as from its tokens.
    """
    sizes = (SIZES[5],) if world.is_one else SIZES
    lengths = np.geomspace(LENGTHS[0] / 4, LENGTHS[-1] * 2, 14) if world.is_one else LENGTHS
    places = [(size, float(length)) for size in sizes for length in lengths]
    cells = []
    for size, length in places:
        known = {"parameters": size, "tokens": length}
        loss = float(law(size, length / slower))
        if not world.is_tuned:
            value = loss * float(np.exp(world.noise(rng, 1)[0]))
            cells.append(Measured(known, [value], quantities=known))
            continue
        best = np.log(1e-2) - 0.3 * np.log(size / CENTER[0])
        for rate in RATES:
            mean = loss * (1 + 0.03 * (np.log(rate) - best) ** 2)
            losses = (mean * np.exp(world.noise(rng, 2))).tolist()
            cells.append(Measured({**known, "rate": float(rate)}, losses, quantities=known))
    return configurations(cells, Names(tune="rate" if world.is_tuned else None))

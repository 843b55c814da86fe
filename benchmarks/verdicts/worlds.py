"""Worlds whose truth is known: the true means of the cells of a grid, and the noise of a trial.

The means are those of the 36 cells of the built-in study, as measured (benchmarks/data), or equal for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.pruning.curves import load_curves
from benchmarks.pruning.replay import Floats

CURVES = load_curves()
CELLS = CURVES.cells
AXES = {axis: tuple(dict.fromkeys(cell[axis] for cell in CELLS)) for axis in ("block_size", "n_embd", "pe_type")}
# Nats per character: what is usual in the built-in study is half of it.
DEVIATION = 0.02
Noise = Callable[[np.random.Generator, tuple[int, ...]], Floats]  # of mean 0 and standard deviation 1


@dataclass(frozen=True)
class World:
    """Where studies come from.

    Attributes:
        name: What a table calls it.
        noise: Draws of the noise of the last step, in standard deviations.
        deviations: The standard deviation of each cell (36,), in nats per character.
        is_null: Whether all cells have the same mean.
        is_whole: Whether losses are whole numbers: counts of events, of which each trial has 0.5 on average.
        has_bound: Whether intervals must hold the truth in 93-97 %; else the figure is shown alone.
    """

    name: str
    noise: Noise
    deviations: Floats
    is_null: bool = False
    is_whole: bool = False
    has_bound: bool = True

    @property
    def means(self) -> Floats:
        """The true means of the cells at each step, (36, S)."""
        measured = CURVES.val_loss.mean(axis=1)
        equal = 0.5 if self.is_whole else float(measured[:, -1].mean())
        return np.full(measured.shape, equal) if self.is_null else np.asarray(measured)

    def draw(self, rng: np.random.Generator, draws: int, seeds: int) -> Floats:
        """The noise of the last step (draws, 36, seeds)."""
        if self.is_whole:
            return np.asarray(rng.poisson(0.5, (draws, len(CELLS), seeds)) - 0.5)
        return np.asarray(self.deviations[:, np.newaxis] * self.noise(rng, (draws, len(CELLS), seeds)))


def _gaussian(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return rng.standard_normal(shape)


def _t3(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return np.asarray(rng.standard_t(3, shape) / np.sqrt(3))


def _skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return np.asarray(rng.exponential(size=shape) - 1)


def _bimodal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """As in some cells of the built-in study: 60 % of seeds end low, 40 % high."""
    return np.where(rng.random(shape) < 0.6, -0.808, 1.212) + 0.14 * rng.standard_normal(shape)


EQUAL = np.full(len(CELLS), DEVIATION)
UNEQUAL = DEVIATION * np.exp(0.8 * np.random.default_rng(5).standard_normal(len(CELLS)))

WORLDS = [
    World("gaussian", _gaussian, EQUAL),
    World("heteroscedastic", _gaussian, UNEQUAL),
    World("t3", _t3, EQUAL),
    World("skewed", _skewed, EQUAL),
    World("bimodal", _bimodal, EQUAL, has_bound=False),
]
NULL_WORLDS = [
    *(replace(each, name=f"{each.name}, no difference", is_null=True) for each in WORLDS),
    World("whole numbers, no difference", _gaussian, EQUAL, is_null=True, is_whole=True, has_bound=False),
]

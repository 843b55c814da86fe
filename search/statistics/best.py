"""Which cells may be the best, how probable that is, and what choosing one may cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search.statistics.inference import ALPHA, Flags
from search.statistics.posterior import Posterior

# A cell is compared with so many rivals, those with the lowest means; cells beyond them are far behind.
MAX_RIVALS = 100


@dataclass(frozen=True)
class Chance:
    """How good the choice of one cell is.

    Attributes:
        index: The cell.
        probability: That its true mean is the lowest of all.
        regret: By how much its true mean is expected to be above the lowest one, in units of the losses.
    """

    index: int
    probability: float
    regret: float


def chances(posterior: Posterior, candidates: Flags) -> list[Chance]:
    """How good the choice of each candidate is, lowest mean first.

    Args:
        candidates: (K,) bool, the cells that may be chosen; others are never the best.
    """
    index = _by_mean(posterior, candidates)
    true = posterior.noise.mean[index] - posterior.errors[:, index]  # (draws, candidates)
    lowest = true.min(axis=1, keepdims=True)
    is_best = true == lowest
    probability = (is_best / is_best.sum(axis=1, keepdims=True)).mean(axis=0)
    regret = (true - lowest).mean(axis=0)
    return [Chance(int(k), float(p), float(r)) for k, p, r in zip(index, probability, regret, strict=True)]


@dataclass(frozen=True)
class Rival:
    """A cell beside the leader, the cell with the lowest mean.

    Attributes:
        index: The cell.
        behind: By how much its mean is above that of the leader.
        reach: By how much it would have to be above it to be worse beyond chance.
        reach_in_errors: The same in standard errors of the difference.
        is_worse: Whether another cell, the leader or not, is better than it beyond chance.
    """

    index: int
    behind: float
    reach: float
    reach_in_errors: float
    is_worse: bool


def rivals(posterior: Posterior, candidates: Flags) -> list[Rival]:
    """The candidates, lowest mean first, and whether each is worse than another one.

    The test is one-sided and against all others at once (Gupta 1965, subset selection; Dunnett's comparison with each
    cell in turn as the control).

    Args:
        candidates: (K,) bool, the cells that may be the best; at least one.
    """
    index = _by_mean(posterior, candidates)
    noise = posterior.noise
    variance = noise.variance / np.maximum(noise.count, 1) * (1 - noise.correlation)
    nearest, found = index[:MAX_RIVALS], []
    for cell in index:
        others = nearest[nearest != cell]
        if not len(others):
            return [Rival(int(cell), 0.0, 0.0, 0.0, False)]
        scale = np.maximum(np.sqrt(variance[cell] + variance[others]), np.finfo(np.float64).tiny)
        largest = ((posterior.errors[:, [cell]] - posterior.errors[:, others]) / scale).max(axis=1)
        bound = float(np.quantile(largest, 1 - ALPHA))
        worse = float(((noise.mean[cell] - noise.mean[others]) / scale).max()) > bound
        behind = float(noise.mean[cell] - noise.mean[index[0]])
        found.append(Rival(int(cell), behind, bound * float(scale[0]), bound, worse))
    return found


def best_set(posterior: Posterior, candidates: Flags) -> list[int]:
    """The cells that may be the best: the truly best one is among them in at least 95 % of studies.

    Args:
        candidates: (K,) bool, the cells that may be the best; at least one.

    Returns:
        The lowest mean first.
    """
    return [each.index for each in rivals(posterior, candidates) if not each.is_worse]


def _by_mean(posterior: Posterior, candidates: Flags) -> npt.NDArray[np.intp]:
    index = np.flatnonzero(candidates)
    return np.asarray(index[np.argsort(posterior.noise.mean[index], kind="stable")])

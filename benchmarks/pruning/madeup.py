"""Simulated curves, on which a rule that was chosen on measured curves can still fail."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from benchmarks.pruning.curves import Curves

Shape = Literal["parallel", "crossing", "slow winners"]
SHAPES: tuple[str, ...] = get_args(Shape)
_CELLS, _SEEDS, _STEPS = 36, 5, np.arange(0, 5001, 500)


def madeup_curves(shape: Shape, seed: int) -> Curves:
    """Losses that fall exponentially to a level of the cell, with noise of 0.005 on each loss and 0.01 on each seed.

    Args:
        shape: "parallel": all fall equally fast; "crossing": each falls at a random pace; "slow winners": the better
            the final loss of a cell, the slower it falls.
    """
    rng = np.random.default_rng(seed)
    level = np.sort(rng.uniform(2.3, 2.7, _CELLS))
    pace = {
        "parallel": np.full(_CELLS, 500.0),
        "crossing": rng.uniform(250, 1500, _CELLS),
        "slow winners": np.linspace(1500, 250, _CELLS),
    }[shape]
    fall = 1.9 * np.exp(-_STEPS[None] / pace[:, None])
    seeds = rng.normal(0, 0.01, (_CELLS, _SEEDS, 1))
    losses = level[:, None, None] + fall[:, None, :] + seeds + rng.normal(0, 0.005, (_CELLS, _SEEDS, len(_STEPS)))
    order = rng.permutation(_CELLS)
    cells = tuple({"cell": place} for place in range(_CELLS))
    seconds = np.tile(rng.uniform(5, 60, (_CELLS, 1)), (1, _SEEDS))
    return Curves(cells, tuple(range(_SEEDS)), _STEPS, losses[order], seconds)

"""Made-up studies, shared by the tests of statistics."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Observation = tuple[dict[str, object], int, float]
CLEAR = {("rope", 64): 2.0, ("rope", 128): 2.2, ("sinpe", 64): 2.3, ("sinpe", 128): 2.5}


def grid(effects: Mapping[tuple[str, int], float], seeds: int = 5, noise: float = 0.01) -> list[Observation]:
    """Losses of a grid of pe_type and n_embd, with an effect for each cell and a shift for each seed."""
    rng = np.random.default_rng(0)
    shifts = rng.normal(0, 0.1, seeds)
    return [
        ({"pe_type": pe_type, "n_embd": n_embd}, 100 + seed, effect + shifts[seed] + rng.normal(0, noise))
        for (pe_type, n_embd), effect in effects.items()
        for seed in range(seeds)
    ]

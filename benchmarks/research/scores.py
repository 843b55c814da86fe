"""What many made-up studies of one world get right."""

from __future__ import annotations

import zlib

import numpy as np

from benchmarks.research.scaling_worlds import SCALING_WORLDS, scaling_scores
from benchmarks.research.transfer_worlds import TRANSFER_WORLDS, transfer_scores


def scores(kind: str, name: str, seeds: int, draws: int, chunk: int) -> list[dict[str, float]]:
    """What so many studies of a world get right."""
    rng = np.random.default_rng((zlib.crc32(name.encode()), seeds, chunk))
    if kind == "transfer":
        world = next(each for each in TRANSFER_WORLDS if each.name == name)
        return [transfer_scores(world, seeds, rng) for _ in range(draws)]
    other = next(each for each in SCALING_WORLDS if each.name == name)
    return [scaling_scores(other, rng) for _ in range(draws)]

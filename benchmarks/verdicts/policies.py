"""How the seeds of a made-up study are spent: equally, with the pruner `top`, or by a race."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from benchmarks.pruning.replay import Bools, Floats, Queues, replay
from benchmarks.pruning.rules import TopCellsRule
from benchmarks.verdicts.worlds import CELLS, World
from search.statistics.losses import Losses

# The correlation of the noise at two steps next to each other, 500 steps apart; measured: 0.3 to 0.5 late in training.
CORRELATION = 0.4
KEEP, WARMUP_STEPS, STEP = 5, 500, 500
Policy = Callable[[World, np.random.Generator, int, int], list[Losses]]


def equal(world: World, rng: np.random.Generator, draws: int, seeds: int) -> list[Losses]:
    """Each cell has all seeds."""
    values = world.means[:, -1, np.newaxis] + world.draw(rng, draws, seeds)
    return [_losses(table, np.zeros(table.shape, np.bool_)) for table in values]


def pruned(world: World, rng: np.random.Generator, draws: int, seeds: int) -> list[Losses]:
    """The real pruner's rule stops trials; its evaluations have noise that carries over from step to step."""
    means = world.means  # (36, S)
    noise = [world.draw(rng, draws, seeds)]
    for _ in range(means.shape[1] - 1):
        noise.append(CORRELATION * noise[-1] + np.sqrt(1 - CORRELATION**2) * world.draw(rng, draws, seeds))
    # The noise of the last step is that of the world; of the others, nearly.
    values = means[:, np.newaxis] + np.stack(noise[::-1], axis=-1)  # (draws, 36, seeds, S)
    # The queue of the built-in study: all cells with the first seed, then all with the second.
    queue = values.transpose(0, 2, 1, 3).reshape(draws, seeds * len(CELLS), -1)
    cells = np.tile(np.arange(len(CELLS)), (draws, seeds))
    queues = Queues(queue, np.ones(queue.shape[:2]), cells, STEP * np.arange(queue.shape[2]))
    outcome = replay(queues, TopCellsRule(KEEP, WARMUP_STEPS), workers=2)
    is_pruned = outcome.pruned.reshape(draws, seeds, len(CELLS)).transpose(0, 2, 1)
    return [_losses(*study) for study in zip(values[..., -1], is_pruned, strict=True)]


def _losses(table: Floats, is_pruned: Bools) -> Losses:
    """A study of which some trials are pruned, (36, seeds)."""
    others = [Counter({"pruned": int(count)}) if count else Counter[str]() for count in is_pruned.sum(axis=1)]
    return Losses(CELLS, list(range(table.shape[1])), np.where(is_pruned, np.nan, table), others)


POLICIES: dict[str, Policy] = {"equal": equal, "pruned": pruned}

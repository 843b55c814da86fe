"""How the seeds of a made-up study are spent: equally, with the pruner `top`, or where they decide something."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from benchmarks.pruning.replay import Bools, Floats, Queues, replay
from benchmarks.pruning.rules import TopCellsRule
from benchmarks.verdicts.worlds import CELLS, World
from search.statistics.losses import Losses
from search.statistics.outlook import Rules, outlook
from search.storage.values import canonical
from search.study.definition import load_definition
from search.study.search_space import AutoSeedsSettings

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


def raced(world: World, rng: np.random.Generator, draws: int, seeds: int) -> list[Losses]:
    """`--seeds auto`: every cell has `seeds` first, then seeds go where the claims of the built-in study need them."""
    settings = AutoSeedsSettings(first=seeds)
    definition = load_definition("bigram")
    claims = [each for each in definition.claims if not each.cells]
    rules = Rules(claims, definition.equivalence_margin, settings, len(CELLS))
    every = world.means[:, -1, np.newaxis] + world.draw(rng, draws, settings.max_seeds)
    return [_race(table, rules) for table in every]


def _race(every: Floats, rules: Rules) -> Losses:
    """One study that goes on until nothing is open that the budget can answer.

    Args:
        every: The losses of all seeds that cells could get, (36, max_seeds).
    """
    count = np.full(len(CELLS), rules.settings.first)
    while True:
        has = np.arange(every.shape[1]) < count[:, np.newaxis]
        losses = _losses(np.where(has, every, np.nan), np.zeros(every.shape, np.bool_))
        chosen = outlook(losses, losses, rules, {}).next
        if not chosen:
            return losses
        for cell in chosen:
            count[losses.row_by_cell[canonical(cell)]] += 1


def _losses(table: Floats, is_pruned: Bools) -> Losses:
    """A study of which some trials are pruned, (36, seeds)."""
    others = [Counter({"pruned": int(count)}) if count else Counter[str]() for count in is_pruned.sum(axis=1)]
    return Losses(CELLS, list(range(table.shape[1])), np.where(is_pruned, np.nan, table), others)


POLICIES: dict[str, Policy] = {"equal": equal, "pruned": pruned, "raced": raced}

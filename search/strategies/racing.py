"""`seeds = "adaptive"`: further seeds only for the cells that cannot be told from the best yet.

The rule compares cells on the seeds that they share, for a seed draws the same numbers in every cell. A cell is left
alone once a one-sided t-test on its differences to the leader says that it is worse. With few seeds a cell's own
variance is hardly known, so it is shrunk towards that of all cells (Smyth 2004, "Linear models and empirical Bayes
methods", whose moderated t has more degrees of freedom).
"""

from __future__ import annotations

import functools
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from search.storage.database import Database
from search.storage.planning import EndedTrial, PlannedTrial, extend
from search.storage.slots import canonical
from search.study.cells import grid_cells
from search.study.planner import cell_trials
from search.study.search_space import RacingSettings
from search.study.stored import StoredStudy

# How many observations the variance of all cells weighs as much as, beside a cell's own.
PRIOR_DF = 4.0

Losses = Mapping[str, Mapping[int, float]]


def leader(losses: Losses) -> str:
    """The cell with the lowest mean; of equal ones, the one that comes first."""
    return min(losses, key=lambda cell: statistics.fmean(losses[cell].values()))


def contenders(losses: Losses, confidence: float) -> list[str]:
    """The cells that may still be the best, the leader first and then by their mean difference to it.

    Args:
        losses: Cell → seed → validation loss; at least two seeds of each cell, some of them common to all.
        confidence: How sure it must be, of each cell, that it is worse than the leader.
    """
    first = leader(losses)
    differences = {
        cell: [loss - losses[first][seed] for seed, loss in own.items() if seed in losses[first]]
        for cell, own in losses.items()
        if cell != first
    }
    differences = {cell: own for cell, own in differences.items() if len(own) >= 2}
    variances = {cell: statistics.variance(own) for cell, own in differences.items()}
    # The median: some cells of a study are chaotic, and would make all others look as noisy as they are.
    prior = statistics.median(variances.values()) if variances else 0.0
    near = []
    for cell, own in differences.items():
        n, mean = len(own), statistics.fmean(own)
        df = PRIOR_DF + n - 1
        variance = (PRIOR_DF * prior + (n - 1) * variances[cell]) / df
        if mean <= t_quantile(confidence, df) * math.sqrt(variance / n):
            near.append((mean, cell))
    return [first, *(cell for _, cell in sorted(near))]


def next_seeds(losses: Losses, first_seed: int, rules: RacingSettings, cells: int, trials: int) -> dict[str, int]:
    """Which cells get which seed next.

    Args:
        losses: As for `contenders`; only cells all of whose trials are complete.
        cells: How many cells the grid has.
        trials: How many trials the study has so far.

    Returns:
        Cell → seed; none when the best cell stands alone, or neither seeds nor budget are left.
    """
    if len(losses) < 2:
        return {}
    near = contenders(losses, rules.confidence)
    budget = cells * rules.max_seeds // 2 if rules.budget is None else rules.budget
    given = near[: max(0, budget - trials)]
    if len(near) < 2 or len(given) < 2:
        return {}
    seeds = {cell: next(s for s in range(first_seed, first_seed + 10**9) if s not in losses[cell]) for cell in given}
    return {cell: seed for cell, seed in seeds.items() if seed < first_seed + rules.max_seeds}


@functools.cache
def t_quantile(probability: float, df: float) -> float:
    """The quantile of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(df, probability))


def make_race(database: Database, study: StoredStudy) -> Callable[[], int] | None:
    """Plans the next seeds of a study all of whose trials have ended, and returns how many.

    A worker that finds the queue empty calls it, and so does the next start: it is one transaction under the planning
    lock, and does nothing when another process was first.

    Returns:
        None when the study does not race.
    """
    rules, grid = study.settings.racing, study.definition.grid
    if rules is None or not grid:
        return None
    cells = grid_cells(grid)

    def choose(ended: Sequence[EndedTrial]) -> list[PlannedTrial]:
        wanted = next_seeds(_losses(ended), study.first_seed, rules, len(cells), len(ended))
        further = cell_trials(cells, rules.max_seeds, study.first_seed) if wanted else ()
        chosen = {canonical({**json.loads(cell), "seed": seed}) for cell, seed in wanted.items()}
        return [trial for trial in further if trial.cell in chosen]

    return lambda: extend(database, study.name, choose)


def _losses(ended: Sequence[EndedTrial]) -> dict[str, dict[int, float]]:
    """The losses of the cells all of whose trials are complete; a pruned or failed cell is out of the race."""
    found: dict[str, dict[int, float]] = {}
    out = set()
    for trial in ended:
        cell = canonical(trial.cell)
        if trial.outcome == "complete" and trial.value is not None:
            found.setdefault(cell, {})[trial.seed] = trial.value
        else:
            out.add(cell)
    return {cell: own for cell, own in found.items() if cell not in out}

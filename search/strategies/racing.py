"""`seeds = "adaptive"`: further seeds only for the cells that may still be the best.

The rule compares cells on the seeds that they share, because a seed gives the same random numbers in every cell. A cell
gets no further seeds once a one-sided t-test on its differences to the leader finds it worse. With few seeds the
estimate of a cell's variance is poor, so it is shrunk towards the variance of all cells (moderated t, which has more
degrees of freedom; Smyth 2004, "Linear models and empirical Bayes methods").
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from search.statistics.inference import mean, unit
from search.storage.database import Database
from search.storage.planning import EndedTrial, PlannedTrial, extend
from search.storage.slots import identity
from search.storage.values import canonical
from search.study.metrics import Metric
from search.study.planner import cell_trials
from search.study.search_space import RacingSettings
from search.study.stored import StoredStudy

# The weight of the variance of all cells beside a cell's own, in observations.
PRIOR_DF = 4.0

Losses = Mapping[str, Mapping[int, float]]


def leader(losses: Losses) -> str:
    """The cell with the lowest mean; the first of several equal ones."""
    return min(losses, key=lambda cell: mean(list(losses[cell].values())))


def contenders(losses: Losses, confidence: float) -> list[str]:
    """The cells that may still be the best: the leader, then the others by their mean difference to it.

    Args:
        losses: Cell → seed → loss; at least two seeds of each cell, some of them common to all.
        confidence: The confidence of the test that drops a cell as worse than the leader.
    """
    from scipy.special import stdtrit  # importing it takes 0.15 s, and only races need it

    # A test does not depend on the unit of the losses, and the squares of very large ones overflow.
    scale = unit(loss for by_seed in losses.values() for loss in by_seed.values())
    losses = {cell: {seed: loss / scale for seed, loss in by_seed.items()} for cell, by_seed in losses.items()}
    first = leader(losses)
    differences = {
        cell: [loss - losses[first][seed] for seed, loss in by_seed.items() if seed in losses[first]]
        for cell, by_seed in losses.items()
        if cell != first
    }
    differences = {cell: values for cell, values in differences.items() if len(values) >= 2}
    variances = {cell: statistics.variance(values) for cell, values in differences.items()}
    # The median, because a few chaotic cells would raise a mean and make all others look as noisy.
    prior = statistics.median(variances.values()) if variances else 0.0
    near = []
    for cell, values in differences.items():
        n, average = len(values), mean(values)
        df = PRIOR_DF + n - 1
        variance = (PRIOR_DF * prior + (n - 1) * variances[cell]) / df
        if average <= stdtrit(df, confidence) * math.sqrt(variance / n):
            near.append((average, cell))
    return [first, *(cell for _, cell in sorted(near))]


def next_seeds(losses: Losses, first_seed: int, rules: RacingSettings, cells: int, trials: int) -> dict[str, int]:
    """The cells that get a further seed, and which.

    Args:
        losses: As for `contenders`; only cells with all trials complete.
        cells: The number of cells of the grid.
        trials: The number of trials of the study so far.

    Returns:
        Cell → seed; empty if all other cells are worse than the best, or if the seeds or the budget are used up.
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


def make_race(database: Database, study: StoredStudy) -> Callable[[], int] | None:
    """Make a function that plans the next seeds of a study once all its trials have ended.

    A worker that finds the queue empty calls it, and so does the next start: it is one transaction under the planning
    lock, and does nothing if another process was first.

    Returns:
        The function, which returns the number of trials that it planned; None if the study does not race.
    """
    rules, definition = study.settings.racing, study.definition
    if rules is None or not definition.grid:
        return None
    cells = definition.cells

    def choose(ended: Sequence[EndedTrial]) -> list[PlannedTrial]:
        seeds = next_seeds(_losses(ended, study.definition.metric), study.first_seed, rules, len(cells), len(ended))
        further = cell_trials(cells, rules.max_seeds, study.first_seed) if seeds else ()
        chosen = {canonical({**json.loads(cell), "seed": seed}) for cell, seed in seeds.items()}
        return [trial for trial in further if identity(trial.cell) in chosen]

    return lambda: extend(database, study.name, study.planning, choose)


def _losses(ended: Sequence[EndedTrial], metric: Metric) -> dict[str, dict[int, float]]:
    """The losses of the cells with all trials complete; a pruned or failed cell is out of the race."""
    found: dict[str, dict[int, float]] = {}
    out = set()
    for trial in ended:
        cell = canonical(trial.cell)
        if trial.outcome == "complete" and trial.value is not None:
            found.setdefault(cell, {})[trial.seed] = metric.loss(trial.value)
        else:
            out.add(cell)
    return {cell: by_seed for cell, by_seed in found.items() if cell not in out}

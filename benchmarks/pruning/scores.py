"""Scores a replayed run: its cost, and whether it found the best cell of the unpruned runs of all seeds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from benchmarks.pruning.curves import Curves
from benchmarks.pruning.replay import Bools, Floats, Outcome, Queues

TOP = 5


@dataclass(frozen=True)
class Score:
    """Means over the draws.

    Attributes:
        compute: Share of the unpruned run's training time.
        compute_range: Its 5th and 95th percentile over the draws.
        survives: How often every trial of the truly best cell is complete.
        found: How often that cell heads the table.
        rank_error: Mean error in the ranks of the truly best five.
        regret: True loss of the cell that heads the table above that of the best, nats per character.
        worst_regret: The largest of all draws.
        complete: Complete trials.
    """

    compute: float
    compute_range: tuple[float, float]
    survives: float
    found: float
    rank_error: float
    regret: float
    worst_regret: float
    complete: float


def score(curves: Curves, queues: Queues, outcome: Outcome) -> Score:
    """Compare replayed runs with the truth: the mean of each cell over all measured seeds."""
    true = curves.true_losses
    shares = compute_shares(queues, outcome)
    losses, is_complete = _table(queues, outcome)
    # As in the table of a study: complete cells first, then those that were pruned.
    ranks = np.lexsort((losses, ~is_complete), axis=1).argsort(1)
    leader = ranks.argmin(1)
    truly_best = true.argsort()[:TOP]
    regret = true[leader] - true.min()
    return Score(
        compute=float(shares.mean()),
        compute_range=(float(np.quantile(shares, 0.05)), float(np.quantile(shares, 0.95))),
        survives=float(is_complete[:, truly_best[0]].mean()),
        found=float((leader == truly_best[0]).mean()),
        rank_error=float(np.abs(ranks[:, truly_best] - np.arange(len(truly_best))).mean()),
        regret=float(regret.mean()),
        worst_regret=float(regret.max()),
        complete=float((~outcome.pruned).sum(1).mean()),
    )


def compute_shares(queues: Queues, outcome: Outcome) -> Floats:
    """The training time of each draw as a share of the unpruned time (D,)."""
    spent = queues.seconds * queues.steps[outcome.last] / queues.steps[-1]
    shares: Floats = spent.sum(1) / queues.seconds.sum(1)
    return shares


def _table(queues: Queues, outcome: Outcome) -> tuple[Floats, Bools]:
    """The loss of each cell (D, C), the mean of its trials that got furthest; and whether all are complete."""
    draws, trials = queues.cells.shape
    cells = int(queues.cells.max()) + 1
    places = np.argsort(queues.cells, axis=1, kind="stable").reshape(draws, cells, trials // cells)
    rows = np.arange(draws)[:, None, None]
    last = outcome.last[rows, places]
    is_furthest = last == last.max(2, keepdims=True)
    losses = queues.values[rows, places, last]
    means: Floats = (losses * is_furthest).sum(2) / is_furthest.sum(2)
    return means, np.asarray(~outcome.pruned[rows, places].any(2), bool)


def mean_score(scores: list[Score]) -> Score:
    """The mean of scores of equally many draws; the worst regret is the worst of all."""
    fields = [field.name for field in dataclasses.fields(Score)]
    means = {name: np.mean([getattr(each, name) for each in scores], axis=0) for name in fields}
    low, high = means.pop("compute_range")
    means["worst_regret"] = max(each.worst_regret for each in scores)
    return Score(compute_range=(float(low), float(high)), **{name: float(value) for name, value in means.items()})

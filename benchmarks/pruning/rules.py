"""Optuna's pruners and ours on arrays: each decides for many draws at once, exactly as the real pruner does for each.

`tests/benchmarks` compares every rule with its pruner, on draws of the measured curves.
"""

from __future__ import annotations

import binascii
import math

import numpy as np

from benchmarks.pruning.replay import Bools, Floats, Ints, Queues, Rule, View


class NeverRule(Rule):
    """`NopPruner`."""

    def start(self, queues: Queues) -> None:
        pass

    def prune(self, view: View) -> Bools:
        return np.zeros(len(view.draws), bool)


class PercentileRule(Rule):
    """`PercentilePruner`, and with 50 the `MedianPruner`: the best loss so far against complete trials' at the step.

    Args:
        min_trials: The value of n_startup_trials and n_min_trials.
    """

    def __init__(self, percentile: float, warmup_steps: int, min_trials: int) -> None:
        self._percentile, self._warmup_steps, self._min_trials = percentile, warmup_steps, min_trials

    def start(self, queues: Queues) -> None:
        pass

    def prune(self, view: View) -> Bools:
        values = np.sort(np.where(view.complete[view.draws], view.column, np.nan), axis=1)
        count = (~np.isnan(values)).sum(1)
        threshold = _percentile_of_sorted(values, count, self._percentile)
        enough = (count >= max(1, self._min_trials)) & (view.steps[view.at] >= self._warmup_steps)
        pruned: Bools = enough & (np.nanmin(view.curve, axis=1) > threshold)
        return pruned


def _percentile_of_sorted(values: Floats, count: Ints, percentile: float) -> Floats:
    # In numpy's own order of operations, so that ties come out equal.
    place = (np.maximum(count, 1) - 1) * (percentile / 100)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, np.maximum(count, 1) - 1)
    rows, part = np.arange(len(values)), place - below
    low, high = values[rows, below], values[rows, above]
    found: Floats = np.where(part >= 0.5, high - (high - low) * (1 - part), low + (high - low) * part)
    return found


class HalvingRule(Rule):
    """`SuccessiveHalvingPruner`: at each rung the best share of the trials that have reached it continues.

    Args:
        brackets: `HyperbandPruner`: the number of brackets; a trial's number decides its bracket, each with own rungs.
    """

    def __init__(self, min_resource: int, reduction_factor: int, bootstrap: int = 0, brackets: int = 1) -> None:
        self._min_resource, self._factor, self._bootstrap = min_resource, reduction_factor, bootstrap
        self._brackets = brackets

    def start(self, queues: Queues) -> None:
        draws, trials, _ = queues.values.shape
        most = 2 + max(0, int(math.log(queues.steps[-1] / self._min_resource, self._factor)))
        self._noted = np.full((draws, trials, most), np.nan)
        self._rung = np.zeros((draws, trials), np.int64)
        self._bracket = brackets_of_trials(trials, self._brackets, self._factor)

    def prune(self, view: View) -> Bools:
        pruned = np.zeros(len(view.draws), bool)
        open_ = np.arange(len(view.draws))
        while True:
            draws, trials = view.draws[open_], view.trials[open_]
            rung = self._rung[draws, trials]
            reached = view.steps[view.at[open_]] >= self._min_resource * self._factor ** (self._bracket[trials] + rung)
            open_, draws, trials, rung = open_[reached], draws[reached], trials[reached], rung[reached]
            if not len(open_):
                return pruned
            value = view.value[open_]
            self._noted[draws, trials, rung] = value
            rivals = np.where(self._bracket == self._bracket[trials][:, None], self._noted[draws, :, rung], np.nan)
            count = (~np.isnan(rivals)).sum(1)
            better = (rivals < value[:, None]).sum(1)
            promoted = (better < np.maximum(1, count // self._factor)) & (count > self._bootstrap)
            pruned[open_[~promoted]] = True
            self._rung[draws, trials] += 1
            open_ = open_[promoted]


def brackets_of_trials(trials: int, brackets: int, factor: int, study: str = "bigram") -> Ints:
    """The bracket that hyperband gives to each trial of a study, by number (trials,)."""
    sizes = [math.ceil(brackets * factor ** (brackets - 1 - each) / (brackets - each)) for each in range(brackets)]
    ends = np.cumsum(sizes)
    places = [binascii.crc32(f"{study}_{number}".encode()) % ends[-1] for number in range(trials)]
    return np.searchsorted(ends, places, side="right")


class PatientRule(Rule):
    """`PatientPruner`: asks another rule only about a trial that has not improved for `patience` evaluations."""

    def __init__(self, wrapped: Rule, patience: int) -> None:
        self._wrapped, self._patience = wrapped, patience

    def start(self, queues: Queues) -> None:
        self._wrapped.start(queues)

    def prune(self, view: View) -> Bools:
        curve, border = view.curve, (view.at - self._patience)[:, None]
        is_before = np.arange(curve.shape[1]) < border
        before = np.where(is_before, curve, np.inf).min(1)
        after = np.where(is_before | np.isnan(curve), np.inf, curve).min(1)
        pruned: Bools = (border[:, 0] > 0) & (before < after) & self._wrapped.prune(view)
        return pruned


class WilcoxonRule(Rule):
    """`WilcoxonPruner`: a signed-rank test of a trial's losses, paired by step, against the best complete trial's."""

    def __init__(self, p_threshold: float, startup_steps: int) -> None:
        self._p_threshold, self._startup_steps = p_threshold, startup_steps

    def start(self, queues: Queues) -> None:
        self._p_values = [_signed_rank_tail(count) for count in range(queues.values.shape[2] + 1)]

    def prune(self, view: View) -> Bools:
        complete = view.complete[view.draws]
        finals = np.where(complete, view.seen[view.draws, :, -1], np.inf)
        best = view.seen[view.draws, finals.argmin(1)]
        differences = view.curve - best
        count = (~np.isnan(view.curve)).sum(1)
        ranks = np.argsort(np.argsort(np.abs(differences), axis=1), axis=1) + 1  # NaN, of later steps, goes last
        statistic = np.where(differences > 0, ranks, 0).sum(1)
        p_value = np.array([self._p_values[n][rank] for n, rank in zip(count, statistic, strict=True)])
        # The best trial's mean is over all its steps, as in Optuna.
        mean_is_worse = np.nanmean(view.curve, axis=1) > best.mean(1)
        enough = complete.any(1) & (count >= max(2, self._startup_steps))
        pruned: Bools = enough & (p_value < self._p_threshold) & mean_is_worse
        return pruned


def _signed_rank_tail(count: int) -> Floats:
    """Chance that the positive ranks of 1 … count sum to at least 0, 1, 2, … when every sign is a coin toss."""
    ways = np.ones(1)
    for rank in range(1, count + 1):
        ways = np.concatenate([ways, np.zeros(rank)]) + np.concatenate([np.zeros(rank), ways])
    tail: Floats = ways[::-1].cumsum()[::-1] / 2.0**count
    return tail


class TopCellsRule(Rule):
    """Our `TopCellsPruner`: a trial continues while fewer than `keep` cells still in the race were better."""

    def __init__(self, keep: int, warmup_steps: int, strikes: int = 2) -> None:
        self._keep, self._warmup_steps, self._strikes = keep, warmup_steps, strikes

    def start(self, queues: Queues) -> None:
        self._best_so_far = np.minimum.accumulate(queues.values, axis=2)
        draws, trials = queues.cells.shape
        cells = int(queues.cells.max()) + 1
        # The positions in the queue of each cell's trials (D, C, R).
        self._places = np.argsort(queues.cells, axis=1, kind="stable").reshape(draws, cells, trials // cells)
        self._struck = np.zeros((draws, cells), np.int64)
        self._pruned = np.zeros((draws, trials), bool)

    def prune(self, view: View) -> Bools:
        draws, mine = view.draws, np.arange(len(view.draws))
        places, rows = self._places[draws], mine[:, None, None]
        reached = ~np.isnan(view.column)[rows, places]
        losses = np.where(reached, self._best_so_far[draws, :, view.at][rows, places], 0.0)
        count = reached.sum(2)
        means = np.where(count, losses.sum(2) / np.maximum(count, 1), np.inf)
        in_race = (reached & ~self._pruned[draws][rows, places]).any(2)
        cell = view.cells[draws, view.trials]
        better = (in_race & (means < means[mine, cell][:, None])).sum(1)
        pruned: Bools = (better >= self._keep) & (view.steps[view.at] >= self._warmup_steps)
        pruned |= self._struck[draws, cell] >= self._strikes
        self._struck[draws[pruned], cell[pruned]] += 1
        self._pruned[draws[pruned], view.trials[pruned]] = True
        return pruned

"""Compares a real pruned run with the unpruned curves: its cost, its best cell, and the prediction of the replay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.pruning.curves import Curves
from benchmarks.pruning.draws import draw_queues
from benchmarks.pruning.replay import Rule, replay
from benchmarks.pruning.rules import HalvingRule, NeverRule, PercentileRule, TopCellsRule
from benchmarks.pruning.scores import score
from search import shared_options
from search.errors import UsageError
from search.statistics.ranking import ranked_rows
from search.storage.queries import TrialSummary, trial_summaries
from search.study.cells import without_seed
from search.study.lookup import open_studies
from search.study.pruner_settings import PrunerSettings
from search.study.stored import read_stored_study

POINTS = 0.10
TOLERANCE = 0.01


def check_run(curves: Curves, study: str, storage: str, draws: int, workers: int) -> str:
    """Compare a finished run with the curves.

    Returns:
        The lines to print.

    Raises:
        UsageError: The run is not finished, or has cells that the curves lack.
    """
    database, [name] = open_studies(study, storage, shared_options.DEFAULT_STORAGE_WAIT_S, baselines=False)
    with database.closing():
        runs = trial_summaries(database, [name], attrs=("train_seconds",))
        stored = read_stored_study(database, name)
        assert stored is not None, "open_studies checks this"
        best = ranked_rows(database, [name])[0]
    places = _places(curves, name, runs)
    states = Counter(run.state for run in runs)
    share, share_of_time = _shares(curves, places, runs)
    settings = stored.settings.pruner
    seeds = len(runs) // len(set(places))
    lines = [f"{name}: {', '.join(f'{count} {state}' for state, count in states.items())}; pruner {settings.name}"]
    lines += [f"compute: {share:.1%} of the unpruned run's, by steps; {share_of_time:.1%} by the run's own clock"]
    if set(places) == set(range(len(curves.cells))) and seeds <= curves.fewest_seeds:
        queues = draw_queues(curves, draws, seeds, "grid")
        predicted = score(curves, queues, replay(queues, rule_of(settings), workers))
        low, high = predicted.compute_range
        verdict = "within" if abs(share - predicted.compute) <= POINTS else "NOT within"
        lines += [
            f"predicted: {predicted.compute:.1%} ({low:.1%} to {high:.1%} in nine of ten draws); "
            f"{verdict} {100 * POINTS:.0f} points"
        ]
    lines += _found(curves, best.cell, best.val_loss)
    return "\n".join(lines)


def _places(curves: Curves, name: str, runs: Sequence[TrialSummary]) -> list[int]:
    """The index in `curves` of each trial's cell."""
    unfinished = sum(run.state in ("waiting", "running") for run in runs)
    if unfinished:
        raise UsageError(f"{name} has {unfinished} unfinished trials; run the study to its end first")
    known = [dict(cell) for cell in curves.cells]
    places = []
    for run in runs:
        cell = without_seed(run.cell)
        if cell not in known:
            raise UsageError(f"the curves lack the cell {cell} of {name}; give others with --curves")
        places.append(known.index(cell))
    return places


def _shares(curves: Curves, places: Sequence[int], runs: Sequence[TrialSummary]) -> tuple[float, float]:
    """Compute of the run as a share of an unpruned one: by steps at the measured pace, and by its own clock."""
    seconds = curves.seconds.mean(1)[list(places)]
    steps = np.array([run.step or 0 for run in runs])
    by_steps = (seconds * steps / curves.steps[-1]).sum() / seconds.sum()
    spent = np.array([run.attrs.get("train_seconds", 0.0) for run in runs])
    # How much slower this machine was, from the trials that are complete in both.
    both = np.array([run.state == "complete" for run in runs])
    pace = spent[both].sum() / seconds[both].sum()
    return float(by_steps), float(spent.sum() / (pace * seconds.sum()))


def rule_of(settings: PrunerSettings) -> Rule:
    """The rule that simulates the pruner of a study."""
    arguments = settings.arguments
    if settings.name == "top":
        return TopCellsRule(arguments["keep"], arguments["warmup_steps"])
    if settings.name == "median":
        return PercentileRule(50, arguments["warmup_steps"], arguments["min_trials"])
    if settings.name == "sha":
        return HalvingRule(max(1, arguments["warmup_steps"]), 2)
    if settings.name == "none":
        return NeverRule()
    raise UsageError(f"no prediction for the pruner {settings.name}; give --pruner to replay an Optuna pruner")


def _found(curves: Curves, cell: Mapping[str, Any], loss: float | None) -> list[str]:
    true = curves.true_losses
    found = true[[dict(each) for each in curves.cells].index(dict(cell))]
    regret = found - true.min()
    verdict = "within" if regret <= TOLERANCE else "NOT within"
    shown = " ".join(f"{axis}={value}" for axis, value in cell.items())
    return [
        f"found: {shown}, val_loss {loss:.5f}",
        f"its mean over the measured seeds: {found:.5f}, the best cell's {true.min():.5f}; "
        f"{verdict} {TOLERANCE} of the best ({regret:+.5f})",
    ]

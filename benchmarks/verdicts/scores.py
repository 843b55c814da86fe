"""What the verdicts on a made-up study get right."""

from __future__ import annotations

import itertools
import zlib
from dataclasses import astuple, dataclass

import numpy as np

from benchmarks.pruning.replay import Floats
from benchmarks.verdicts.policies import POLICIES
from benchmarks.verdicts.worlds import AXES, CELLS, NULL_WORLDS, WORLDS
from search.statistics.answers import EVERYWHERE, Finding, Verdict, finding
from search.statistics.best import best_set
from search.statistics.comparison import COMPARED, Comparison, Levels, Setting
from search.statistics.comparisons import Family
from search.statistics.losses import Losses
from search.storage.values import canonical

PAIRS = [Levels(axis, one, other) for axis, levels in AXES.items() for one, other in itertools.combinations(levels, 2)]
# A true difference below it is none but for rounding.
NONE = 1e-9


@dataclass(frozen=True)
class Score:
    """Of one study; NaN where there is nothing to score.

    Attributes:
        means: The share of the intervals of factor means, each alone, that hold the truth.
        settings: The same for differences in single settings.
        joint: 1 if all joint intervals hold the truth, else 0.
        false: 1 if a verdict "yes", "only where" or "no, the opposite" is false, else 0.
        best: 1 if a truly best cell is in the set of cells that may be the best, else 0; of the cells that were not
            pruned, which is what a report says.
        size: Cells in that set.
        unpruned: 1 if a truly best cell of all was not pruned, else 0: what the pruner keeps.
        answered: The share of the comparisons that say more than "cannot tell" and "not answerable".
    """

    means: float
    settings: float
    joint: float
    false: float
    best: float
    size: float
    unpruned: float
    answered: float


def score(losses: Losses, truth: Floats) -> Score:
    """Judge a study all of whose pairs of levels are claimed to differ.

    Args:
        truth: The true means of the cells, (36,).
    """
    family = Family(losses)
    for levels in PAIRS:
        family.add(levels, with_settings=True)
    contrasts = family.contrasts()
    comparisons = family.compare(contrasts)
    findings = [finding(levels.one, comparisons[levels.key]) for levels in PAIRS]
    told = [each for each in findings if each.verdict not in (Verdict.CANNOT_TELL, Verdict.NOT_ANSWERABLE)]
    finished = losses.finished
    kept = [] if losses.posterior is None else best_set(losses.posterior, finished)
    means = settings = joint = np.nan
    if contrasts is not None:
        weights = np.array([family.weights(index) for index in range(len(contrasts.mean))])
        true = weights @ truth
        alone = (contrasts.low <= true) & (true <= contrasts.high)
        is_mean = np.array([np.count_nonzero(each) > 2 for each in weights])
        means, settings = _share(alone[is_mean]), _share(alone[~is_mean])
        joint = float(((contrasts.joint_low <= true + NONE) & (true - NONE <= contrasts.joint_high)).all())
    return Score(
        means,
        settings,
        joint,
        false=float(any(_is_false(each, truth) for each in told)),
        best=float(bool(np.isclose(truth[kept], truth[finished].min()).any())) if finished.any() else np.nan,
        size=len(kept),
        unpruned=float(bool(np.isclose(truth[finished], truth.min()).any())),
        answered=len(told) / len(findings),
    )


def _share(flags: np.typing.NDArray[np.bool_]) -> float:
    return float(flags.mean()) if len(flags) else np.nan


ROWS = {canonical(cell): row for row, cell in enumerate(CELLS)}


def _gain(comparison: Comparison, setting: Setting, truth: Floats) -> float:
    """By how much the better level is truly better in a setting."""
    better, worse = (
        truth[ROWS[canonical({**setting.rest, comparison.factor: level})]]
        for level in (comparison.better, comparison.worse)
    )
    return float(worse - better)


def _is_false(found: Finding, truth: Floats) -> bool:
    comparison = found.comparison
    assert comparison is not None, "checked by the caller"
    sign = 1 if comparison.better == found.first else -1
    settings = found.settings if found.verdict is Verdict.ONLY_WHERE else comparison.settings
    gains = [sign * _gain(comparison, each, truth) for each in settings if each.state == COMPARED]
    if found.verdict is Verdict.OPPOSITE:
        gains = [-gain for gain in gains]
    if found.verdict is Verdict.ONLY_WHERE or found.detail == EVERYWHERE:
        return min(gains) <= NONE
    return float(np.mean(gains)) <= NONE


def scores(name: str, policy: str, seeds: int, draws: int, chunk: int) -> Floats:
    """The scores of a few studies (draws, fields); a chunk has its own random numbers."""
    world = next(each for each in (*WORLDS, *NULL_WORLDS) if each.name == name)
    rng = np.random.default_rng([zlib.crc32(f"{name} {policy} {seeds}".encode()), chunk])
    truth = world.means[:, -1]
    return np.array([astuple(score(losses, truth)) for losses in POLICIES[policy](world, rng, draws, seeds)])

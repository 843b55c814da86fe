"""The comparisons of a study: estimated from one noise model, and corrected together.

So the intervals that a report shows hold all at once with 95 %, and a verdict says nothing that its interval does not
say.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from search.statistics.comparison import (
    BETTER_DIVERGED,
    BOTH_DIVERGED,
    COMPARED,
    PRUNED,
    UNFINISHED,
    WORSE_DIVERGED,
    Comparison,
    Levels,
    Setting,
)
from search.statistics.inference import ALPHA, Floats, median
from search.statistics.losses import Losses
from search.statistics.posterior import Contrasts
from search.storage.values import canonical

# With more settings, a comparison says nothing about single ones.
MAX_SETTINGS = 200
# What all single settings together take of the probability that some joint interval misses its truth.
SETTINGS_SHARE = 0.2


@dataclass
class Family:
    """All comparisons of a study, collected before they are estimated and corrected together.

    Attributes:
        losses: Of the study, and of its baselines.
        margin: A difference below it does not matter, in units of the values.
    """

    losses: Losses
    margin: float | None = None
    _weights: list[Mapping[int, float]] = field(default_factory=list)
    _pairs: dict[str, _Pair] = field(default_factory=dict)
    _of_settings: list[int] = field(default_factory=list)

    def add(self, levels: Levels, *, with_settings: bool = False) -> None:
        """Compare two levels or cells; nothing happens if no setting has both.

        Args:
            with_settings: Whether each setting is judged too.
        """
        pair = self._pairs.get(levels.key)
        if pair is None:
            settings = matched(self.losses, levels)
            if not settings:
                return
            states = [state(self.losses, *rows) for _, rows in settings]
            pair = self._pairs[levels.key] = _Pair(levels, settings, states)
            if pair.compared:
                share, weights = 1 / len(pair.compared), dict[int, float]()
                for _, (one, other) in pair.compared:
                    weights[one], weights[other] = -share, share
                pair.index = self.add_weights(weights)
        if with_settings and pair.first_setting is None and 1 < len(pair.compared) <= MAX_SETTINGS:
            pair.first_setting = len(self._weights)
            for _, (one, other) in pair.compared:
                self._of_settings.append(self.add_weights({one: -1.0, other: 1.0}))

    def add_weights(self, weights: Mapping[int, float]) -> int:
        """Estimate another linear combination of the cells' means.

        Args:
            weights: By row; most cells have none, and a dense table of all comparisons would not fit into memory.

        Returns:
            Its index in the contrasts.
        """
        self._weights.append(weights)
        return len(self._weights) - 1

    def weights(self, index: int) -> Floats:
        """The linear combination of the cells' means behind a contrast, (K,) float64."""
        found = np.zeros(len(self.losses.cells))
        for row, weight in self._weights[index].items():
            found[row] = weight
        return found

    def index_of(self, levels: Levels) -> int | None:
        """Which contrast is the mean over the settings of a comparison; None if none can be compared."""
        pair = self._pairs.get(levels.key)
        return None if pair is None else pair.index

    def setting_index(self, levels: Levels, setting: int) -> int:
        """Which contrast is that of one of the compared settings of a comparison."""
        pair = self._pairs[levels.key]
        index = pair.index if pair.first_setting is None else pair.first_setting + setting
        assert index is not None, "a compared setting has a contrast"
        return index

    def contrasts(self) -> Contrasts | None:
        """All estimates; None if there are none, or with one seed a cell."""
        if not self._weights or self.losses.posterior is None:
            return None
        # Single settings are many, and what a study asks for are mostly means over them.
        shares = np.full(len(self._weights), 1.0)
        shares[self._of_settings] = 0.0
        means, settings = shares.sum(), len(self._of_settings)
        shares *= (1 - SETTINGS_SHARE if settings else 1.0) / means
        shares[self._of_settings] = SETTINGS_SHARE / max(settings, 1)
        return self.losses.posterior.contrasts(self._weights, shares)

    def compare(self, contrasts: Contrasts | None) -> dict[str, Comparison]:
        """All comparisons, by the keys of their levels.

        Args:
            contrasts: The estimates.
        """
        return {key: _comparison(self, pair, contrasts) for key, pair in self._pairs.items()}


@dataclass
class _Pair:
    levels: Levels
    settings: Sequence[tuple[Mapping[str, Any], tuple[int, int]]]  # the other axes; rows of both levels
    states: Sequence[str]
    index: int | None = None
    first_setting: int | None = None

    @property
    def compared(self) -> list[tuple[Mapping[str, Any], tuple[int, int]]]:
        return [each for each, found in zip(self.settings, self.states, strict=True) if found == COMPARED]


def matched(losses: Losses, levels: Levels) -> list[tuple[Mapping[str, Any], tuple[int, int]]]:
    """All pairs of cells that differ in the compared factor alone: the other axes, and the rows of both levels."""
    if levels.factor == "cell":
        rows = [losses.row_by_cell.get(canonical(cell)) for cell in (levels.one, levels.other)]
        return [] if rows[0] is None or rows[1] is None else [({}, (rows[0], rows[1]))]
    groups = losses.rows_by_rest.get(levels.factor, {})
    return [
        (_without(losses.cells[rows[levels.one]], levels.factor), (rows[levels.one], rows[levels.other]))
        for rows in groups.values()
        if levels.one in rows and levels.other in rows
    ]


def _without(cell: Mapping[str, Any], factor: str) -> dict[str, Any]:
    return {axis: value for axis, value in cell.items() if axis != factor}


def state(losses: Losses, one: int, other: int) -> str:
    """Why two rows can or cannot be compared; "better" is the first."""
    diverged = losses.diverged[one], losses.diverged[other]
    if any(diverged):
        return BOTH_DIVERGED if all(diverged) else BETTER_DIVERGED if diverged[0] else WORSE_DIVERGED
    if losses.pruned[one] or losses.pruned[other]:
        return PRUNED
    return COMPARED if losses.count[one] and losses.count[other] else UNFINISHED


_SWAPPED = {BETTER_DIVERGED: WORSE_DIVERGED, WORSE_DIVERGED: BETTER_DIVERGED}


def _comparison(family: Family, pair: _Pair, contrasts: Contrasts | None) -> Comparison:
    losses = family.losses
    means = np.array([losses.mean[rows[1]] - losses.mean[rows[0]] for _, rows in pair.compared])
    sign = -1.0 if len(means) and means.mean() < 0 else 1.0
    better, worse = (pair.levels.one, pair.levels.other)[:: int(sign)]
    means = means * sign
    comparison = _Oriented(losses, pair, contrasts, sign)
    return Comparison(
        factor=pair.levels.factor,
        better=better,
        worse=worse,
        settings=comparison.settings(means),
        mean=losses.in_values(means.mean()) if len(means) else 0.0,
        median=losses.in_values(median(means)) if len(means) else 0.0,
        margin=family.margin,
        **comparison.intervals(means),
        **_influence(losses, means, [rest for rest, _ in pair.compared]),
    )


@dataclass(frozen=True)
class _Oriented:
    """The estimates of one pair of levels, turned so that the mean is positive."""

    losses: Losses
    pair: _Pair
    contrasts: Contrasts | None
    sign: float

    def settings(self, means: Floats) -> tuple[Setting, ...]:
        found, compared = [], itertools.count()
        first = self.pair.first_setting if len(self.pair.compared) > 1 else self.pair.index
        for (rest, rows), found_state in zip(self.pair.settings, self.pair.states, strict=True):
            turned = found_state if self.sign > 0 else _SWAPPED.get(found_state, found_state)
            counts = [int(self.losses.count[row]) for row in rows][:: int(self.sign)]
            if found_state != COMPARED:
                found.append(Setting(rest, turned, seeds=(counts[0], counts[1])))
                continue
            index = next(compared)
            low, high = (None, None) if first is None else self._joint(first + index)
            found.append(Setting(rest, turned, self.losses.in_values(means[index]), low, high, (counts[0], counts[1])))
        return tuple(found)

    def intervals(self, means: Floats) -> dict[str, Any]:
        index, contrasts = self.pair.index, self.contrasts
        if index is None or contrasts is None:
            return {}
        low, high = self._joint(index)
        alone = sorted(self._value(end[index]) for end in (contrasts.low, contrasts.high))
        found = {"low": low, "high": high, "alone_low": alone[0], "alone_high": alone[1]}
        found["p"] = float(contrasts.joint_p[index])
        return {**found, "general": self._general(means), **self._detectable(index, contrasts)}

    def _joint(self, index: int) -> tuple[float, float] | tuple[None, None]:
        if self.contrasts is None:
            return None, None
        ends = self.contrasts.joint_low[index], self.contrasts.joint_high[index]
        low, high = sorted(map(self._value, ends))
        return low, high

    def _value(self, difference: float) -> float:
        return self.losses.in_values(self.sign * difference)

    def _general(self, means: Floats) -> tuple[float, float] | None:
        """Student's t over the settings."""
        from scipy.special import stdtrit

        n = len(means)
        if n < 3:
            return None
        reach = stdtrit(n - 1, 1 - ALPHA / 2) * means.std(ddof=1) / np.sqrt(n)
        return self.losses.in_values(means.mean() - reach), self.losses.in_values(means.mean() + reach)

    def _detectable(self, index: int, contrasts: Contrasts) -> dict[str, Any]:
        """Twice the seeds, at least 5: what they would show."""
        seeds = min(int(self.losses.count[row]) for _, rows in self.pair.compared for row in rows)
        if seeds < 3:
            return {}
        more = max(5, 2 * seeds)
        half = (contrasts.joint_high[index] - contrasts.joint_low[index]) / 2
        # Half of the interval, and the quantile of the normal distribution at 80 %.
        size = (half + 0.84 * contrasts.error[index]) * np.sqrt(seeds / more)
        ends = contrasts.error_low[index], contrasts.error_high[index]
        low, high = (self.losses.in_values(size * end / max(contrasts.error[index], 1e-300)) for end in ends)
        return {"detectable": (low, high), "detectable_seeds": more}


def _influence(losses: Losses, means: Floats, rests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The setting that makes the difference, if there is one."""
    n = len(means)
    if n < 3 or means.mean() <= 0:
        return {}
    most = int(np.argmax(means))
    without = (means.sum() - means[most]) / (n - 1)
    if without > 0 and means[most] < means.sum() / 2:
        return {}
    return {"influential": rests[most], "without": losses.in_values(without)}

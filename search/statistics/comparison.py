"""A comparison: by how much one level of a factor is better than another, in which settings, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.storage.values import canonical

COMPARED, PRUNED, UNFINISHED = "compared", "pruned", "unfinished"
BETTER_DIVERGED, WORSE_DIVERGED, BOTH_DIVERGED = "better diverged", "worse diverged", "both diverged"


@dataclass(frozen=True)
class Levels:
    """What is compared: two levels of a factor, or two cells."""

    factor: str
    one: Any
    other: Any

    @property
    def key(self) -> str:
        """The same for both orders."""
        return canonical([self.factor, sorted([canonical(self.one), canonical(self.other)])])


@dataclass(frozen=True)
class Setting:
    """Two cells that differ in the compared factor alone.

    Attributes:
        rest: The values of all other axes.
        state: "compared", or why they are not: "pruned", "unfinished" (a cell has no loss yet), "better diverged",
            "worse diverged", "both diverged" (a trial diverged or failed: an outcome worse than any loss).
        mean: Loss of the worse level minus that of the better one; None unless compared. Below 0, the levels are the
            other way round in this setting.
        low, high: Its joint 95 % interval; None with one seed a cell, or with too many settings to judge each.
        seeds: The seeds of the better and of the worse level.
    """

    rest: Mapping[str, Any]
    state: str
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: tuple[int, int] = (0, 0)

    @property
    def sign(self) -> int:
        """1 if the better level is better here beyond chance, -1 if it is worse, 0 if that is open."""
        if self.low is None or self.high is None:
            return 0
        return (self.low > 0) - (self.high < 0)


@dataclass(frozen=True)
class Comparison:
    """Two levels of one factor, over the settings that have both.

    Attributes:
        factor: The axis, or "cell" if two single cells are compared.
        better, worse: The two levels, or cells; `better` has the lower mean loss, which may be the higher mean value.
        settings: All planned pairs of cells that differ in the factor alone.
        mean, median: Of the losses of `worse` minus those of `better`, over the compared settings.
        low, high: The 95 % interval of `mean` in these settings, which holds together with those of all comparisons
            of the study; None with one seed a cell.
        alone_low, alone_high: The 95 % interval of `mean` by itself; None with one seed a cell.
        p: The p-value, corrected for all comparisons of the study; None with one seed a cell.
        general: The 95 % interval of the mean difference in settings like these, of which the compared ones are a
            sample (Student's t over the settings); None with fewer than three.
        influential: A setting without which the sign turns or at least half of the difference is gone; None if there
            is none, or with fewer than three settings.
        without: The mean without that setting.
        detectable: The sizes of a difference, from and to, that `detectable_seeds` a cell would show in 80 % of
            experiments; None with fewer than three seeds.
        margin: A difference below it does not matter; None if the study file names none.
    """

    factor: str
    better: Any
    worse: Any
    settings: tuple[Setting, ...]
    mean: float
    median: float
    low: float | None = None
    high: float | None = None
    alone_low: float | None = None
    alone_high: float | None = None
    p: float | None = None
    general: tuple[float, float] | None = None
    influential: Mapping[str, Any] | None = None
    without: float | None = None
    detectable: tuple[float, float] | None = None
    detectable_seeds: int = 0
    margin: float | None = None

    @property
    def compared(self) -> list[Setting]:
        """The settings that were compared."""
        return [each for each in self.settings if each.state == COMPARED]

    @property
    def agree(self) -> int:
        """The number of settings in which `better` has the lower mean loss."""
        return sum(each.mean is not None and each.mean > 0 for each in self.settings)

    @property
    def is_clear(self) -> bool:
        """Whether `better` is better on average beyond chance."""
        return self.low is not None and self.low > 0

    @property
    def is_negligible(self) -> bool:
        """Whether the difference is smaller than the margin beyond chance."""
        if self.margin is None or self.low is None or self.high is None:
            return False
        return -self.margin < self.low and self.high < self.margin

    def in_state(self, *states: str) -> list[Setting]:
        """The settings in one of these states."""
        return [each for each in self.settings if each.state in states]

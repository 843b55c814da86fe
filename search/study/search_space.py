"""The search space of a study file: ranges, the sampler with its arguments, and the rules of automatic seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, model_validator

from search.storage.texts import printable
from search.storage.values import canonical

GRID = "grid"
# `seeds = "auto"`, and the section with its rules.
AUTO, AUTO_SEEDS = "auto", "auto_seeds"
# Of an objective that suggests its parameters.
OPTUNAS_SAMPLER, OPTUNAS_PRUNER = "tpe", "MedianPruner"
# Of a step: the largest error of a number of steps, as Optuna has it.
_STEP_TOLERANCE = Decimal("1e-8")

_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Range(BaseModel):
    """An axis of numbers: integers if both ends are integers, otherwise real numbers."""

    model_config = _STRICT

    low: StrictInt | StrictFloat
    high: StrictInt | StrictFloat  # included
    # Sample the logarithm uniformly instead of the number.
    log: bool = False
    # Only low, low + step, low + 2 step, …
    step: StrictInt | StrictFloat | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"a range from low = {self.low} to high = {self.high} is empty; set high above low")
        if self.log and self.low <= 0:
            raise ValueError(f"a range with log = true cannot start at low = {self.low}; set low above 0")
        if self.log and self.step is not None:
            raise ValueError(f"a range takes either log = true or step = {self.step}; remove one of them")
        if self.is_integer and isinstance(self.step, float):
            raise ValueError(f"a range of integers takes an integer step, not step = {self.step}")
        return self

    @property
    def is_integer(self) -> bool:
        """Whether it holds integers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def has(self, value: Any) -> bool:
        """Whether a value lies within it, on one of its steps."""
        if isinstance(value, bool) or not isinstance(value, int if self.is_integer else (int, float)):
            return False
        if not self.low <= value <= self.high:
            return False
        if self.step is None:
            return True
        steps = (Decimal(str(value)) - Decimal(str(self.low))) / Decimal(str(self.step))
        return abs(steps - round(steps)) < _STEP_TOLERANCE


class SamplerSettings(BaseModel):
    """The sampler, which chooses the cells: a name of `search.strategies.samplers`, a class of optuna.samplers or a
    user's module:Class, and its arguments."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    name: str = GRID

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments of the class, without the seed."""
        return self.model_extra or {}


class AutoSeedsSettings(BaseModel):
    """How many seeds cells get with `seeds = "auto"`."""

    model_config = _STRICT

    # Every cell gets at least this many seeds.
    first: int = Field(default=2, ge=2)
    # No cell gets more seeds than this.
    max_seeds: int = Field(default=20, ge=2, le=1000)
    # The study gets no more trials than this, its baselines not counted; by default three and a quarter a cell, and
    # at least 24 trials more than the first ones.
    budget: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _drop_confidence(cls, raw: Any) -> Any:
        # Earlier versions had it, and stored studies have it.
        return {key: raw[key] for key in raw if key != "confidence"} if isinstance(raw, Mapping) else raw

    @model_validator(mode="after")
    def _check(self) -> AutoSeedsSettings:
        if self.max_seeds < self.first:
            raise ValueError(
                f"auto_seeds.max_seeds = {self.max_seeds} is below auto_seeds.first = {self.first}; raise max_seeds"
            )
        return self

    def budget_of(self, cells: int) -> int:
        """The most trials of a study with so many cells."""
        return max(self.first * cells + 24, 13 * cells // 4) if self.budget is None else self.budget


def check_values(axis: str, values: Sequence[Any]) -> None:
    """Check that the values of a list differ.

    Raises:
        ValueError: A value occurs twice, or Optuna takes two values for the same.
    """
    if len(set(map(canonical, values))) < len(values):
        raise ValueError(f"the axis {axis} = {printable(values)} has a value twice")
    # Optuna finds a trial's choice by comparison.
    if len(set(values)) < len(values):
        raise ValueError(
            f"the axis {axis} = {printable(values)} has true and 1, or false and 0: Optuna takes them for one value; "
            'write texts, such as "yes", or other numbers'
        )


def normalize_seeds(raw: Any) -> Any:
    """A study file's content with the first of the automatic seeds as `seeds`."""
    if not isinstance(raw, Mapping):
        return raw
    raw = dict(raw)
    if not raw.get("grid") and not raw.get("axes") and "trials" in raw:
        # The objective suggests its parameters; Optuna's defaults.
        raw.setdefault("sampler", OPTUNAS_SAMPLER)
        pruner = raw.setdefault("pruner", OPTUNAS_PRUNER)
        if isinstance(pruner, Mapping) and pruner.keys() <= {"metric", "direction"}:
            raw["pruner"] = {"name": OPTUNAS_PRUNER, **pruner}
    if "racing" in raw and AUTO_SEEDS not in raw:  # as earlier versions called it
        raw[AUTO_SEEDS] = raw.pop("racing")
    if raw.get("seeds") in (AUTO, "adaptive"):
        rules = raw.get(AUTO_SEEDS, {})
        first = rules.get("first") if isinstance(rules, Mapping) else None
        raw |= {"seeds": AutoSeedsSettings().first if first is None else first, AUTO_SEEDS: rules}
    elif isinstance(raw.get("seeds"), str):
        raise ValueError(f'seeds = {raw["seeds"]!r}: write an integer, or "auto"')
    elif AUTO_SEEDS in raw:
        raise ValueError('auto_seeds needs seeds = "auto"; add it at the top of the file, or remove auto_seeds')
    return raw

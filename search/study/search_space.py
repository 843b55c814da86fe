"""What a sampler may be told in a study file: ranges, the sampler with its arguments, and the rules of a race."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, model_validator

GRID = "grid"

_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Range(BaseModel):
    """An axis of numbers: whole ones where both ends are whole, else real ones."""

    model_config = _STRICT

    low: StrictInt | StrictFloat
    high: StrictInt | StrictFloat  # included
    # Draw the logarithm evenly instead of the number.
    log: bool = False
    # Only low, low + step, low + 2 step, …
    step: StrictInt | StrictFloat | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"a range from low = {self.low} to high = {self.high} is empty; give a high above low")
        if self.log and self.low <= 0:
            raise ValueError(f"a range with log = true starts above 0, not at low = {self.low}")
        if self.log and self.step is not None:
            raise ValueError(f"a range takes log = true or step = {self.step}, not both")
        if self.is_integer and isinstance(self.step, float):
            raise ValueError(f"a range of whole numbers takes a whole step, not step = {self.step}")
        return self

    @property
    def is_integer(self) -> bool:
        """Whether it holds whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class SamplerSettings(BaseModel):
    """Who chooses the cells: a name of `search.strategies.samplers`, a class of optuna.samplers or a person's own
    module:Class, and its arguments."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    name: str = GRID

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What the class is made with, the seed aside."""
        return self.model_extra or {}


class RacingSettings(BaseModel):
    """When a cell gets further seeds, with `seeds = "adaptive"`."""

    model_config = _STRICT

    # Every cell gets so many.
    first: int = Field(default=2, ge=2)
    # No cell gets more.
    max_seeds: int = Field(default=20, ge=2, le=1000)
    # Nor the study more trials; by default half of what max_seeds for every cell would be.
    budget: int | None = Field(default=None, ge=1)
    # How sure it must be that a cell is worse than the best before the cell is left alone.
    confidence: float = Field(default=0.99, gt=0.5, lt=1)

    @model_validator(mode="after")
    def _check(self) -> RacingSettings:
        if self.max_seeds < self.first:
            raise ValueError(f"racing.max_seeds = {self.max_seeds} is below racing.first = {self.first}")
        return self


def normalize_axes(raw: Any) -> Any:
    """A study file's content with ranges under `axes`, lists under `grid`, and the first seeds of a race as `seeds`."""
    if not isinstance(raw, Mapping):
        return raw
    raw = dict(raw)
    if isinstance(raw.get("axes"), Mapping):
        grid, axes = raw.get("grid", {}), raw["axes"]
        if isinstance(grid, Mapping):
            if both := grid.keys() & axes.keys():
                raise ValueError(f"the axis {min(both)} is in [grid] and in [axes]; leave out one of them")
            together = {**grid, **axes}
            raw["grid"] = {axis: value for axis, value in together.items() if not _is_range(value)}
            raw["axes"] = {axis: value for axis, value in together.items() if _is_range(value)}
    elif isinstance(raw.get("grid"), Mapping) and any(map(_is_range, raw["grid"].values())):
        return normalize_axes({**raw, "axes": raw.get("axes", {})})
    if raw.get("seeds") == "adaptive":
        racing = raw.get("racing", {})
        first = racing.get("first") if isinstance(racing, Mapping) else None
        raw |= {"seeds": RacingSettings().first if first is None else first, "racing": racing}
    elif isinstance(raw.get("seeds"), str):
        raise ValueError(f'seeds = {raw["seeds"]!r}: write a whole number, or "adaptive"')
    elif "racing" in raw:
        raise ValueError('racing is for seeds = "adaptive"; write that at the top of the file, or leave racing out')
    return raw


def _is_range(value: Any) -> bool:
    return isinstance(value, (Mapping, Range))

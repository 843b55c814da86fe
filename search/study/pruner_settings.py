"""The [pruner] section of a study file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

# The settings that each of the pruners with shared settings uses.
USED_BY: dict[str, tuple[str, ...]] = {
    "none": (),
    "top": ("warmup_steps", "keep"),
    "median": ("warmup_steps", "min_trials"),
    "sha": ("warmup_steps",),
    "hyperband": ("warmup_steps",),
}


class SharedSettings(BaseModel):
    """The settings that the pruners of `USED_BY` share, so that --pruner can switch between them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str = "top"
    # No trial is compared with other trials before this step.
    warmup_steps: int = Field(default=2000, ge=0)
    # top: a trial stops if this many cells that are still in the race were better at its step.
    keep: int = Field(default=5, ge=1)
    # median: no trial is compared before this many trials are complete.
    min_trials: int = Field(default=4, ge=1)


class PrunerSettings(BaseModel):
    """The pruner, which stops weak trials: a name of `search.strategies.pruners`, a class of optuna.pruners or a user's
    module:Class, and its arguments; docs/pruning.md compares the choices."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    name: str = "top"

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, value: Any) -> Any:
        value = {"name": value} if isinstance(value, str) else value
        if isinstance(value, Mapping) and value.get("name", "top") in USED_BY:
            return SharedSettings.model_validate(dict(value)).model_dump()
        return value

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments of the pruner."""
        given = self.model_extra or {}
        return {key: given[key] for key in USED_BY[self.name]} if self.name in USED_BY else given

    def with_name(self, name: str) -> PrunerSettings:
        """The settings of another pruner: these settings if both are in `USED_BY`, otherwise its defaults."""
        if name == self.name:
            return self
        both_share = {name, self.name} <= USED_BY.keys()
        return PrunerSettings.model_validate({**self.model_dump(), "name": name} if both_share else {"name": name})

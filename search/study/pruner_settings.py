"""The [pruner] section of a study file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

# What the pruners that share their settings look at.
USED_BY: dict[str, tuple[str, ...]] = {
    "none": (),
    "top": ("warmup_steps", "keep"),
    "median": ("warmup_steps", "min_trials"),
    "sha": ("warmup_steps",),
    "hyperband": ("warmup_steps",),
}


class SharedSettings(BaseModel):
    """The settings of the pruners of `USED_BY`, which each looks at some of; so --pruner may choose another."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str = "top"
    # No trial is compared with others before this step.
    warmup_steps: int = Field(default=2000, ge=0)
    # top: a trial stops when this many cells that are still in the race were better at its step.
    keep: int = Field(default=5, ge=1)
    # median: nor before this many trials are complete.
    min_trials: int = Field(default=4, ge=1)


class PrunerSettings(BaseModel):
    """When a weak trial is stopped: a name of `search.strategies.pruners`, a class of optuna.pruners or a person's own
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
        """What the pruner is made with."""
        given = self.model_extra or {}
        return {key: given[key] for key in USED_BY[self.name]} if self.name in USED_BY else given

    def with_name(self, name: str) -> PrunerSettings:
        """Another pruner: with the same settings where both share them, else with its defaults."""
        if name == self.name:
            return self
        both_share = {name, self.name} <= USED_BY.keys()
        return PrunerSettings.model_validate({**self.model_dump(), "name": name} if both_share else {"name": name})

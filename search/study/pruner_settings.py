"""The [pruner] section of a study file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from search.study.metrics import Direction, Metric

# The settings that each of the pruners with shared settings uses.
USED_BY: dict[str, tuple[str, ...]] = {
    "none": (),
    "top": ("warmup_steps", "keep"),
    "median": ("warmup_steps", "min_trials"),
    "sha": ("warmup_steps",),
    "hyperband": ("warmup_steps",),
}


# What every pruner has besides its arguments.
OWN = ("name", "metric", "direction")


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
    # See `PrunerSettings`.
    metric: str | None = Field(default=None, min_length=1)
    direction: Direction | None = None


class PrunerSettings(BaseModel):
    """The pruner, which stops weak trials: a name of `search.strategies.pruners`, a class of optuna.pruners or a user's
    module:Class, and its arguments; docs/pruning.md compares the choices."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    name: str = "top"
    # What trials are judged by; by default the study's first metric. One that is no objective needs a direction.
    metric: str | None = Field(default=None, min_length=1)
    direction: Direction | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, value: Any) -> Any:
        value = {"name": value} if isinstance(value, str) else value
        if isinstance(value, Mapping) and value.get("name", "top") in USED_BY:
            return SharedSettings.model_validate(dict(value)).model_dump()
        return value

    @model_serializer(mode="wrap")
    def _used(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Absent where it is not set, so that an earlier version reads the settings.
        return {key: value for key, value in dump(self).items() if key == "name" or key not in OWN or value is not None}

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments of the pruner."""
        given = self.model_extra or {}
        return {key: given[key] for key in USED_BY[self.name]} if self.name in USED_BY else given

    def with_name(self, name: str) -> PrunerSettings:
        """The settings of another pruner with the same metric: these settings if both are in `USED_BY`, otherwise its
        defaults."""
        if name == self.name:
            return self
        both_share = {name, self.name} <= USED_BY.keys()
        kept = self.model_dump()
        if not both_share:
            kept = {key: value for key, value in kept.items() if key in OWN}
        return PrunerSettings.model_validate({**kept, "name": name})

    def judged(self, metrics: Sequence[Metric]) -> Metric:
        """The metric that trials are judged by.

        Args:
            metrics: Those of the study.

        Raises:
            ValueError: Its direction is missing, or another one than the study has.
        """
        if self.metric is None:
            if self.direction is not None:
                raise ValueError(f"pruner.direction = {self.direction!r} needs pruner.metric, the metric that it is of")
            return metrics[0]
        found = next((each for each in metrics if each.name == self.metric), None)
        if found is None and self.direction is None:
            raise ValueError(
                f"pruner.metric = {self.metric!r} is no metric that the study ranks by "
                f"({', '.join(each.name for each in metrics)}), so it needs pruner.direction: 'minimize' or 'maximize'"
            )
        if found is not None and self.direction not in (None, found.direction):
            raise ValueError(
                f"pruner.direction = {self.direction!r}, but the study has direction {found.direction!r} for "
                f"{self.metric!r}; remove pruner.direction"
            )
        return found or Metric(self.metric, self.direction or "minimize")

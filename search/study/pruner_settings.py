"""The [pruner] section of a study file."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

PrunerName = Literal["none", "top", "median", "sha", "hyperband"]
PRUNERS: tuple[str, ...] = get_args(PrunerName)
# The other settings that a pruner looks at.
USED_BY: dict[str, tuple[str, ...]] = {
    "none": (),
    "top": ("warmup_steps", "keep"),
    "median": ("warmup_steps", "min_trials"),
    "sha": ("warmup_steps",),
    "hyperband": ("warmup_steps",),
}


class PrunerSettings(BaseModel):
    """When a weak trial is stopped; docs/pruning.md compares the choices."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: PrunerName = "top"
    # No trial is compared with others before this step.
    warmup_steps: int = Field(default=2000, ge=0)
    # top: a trial is stopped when so many cells that are still in the race were better at its step.
    keep: int = Field(default=5, ge=1)
    # median: nor before so many trials are complete.
    min_trials: int = Field(default=4, ge=1)

"""The [cost] section of a study file."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from search.study.claims import STRICT


class CostSettings(BaseModel):
    """What reports compute money and the share of a device's peak with."""

    model_config = STRICT

    # The price of one device for an hour, and its currency. On a CPU each worker counts as a device.
    per_device_hour: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    currency: str = Field(default="", max_length=20)
    # Floating-point operations per second that a device can do at most; None is that of a known GPU in float32.
    peak_flops: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    def given(self) -> dict[str, Any]:
        """What the study file sets."""
        return self.model_dump(exclude_defaults=True)

"""Cells, axis values and losses as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def value_text(value: object) -> str:
    """A value of an axis in print; what a sampler drew from a range is cut to six digits."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def describe_cell(cell: Mapping[str, Any]) -> str:
    """A cell in one short line."""
    plain = ("model", "pe_type")
    named = [value_text(cell[name]) for name in plain if name in cell]
    return " ".join([*named, *(f"{name}={value_text(value)}" for name, value in cell.items() if name not in plain)])


def loss_text(value: float | None, digits: int = 5) -> str:
    """A loss with so many decimal places; where those would show nothing of it, or too much, with an exponent.

    Losses of characters lie between 0 and 10; those of an objective of a person's own may lie anywhere.
    """
    if value is None:
        return ""
    plain = value == 0 or 10.0**-digits <= abs(value) < 1e7 or not math.isfinite(value)
    return f"{value:.{digits}f}" if plain else f"{value:.{digits - 1}e}"

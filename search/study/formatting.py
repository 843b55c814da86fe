"""Cells, axis values and losses as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def value_text(value: object) -> str:
    """A value of an axis as text; real numbers have six significant digits, enough for a draw from a range."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def describe_cell(cell: Mapping[str, Any]) -> str:
    """A cell in one short line."""
    plain = ("model", "pe_type")
    named = [value_text(cell[name]) for name in plain if name in cell]
    return " ".join([*named, *(f"{name}={value_text(value)}" for name, value in cell.items() if name not in plain)])


def loss_text(value: float | None, digits: int = 5) -> str:
    """A loss with `digits` decimal places, or with an exponent if it is too small or too large for them.

    A language model's losses are between 0 and 10; those of a user's objective can be any number.
    """
    if value is None:
        return ""
    plain = value == 0 or 10.0**-digits <= abs(value) < 1e7 or not math.isfinite(value)
    return f"{value:.{digits}f}" if plain else f"{value:.{digits - 1}e}"

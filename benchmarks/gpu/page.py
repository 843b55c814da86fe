"""The page of `benchmarks.gpu`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def markdown(figures: Mapping[str, Any], circumstances: Mapping[str, Mapping[str, Any]]) -> str:
    """The page; figures of each measurement by its name."""
    return ""

"""The cells of a study: points of its grid, without their seeds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.study.claims import Cell, Scalar

# A study's baselines are a sibling study: the study's name with this suffix.
BASELINES_SUFFIX = "-baselines"


def without_seed(cell: Mapping[str, Any]) -> dict[str, Any]:
    """The cell of a trial: its parameters without the seed."""
    return {name: value for name, value in cell.items() if name != "seed"}


def grid_cells(grid: Mapping[str, Sequence[Scalar]]) -> list[Cell]:
    """Every point of the grid; the last axis varies fastest."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]

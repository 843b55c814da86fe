"""The cells of a study: points of its search space, without their seeds."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

# A study's baselines are a sibling study: the study's name with this suffix.
BASELINES_SUFFIX = "-baselines"
# So are the trials that confirm its best cells with fresh seeds.
CONFIRMATION_SUFFIX = "-confirm"
# The key of the definition of such a study.
CONFIRMATION = "confirmation"


def without_seed(cell: Mapping[str, Any]) -> dict[str, Any]:
    """The cell of a trial: its parameters without the seed."""
    return {name: value for name, value in cell.items() if name != "seed"}


def objective_values(cell: Mapping[str, Any], named: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A cell as its objective gets it: with values in place of their names.

    Args:
        named: Axis → name → value.
    """
    # Copies, since an objective may change a list that it gets.
    return {axis: copy.deepcopy(named.get(axis, {}).get(value, value)) for axis, value in cell.items()}

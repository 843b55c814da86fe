"""The cells of a study: points of its search space, without their seeds."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
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


def with_further_values(values: Sequence[Any], further: Iterable[Any]) -> list[Any]:
    """The values of an axis and others that its cells have; in their order if they are numbers in order."""
    found = [*values, *dict.fromkeys(value for value in further if value not in values)]
    is_sorted = _are_numbers(found) and list(values) == sorted(values, key=float)
    return sorted(found, key=float) if is_sorted else found


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def objective_values(cell: Mapping[str, Any], named: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A cell as its objective gets it: with values in place of their names.

    Args:
        named: Axis → name → value.
    """
    # Copies, since an objective may change a list that it gets.
    return {axis: copy.deepcopy(named.get(axis, {}).get(value, value)) for axis, value in cell.items()}

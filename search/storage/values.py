"""Which values, cells and definitions are the same: 1 and 1.0 are, and so are 0.0 and -0.0; true and 1 are not."""

from __future__ import annotations

import json
from typing import Any

# `json.dumps` makes a new encoder at each call with such arguments.
_in_order = json.JSONEncoder(separators=(",", ":")).encode
_sorted = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


def canonical(value: Any) -> str:
    """Text that is equal for equal values: scalars, or lists and mappings of them, in any order of keys.

    It decides about equality everywhere: in validation, in the comparison of definitions, and as the key of a cell. It
    is not stored: a cell is stored as it was written, so that an objective gets 1 or 1.0 as in the study file.
    """
    return _sorted(_canonical(value))


def _canonical(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        try:
            number = float(value)
        except OverflowError:
            return value
        return number if number == value else value
    if isinstance(value, float):
        return value + 0.0  # -0.0 becomes 0.0
    if isinstance(value, dict):
        return {key: _canonical(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(each) for each in value]
    return value


def compact_json(value: Any, *, sort_keys: bool = False) -> str:
    """JSON without spaces; a cell is stored like this, with its axes in the order of the study file."""
    return _sorted(value) if sort_keys else _in_order(value)

"""One canonical form of a value decides about equality: in validation, definitions and cells."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.storage.slots import identity
from search.storage.values import canonical, compact_json

SCALARS = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        (0.0, -0.0, True),
        (0, -0.0, True),
        (2**53, float(2**53), True),
        (2**53 + 1, float(2**53), False),
        (10**400, 10**400 + 1, False),
        (1e300, 10**300, False),
        (True, 1, False),
        (False, 0.0, False),
        ("1", 1, False),
        ([1, {"a": 2}], (1.0, {"a": 2.0}), True),
        ({"a": 1, "b": 2}, {"b": 2.0, "a": 1.0}, True),
        (None, 0, False),
    ],
)
def test_equal_values(one: Any, other: Any, same: bool) -> None:
    assert (canonical(one) == canonical(other)) is same


@given(SCALARS, SCALARS)
def test_equality_is_that_of_numbers_but_not_of_kinds(one: Any, other: Any) -> None:
    same_kind = isinstance(one, bool) == isinstance(other, bool)
    assert (canonical(one) == canonical(other)) == (same_kind and one == other)


@given(st.dictionaries(st.sampled_from("abc"), SCALARS), st.integers(0, 2**31))
def test_a_cell_in_a_database_keeps_its_identity(cell: dict[str, Any], seed: int) -> None:
    stored = json.dumps({**cell, "seed": seed}, sort_keys=True, separators=(",", ":"))  # as earlier versions wrote it
    floats = {
        name: float(value) if type(value) is int and math.fabs(value) < 2**53 else value for name, value in cell.items()
    }
    assert identity(stored) == identity(compact_json({**floats, "seed": seed}))

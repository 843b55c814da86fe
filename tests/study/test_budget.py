"""Budgets as people write and read them."""

from __future__ import annotations

import pytest

from search.errors import UsageError
from search.storage.spending import Budget, Spent
from search.study.budget import parse_budget, spent_text


@pytest.mark.parametrize(
    ("text", "unit", "amount"),
    [
        ("8h", "seconds", 8 * 3600),
        ("30m", "seconds", 1800),
        (" 90 S ", "seconds", 90),
        ("1.5h", "seconds", 5400),
        (".5d", "seconds", 43_200),
        ("1e3s", "seconds", 1000),
        ("1e18flops", "flops", 1e18),
        ("2.5E+15 FLOPs", "flops", 2.5e15),
    ],
)
def test_a_number_with_a_unit_is_a_budget(text: str, unit: str, amount: float) -> None:
    assert parse_budget(text) == Budget("seconds" if unit == "seconds" else "flops", amount)


@pytest.mark.parametrize(
    "text",
    ["", "8", "8x", "-1h", "0h", "0.0flops", "1e18", "nan", "nanh", "inf", "infs", "1e400h", "1e-400s", "h", "1h30m",
     "1,5h", "８h", "1_0h", "1e18flopss", "8h\n-1h"],
)  # fmt: skip
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(
        UsageError, match=r"^--budget .*: give a time .* such as 90s, 30m, 8h or 2d.*1e18flops$"
    ) as error:
        parse_budget(text)
    assert "\n" not in str(error.value)


def test_what_is_spent_is_in_units_that_suit_it() -> None:
    spent = Spent(seconds=11_000.0, flops=1.5e17)
    assert spent_text(spent, parse_budget("8h")) == "3.06 h of 8 h"
    assert spent_text(spent, parse_budget("30m")) == "3.06 h of 30 min"
    assert spent_text(spent, parse_budget("1e18flops")) == "1.5e+17 FLOPs of 1e+18 FLOPs"
    assert spent_text(Spent(), parse_budget("90s")) == "0 s of 90 s"
    assert Budget.of(Budget("flops", 2.0).as_dict()) == Budget("flops", 2.0)
    assert Budget.of(None) is None

"""A budget as a person writes and reads it."""

from __future__ import annotations

import math
import re

from search.errors import UsageError
from search.storage.spending import Budget, Spent, Unit
from search.storage.texts import printable

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_AMOUNT = re.compile(r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*(s|m|h|d|flops)\s*", re.IGNORECASE)


def parse_budget(text: str) -> Budget:
    """A budget from the value of `--budget`.

    Raises:
        UsageError: It is none.
    """
    found = _AMOUNT.fullmatch(text)
    number = float(found[1] + (found[2] or "")) if found is not None else 0.0
    unit = "" if found is None else found[3].lower()
    amount = number * _SECONDS.get(unit, 1.0)
    if not 0 < amount < math.inf:
        raise UsageError(
            f"--budget {printable(text)}: give a time that trials may take on their devices, such as 90s, 30m, 8h or "
            "2d, or a number of floating-point operations, such as 1e18flops"
        )
    return Budget("flops" if unit == "flops" else "seconds", amount)


def amount_text(amount: float, unit: Unit) -> str:
    """An amount as text: "8 h", "1.2e+18 FLOPs"."""
    if unit == "flops":
        return f"{amount:.3g} FLOPs"
    for limit, seconds, name in ((120, 1.0, "s"), (7200, 60.0, "min"), (172_800, 3600.0, "h")):
        if amount < limit:
            return f"{amount / seconds:.3g} {name}"
    return f"{amount / 86_400:.3g} days"


def spent_text(spent: Spent, budget: Budget) -> str:
    """How much of a budget is spent: "3.1 h of 8 h"."""
    used, whole = (amount_text(each, budget.unit) for each in (spent.of(budget.unit), budget.amount))
    return f"{used} of {whole}"

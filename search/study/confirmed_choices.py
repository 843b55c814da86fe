"""Which cells a confirmation has trained again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.study.claims import Cell

# The user attribute of a confirmation with what was chosen, the latest choice last.
CHOICES = "choices"
CONFIRMED = 2  # the winner and the runner-up


@dataclass(frozen=True)
class Choice:
    """Cells that are confirmed.

    Attributes:
        cells: The winner, and the runner-up if there is one.
        seeds: Seeds that no trial of the study had.
    """

    cells: Sequence[Cell]
    seeds: Sequence[int]

    def as_attribute(self) -> dict[str, Any]:
        """The choice as JSON."""
        return {"cells": [dict(cell) for cell in self.cells], "seeds": list(self.seeds)}


def parse_choices(attrs: Mapping[str, Any]) -> list[Choice]:
    """What a confirmation has chosen so far, from its user attributes."""
    return [Choice(each["cells"], each["seeds"]) for each in attrs.get(CHOICES, ())]

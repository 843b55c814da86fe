"""The results of another study that a sampler starts with, as the database stores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# The user attribute of a study that `--from` writes.
WARM_START = "from"


@dataclass(frozen=True)
class Observation:
    """A cell of another study with the value of its metric, and those of further objectives."""

    cell: Mapping[str, Any]
    val_loss: float
    further: Sequence[float] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON for the attribute `WARM_START`."""
        further = {"further": list(self.further)} if self.further else {}
        return {"cell": self.cell, "val_loss": self.val_loss, **further}


@dataclass(frozen=True)
class WarmStart:
    """The results of another study that a sampler starts with.

    Attributes:
        study: The other study's name.
        best: Its best cell.
        observations: Its cells that are inside the search space.
    """

    study: str
    best: Observation
    observations: Sequence[Observation]

    def as_attribute(self) -> dict[str, Any]:
        """JSON for the attribute `WARM_START`."""
        return {
            "study": self.study,
            "best": self.best.as_dict(),
            "observations": [each.as_dict() for each in self.observations],
        }


def parse_warm_start(stored: Mapping[str, Any] | None) -> WarmStart | None:
    """Read `WarmStart.as_attribute`; None for None."""
    if stored is None:
        return None
    observations = [Observation(**each) for each in stored["observations"]]
    return WarmStart(stored["study"], Observation(**stored["best"]), observations)

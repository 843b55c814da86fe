"""The results of another study that a sampler starts with, as the database stores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import BaseDistribution

from search.study.space import Space

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

    def restricted(self, distributions: Mapping[str, BaseDistribution], space: Space) -> Observation | None:
        """The observation with the axes of a search space alone; None if it lies outside."""
        values = {name: self.cell[name] for name in distributions if name in self.cell}
        cell = space.restricted(values)
        needed = {name: each for name, each in distributions.items() if space.applies(name, cell)}
        return replace(self, cell=cell) if _lies_within(cell, needed) else None


def _lies_within(cell: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> bool:
    for name, distribution in distributions.items():
        try:
            if name not in cell or not distribution._contains(distribution.to_internal_repr(cell[name])):
                return False
        except ValueError:  # not a value of the list, or not a number
            return False
    return True


@dataclass(frozen=True)
class WarmStart:
    """The results of another study that a sampler starts with.

    Attributes:
        study: The other study's name.
        best: Its best cell.
        observations: Its cells that were inside the search space when it was read.
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

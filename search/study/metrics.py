"""The metrics that a study ranks its trials by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from optuna.study import StudyDirection

Direction = Literal["minimize", "maximize"]
DEFAULT_NAME = "val_loss"


@dataclass(frozen=True)
class Metric:
    """A metric and its better direction."""

    name: str = DEFAULT_NAME
    direction: Direction = "minimize"

    @property
    def sign(self) -> int:
        """1 if lower values are better, -1 if higher values are: sign * value is a loss."""
        return 1 if self.direction == "minimize" else -1

    @property
    def optuna_direction(self) -> StudyDirection:
        """The direction as Optuna's."""
        return StudyDirection.MINIMIZE if self.direction == "minimize" else StudyDirection.MAXIMIZE

    def as_dict(self) -> dict[str, Any]:
        """The metric for JSON."""
        return asdict(self)


DEFAULT_METRICS = (Metric(),)


def named_metrics(names: Sequence[str], directions: Sequence[Direction], default: str) -> tuple[Metric, ...]:
    """The metrics of a study file.

    Args:
        names: Of `metric` or `metrics`; empty if the file has neither.
        directions: Of `direction` or `directions`; empty if the file has neither.
        default: The name of a single metric without one.
    """
    directions = directions or ["minimize"] * max(len(names), 1)
    if not names:
        names = [default] if len(directions) == 1 else [f"value_{at}" for at in range(len(directions))]
    return tuple(map(Metric, names, directions))


def parse_metrics(stored: Sequence[Mapping[str, Any]] | None) -> tuple[Metric, ...]:
    """The metrics of a stored definition, which has none if they are the default."""
    return DEFAULT_METRICS if stored is None else tuple(Metric(**each) for each in stored)

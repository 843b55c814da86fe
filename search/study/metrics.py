"""The metrics that a study ranks its trials by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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

    def loss(self, value: float) -> float:
        """The value as a loss: lower is better. Statistics and races work on losses, texts show values."""
        return self.sign * value

    def best(self, values: Iterable[float]) -> float | None:
        """The best value; None without any."""
        return min(values, key=self.loss, default=None)

    def is_met(self, target: float, value: float) -> bool:
        """Whether a value is at least as good as a target."""
        return self.loss(value) <= self.loss(target)

    @property
    def better(self) -> str:
        """What a better value is: "lower" or "higher"."""
        return "lower" if self.direction == "minimize" else "higher"

    @property
    def worse(self) -> str:
        """The opposite of `better`."""
        return "higher" if self.direction == "minimize" else "lower"

    @property
    def superlative(self) -> str:
        """What the best value is: "lowest" or "highest"."""
        return "lowest" if self.direction == "minimize" else "highest"

    @property
    def label(self) -> str:
        """Its name in a sentence."""
        return "validation loss" if self.name == DEFAULT_NAME else self.name

    @property
    def short_label(self) -> str:
        """Its name where space is short."""
        return "loss" if self.name == DEFAULT_NAME else self.name

    @property
    def optuna_direction(self) -> StudyDirection:
        """The direction as Optuna's."""
        return StudyDirection.MINIMIZE if self.direction == "minimize" else StudyDirection.MAXIMIZE

    def as_dict(self) -> dict[str, Any]:
        """The metric for JSON."""
        return asdict(self)


DEFAULT_METRIC = Metric()
DEFAULT_METRICS = (DEFAULT_METRIC,)


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

"""What workers and objectives record of a trial besides its losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# User attributes of a trial: its environment, what it has cost, and those that a ranked table and a page show.
ENVIRONMENT = "record"
SPENT_FACTS = ("train_seconds", "flops")  # recorded when a trial ends, and when a worker that stops puts it back
TABLE_FACTS = ("n_params", "tokens", *SPENT_FACTS)
PAGE_FACTS = ("val_loss_by_position", "sample", ENVIRONMENT)
# Its sources lay in four packages; the move into one has changed their digest, not what they compute.
FLAT_LAYOUT_VERSION = "0.1.0"


@dataclass(frozen=True)
class TrialFacts:
    """The facts that a worker recorded of a trial besides its losses; None if not recorded or not read.

    Attributes:
        tokens: Characters that it was trained on.
        flops: Floating-point operations of its steps and evaluations.
        sample: Text that the model wrote.
        val_loss_by_position: Validation losses by position in the window.
        environment: The versions and the machine that it ran on, by name.
    """

    n_params: int | None = None
    tokens: int | None = None
    train_seconds: float | None = None
    flops: float | None = None
    train_curve: Sequence[tuple[int, float]] | None = None
    sample: str | None = None
    val_loss_by_position: Sequence[float] | None = None
    environment: Mapping[str, Any] | None = None

    @property
    def device(self) -> str | None:
        """The type of device that it ran on."""
        found: str | None = (self.environment or {}).get("device")
        return found


def code_of(environment: Any) -> str | None:
    """The digest of the code that made a trial; None if it has no record of it that is comparable with ours.

    Args:
        environment: The stored record of the trial.
    """
    if not isinstance(environment, Mapping) or environment.get("lm-search") == FLAT_LAYOUT_VERSION:
        return None
    code = environment.get("code")
    return None if code is None else str(code)


def trial_facts(attrs: Mapping[str, Any]) -> TrialFacts:
    """The facts of a trial.

    Args:
        attrs: Its user attributes that were read.
    """
    return TrialFacts(**{name: read(attrs[key]) for name, (key, read) in _READ.items() if key in attrs})


def _number(value: Any) -> Any:
    """A finite number as it is; None for anything else that an objective may have described."""
    return value if type(value) in (int, float) and math.isfinite(value) else None


def _numbers(value: Any) -> Any:
    return value if isinstance(value, list) and all(_number(each) is not None for each in value) else None


def _instance(kind: type) -> Callable[[Any], Any]:
    return lambda value: value if isinstance(value, kind) else None


# The attribute and the check of each fact; an objective may describe anything.
_READ: dict[str, tuple[str, Callable[[Any], Any]]] = {
    **{name: (name, _number) for name in TABLE_FACTS},
    "train_curve": ("train_curve", _instance(list)),
    "sample": ("sample", _instance(str)),
    "val_loss_by_position": ("val_loss_by_position", _numbers),
    "environment": (ENVIRONMENT, _instance(Mapping)),
}

"""What hears of a study's evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True)
class TrialName:
    """Which trial something happened to.

    Attributes:
        study: The study's name.
        uid: Tells the study from others of the same name.
        number: The trial's number in the study.
        cell: Its parameters.
        seed: Its seed.
    """

    study: str
    uid: str
    number: int
    cell: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class EvaluationEvent:
    """A trial was evaluated.

    Attributes:
        metrics: By name; NaN or infinite where training diverged.
    """

    trial: TrialName
    step: int
    metrics: Mapping[str, float]

    @property
    def key(self) -> str:
        """The same whenever this event is delivered, and of no other event."""
        return f"{self.trial.uid}/{self.trial.study}/{self.trial.number}/step/{self.step}"


@dataclass(frozen=True)
class EndEvent:
    """A trial ended.

    Attributes:
        claim: Counts the workers that have held it: a failed trial that is put back ends again, under a higher one.
        outcome: complete, pruned, diverged or failed.
        reason: Why, unless it is complete.
        step: Of the last evaluation; None when there was none.
        metrics: After it.
    """

    trial: TrialName
    claim: int
    outcome: str
    reason: str | None
    step: int | None
    metrics: Mapping[str, float]

    @property
    def key(self) -> str:
        """The same whenever this event is delivered, and of no other event."""
        return f"{self.trial.uid}/{self.trial.study}/{self.trial.number}/end/{self.claim}"


Event = EvaluationEvent | EndEvent


@runtime_checkable
class Tracker(Protocol):
    """Hears of every evaluation and every end of a study's trials, from one thread.

    Each event comes at least once: after a restart all come again, with the same keys. Those of one trial come in
    order; its end is the last. Its class is made with what stands behind the name in `--track NAME:TARGET`, before
    anything is written; without a target it is made with "".
    """

    def track(self, event: Event) -> None:
        """Take in an event.

        Raises:
            Exception: It cannot be taken in now; it is delivered again a little later.
        """
        ...

    def close(self) -> None:
        """Nothing comes any more; called once."""
        ...

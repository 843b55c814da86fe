"""The `Tracker` protocol and the events that trackers receive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable


class TrackerError(Exception):
    """An event cannot be processed now; the message alone says why."""


@dataclass(frozen=True)
class TrialName:
    """Identifies the trial of an event.

    Attributes:
        study: The study's name.
        uid: Distinguishes the study from others of the same name.
        number: The trial's number in the study.
        cell: The trial's parameters.
        seed: The trial's seed.
        started_at: When it was claimed last, in seconds since 1970; None if that is unknown.
    """

    study: str
    uid: str
    number: int
    cell: Mapping[str, Any]
    seed: int
    started_at: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class EvaluationEvent:
    """A trial was evaluated.

    Attributes:
        trial: The trial.
        step: The training step.
        metrics: Values by name; NaN or infinite if the training diverged.
        is_earlier: Whether it happened before this run.
    """

    trial: TrialName
    step: int
    metrics: Mapping[str, float]
    is_earlier: bool = field(default=False, compare=False)

    @property
    def key(self) -> str:
        """Identifies the event; the same at every delivery."""
        return f"{self.trial.uid}/{self.trial.study}/{self.trial.number}/step/{self.step}"


@dataclass(frozen=True)
class EndEvent:
    """A trial ended.

    Attributes:
        trial: The trial.
        claim: How many times the trial was claimed; a failed trial that is retried ends again, with a higher number.
        outcome: complete, pruned, diverged or failed.
        reason: Why, unless it is complete.
        step: The step of the last evaluation; None if there was none.
        metrics: Values by name after that step.
        loss: What ranks the trial, the smaller the better; None unless it is complete.
        sample: Text that a language model wrote; None without one.
        ended_at: When, in seconds since 1970; None if that is unknown.
        is_earlier: Whether it happened before this run.
    """

    trial: TrialName
    claim: int
    outcome: str
    reason: str | None
    step: int | None
    metrics: Mapping[str, float]
    loss: float | None = None
    sample: str | None = None
    ended_at: float | None = field(default=None, compare=False)
    is_earlier: bool = field(default=False, compare=False)

    @property
    def key(self) -> str:
        """Identifies the event; the same at every delivery."""
        return f"{self.trial.uid}/{self.trial.study}/{self.trial.number}/end/{self.claim}"


Event = EvaluationEvent | EndEvent


@runtime_checkable
class Tracker(Protocol):
    """Receives every evaluation and every end of a study's trials, from one thread.

    Each event is delivered at least once: after a restart all are delivered again, with the same keys. The events of a
    trial arrive in order; its end is the last. The class is called with TARGET of `--track NAME:TARGET`, or with ""
    if there is none, before anything is written.
    """

    def track(self, event: Event) -> None:
        """Process an event.

        Raises:
            Exception: The event cannot be processed now; it is delivered again later.
        """
        ...

    def close(self) -> None:
        """Release resources; called once, after the last event."""
        ...

"""What a worker and an objective owe each other. No torch here: the launcher reads this module too.

An objective is a function in a module: it makes a `TrainingRun` of a cell and a seed, or it is a generator function, of
which `objectives/generators.py` makes one. Its module may also offer `check_cell`, which refuses a cell before anything
is trained, and, unless it is a generator function, `stack_runs`, which makes a `RunGroup` of several runs, and
`group_size`, which says how many runs of a cell's shape are best trained at the same time on a device. A run may offer
`files() -> Mapping[str, bytes]`, which is asked once, when the trial ends: what to keep of it, by file name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Evaluation:
    """The two losses of a model after `step` training steps; what is reported to Optuna.

    Attributes:
        step: Training steps taken, 0 before the first.
        train_loss: Mean cross-entropy in nats per character on the training text.
        val_loss: The same on the validation text; the value that trials are ranked by.
    """

    step: int
    train_loss: float
    val_loss: float

    @property
    def diverged(self) -> bool:
        """True when a loss is NaN or infinite: such a run cannot recover."""
        return not (math.isfinite(self.train_loss) and math.isfinite(self.val_loss))


class TrainingRun(Protocol):
    """One training run that can be stopped after any step, saved, and continued bit for bit."""

    @property
    def finished(self) -> bool:
        """True once the last evaluation was returned."""
        ...

    @property
    def curve(self) -> list[Evaluation]:
        """Every evaluation so far, those of before a restore included, in order of step."""
        ...

    def advance(self, should_stop: Callable[[], bool]) -> Evaluation | None:
        """Train up to the next evaluation.

        Args:
            should_stop: Asked after every step; when it says True the run pauses between two steps.

        Returns:
            The evaluation (with NaN or infinite losses as soon as the training loss is not finite), or None
            when `should_stop` said so; the run can then be saved, or advanced again.
        """
        ...

    def save(self) -> bytes:
        """Everything that `restore` needs to continue to the same losses, to the last bit."""
        ...

    def restore(self, payload: bytes) -> None:
        """Continue from what `save` returned.

        Raises:
            CheckpointError: The payload is not a checkpoint of this very run.
        """
        ...

    def describe(self) -> Mapping[str, Any]:
        """JSON-able facts for the record of a run: parameters, tokens seen; once finished, also a text sample
        and the validation loss by position."""
        ...


class RunGroup(Protocol):
    """Runs that one worker trains at the same time."""

    def advance(self, should_stop: Callable[[], bool]) -> Sequence[tuple[TrainingRun, Evaluation]]:
        """Train until an evaluation of at least one member is due.

        Args:
            should_stop: Asked after every step.

        Returns:
            The members that were evaluated; none when `should_stop` said so.
        """
        ...

    def remove(self, leavers: Sequence[TrainingRun]) -> None:
        """Let members go, because they are finished, pruned or lost; the others do not notice."""
        ...

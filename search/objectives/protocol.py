"""The interface between workers and objectives. No torch here: the launcher imports this module too.

An `Objective` defines what a trial measures: it checks a cell, makes a `TrainingRun` from a cell and a seed, and can
train several runs as one `RunGroup`. `search.objectives.registry` makes objectives from a user's plain functions.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from search.objectives.corpus import Corpus
from search.objectives.phase_timer import PhaseTimer
from search.objectives.settings import TrainingSettings


@dataclass(frozen=True)
class Evaluation:
    """The two losses of a model after `step` training steps, as reported to Optuna.

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
    """One training run that can be stopped after any step, saved, and resumed with bit-equal results."""

    @property
    def finished(self) -> bool:
        """True once the last evaluation was returned."""
        ...

    @property
    def curve(self) -> list[Evaluation]:
        """Every evaluation so far, in order of step, including those before a restore."""
        ...

    def advance(self, should_stop: Callable[[], bool]) -> Evaluation | None:
        """Train up to the next evaluation.

        Args:
            should_stop: Called after every step; if it returns True, the run pauses between two steps.

        Returns:
            The evaluation (with NaN or infinite losses as soon as the training loss is not finite), or None
            if `should_stop` returned True; the run can then be saved, or advanced again.
        """
        ...

    def save(self) -> bytes:
        """Everything that `restore` needs to resume with bit-equal losses."""
        ...

    def restore(self, payload: bytes) -> None:
        """Resume from what `save` returned.

        Raises:
            CheckpointError: The payload is not a checkpoint of this run.
        """
        ...

    def describe(self) -> Mapping[str, Any]:
        """JSON-serializable facts for the trial's attributes: parameters, tokens seen; once finished, also a text
        sample and the validation loss by position."""
        ...


class RunGroup(Protocol):
    """Runs that one worker trains at the same time."""

    def advance(self, should_stop: Callable[[], bool]) -> Sequence[tuple[TrainingRun, Evaluation]]:
        """Train until an evaluation of at least one run is due.

        Args:
            should_stop: Called after every step.

        Returns:
            The runs that were evaluated; none if `should_stop` returned True.
        """
        ...

    def remove(self, leavers: Sequence[TrainingRun]) -> None:
        """Remove runs that are finished, pruned or lost; the others are not affected."""
        ...


@runtime_checkable
class KeepsFiles(Protocol):
    """A `TrainingRun` that has files to keep besides its losses."""

    def files(self) -> Mapping[str, bytes]:
        """The contents to keep, by file name; called once, when the trial ends."""
        ...


@runtime_checkable
class Timed(Protocol):
    """A `TrainingRun` that measures how it spends its time, for `--profile`."""

    @property
    def timer(self) -> PhaseTimer:
        """Seconds by kind of work."""
        ...


@runtime_checkable
class Objective(Protocol):
    """What a trial measures. Derive from this class: everything but `start` has a default."""

    @property
    def takes_corpus(self) -> bool:
        """Whether it trains on a text; if not, `start` and `check_cell` get None."""
        return False

    @property
    def can_stack(self) -> bool:
        """Whether `stack_runs` can train several runs as one model."""
        return False

    @property
    def settings_class(self) -> type[TrainingSettings]:
        """The class of a study's training settings; a subclass can allow fewer values."""
        return TrainingSettings

    def prepare(self) -> None:
        """Import what training needs. Only processes that train call this, so a launcher never imports torch."""
        return

    def check_cell(self, cell: Mapping[str, Any], settings: TrainingSettings, corpus: Corpus | None) -> None:
        """Check a cell before anything is planned.

        Raises:
            ObjectiveError: The cell cannot be trained; the message explains what to change.
        """
        return

    @abstractmethod
    def start(
        self, cell: Mapping[str, Any], seed: int, settings: TrainingSettings, corpus: Corpus | None, device: str
    ) -> TrainingRun:
        """Make a run at step 0.

        Args:
            cell: A value for each axis.
            seed: The source of every random number of the run.
            settings: What applies where the cell has no value.
            corpus: The text; None if the objective takes none.
            device: As torch names it: "cpu", "cuda:0".
        """
        ...

    def stack_runs(self, runs: Sequence[TrainingRun]) -> RunGroup:
        """Make one group of runs of equal shape; called only if `can_stack` is true."""
        raise AssertionError(f"{type(self).__name__} has no stack_runs, and can_stack is {self.can_stack}")

    def group_size(
        self, cell: Mapping[str, Any], settings: TrainingSettings, corpus: Corpus | None, device: str
    ) -> int:
        """How many runs of a cell's shape train fastest together on a device; can measure it."""
        return 1

"""What a worker and an objective owe each other. No torch here: the launcher reads this module too.

An `Objective` says what a trial measures: it checks a cell, makes a `TrainingRun` of a cell and a seed, and may train
several runs as one `RunGroup`. A person's plain functions become objectives in `search.objectives.registry`.
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


@runtime_checkable
class KeepsFiles(Protocol):
    """A `TrainingRun` that has files to keep beside its losses."""

    def files(self) -> Mapping[str, bytes]:
        """What to keep of the run, by file name; asked once, when its trial ends."""
        ...


@runtime_checkable
class Timed(Protocol):
    """A `TrainingRun` that measures where its time goes, for `--profile`."""

    @property
    def timer(self) -> PhaseTimer:
        """Seconds by kind of work."""
        ...


@runtime_checkable
class Objective(Protocol):
    """What a trial measures. Derive from it: everything but `start` has a default."""

    @property
    def takes_corpus(self) -> bool:
        """Whether it trains on a text; without one `start` and `check_cell` get None."""
        return False

    @property
    def can_stack(self) -> bool:
        """Whether `stack_runs` can train several runs as one model."""
        return False

    @property
    def settings_class(self) -> type[TrainingSettings]:
        """What the settings of a study are read as: a subclass may allow fewer values."""
        return TrainingSettings

    def prepare(self) -> None:
        """Import what training needs. Only processes that train call it: a launcher does without torch."""
        return

    def check_cell(self, cell: Mapping[str, Any], settings: TrainingSettings, corpus: Corpus | None) -> None:
        """Refuse a cell that cannot be trained, before anything is planned.

        Raises:
            ObjectiveError: The cell is wrong; the message says what to change.
        """
        return

    @abstractmethod
    def start(
        self, cell: Mapping[str, Any], seed: int, settings: TrainingSettings, corpus: Corpus | None, device: str
    ) -> TrainingRun:
        """Make a run that has not taken a step.

        Args:
            cell: A value for each axis.
            seed: The source of every random number of the run.
            settings: What holds where the cell has no value.
            corpus: The text, where the objective takes one.
            device: As torch names it: "cpu", "cuda:0".
        """
        ...

    def stack_runs(self, runs: Sequence[TrainingRun]) -> RunGroup:
        """Make one group of runs of equal shape; called only where `can_stack` is true."""
        raise AssertionError(f"{type(self).__name__} has no stack_runs, and can_stack is {self.can_stack}")

    def group_size(
        self, cell: Mapping[str, Any], settings: TrainingSettings, corpus: Corpus | None, device: str
    ) -> int:
        """How many runs of a cell's shape are best trained together on a device; may measure it."""
        return 1

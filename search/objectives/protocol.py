"""The interface between workers and objectives. No torch here: the launcher imports this module too.

An `Objective` defines what a trial measures: it checks a cell, makes a `TrainingRun` from a cell and a seed, and can
train several runs as one `RunGroup`. `search.objectives.registry` makes objectives from a user's plain functions.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from search.objectives.corpus import Corpus
from search.objectives.phase_timer import PhaseTimer
from search.objectives.settings import TrainingSettings

TRAIN_LOSS, VAL_LOSS = "train_loss", "val_loss"
# What ranks in place of val_loss where trials are evaluated on held-out text.
HELD_OUT_LOSS = "held_out_loss"


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a trial after some step.

    Attributes:
        step: Training steps taken, 0 before the first.
        value: The study's metric, which ranks trials, is reported to Optuna and judged by the pruner.
        metrics: Further numbers by name, such as "train_loss".
        seconds: How long the trial has trained; None if the run does not say it with each evaluation.
    """

    step: int
    value: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = field(default=None, compare=False)

    @classmethod
    def of_losses(cls, step: int, train_loss: float, val_loss: float) -> Evaluation:
        """An evaluation with two losses, of which the validation loss ranks."""
        return cls(step, val_loss, {TRAIN_LOSS: train_loss})

    @property
    def train_loss(self) -> float | None:
        """The metric "train_loss"; None without one."""
        return self.metrics.get(TRAIN_LOSS)

    @property
    def diverged(self) -> bool:
        """True when the value or the training loss is NaN or infinite: such a run cannot recover."""
        return not (math.isfinite(self.value) and math.isfinite(self.metrics.get(TRAIN_LOSS, 0.0)))


class Recorded(Protocol):
    """What the record of a trial is made from."""

    @property
    def curve(self) -> list[Evaluation]:
        """Every evaluation so far, in order of step, including those before a restore."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """JSON-serializable facts for the trial's attributes: parameters, tokens seen; once finished, also a text
        sample and the validation loss by position."""
        ...


class TrainingRun(Recorded, Protocol):
    """One training run that can be stopped after any step, saved, and resumed with bit-equal results."""

    @property
    def finished(self) -> bool:
        """True once the last evaluation was returned."""
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


@dataclass(frozen=True)
class Attempt:
    """What a run can learn of the trial that it belongs to.

    Attributes:
        metric: The name of the study's metric; of several, the first.
        earlier: The evaluations that earlier attempts reported, in order of step.
        make_trial: Makes the object that a user's function takes as `trial`.
        study: The study's name.
        must_pause: Whether the worker waits for the run to pause. Asking is no sign of life, unlike `should_stop`.
        others: The names of the study's other metrics.
    """

    metric: str = "val_loss"
    earlier: Sequence[Evaluation] = ()
    make_trial: Callable[[], Any] = lambda: None
    study: str = ""
    must_pause: Callable[[], bool] = lambda: False
    others: Sequence[str] = ()


@runtime_checkable
class KnowsAttempt(Protocol):
    """A run that gets the facts of its trial, once, before it is restored or advanced."""

    def attach(self, attempt: Attempt) -> None:
        """Take what the attempt knows."""
        ...


@runtime_checkable
class Replaces(Protocol):
    """A run whose evaluations can replace those of earlier attempts."""

    def take_replaced(self) -> int | None:
        """The step from which on earlier evaluations no longer hold, once; None if all of them hold."""
        ...


@runtime_checkable
class Closes(Protocol):
    """A run that holds something, such as a process, until it is closed."""

    def close(self) -> None:
        """Let go of it; called once, when the worker is done with the run, whatever became of the trial."""
        ...


@runtime_checkable
class ObjectiveCall(Protocol):
    """In place of a `TrainingRun`: one call of a function that reports through its trial and returns the result."""

    def call(self, trial: Any) -> object:
        """Call the function.

        Args:
            trial: An `optuna.Trial` with the additions of `search.workers.user_trial.UserTrial`.

        Returns:
            A number, several numbers, or numbers by metric.
        """
        ...


@runtime_checkable
class ChecksStudy(Protocol):
    """An objective that checks what concerns all cells of a study, before anything is planned."""

    def check_study(self, axes: Sequence[str], metrics: Sequence[str], settings: TrainingSettings) -> None:
        """Check the axes and metrics of a study.

        Args:
            axes: All axes, also those that only some cells have.
            metrics: What trials are ranked by.

        Raises:
            ObjectiveError: They cannot be right; the message explains what to change.
        """
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
    def suggests_parameters(self) -> bool:
        """Whether it chooses its parameters with `trial.suggest_…`, as Optuna's objectives do, and takes no cell."""
        return False

    @property
    def metric(self) -> str:
        """What its value is called unless the study file says otherwise."""
        return "val_loss"

    @property
    def can_stack(self) -> bool:
        """Whether `stack_runs` can train several runs as one model."""
        return False

    @property
    def settings_class(self) -> type[TrainingSettings]:
        """The class of a study's training settings; a subclass can allow fewer values."""
        return TrainingSettings

    def takes_seed(self, settings: TrainingSettings) -> bool:
        """Whether another seed gives another result."""
        return True

    def metric_names(self, settings: TrainingSettings) -> Sequence[str] | None:
        """The names of all metrics that its evaluations have; None if they are not known before it runs."""
        return None

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
    ) -> TrainingRun | ObjectiveCall:
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
        """Make one group of runs, of equal shape unless they have a `memory_share`; called if `can_stack` is true."""
        raise AssertionError(f"{type(self).__name__} has no stack_runs, and can_stack is {self.can_stack}")

    def group_size(
        self, cell: Mapping[str, Any], settings: TrainingSettings, corpus: Corpus | None, device: str
    ) -> int:
        """How many runs of a cell's shape train fastest together on a device; can measure it."""
        return 1

    def memory_share(
        self, cell: Mapping[str, Any], settings: TrainingSettings, corpus: Corpus | None, device: str
    ) -> float | None:
        """Which share of a device's memory a run takes in a group of any shapes; None if a group has one shape."""
        return None

"""The trial that a function gets when it is called again with the parameters of a recorded trial."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna import TrialPruned
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FixedTrial

from search.objectives.protocol import ObjectiveCall
from search.objectives.settings import TrainingSettings
from search.study.metrics import Metric
from search.workers.results import values_of
from search.workers.user_study import UserStudy


class ReplayedTrial(FixedTrial):
    """Has the interface of `search.workers.user_trial.UserTrial`; stores nothing.

    Args:
        parameters: Those of the recorded trial.
        number: That of the recorded trial.
        metrics: Those of the study.
        last_step: The step after which the call ends; None for the end of the function.

    Attributes:
        reported: Value by step.
    """

    attempt, resumed = 1, False

    def __init__(
        self,
        parameters: Mapping[str, Any],
        number: int,
        settings: TrainingSettings,
        metrics: Sequence[Metric],
        last_step: int | None,
    ) -> None:
        super().__init__(dict(parameters), number)
        self.settings, self.metrics, self.reported = settings, metrics, dict[int, float]()
        self._step, self._last_step = -1, last_step
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @property
    def folder(self) -> Path:
        """An empty folder, which is removed after the replay."""
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="replay-")
        return Path(self._temporary.name)

    @cached_property
    def study(self) -> UserStudy:
        """A study without trials that has the directions of the recorded one."""
        said = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # it announces the study
        try:
            storage = InMemoryStorage()
            storage.create_new_study([each.optuna_direction for each in self.metrics], "replayed")
            return UserStudy("replayed", storage, RandomSampler(seed=0), NopPruner())
        finally:
            optuna.logging.set_verbosity(said)

    def keep(self, path: str | Path) -> None:
        """Keep nothing."""

    def log(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Store nothing."""
        self._step = max(self._step, int(step))

    def report(self, value: float, step: int) -> None:
        """Remember a value."""
        self.reported[int(step)] = float(value)
        self._step = max(self._step, int(step))

    def should_prune(self) -> bool:
        """Whether the recorded trial went no further."""
        return self._last_step is not None and self._step >= self._last_step

    def close(self) -> None:
        """Remove the folder."""
        if self._temporary is not None:
            self._temporary.cleanup()


def replay_call(function: ObjectiveCall, trial: ReplayedTrial) -> float:
    """Call a function again.

    Returns:
        The first of the values that it returned. If it pruned itself, the value that it reported last; NaN without one.

    Raises:
        UsageError: As for `values_of`.
    """
    try:
        result = function.call(trial)
    except TrialPruned:
        return trial.reported[max(trial.reported)] if trial.reported else math.nan
    return values_of(result, [each.name for each in trial.metrics])[0][0]

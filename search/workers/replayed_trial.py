"""The trial that a function gets when it is called again with the parameters of a recorded trial."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna import TrialPruned
from optuna.trial import FixedTrial

from search.objectives.settings import TrainingSettings


class ReplayedTrial(FixedTrial):
    """Has the interface of `search.workers.user_trial.UserTrial`; stores nothing.

    Args:
        parameters: Those of the recorded trial.
        number: That of the recorded trial.
        last_step: The step after which the call ends; None for the end of the function.

    Attributes:
        reported: Value by step.
    """

    attempt, resumed = 1, False

    def __init__(
        self, parameters: Mapping[str, Any], number: int, settings: TrainingSettings, last_step: int | None
    ) -> None:
        super().__init__(dict(parameters), number)
        self.settings, self.reported = settings, dict[int, float]()
        self._last_step = last_step
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @property
    def folder(self) -> Path:
        """An empty folder, which is removed after the replay."""
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="replay-")
        return Path(self._temporary.name)

    def keep(self, path: str | Path) -> None:
        """Keep nothing."""

    def log(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Store nothing."""

    def report(self, value: float, step: int) -> None:
        """Remember a value."""
        self.reported[int(step)] = float(value)

    def should_prune(self) -> bool:
        """Whether the recorded trial went no further."""
        return self._last_step is not None and max(self.reported, default=-1) >= self._last_step

    def close(self) -> None:
        """Remove the folder."""
        if self._temporary is not None:
            self._temporary.cleanup()


def replay_call(function: Any, trial: ReplayedTrial) -> object:
    """Call a function again.

    Returns:
        What it returned; the last reported value if it pruned itself.
    """
    try:
        return function.call(trial)
    except TrialPruned:
        return trial.reported[max(trial.reported)]

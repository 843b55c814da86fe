"""How important the parameters of a study are, as optuna-dashboard computes it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

from optuna import Study
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

# Filters of warnings belong to the whole process.
_ONE_AT_A_TIME = threading.Lock()


class _GivenTrials(Study):
    """A stored study whose trials are given."""

    def __init__(self, storage: BaseStorage, name: str, trials: Sequence[FrozenTrial]) -> None:
        super().__init__(study_name=name, storage=storage)
        self._given = trials

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        return [trial for trial in self._given if states is None or trial.state in states]


def importances(
    storage: BaseStorage, name: str, trials: Sequence[FrozenTrial], parameters: Iterable[str]
) -> list[list[dict[str, Any]]]:
    """The importances for each objective of a study.

    Args:
        trials: With parameters, distributions and values.
        parameters: The names of all parameters of the study.

    Raises:
        ValueError: Optuna cannot compute them.
        KeyError: There is no such study.
    """
    if sum(trial.state == TrialState.COMPLETE for trial in trials) <= 1:
        return [[] for _ in storage.get_study_directions(storage.get_study_id_from_name(name))]
    study = _GivenTrials(storage, name, trials)
    return [
        _importances(study, _loss(place, direction), parameters) for place, direction in enumerate(study.directions)
    ]


def _loss(place: int, direction: StudyDirection) -> Callable[[FrozenTrial], float]:
    sign = -1 if direction == StudyDirection.MAXIMIZE else 1
    return lambda trial: sign * trial.values[place]


def _importances(study: Study, loss: Callable[[FrozenTrial], float], parameters: Iterable[str]) -> list[dict[str, Any]]:
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="PedAnovaImportanceEvaluator computes the importances")
        found = get_param_importances(study, target=loss, evaluator=PedAnovaImportanceEvaluator())
    names = list(parameters)
    kinds = {name: type(each).__name__ for trial in study.get_trials() for name, each in trial.distributions.items()}
    return [
        {"name": name, "importance": importance, "distribution": kinds[name]}
        for name, importance in (found or dict.fromkeys(names, 1 / max(1, len(names)))).items()
    ]

"""What a study's page shows besides trials, as JSON written by optuna-dashboard's own functions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from optuna_dashboard._inmemory_cache import InMemoryCache, get_cached_extra_study_property
from optuna_dashboard._serializer import serialize_study_detail

from search.storage.dashboard_reading import StudyRows
from search.web.trial_choice import Choice

IS_PREFERENTIAL = "preference:is_preferential"
# The user attribute that says what is left out of a large study.
LEFT_OUT = "lm-search shows"

Space = list[tuple[str, BaseDistribution]]


class Shape:
    """What a trial adds to what its study's page says of all trials; equal trials share it.

    Attributes:
        key: Equal for equal shapes of one study.
        distributions: Of the parameters, by name.
    """

    def __init__(self, trial: FrozenTrial) -> None:
        kinds = {name: _is_sortable(value) for name, value in trial.user_attrs.items()}
        self._state = TrialState.FAIL if trial.state == TrialState.FAIL else TrialState.COMPLETE
        self.distributions, self._kinds = trial.distributions, kinds
        self._has_curve = bool(trial.intermediate_values)
        # The distributions of one study are shared objects.
        spaces = tuple((name, id(each)) for name, each in trial.distributions.items())
        self.key = (self._state, self._has_curve, spaces, tuple(kinds.items()))

    def as_trial(self, number: int) -> Any:
        """What optuna-dashboard reads of a trial of this shape."""
        return SimpleNamespace(
            number=number,
            state=self._state,
            distributions=self.distributions,
            user_attrs={name: 0.0 if is_sortable else "" for name, is_sortable in self._kinds.items()},
            intermediate_values={0: 0.0} if self._has_curve else {},
        )


def _is_sortable(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def union_space(shapes: Iterable[Shape]) -> Space:
    """The parameters of any trial, with their ranges."""
    return _properties(shapes)[1]


def _properties(shapes: Iterable[Shape]) -> tuple[Space, Space, list[tuple[str, bool]], bool]:
    trials = [shape.as_trial(number) for number, shape in enumerate(shapes)]
    found: tuple[Space, Space, list[tuple[str, bool]], bool]
    found = get_cached_extra_study_property(InMemoryCache(), 0, trials)
    return found


def study_json(study: StudyRows, shapes: Iterable[Shape], choice: Choice) -> bytes:
    """Write a study without trials: an object whose last brace is missing, so that its trials can follow."""
    system_attrs = study.parsed_system_attrs()
    frozen = SimpleNamespace(
        _study_id=study.study_id,
        study_name=study.name,
        directions=study.directions,
        user_attrs=study.parsed_user_attrs(),
        system_attrs=system_attrs,
    )
    written = serialize_study_detail(
        frozen, [], [], *_properties(shapes), get_plotly_graph_objects(system_attrs), skipped_trial_numbers=[]
    )
    del written["trials"], written["best_trials"]
    if not choice.is_all:
        written["user_attrs"].insert(0, {"key": LEFT_OUT, "value": choice.to_text()})
    return json.dumps(written, separators=(",", ":")).encode()[:-1]

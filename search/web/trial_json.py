"""A trial as JSON for the page of its study, written by optuna-dashboard's own functions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial
from optuna_dashboard._serializer import serialize_frozen_trial

from search.web.json_times import with_zone

# Attributes of a study that belong to one of its trials.
_OF_TRIAL = re.compile(r"dashboard:(?:artifacts:)?(\d+):")

_ENCODER = json.JSONEncoder(separators=(",", ":"))


def attrs_by_trial(system_attrs: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """The system attributes of a study that belong to trials, such as their notes, by trial_id."""
    found: dict[int, dict[str, Any]] = {}
    for key, value in system_attrs.items():
        if (of_trial := _OF_TRIAL.match(key)) is not None:
            found.setdefault(int(of_trial[1]), {})[key] = value
    return found


def trial_json(study_id: int, trial: FrozenTrial, study_attrs: Mapping[str, Any], *, is_short: bool) -> bytes:
    """Write one trial.

    Args:
        study_attrs: The system attributes of the study that belong to this trial.
        is_short: Leave out the choices and limits of its parameters, which the page takes from the study.
    """
    if is_short:
        distributions, trial.distributions = trial.distributions, {}
        written = serialize_frozen_trial(study_id, trial, dict(study_attrs))
        trial.distributions = distributions
        written["params"] = [_short(name, value, trial) for name, value in trial.params.items()]
    else:
        written = serialize_frozen_trial(study_id, trial, dict(study_attrs))
    for key in ("datetime_start", "datetime_complete"):
        if key in written:
            written[key] = with_zone(written[key])
    return _ENCODER.encode(written).encode()


def _short(name: str, value: Any, trial: FrozenTrial) -> dict[str, Any]:
    distribution = trial.distributions[name]
    return {
        **{"name": name, "param_internal_value": distribution.to_internal_repr(value)},
        **{"param_external_value": str(value), "param_external_pytyp": str(type(value))},
        "distribution": {"type": type(distribution).__name__},
    }

"""What Optuna's tables say of many trials, in few queries: attributes, curves, times."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from optuna.storages._rdb import models
from sqlalchemy import Connection, Table, select

_trials: Table = models.TrialModel.__table__
_intermediate: Table = models.TrialIntermediateValueModel.__table__
_user_attrs: Table = models.TrialUserAttributeModel.__table__

# Databases limit the number of bound values of one statement.
_CHUNK = 500


def read_user_attrs(connection: Connection, trial_ids: Sequence[int], keys: Sequence[str]) -> dict[int, dict[str, Any]]:
    """The user attributes called `keys` of many trials, by trial_id."""
    found: dict[int, dict[str, Any]] = {}
    for start in range(0, len(trial_ids) if keys else 0, _CHUNK):
        chunk = trial_ids[start : start + _CHUNK]
        wanted = select(_user_attrs).where(_user_attrs.c.trial_id.in_(chunk), _user_attrs.c.key.in_(keys))
        for row in connection.execute(wanted):
            found.setdefault(row.trial_id, {})[row.key] = json.loads(row.value_json)
    return found


def read_curves(connection: Connection, trial_ids: Sequence[int]) -> dict[int, dict[int, float]]:
    """The reported values of many trials: trial_id to step to value, steps ascending."""
    found: dict[int, dict[int, float]] = {}
    table = _intermediate.c
    for start in range(0, len(trial_ids), _CHUNK):
        wanted = select(table.trial_id, table.step, table.intermediate_value, table.intermediate_value_type)
        chunk = wanted.where(table.trial_id.in_(trial_ids[start : start + _CHUNK])).order_by(table.trial_id, table.step)
        for trial_id, step, stored, kind in connection.execute(chunk):
            value = models.TrialIntermediateValueModel.stored_repr_to_intermediate_value(stored, kind)
            found.setdefault(trial_id, {})[step] = value
    return found


def read_times(connection: Connection, trial_ids: Sequence[int]) -> dict[int, tuple[datetime | None, datetime | None]]:
    """When trials were first claimed and when they ended, in UTC, by trial_id; None for what is still to come."""
    found: dict[int, tuple[datetime | None, datetime | None]] = {}
    for start in range(0, len(trial_ids), _CHUNK):
        wanted = select(_trials.c.trial_id, _trials.c.datetime_start, _trials.c.datetime_complete)
        chunk = wanted.where(_trials.c.trial_id.in_(trial_ids[start : start + _CHUNK]))
        found.update({row.trial_id: (row.datetime_start, row.datetime_complete) for row in connection.execute(chunk)})
    return found

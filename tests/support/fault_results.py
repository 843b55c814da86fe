"""The trials of a study with an axis `fault`, by the fault of their cell."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.trial import FrozenTrial
from scenario import FaultStudy
from sqlalchemy import Row


def by_fault(study: FaultStudy) -> dict[str, Row[Any]]:
    """The rows, by the fault of their cell."""
    return dict(zip([named["fault"] for named in study.named_cells()], study.rows(), strict=True))


def optuna_trials(study: FaultStudy) -> dict[str, FrozenTrial]:
    """The trials as Optuna shows them, by the fault of their cell."""
    storage = optuna.storages.RDBStorage(study.url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        trials = optuna.load_study(study_name=study.name, storage=storage).get_trials()
    finally:
        storage.engine.dispose()
    return {trial.params["fault"]: trial for trial in trials}

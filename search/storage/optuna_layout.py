"""The tables of Optuna's database, as its models declare them.

Importing these models takes a sixth of the time in which Optuna and SQLAlchemy are imported, and nothing here needs
objects for rows.
A test compares every table with Optuna's own. A new database gets its tables from Optuna itself.
"""

from __future__ import annotations

import enum
import math

from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    Enum,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
)

_KEY = String(512)
_NUMBER = Float(precision=53)

optuna_metadata = MetaData()


# On PostgreSQL the names of these classes are those of types.
class TrialValueType(enum.Enum):
    """What a value of a trial is; only finite ones are stored as numbers."""

    FINITE = 1
    INF_POS = 2
    INF_NEG = 3


class TrialIntermediateValueType(enum.Enum):
    """The same for a reported value."""

    FINITE = 1
    INF_POS = 2
    INF_NEG = 3
    NAN = 4


def _attributes(owner: str, table: str, by: str) -> Table:
    """The attributes of studies or trials that are set by a user, or by Optuna itself."""
    name, owner_id = f"{owner}_{by}_attribute", f"{owner}_id"
    return Table(
        f"{name}s",
        optuna_metadata,
        Column(f"{name}_id", Integer, primary_key=True),
        Column(owner_id, Integer, ForeignKey(f"{table}.{owner_id}")),
        Column("key", _KEY),
        Column("value_json", Text),
        UniqueConstraint(owner_id, "key"),
    )


studies = Table(
    "studies",
    optuna_metadata,
    Column("study_id", Integer, primary_key=True),
    Column("study_name", _KEY, index=True, unique=True, nullable=False),
)
study_directions = Table(
    "study_directions",
    optuna_metadata,
    Column("study_direction_id", Integer, primary_key=True),
    Column("direction", Enum(StudyDirection), nullable=False),
    Column("study_id", Integer, ForeignKey("studies.study_id"), nullable=False),
    Column("objective", Integer, nullable=False),
    UniqueConstraint("study_id", "objective"),
)
study_user_attributes = _attributes("study", "studies", "user")
study_system_attributes = _attributes("study", "studies", "system")
trials = Table(
    "trials",
    optuna_metadata,
    Column("trial_id", Integer, primary_key=True),
    Column("number", Integer),
    Column("study_id", Integer, ForeignKey("studies.study_id"), index=True),
    Column("state", Enum(TrialState), nullable=False),
    Column("datetime_start", DateTime),
    Column("datetime_complete", DateTime),
)
trial_user_attributes = _attributes("trial", "trials", "user")
trial_system_attributes = _attributes("trial", "trials", "system")
trial_params = Table(
    "trial_params",
    optuna_metadata,
    Column("param_id", Integer, primary_key=True),
    Column("trial_id", Integer, ForeignKey("trials.trial_id")),
    Column("param_name", _KEY),
    Column("param_value", _NUMBER),
    Column("distribution_json", Text),
    UniqueConstraint("trial_id", "param_name"),
)
trial_values = Table(
    "trial_values",
    optuna_metadata,
    Column("trial_value_id", Integer, primary_key=True),
    Column("trial_id", Integer, ForeignKey("trials.trial_id"), nullable=False),
    Column("objective", Integer, nullable=False),
    Column("value", _NUMBER),
    Column("value_type", Enum(TrialValueType), nullable=False),
    UniqueConstraint("trial_id", "objective"),
)
trial_intermediate_values = Table(
    "trial_intermediate_values",
    optuna_metadata,
    Column("trial_intermediate_value_id", Integer, primary_key=True),
    Column("trial_id", Integer, ForeignKey("trials.trial_id"), nullable=False),
    Column("step", Integer, nullable=False),
    Column("intermediate_value", _NUMBER),
    Column("intermediate_value_type", Enum(TrialIntermediateValueType), nullable=False),
    UniqueConstraint("trial_id", "step"),
)
trial_heartbeats = Table(
    "trial_heartbeats",
    optuna_metadata,
    Column("trial_heartbeat_id", Integer, primary_key=True),
    Column("trial_id", Integer, ForeignKey("trials.trial_id"), nullable=False),
    Column("heartbeat", DateTime, nullable=False, default=func.current_timestamp()),
    UniqueConstraint("trial_id"),
)
version_info = Table(
    "version_info",
    optuna_metadata,
    Column("version_info_id", Integer, primary_key=True, autoincrement=False, default=1),
    Column("schema_version", Integer),
    Column("library_version", String(256)),
    CheckConstraint("version_info_id=1"),
)

_NOT_STORED: dict[enum.Enum, float] = {
    TrialValueType.INF_POS: math.inf,
    TrialValueType.INF_NEG: -math.inf,
    TrialIntermediateValueType.INF_POS: math.inf,
    TrialIntermediateValueType.INF_NEG: -math.inf,
    TrialIntermediateValueType.NAN: math.nan,
}


def as_number(stored: float | None, kind: enum.Enum) -> float:
    """A value of a trial, or one that it reported, from its two columns."""
    return _NOT_STORED[kind] if stored is None else stored


def value_columns(value: float) -> tuple[float | None, TrialValueType]:
    """What is stored for a value of a trial."""
    if math.isinf(value):
        return None, TrialValueType.INF_POS if value > 0 else TrialValueType.INF_NEG
    return value, TrialValueType.FINITE


def intermediate_value_columns(value: float) -> tuple[float | None, TrialIntermediateValueType]:
    """What is stored for a value that a trial reported."""
    if math.isnan(value):
        return None, TrialIntermediateValueType.NAN
    stored, kind = value_columns(value)
    return stored, TrialIntermediateValueType[kind.name]

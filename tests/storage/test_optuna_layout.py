"""Our declaration of Optuna's tables is Optuna's own."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from optuna.storages._rdb import models
from sqlalchemy import Dialect, MetaData
from sqlalchemy.dialects.postgresql import dialect as postgresql
from sqlalchemy.dialects.sqlite import dialect as sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from search.storage.optuna_layout import (
    TrialIntermediateValueType,
    TrialValueType,
    as_number,
    intermediate_value_columns,
    optuna_metadata,
    value_columns,
)

VALUES = (0.0, -0.0, 1.5, -2e300, math.inf, -math.inf)


def statements(metadata: MetaData, dialect: Dialect) -> list[str]:
    """What creates the tables and their indexes."""
    made = [str(CreateTable(each).compile(dialect=dialect)) for each in metadata.sorted_tables]
    indexes = [index for table in metadata.sorted_tables for index in table.indexes]
    return sorted([*made, *(str(CreateIndex(each).compile(dialect=dialect)) for each in indexes)])


@pytest.mark.parametrize("of", [sqlite, postgresql], ids=["sqlite", "postgres"])
def test_the_tables_are_those_of_optuna(of: Callable[[], Dialect]) -> None:
    dialect = of()
    assert statements(optuna_metadata, dialect) == statements(models.BaseModel.metadata, dialect)


def test_the_kinds_of_values_are_those_of_optuna() -> None:
    for ours, theirs in (
        (TrialValueType, models.TrialValueModel.TrialValueType),
        (TrialIntermediateValueType, models.TrialIntermediateValueModel.TrialIntermediateValueType),
    ):
        assert ours.__name__ == theirs.__name__  # the type on PostgreSQL
        assert {each.name for each in ours} == {each.name for each in theirs}


@pytest.mark.parametrize("value", [*VALUES, math.nan])
def test_values_are_stored_as_optuna_does(value: float) -> None:
    stored, kind = intermediate_value_columns(value)
    theirs, their_kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    assert (stored, kind.name) == (theirs, their_kind.name)
    assert as_number(stored, kind) == pytest.approx(value, abs=0, nan_ok=True)
    if value in VALUES:
        of_trial, kind_of_trial = value_columns(value)
        theirs, kind_there = models.TrialValueModel.value_to_stored_repr(value)
        assert (of_trial, kind_of_trial.name) == (theirs, kind_there.name)
        assert as_number(of_trial, kind_of_trial) == value

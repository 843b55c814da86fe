"""The metric that a pruner compares in place of the value that trials report to Optuna."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from sqlalchemy import Connection

from search.storage.metrics import read_metrics


@dataclass(frozen=True)
class ComparedMetric:
    """A metric by name.

    Attributes:
        objective: Its place among the study's objectives; None for one that the study does not rank by.
    """

    name: str
    direction: StudyDirection
    objective: int | None = None


def as_compared(connection: Connection, trials: Sequence[FrozenTrial], metric: ComparedMetric) -> list[FrozenTrial]:
    """Trials whose values are those of a metric.

    Their other attributes are shared with `trials`.
    """
    metrics = read_metrics(connection, [trial._trial_id for trial in trials])
    return [_with_values(trial, metrics.get(trial._trial_id, {}), metric) for trial in trials]


def _with_values(trial: FrozenTrial, metrics: Mapping[int, Mapping[str, float]], metric: ComparedMetric) -> FrozenTrial:
    curve = {step: each[metric.name] for step, each in metrics.items() if metric.name in each}
    values = trial.values
    if metric.objective is not None and values and len(values) > metric.objective:
        last: float | None = values[metric.objective]
    else:
        last = curve[max(curve)] if curve else None
    seen = copy.copy(trial)
    seen.intermediate_values, seen.values = curve, None if last is None else [last]
    return seen

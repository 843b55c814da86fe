"""Asks a pruner about each running trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.pruners import NopPruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.errors import UsageError
from search.storage.compared_metric import ComparedMetric
from search.storage.leases import Lease
from search.storage.optuna_storage import SearchStorage
from search.storage.pruner_storage import PrunerStorage
from search.storage.slots import parameters_of
from search.storage.trial_storage import new_trial
from search.strategies.pruners import make_pruner
from search.study.cells import without_seed
from search.study.metrics import DEFAULT_METRICS, Metric
from search.study.pruner_settings import PrunerSettings


class PruningJudge:
    """Decides for each running trial of a study whether it stops.

    Args:
        backend: Optuna's storage.
        study: The study's name.
        metrics: What the study ranks by.
        history: What the pruner sees if it judges by what trials report to Optuna; None makes it.
        is_needed: Whether a cell, without its seed, must be trained to its end; None for no cell.
    """

    def __init__(
        self,
        backend: SearchStorage,
        study: str,
        settings: PrunerSettings,
        metrics: Sequence[Metric] = DEFAULT_METRICS,
        history: PrunerStorage | None = None,
        is_needed: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> None:
        self._is_needed = is_needed
        self._metric = compared_metric(settings, metrics)
        if self._metric is not None or history is None:
            history = PrunerStorage(backend, study, metric=self._metric)
        self._history, self._value = history, metrics[0].name
        self._study = Study(study_name=study, storage=self._history)
        self._pruner = make_pruner(settings, self._history)

    def trial(self, lease: Lease) -> FrozenTrial:
        """The trial as it reports, with what earlier workers reported."""
        if lease.token > 1 and not isinstance(self._pruner, NopPruner):
            return self._history.get_trial(lease.trial_id)
        # The trial is new, or the pruner ignores it: there is nothing to read.
        return new_trial(lease, parameters_of(lease.cell))

    def should_prune(self, trial: FrozenTrial, *, at_each_report: bool = False) -> bool:
        """Whether a trial stops at its newest report.

        Args:
            trial: As it reports.
            at_each_report: Whether a report without the metric is an error, even if others have it.

        Raises:
            UsageError: No report so far has the metric that the pruner judges by.
        """
        if isinstance(self._pruner, NopPruner):
            return False
        if self._is_needed is not None and self._is_needed(without_seed(trial.params)):
            return False
        seen = self._seen(trial, at_each_report)
        if seen is None:
            return False
        prune = self._pruner.prune(self._study, seen)
        trial.system_attrs.update(self._history.written_attrs.pop(trial._trial_id, {}))
        return prune

    def expire(self) -> None:
        """Let the next look at the other trials be a new one."""
        self._history.expire()

    def _seen(self, trial: FrozenTrial, at_each_report: bool) -> FrozenTrial | None:
        """The trial as the pruner sees it; None if its newest report lacks the metric."""
        metric, reports = self._metric, trial.intermediate_values
        if metric is None:
            return trial
        seen = self._history.as_compared(trial)
        values = seen.intermediate_values
        if not reports and values:  # it only logs metrics
            return seen
        if trial.last_step in values:
            return seen
        if at_each_report or not reports.keys() & values.keys():
            names = [*([self._value] if reports else []), *self._history.metric_names(trial)]
            if names:
                at = f" at step {trial.last_step}" if reports else ""
                raise UsageError(
                    f"pruner.metric = {metric.name!r}, but the trial reports {', '.join(names)} and no "
                    f"{metric.name!r}{at}; report it too, or name another metric in [pruner]"
                )
        return None


def compared_metric(settings: PrunerSettings, metrics: Sequence[Metric]) -> ComparedMetric | None:
    """The metric that a pruner judges by; None for what trials report to Optuna, the first of the study's metrics."""
    judged = settings.judged(metrics)
    if judged.name == metrics[0].name:
        return None
    place = next((at for at, each in enumerate(metrics) if each.name == judged.name), None)
    return ComparedMetric(judged.name, judged.optuna_direction, place)

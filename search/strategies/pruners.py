"""Which trials are stopped early: Optuna's pruners, reading the study's history from memory."""

from __future__ import annotations

import math

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.storage.leases import Lease
from search.storage.optuna_storage import PrunerStorage, SearchStorage
from search.storage.slots import parameters_of
from search.strategies.top_cells import TopCellsPruner
from search.study.pruner_settings import PrunerSettings


class MedianPruner(optuna.pruners.MedianPruner):
    """Optuna's median pruner, which decides the same from one array instead of a walk through all trials.

    Args:
        history: The finished trials of the study.
        warmup_steps: No trial is pruned before this step.
        min_trials: Nor before so many trials are complete, in all and at the step.
    """

    def __init__(self, history: PrunerStorage, warmup_steps: int, min_trials: int) -> None:
        super().__init__(n_startup_trials=min_trials, n_warmup_steps=warmup_steps, n_min_trials=min_trials)
        self._history, self._warmup_steps, self._min_trials = history, warmup_steps, min_trials

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or step < self._warmup_steps:
            return False
        complete, values = self._history.complete_values(step)
        if complete < self._min_trials:
            return False
        known = [value for value in trial.intermediate_values.values() if not math.isnan(value)]
        if not known:
            return True
        if len(values) < self._min_trials:
            return False
        # A NaN was reported too, so it counts above; a median of nothing but NaN is none.
        values = values[~np.isnan(values)]
        if len(values) == 0:
            return False
        with np.errstate(invalid="ignore"):  # infinities have no mean; Optuna makes NaN of it, and prunes nothing
            return min(known) > float(np.percentile(values, 50))


def make_pruner(settings: PrunerSettings, history: PrunerStorage) -> BasePruner:
    """The pruner that `settings` names; steps are training steps.

    Args:
        history: What it will be asked to compare with.
    """
    if settings.name == "top":
        return TopCellsPruner(history, settings.keep, settings.warmup_steps)
    if settings.name == "median":
        return MedianPruner(history, settings.warmup_steps, settings.min_trials)
    if settings.name == "sha":
        return SuccessiveHalvingPruner(min_resource=max(1, settings.warmup_steps), reduction_factor=2)
    if settings.name == "hyperband":
        return HyperbandPruner(min_resource=max(1, settings.warmup_steps), reduction_factor=2)
    return NopPruner()


class PruningJudge:
    """Says of one running trial of a study after another whether it shall stop.

    Args:
        backend: Optuna's storage.
        study: The study's name.
    """

    def __init__(self, backend: SearchStorage, study: str, settings: PrunerSettings) -> None:
        self._history = PrunerStorage(backend, study)
        self._study = Study(study_name=study, storage=self._history)
        self._pruner = make_pruner(settings, self._history)

    def trial(self, lease: Lease) -> FrozenTrial:
        """The trial as the pruner knows it, with what earlier workers reported."""
        if lease.token > 1 and not isinstance(self._pruner, NopPruner):
            return self._history.get_trial(lease.trial_id)
        # Nobody has worked on it before, or nobody will ask: nothing has to be read.
        return FrozenTrial(
            number=lease.number,
            trial_id=lease.trial_id,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=None,
            datetime_complete=None,
            params=parameters_of(lease.cell),
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )

    def should_prune(self, trial: FrozenTrial) -> bool:
        """Whether `trial`, whose last intermediate value is the newest, shall stop here."""
        if isinstance(self._pruner, NopPruner):
            return False
        prune = self._pruner.prune(self._study, trial)
        trial.system_attrs.update(self._history.written_attrs.pop(trial._trial_id, {}))
        return prune

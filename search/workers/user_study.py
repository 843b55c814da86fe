"""The `study` of the trial that user code gets, which its sampler reads too."""

from __future__ import annotations

import copy
from collections.abc import Container

from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


class UserStudy(Study):
    """`trial.study`: Optuna's study, in which an objective may end the study as under `study.optimize`."""

    has_stopped = False

    def __init__(self, name: str, storage: BaseStorage, sampler: BaseSampler, pruner: BasePruner) -> None:
        super().__init__(name, storage, sampler, pruner)
        self._without_reports: dict[int, FrozenTrial] = {}  # by number

    def begin_trial(self, sampler: BaseSampler) -> None:
        """Let a sampler choose the next trial's parameters, from all trials that have ended by then."""
        self.sampler = sampler
        # As `Study.ask` does: samplers read the study once a trial, and would otherwise see that of the first trial.
        self._thread_local = type(self._thread_local)()

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials = super()._get_trials(deepcopy, states, use_cache)
        if deepcopy or not self._is_multi_objective():
            return trials
        # Samplers read them without a copy. With several objectives Optuna prunes no trial and cannot compare by what
        # one reported: as if pruned before its first report, which is the worst result.
        return [self._as_worst(trial) if trial.state is TrialState.PRUNED else trial for trial in trials]

    def _as_worst(self, trial: FrozenTrial) -> FrozenTrial:
        if trial.number not in self._without_reports:
            shown = copy.copy(trial)
            shown.intermediate_values = {}
            self._without_reports[trial.number] = shown
        return self._without_reports[trial.number]

    def stop(self) -> None:
        """Let no further trial begin."""
        self.has_stopped = True

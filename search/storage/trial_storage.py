"""The storage of an Optuna trial that runs under a lease: Optuna's samplers, pruners and `Trial` work on it."""

from __future__ import annotations

import copy
from bisect import insort
from collections.abc import Container, Mapping
from datetime import datetime
from typing import Any

from optuna._typing import JSONSerializable
from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.trial import FrozenTrial, TrialState

from search.storage import optuna_tables
from search.storage.leased_writes import LeasedWrites
from search.storage.leases import Lease
from search.storage.optuna_storage import SearchStorage
from search.storage.optuna_tables import ENQUEUED, Parameter
from search.storage.pruner_storage import PrunerStorage
from search.storage.slots import is_empty_slot


class TrialStorage(PrunerStorage):
    """Holds one trial, which it writes under its lease, and what other workers have written since the last look.

    Stock Optuna reads the whole study for each trial and writes without a lease.
    """

    objectives = None  # samplers compare all
    _own: FrozenTrial | None = None
    _writes: LeasedWrites | None = None
    # While this is a dict, system attributes of the trial are kept here instead of being written.
    kept_attrs: dict[str, Any] | None = None

    def __init__(self, backend: SearchStorage, study: str) -> None:
        super().__init__(backend, study)
        self._distributions: dict[str, BaseDistribution] = {}

    def begin(self, writes: LeasedWrites) -> FrozenTrial:
        """Hold the trial of a lease, after what earlier attempts must not leave to it was removed."""
        writes.begin()
        self._writes, self.kept_attrs = writes, None
        lease = writes.lease
        # Nothing is known of a trial that begins for the first time, unless it was enqueued.
        is_new = lease.token == 1 and is_empty_slot(lease.cell) and lease.shape_key != ENQUEUED
        self._own = new_trial(lease) if is_new else super().get_trial(lease.trial_id)
        self._held_id = lease.trial_id
        self.expire()
        return self._own

    def end(self) -> None:
        """Let go of the trial."""
        self._own = self._writes = self.kept_attrs = None
        self._held_id = -1

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return copy.copy(self._own) if self._is_own(trial_id) and self._own else super().get_trial(trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = super().get_all_trials(study_id, deepcopy, states)
        own = self._own
        if own is None or (states is not None and own.state not in states):
            return trials
        if own._trial_id in self._finished:  # it had failed, or another worker has ended it since
            trials = [trial for trial in trials if trial._trial_id != own._trial_id]
        insort(trials, copy.deepcopy(own) if deepcopy else own, key=lambda trial: trial.number)
        return trials

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        return self.get_trial(trial_id).system_attrs

    def get_trial_user_attrs(self, trial_id: int) -> dict[str, Any]:
        return self.get_trial(trial_id).user_attrs

    def get_trial_params(self, trial_id: int) -> dict[str, Any]:
        return self.get_trial(trial_id).params

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        own, writes = self._expect_own(trial_id)
        check_distribution_compatibility(self._first_distribution(param_name) or distribution, distribution)
        value = distribution.to_external_repr(param_value_internal)
        writes.parameter(param_name, Parameter(value, distribution))
        own.params[param_name] = value
        own.distributions[param_name] = distribution

    def _first_distribution(self, name: str) -> BaseDistribution | None:
        """A distribution that the study has for a parameter; None if no trial has had the parameter yet."""
        if name not in self._distributions:
            self._refresh()
            for trial in [*self._finished.values(), *self._running]:
                if name in trial.distributions:
                    self._distributions[name] = trial.distributions[name]
                    break
        return self._distributions.get(name)

    def set_trial_user_attr(self, trial_id: int, key: str, value: JSONSerializable) -> None:
        own, writes = self._expect_own(trial_id)
        writes.user_attrs({key: value})
        own.user_attrs[key] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: JSONSerializable) -> None:
        own, writes = self._expect_own(trial_id)
        if self.kept_attrs is None:
            writes.system_attrs({key: value})
        else:
            self.kept_attrs[key] = value
        own.system_attrs[key] = value

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._database.read(lambda connection: optuna_tables.study_system_attrs(connection, study_id))

    def set_study_system_attr(self, study_id: int, key: str, value: JSONSerializable) -> None:
        attrs: Mapping[str, Any] = {key: value}
        self._database.write(lambda c: optuna_tables.write_study_system_attrs(c, study_id, attrs))

    def _is_own(self, trial_id: int) -> bool:
        return self._own is not None and self._own._trial_id == trial_id

    def _expect_own(self, trial_id: int) -> tuple[FrozenTrial, LeasedWrites]:
        if self._own is None or self._writes is None or self._own._trial_id != trial_id:
            raise RuntimeError("an objective can write only to its own trial, while it runs")
        return self._own, self._writes


def new_trial(lease: Lease, params: Mapping[str, Any] | None = None) -> FrozenTrial:
    """A trial that has just been claimed for the first time.

    Args:
        params: Its parameters, if they are known.
    """
    return FrozenTrial(
        number=lease.number,
        trial_id=lease.trial_id,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=datetime.now(),
        datetime_complete=None,
        params=dict(params or {}),
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )

"""Asks a pruner about each running trial."""

from __future__ import annotations

from optuna.pruners import NopPruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.storage.leases import Lease
from search.storage.optuna_storage import PrunerStorage, SearchStorage
from search.storage.slots import parameters_of
from search.storage.trial_storage import new_trial
from search.strategies.pruners import make_pruner
from search.study.pruner_settings import PrunerSettings


class PruningJudge:
    """Decides for each running trial of a study whether it stops.

    Args:
        backend: Optuna's storage.
        study: The study's name.
        history: What the pruner sees; None makes it.
    """

    def __init__(
        self, backend: SearchStorage, study: str, settings: PrunerSettings, history: PrunerStorage | None = None
    ) -> None:
        self._history = history or PrunerStorage(backend, study)
        self._study = Study(study_name=study, storage=self._history)
        self._pruner = make_pruner(settings, self._history)

    def trial(self, lease: Lease) -> FrozenTrial:
        """The trial for the pruner, with the values that earlier workers reported."""
        if lease.token > 1 and not isinstance(self._pruner, NopPruner):
            return self._history.get_trial(lease.trial_id)
        # The trial is new, or the pruner ignores it: there is nothing to read.
        return new_trial(lease, parameters_of(lease.cell))

    def should_prune(self, trial: FrozenTrial) -> bool:
        """Whether `trial` stops at its newest intermediate value."""
        if isinstance(self._pruner, NopPruner):
            return False
        prune = self._pruner.prune(self._study, trial)
        trial.system_attrs.update(self._history.written_attrs.pop(trial._trial_id, {}))
        return prune

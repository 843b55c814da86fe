"""The study that a sampler is shown: in memory, without a copy of any trial."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial


class ShownTrials(InMemoryStorage):
    """Optuna's storage in memory, which can begin with trials; adding them one by one copies each."""

    def show(self, study_id: int, trials: Sequence[FrozenTrial], ids: Sequence[int] | None = None) -> None:
        """Make `trials` those of a study that has none.

        Args:
            trials: Ended or running; they get the numbers from 0. The storage replaces a trial instead of changing it,
                so they can be shown again.
            ids: Their ids; by default their numbers.
        """
        ids = range(len(trials)) if ids is None else ids
        for number, (trial, trial_id) in enumerate(zip(trials, ids, strict=True)):
            if trial.number != number or trial._trial_id != trial_id:
                trial.number, trial._trial_id = number, trial_id
        self._studies[study_id].trials = list(trials)
        self._trial_id_to_study_id_and_number = {trial_id: (study_id, number) for number, trial_id in enumerate(ids)}
        self._max_trial_id = max(ids, default=-1)
        self._prev_waiting_trial_number[study_id] = len(trials)

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        if self._studies[study_id].best_trial_id is None:
            for trial in self._studies[study_id].trials:
                self._update_cache(trial._trial_id, study_id)
        return super().get_best_trial(study_id)

"""The study that a sampler is shown: in memory, without a copy of any trial."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial


class ShownTrials(InMemoryStorage):
    """Optuna's storage in memory, which can begin with trials; adding them one by one copies each."""

    def show(self, study_id: int, trials: Sequence[FrozenTrial]) -> None:
        """Make `trials` those of a study that has none.

        Args:
            trials: Ended or running; they get the numbers from 0, which are their ids too. The storage replaces a trial
                instead of changing it, so they can be shown again.
        """
        for number, trial in enumerate(trials):
            if trial.number != number or trial._trial_id != number:
                trial.number = trial._trial_id = number
        self._studies[study_id].trials = list(trials)
        self._trial_id_to_study_id_and_number = {number: (study_id, number) for number in range(len(trials))}
        self._max_trial_id = len(trials) - 1
        self._prev_waiting_trial_number[study_id] = len(trials)

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        if self._studies[study_id].best_trial_id is None:
            for trial in self._studies[study_id].trials:
                self._update_cache(trial._trial_id, study_id)
        return super().get_best_trial(study_id)

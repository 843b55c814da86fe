"""Optuna's TPE sampler with the same choices, which reads each ended trial of a study once.

Optuna reads all of them for each choice, which from a thousand trials on takes longer than the choice itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna.samplers
from optuna.distributions import BaseDistribution
from optuna.samplers._tpe.sampler import default_gamma
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.strategies.seen_trials import SeenTrials

Floats = npt.NDArray[np.float64]


class TPESampler(optuna.samplers.TPESampler):
    """Optuna's `TPESampler`, which can share with others what it knows of the study.

    With several objectives or constraints, or too few complete trials, it reads all of them as Optuna's does.

    Attributes:
        ended: What has been read of the study; None if it reads the study by itself, as Optuna's does.
    """

    ended: EndedTrials | None = None

    def _sample(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        split = None
        if self.ended is not None and not study._is_multi_objective():
            split = self._split(study, trial, search_space, self.ended)
        if split is None:
            return super()._sample(study, trial, search_space)
        below, above = (
            self._parzen_estimator_cls(each, search_space, self._parzen_estimator_parameters) for each in split
        )
        candidates = below.sample(self._rng.rng, self._n_ei_candidates)
        chosen = self._compare(candidates, self._compute_acquisition_func(candidates, below, above))
        return {name: kind.to_external_repr(chosen[name]) for name, kind in search_space.items()}

    def _split(
        self, study: Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution], ended: EndedTrials
    ) -> tuple[dict[str, Floats], dict[str, Floats]] | None:
        """The parameters of the best trials and of the others, by name; None if Optuna has to split them."""
        states = [TrialState.COMPLETE, TrialState.PRUNED, *([TrialState.RUNNING] if self._constant_liar else [])]
        trials = study._get_trials(deepcopy=False, states=states, use_cache=not self._constant_liar)
        is_running = np.array([each.state is TrialState.RUNNING for each in trials], dtype=bool)
        running = [trials[at] for at in np.flatnonzero(is_running)]
        rows = ended.read([each for each in trials if each.state is not TrialState.RUNNING])
        best = self._best(study, ended.losses[rows])
        if best is None or ended.has_constraints:
            return None
        is_best = np.zeros(len(trials), dtype=bool)
        is_best[np.flatnonzero(~is_running)[best]] = True
        is_other = ~is_best & np.array([each.number != trial.number for each in trials])
        values = {}
        for name, kind in search_space.items():
            values[name] = np.empty(len(trials))
            values[name][~is_running] = ended.column(name, kind)[rows]
            values[name][is_running] = [_number(self._get_params(each, study), name, kind) for each in running]
        has_all = ~np.isnan(np.array([*values.values()])).any(axis=0)
        below, above = ({name: each[has_all & which] for name, each in values.items()} for which in (is_best, is_other))
        return below, above

    def _best(self, study: Study, losses: Floats) -> npt.NDArray[np.int64] | None:
        """The places of the best trials; None if too few are complete, so that pruned ones belong to them."""
        if self._gamma is None:
            self._gamma = default_gamma
        n_best = self._gamma(len(losses))
        complete = np.flatnonzero(~np.isnan(losses))
        if n_best > len(complete):
            return None
        sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
        # Of equal ones Optuna takes the first.
        return complete[np.argsort(sign * losses[complete], kind="stable")[:n_best]]


class EndedTrials:
    """The complete and pruned trials of one study as numbers, each read once.

    Attributes:
        losses: The value of each row's trial; NaN if it was pruned.
        has_constraints: Whether a trial has constraints.
    """

    def __init__(self) -> None:
        self._seen = SeenTrials()
        self._forget()

    def _forget(self) -> None:
        self._columns: dict[str, tuple[BaseDistribution, Floats]] = {}
        self.losses: Floats = np.empty(0)
        self.has_constraints = False

    def read(self, trials: Sequence[FrozenTrial]) -> npt.NDArray[np.int64]:
        """The row of each trial."""
        new, is_anew = self._seen.see(trials)
        if is_anew:
            self._forget()
        self.losses = np.append(self.losses, [_loss(each) for each in new])
        self.has_constraints = self.has_constraints or any(each.constraints for each in new)
        return self._seen.rows(trials)

    def column(self, name: str, kind: BaseDistribution) -> Floats:
        """A parameter of each row's trial as its distribution numbers it; NaN if the trial lacks it."""
        known, column = self._columns.get(name, (kind, np.empty(0)))
        if known != kind:
            column = np.empty(0)
        column = np.append(column, [_number(each.params, name, kind) for each in self._seen.trials[len(column) :]])
        self._columns[name] = kind, column
        return column


def _loss(trial: FrozenTrial) -> float:
    # Optuna gives a pruned trial a value too: what it reported last.
    return trial.value if trial.state is TrialState.COMPLETE and trial.value is not None else np.nan


def _number(params: Mapping[str, Any], name: str, kind: BaseDistribution) -> float:
    return kind.to_internal_repr(params[name]) if name in params else np.nan

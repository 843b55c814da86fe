"""What the samplers of a study's slots know together: each trial has one of its own, made for its slot."""

from __future__ import annotations

import copy

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.strategies.seen_trials import SeenTrials
from search.strategies.tpe import EndedTrials, TPESampler


class SharedKnowledge:
    """What has been read of the trials of one study, so that a new sampler reads only those that ended since."""

    def __init__(self) -> None:
        self._known: dict[bool, _KnownSearchSpace] = {}
        self._ended = EndedTrials()

    def share(self, sampler: BaseSampler) -> BaseSampler:
        """Let a new sampler use it; returns the sampler."""
        for name, value in list(vars(sampler).items()):
            if type(value) is IntersectionSearchSpace:
                setattr(sampler, name, self._of(value._include_pruned))
        if isinstance(sampler, TPESampler):
            sampler.ended = self._ended
        return sampler

    def _of(self, include_pruned: bool) -> _KnownSearchSpace:
        return self._known.setdefault(include_pruned, _KnownSearchSpace(include_pruned))


class _KnownSearchSpace(IntersectionSearchSpace):
    """The parameters that all trials have."""

    def __init__(self, include_pruned: bool) -> None:
        super().__init__(include_pruned)
        self._states = {TrialState.COMPLETE, *([TrialState.PRUNED] if include_pruned else ())}
        self._compared = SeenTrials()

    def calculate(self, study: Study, use_cache: bool = False) -> dict[str, BaseDistribution]:
        trials = study._get_trials(deepcopy=False, use_cache=use_cache)
        new, is_anew = self._compared.see([trial for trial in trials if trial.state in self._states])
        if is_anew:
            self._search_space = None
        for trial in new:
            self._search_space = _common(self._search_space, trial)
        return copy.deepcopy(dict(sorted((self._search_space or {}).items())))


def _common(space: dict[str, BaseDistribution] | None, trial: FrozenTrial) -> dict[str, BaseDistribution]:
    if space is None:
        return dict(trial.distributions)
    return {name: kind for name, kind in space.items() if trial.distributions.get(name) == kind}

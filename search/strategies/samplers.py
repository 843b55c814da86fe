"""Optuna's samplers by name, and one question to one of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial

from search.errors import UsageError
from search.study.search_space import SAMPLERS, SamplerSettings

# A quasi-random sequence is one sequence: each of its points must be asked for with the same seed.
_ONE_SEED = frozenset({"QMCSampler"})


@dataclass(frozen=True)
class Answer:
    """What a sampler chose, and what it noted for later calls.

    Attributes:
        values: A value for each axis.
        trial_notes: System attributes of the trial.
        study_notes: System attributes of the study.
    """

    values: Mapping[str, Any]
    trial_notes: Mapping[str, Any]
    study_notes: Mapping[str, Any]


def make_sampler(settings: SamplerSettings, seed: int, slot: int = 0) -> BaseSampler:
    """The sampler that `settings` names, for one slot.

    Args:
        seed: The study's first seed; with `slot` it gives the sampler's own.

    Raises:
        UsageError: There is no such sampler, or it does not take an argument.
    """
    kinds = [name for name in optuna.samplers.__all__ if name.endswith("Sampler") and not name.startswith("Base")]
    kinds.remove("GridSampler")  # ours is sampler = "grid", which parallel workers share without repeating a cell
    wanted = SAMPLERS.get(settings.name, settings.name)
    if wanted not in kinds:
        raise UsageError(f"sampler = {settings.name!r}: choices are grid, {', '.join(SAMPLERS)}, {', '.join(kinds)}")
    if "seed" in settings.arguments:
        raise UsageError(f"sampler.seed = {settings.arguments['seed']}: write first_seed = N at the top of the file")
    own_seed = seed if wanted in _ONE_SEED else (seed * 1_000_003 + slot) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls some of its arguments experimental
        try:
            return getattr(optuna.samplers, wanted)(seed=own_seed, **settings.arguments)  # type: ignore[no-any-return]
        except (TypeError, ValueError) as error:
            fault = str(error).replace(f"{wanted}.__init__() ", "").splitlines()[0]
            raise UsageError(f"sampler = {settings.name!r}: {wanted} {fault}") from error


def ask(
    sampler: BaseSampler,
    distributions: Mapping[str, BaseDistribution],
    known: Sequence[FrozenTrial],
    study_notes: Mapping[str, Any],
) -> Answer:
    """Ask a sampler for the next cell of a study that holds the trials `known` and nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            storage = InMemoryStorage()
            study = optuna.create_study(storage=storage, sampler=sampler)
            for key, value in study_notes.items():
                storage.set_study_system_attr(study._study_id, key, value)
            study.add_trials(known)
            trial = study.ask(dict(distributions))
        finally:
            optuna.logging.set_verbosity(before)
    frozen = storage.get_trial(trial._trial_id)
    notes = storage.get_study_system_attrs(study._study_id)
    changed = {key: value for key, value in notes.items() if study_notes.get(key) != value}
    return Answer(frozen.params, frozen.system_attrs, changed)

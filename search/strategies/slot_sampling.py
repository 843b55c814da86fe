"""Fills a slot with a cell: shows the study to its sampler and stores the sampler's choice."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.statistics.inference import mean
from search.storage.database import Database
from search.storage.leases import Lease
from search.storage.optuna_tables import Parameter
from search.storage.slots import Choice, SlotHistory, SlotTrial, fill, is_unfilled
from search.strategies.samplers import Answer, ask, is_starting, make_sampler
from search.strategies.start_points import start_point
from search.study.planner import axis_distributions, shape_key
from search.study.search_space import SamplerSettings
from search.study.stored import Observation, StoredStudy


@dataclass(frozen=True)
class Sampling:
    """How the slots of a study are filled.

    Attributes:
        distributions: The search space of the sampler.
        first_seed: The seed of a cell's first repetition; together with the slot it gives the sampler's seeds.
        observations: Cells of another study with their losses; the sampler gets them too.
        order: The axes in the order of the study file.
        has_start_points: Whether the first cells are `start_point`s; studies of earlier versions draw them at random.
    """

    database: Database
    sampler: SamplerSettings
    distributions: Mapping[str, BaseDistribution]
    first_seed: int
    observations: Sequence[Observation] = ()
    order: Sequence[str] = ()
    has_start_points: bool = True

    def fill(self, lease: Lease) -> Lease:
        """Give the slot of a lease a cell, unless it has one.

        Raises:
            Exception: The sampler raised it; nothing was changed.
        """
        if not is_unfilled(lease):
            return lease
        return fill(self.database, lease, self.first_seed, self._ask, self._choice)

    def _ask(self, slot: int, history: SlotHistory) -> Choice:
        trials = [*observed_trials(self.observations, self.distributions), *slots_as_trials(history.trials)]
        sampler = make_sampler(self.sampler, self.first_seed, slot)
        if self.has_start_points and is_starting(sampler, trials):
            return self._choice(start_point(self.distributions, slot, self.first_seed))
        answer = ask(sampler, self.distributions, trials, history.notes)
        return self._choice(answer.values, answer)

    def _choice(self, cell: Mapping[str, Any], answer: Answer | None = None) -> Choice:
        parameters = {name: Parameter(cell[name], self.distributions[name]) for name in self.order or cell}
        notes = (answer.trial_notes, answer.study_notes) if answer is not None else ({}, {})
        return Choice(parameters, shape_key(cell), *notes)


def make_sampling(database: Database, study: StoredStudy) -> Sampling | None:
    """How the slots of a planned study are filled; None for a study without slots."""
    sampler = study.definition.sampler
    if sampler is None or study.definition.suggests_parameters:
        return None
    distributions = axis_distributions(study.definition.grid, study.definition.axes)
    observations = () if study.warm_start is None else study.warm_start.observations
    return Sampling(
        database,
        sampler,
        distributions,
        study.first_seed,
        observations,
        order=study.axis_order,
        has_start_points=study.has_start_points,
    )


def observed_trials(
    observations: Sequence[Observation], distributions: Mapping[str, BaseDistribution]
) -> list[FrozenTrial]:
    """Complete trials that only the sampler sees; they are not trials of the study."""
    return [
        create_trial(params=dict(each.cell), distributions=dict(distributions), value=each.val_loss)
        for each in observations
    ]


def slots_as_trials(trials: Sequence[SlotTrial]) -> list[FrozenTrial]:
    """A study for its sampler: one trial per slot, with the mean over the slot's seeds."""
    slots: dict[int, list[SlotTrial]] = {}
    for trial in trials:
        slots.setdefault(trial.slot, []).append(trial)
    return [_merged(seeds) for _, seeds in sorted(slots.items())]


def _merged(seeds: Sequence[SlotTrial]) -> FrozenTrial:
    states = {each.state for each in seeds}
    first = seeds[0].trial
    params = {name: value for name, value in first.params.items() if name != "seed"}
    make = functools.partial(
        create_trial,
        params=params,
        distributions={name: kind for name, kind in first.distributions.items() if name != "seed"},
        system_attrs=first.system_attrs,
    )
    if states & {"waiting", "running"}:
        return make(state=TrialState.RUNNING)
    if states == {"complete"}:
        return make(value=mean([value for each in seeds if (value := each.trial.value) is not None]))
    if "diverged" in states:
        # As if pruned before its first step, which is the worst result; samplers ignore failed trials.
        return make(state=TrialState.PRUNED)
    if "pruned" in states:
        return make(state=TrialState.PRUNED, intermediate_values=_mean_curve([each.trial for each in seeds]))
    return make(state=TrialState.FAIL)


def _mean_curve(trials: Sequence[FrozenTrial]) -> dict[int, float]:
    """The mean at every step that all trials have reached."""
    measured = [trial.intermediate_values for trial in trials if trial.intermediate_values]
    steps = set.intersection(*(set(curve) for curve in measured)) if measured else set()
    return {step: mean([curve[step] for curve in measured]) for step in sorted(steps)}

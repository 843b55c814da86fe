"""Fills a slot with a cell: shows the study to its sampler and stores the sampler's choice."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.study._constrained_optimization import _CONSTRAINTS_KEY
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.statistics.inference import mean
from search.storage.database import Database
from search.storage.leases import Lease
from search.storage.schema import NOT_RUN
from search.storage.slot_filling import Choice, fill, is_unfilled
from search.storage.slot_history import SlotHistory, SlotTrial
from search.storage.values import canonical
from search.strategies.samplers import Answer, ask, is_starting, make_sampler, sees_trials
from search.strategies.shared_knowledge import SharedKnowledge
from search.strategies.start_points import in_decimals, start_point
from search.study.distributions import axis_distributions, cell_parameters
from search.study.metrics import DEFAULT_METRICS, Metric
from search.study.planner import shape_key
from search.study.search_space import SamplerSettings
from search.study.space import Space
from search.study.stored import StoredStudy, parse_definition
from search.study.warm_starts import Observation


@dataclass(frozen=True)
class Sampling:
    """How the slots of a study are filled.

    Attributes:
        distributions: The search space of the sampler.
        first_seed: The seed of a cell's first repetition; together with the slot it gives the sampler's seeds.
        space: Which axes a cell has, and which cells are excluded.
        observations: Cells of another study with their losses; the sampler gets them too.
        order: The axes in the order of the study file.
        metrics: What trials are ranked by.
        has_start_points: Whether the first cells are `start_point`s; studies of earlier versions draw them at random.
        definition: The stored definition that all this is from.
    """

    history: SlotHistory
    sampler: SamplerSettings
    distributions: Mapping[str, BaseDistribution]
    first_seed: int
    space: Space
    observations: Sequence[Observation] = ()
    order: Sequence[str] = ()
    has_start_points: bool = True
    definition: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[Metric] = DEFAULT_METRICS
    # By the text of a definition.
    _read: dict[str | None, Sampling] = field(default_factory=dict, init=False)
    _shared: SharedKnowledge = field(default_factory=SharedKnowledge, init=False)

    def fill(self, lease: Lease) -> Lease:
        """Give the slot of a lease a cell, unless it has one.

        Raises:
            Exception: The sampler raised it; nothing was changed.
        """
        if not is_unfilled(lease):
            return lease
        return fill(self.history, lease, self.first_seed, self._ask)

    def _ask(self, slot: int, history: SlotHistory) -> Choice:
        text = history.definition
        if text not in self._read:
            self._read[text] = self._with(text)
        return self._read[text]._choose(slot, history)

    def _with(self, text: str | None) -> Sampling:
        definition = None if text is None else json.loads(text)
        if not isinstance(definition, dict) or canonical(definition) == canonical(self.definition):
            return self
        read = parse_definition(definition)  # values were added since
        distributions = axis_distributions(read.grid, read.axes)
        return replace(self, distributions=distributions, space=read.space, definition=definition, order=())

    def _choose(self, slot: int, history: SlotHistory) -> Choice:
        if (chosen := history.cell_of(slot)) is not None:
            return self._choice(chosen)
        sampler = self._shared.share(make_sampler(self.sampler, self.first_seed, slot))
        shown, notes = history.shown() if sees_trials(sampler) else ({}, {})
        trials = [*self._observed, *shown.values()]
        # A slot keeps its id, whatever is filled or observed later: notes of a sampler name trials by their ids.
        ids = [*range(-len(self._observed), 0), *shown]
        if self.has_start_points and is_starting(sampler, trials):
            return self._choice(self._start_point(slot))
        answer = ask(sampler, self.distributions, trials, notes, self.space, self.metrics, ids)
        values = {name: in_decimals(value, self.distributions[name]) for name, value in answer.values.items()}
        made = self._choice(values, answer) if values else self._choice(self._start_point(slot))
        return replace(made, sees_trials=sees_trials(sampler))

    @cached_property
    def _observed(self) -> list[FrozenTrial]:
        return observed_trials(self.observations, self.distributions, self.space)

    def _start_point(self, slot: int) -> Mapping[str, Any]:
        return start_point(self.distributions, slot, self.first_seed, self.space)

    def _choice(self, cell: Mapping[str, Any], answer: Answer | None = None) -> Choice:
        notes = (answer.trial_notes, answer.study_notes) if answer is not None else ({}, {})
        parameters = cell_parameters(cell, self.distributions, self.order)
        return Choice(parameters, shape_key(cell), *notes, sees_trials=answer is not None)


def make_sampling(database: Database, study: StoredStudy) -> Sampling | None:
    """How the slots of a planned study are filled; None for a study without slots."""
    definition = study.definition
    if definition.sampler is None or definition.suggests_parameters:
        return None
    merge = functools.partial(merged, n_values=len(definition.metrics))
    observations = () if study.warm_start is None else study.warm_start.observations
    return Sampling(
        SlotHistory(database, study.name, study.planning, merge),
        definition.sampler,
        axis_distributions(definition.grid, definition.axes),
        study.first_seed,
        definition.space,
        observations,
        order=study.axis_order,
        has_start_points=study.has_start_points,
        definition=definition.as_stored,
        metrics=definition.metrics,
    )


def observed_trials(
    observations: Sequence[Observation], distributions: Mapping[str, BaseDistribution], space: Space
) -> list[FrozenTrial]:
    """Complete trials that only the sampler sees; they are not trials of the study.

    The search space can have changed since they were stored. Those outside it are left out, and so are those with an
    axis that is gone: the trials of this study may have another value of it.
    """
    known = [each for each in observations if each.cell.keys() <= distributions.keys()]
    inside = [restricted for each in known if (restricted := each.restricted(distributions, space)) is not None]
    return [
        create_trial(
            params=dict(each.cell),
            distributions={name: distributions[name] for name in each.cell},
            values=[each.val_loss, *each.further],
        )
        for each in inside
    ]


def merged(seeds: Sequence[SlotTrial], n_values: int = 1) -> FrozenTrial:
    """The trials of one slot as its sampler sees them: one trial, with the means over the seeds.

    Args:
        n_values: The number of values of a complete trial.
    """
    states = {each.state for each in seeds} - {NOT_RUN}
    first = seeds[0].trial
    params = {name: value for name, value in first.params.items() if name != "seed"}
    make = functools.partial(
        create_trial,
        params=params,
        distributions={name: kind for name, kind in first.distributions.items() if name != "seed"},
        system_attrs=_merged_notes(seeds),
    )
    if states & {"waiting", "running"}:
        return make(state=TrialState.RUNNING)
    if states == {"complete"}:
        measured = [each.trial.values for each in seeds if each.trial.values is not None]
        return make(values=[mean(values) for values in zip(*measured, strict=True)])
    if "diverged" in states or ("pruned" in states and n_values > 1):
        # As if pruned before its first report, which is the worst result; samplers ignore failed trials. With several
        # objectives Optuna has no pruned trials, and cannot compare by what they reported.
        return make(state=TrialState.PRUNED)
    if "pruned" in states:
        return make(state=TrialState.PRUNED, intermediate_values=_mean_curve([each.trial for each in seeds]))
    return make(state=TrialState.FAIL)


def _merged_notes(seeds: Sequence[SlotTrial]) -> dict[str, Any]:
    """The notes on the first trial, with the largest value of each constraint: as in a report, a cell is infeasible if
    one of its complete trials is."""
    worst: dict[str, float] = {}
    for each in [each for each in seeds if each.state == "complete"] or seeds:
        for name, value in each.trial.constraints.items():
            worst[name] = max(value, worst.get(name, value))
    others = {key: note for key, note in seeds[0].trial.system_attrs.items() if not key.startswith(_CONSTRAINTS_KEY)}
    return others | {f"{_CONSTRAINTS_KEY}:{name}": value for name, value in worst.items()}


def _mean_curve(trials: Sequence[FrozenTrial]) -> dict[int, float]:
    """The mean at every step that all trials have reached."""
    measured = [trial.intermediate_values for trial in trials if trial.intermediate_values]
    steps = set.intersection(*(set(curve) for curve in measured)) if measured else set()
    return {step: mean([curve[step] for curve in measured]) for step in sorted(steps)}

"""The plan of a confirmation: the best cells of a study, with fresh seeds, in a study of their own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from optuna.distributions import BaseDistribution, IntDistribution

from search.objectives.corpus import Corpus
from search.objectives.held_out import held_out_text
from search.objectives.protocol import HELD_OUT_LOSS
from search.objectives.registry import DEFAULT_OBJECTIVE
from search.storage.growth import TrialCell
from search.storage.optuna_tables import Parameter
from search.storage.planning import DefinitionChanged, Growth, PlannedTrial, StudyPlan
from search.storage.values import canonical, compact_json
from search.study.cells import CONFIRMATION, CONFIRMATION_SUFFIX
from search.study.claims import Cell
from search.study.confirmed_choices import CHOICES, Choice
from search.study.definition import MAX_SEEDS
from search.study.distributions import axis_distributions, cell_distributions, cell_parameters
from search.study.metrics import DEFAULT_METRICS, Metric
from search.study.planner import shape_key
from search.study.pruner_settings import PrunerSettings
from search.study.stored import SET_TRAINING, StoredStudy
from search.study.text_unit import TEXT_UNIT, text_unit_attribute

# Keys of a study's definition that its confirmation does not have: it has a few chosen cells.
_OF_SEARCH = ("axes", "sampler", "first_seed", "when", "exclude", "enqueue", "baselines")


def confirmation_name(study: str) -> str:
    """The name of the study that confirms another one."""
    return study + CONFIRMATION_SUFFIX


def with_choice(
    choices: Sequence[Choice], cells: Sequence[Cell], first_seed: int, used: Iterable[int], seeds: int
) -> list[Choice]:
    """Add a choice, or more seeds to the one of the same cells; nothing that was chosen before goes.

    Args:
        cells: The winner and the runner-up.
        first_seed: That of the study.
        used: The seeds of its trials.
        seeds: How many fresh seeds the cells get.
    """
    # A study has at most MAX_SEEDS seeds, so it does not grow into these.
    taken = set(used)
    lowest = first_seed + MAX_SEEDS
    fresh = [seed for seed in range(lowest, lowest + MAX_SEEDS + len(taken)) if seed not in taken]
    same = [each for each in choices if canonical(each.cells) == canonical(cells)]
    before = list(same[0].seeds) if same else []
    further = [seed for seed in fresh if seed not in before][: max(0, seeds - len(before))]
    others = [each for each in choices if each not in same]
    return [*others, Choice([dict(cell) for cell in cells], [*before, *further])]


def confirmed_metrics(study: StoredStudy, corpus: Corpus | None) -> Sequence[Metric]:
    """What the trials of a confirmation are ranked by: the study's metrics, unless the text is another one."""
    definition = study.definition
    if corpus is None or corpus.held_out is None or definition.objective != DEFAULT_OBJECTIVE:
        return definition.metrics
    return [Metric(HELD_OUT_LOSS)] if tuple(definition.metrics) == DEFAULT_METRICS else definition.metrics


def with_held_out(corpus: Corpus) -> Corpus:
    """The text of a study as its confirmation uses it."""
    return replace(corpus, held_out=held_out_text(corpus))


def confirmation_plan(
    study: StoredStudy, corpus: Corpus | None, baseline: float | None, choices: Sequence[Choice]
) -> StudyPlan:
    """The trials that confirm a study.

    Args:
        corpus: Its text, with the held-out text.
        baseline: The bigram baseline on the held-out text.
        choices: All choices so far.
    """
    metrics = confirmed_metrics(study, corpus)
    held_out = None if corpus is None else corpus.held_out
    definition = {key: value for key, value in study.definition.as_stored.items() if key not in _OF_SEARCH}
    definition[CONFIRMATION] = {} if held_out is None else {"text": held_out.name, "sha256": held_out.sha256}
    if tuple(metrics) != DEFAULT_METRICS:
        definition["metrics"] = [each.as_dict() for each in metrics]
    unit = text_unit_attribute(corpus, study.definition.training.eval_tokens)
    own = {
        "description": f"Fresh seeds for the best cells of {study.name}.",
        SET_TRAINING: study.set_training,
        "corpus": study.corpus,
        "bigram_baseline": baseline,
        **({} if unit is None else {TEXT_UNIT: unit}),
        "settings": {
            "pruner": PrunerSettings(name="none").model_dump(),
            "workers": study.settings.workers.model_dump(),
            **({"cost": cost} if (cost := study.settings.cost.given()) else {}),
        },
        "first_seed": choices[-1].seeds[0],
        "seeds": len(choices[-1].seeds),
        CHOICES: [each.as_attribute() for each in choices],
    }
    name, distributions = confirmation_name(study.name), _distributions(study)

    def grow(stored: Mapping[str, Any], trials: Sequence[TrialCell]) -> Growth:
        # Nothing but what the study may change: its lists, and the values of names.
        fixed = {*stored, *definition} - {"grid", "named"}
        if any(canonical(stored.get(key)) != canonical(definition.get(key)) for key in fixed):
            raise DefinitionChanged(name, stored, definition)
        return Growth(plan)

    plan = StudyPlan(
        study=name,
        definition=json.loads(json.dumps(definition)),
        attrs=own,
        trials=_trials(study, choices, distributions),
        directions=[each.optuna_direction for each in metrics],
        metric_names=[] if tuple(metrics) == DEFAULT_METRICS else [each.name for each in metrics],
        distributions=distributions,
        grow=grow,
    )
    return plan


def _distributions(study: StoredStudy) -> dict[str, BaseDistribution]:
    """Those of the study itself, so that all choices, also later ones, have the same."""
    definition = study.definition
    if definition.sampler is None:
        return cell_distributions(definition.cells)
    return axis_distributions(definition.grid, definition.axes)


def _trials(
    study: StoredStudy, choices: Sequence[Choice], distributions: Mapping[str, BaseDistribution]
) -> list[PlannedTrial]:
    """The trials of all choices, seed by seed."""
    found: dict[str, PlannedTrial] = {}
    for choice in choices:
        for repetition, seed in enumerate(choice.seeds):
            for place, cell in enumerate(choice.cells):
                text = compact_json({**cell, "seed": seed})
                parameters = cell_parameters(cell, distributions, study.axis_order)
                parameters["seed"] = Parameter(seed, IntDistribution(seed, seed))
                found.setdefault(
                    canonical({**cell, "seed": seed}),
                    PlannedTrial(text, parameters, shape_key(cell), repetition * 1_000 + place),
                )
    return list(found.values())

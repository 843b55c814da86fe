"""Turns a study definition into the trials that the database must hold."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optuna.distributions import IntDistribution

from search.errors import UsageError
from search.objectives.corpus import Corpus
from search.objectives.language_model.bigram_baseline import bigram_baseline_loss
from search.objectives.language_model.settings import LanguageModelSettings
from search.storage.database import Database
from search.storage.growth import TrialCell
from search.storage.optuna_tables import Parameter
from search.storage.planning import DefinitionChanged, Growth, Planned, PlannedTrial, StudyPlan, plan
from search.storage.schema import MAX_SHAPE_KEY
from search.storage.slot_filling import Choice
from search.storage.slots import slot_text
from search.storage.spending import BUDGET, Budget
from search.storage.texts import printable
from search.storage.values import canonical, compact_json
from search.study.cells import BASELINES_SUFFIX
from search.study.claims import Cell, Scalar
from search.study.definition import StudyDefinition, sections
from search.study.differences import flat
from search.study.distributions import axis_distributions, cell_distributions, cell_parameters, last_values
from search.study.growth import cells_that_go, merged_enqueue
from search.study.metrics import DEFAULT_METRICS, DEFAULT_NAME
from search.study.stored import ARGUMENTS, RESERVED
from search.study.text_unit import TEXT_UNIT, text_unit_attribute

# Axes that do not change the shape of a tensor; trials that differ only in these can train as one stacked model.
SHAPELESS = frozenset({"pe_type", *LanguageModelSettings.model_fields})


@dataclass(frozen=True)
class Study:
    """A definition with the values that the command line adds.

    Attributes:
        name: The study's name in the database.
        corpus: The text that its trials train on; None if the objective takes none.
        modules: The folder with the study's own modules, besides the Python path.
        metric: What its objective calls its value.
        with_baselines: Whether the sibling study is planned and trained too.
        target: The loss at which the run stops; None for none.
        budget: How much its trials and those of its siblings may take; None for no limit.
        published_left_out: Why its published losses cannot be compared with ours; "" if they can.
        arguments: Of `run`, what the study is planned with again; empty if they cannot be written on a command line.
    """

    definition: StudyDefinition
    name: str
    corpus: Corpus | None
    with_baselines: bool = True
    modules: Path | None = None
    target: float | None = None
    budget: Budget | None = None
    published_left_out: str = ""
    metric: str = DEFAULT_NAME
    arguments: Sequence[str] = ()

    @property
    def names(self) -> list[str]:
        """The names of the study and, if it has one, of its sibling with the baselines."""
        siblings = [self.name + BASELINES_SUFFIX] if self.with_baselines and self.definition.baselines else []
        return [self.name, *siblings]


def edge_cells(definition: StudyDefinition) -> list[Cell]:
    """Cells that a sampler might choose; together they have every listed value and both ends of every range."""
    return [*definition.space.edge_cells(last_values(definition.axes)), *definition.enqueued]


def shape_key(cell: Mapping[str, Scalar]) -> str:
    """A key that is equal for cells whose tensors have equal shapes."""
    key = compact_json({name: value for name, value in cell.items() if name not in SHAPELESS}, sort_keys=True)
    return key if len(key) <= MAX_SHAPE_KEY else hashlib.sha256(key.encode()).hexdigest()


def study_plans(study: Study) -> list[StudyPlan]:
    """The planned trials of a study and of its baselines.

    Trials are numbered seed by seed: the whole table with one seed comes first, then the error bars.
    """
    definition = study.definition
    cells = {study.name: definition.cells}
    if study.with_baselines and definition.baselines:
        # Baselines have other parameters, and Optuna's importances need parameters that all trials share.
        cells[study.name + BASELINES_SUFFIX] = definition.baselines
    metrics = definition.ranked_metrics(study.metric)
    directions = [each.optuna_direction for each in metrics]
    metric_names = [] if metrics == DEFAULT_METRICS else [each.name for each in metrics]
    unit = text_unit_attribute(study.corpus, definition.training.eval_tokens)
    attrs = {
        "description": definition.description,
        # Without changing the definition, which has all.
        "set_training": sorted(definition.training.model_fields_set),
        ARGUMENTS: list(study.arguments),
        "corpus": None if study.corpus is None else study.corpus.name,
        # A report may be made on a machine without the corpus.
        "bigram_baseline": None if study.corpus is None else bigram_baseline_loss(study.corpus),
        **({} if unit is None else {TEXT_UNIT: unit}),
        "settings": sections(definition),
        **{key: getattr(study, key) for key in ("target", "published_left_out")},
        BUDGET: None if study.budget is None else study.budget.as_dict(),
        **{key: getattr(definition, key) for key in ("first_seed", "seeds", "trials")},
        "published": [published.model_dump() for published in definition.published],
        "claims": [claim.model_dump() for claim in definition.claims],
        "analyses": [each.model_dump() for each in definition.analyses],
        # A later run without it does not undo it.
        **({"confirm": definition.confirm} if definition.confirm else {}),
        "equivalence_margin": definition.equivalence_margin,
    }
    definitions = stored_definitions(study)
    plans = []
    for name, study_cells in cells.items():
        is_grid = name == study.name
        if is_grid and definition.is_sampled:
            trials = _slots(definition)
        else:
            # Baselines come first of their seed: they are quick, and every later cell can be compared with them.
            places = _places(definition, study_cells) if is_grid else range(len(study_cells))
            trials = list(cell_trials(study_cells, definition.seeds, definition.first_seed, places))
        of_grid = {"axis_order": list(definition.axis_order)} if is_grid else {}
        # A study that an earlier version planned keeps its sampler's random start points.
        initial = {"start_points": "halton"} if is_grid and definition.is_sampled else {}
        plan = StudyPlan(name, definitions[name], {**attrs, **of_grid}, trials, initial, directions, metric_names)
        plans.append(replace(plan, **_of_space(study)) if is_grid else plan)
    return plans


def _of_space(study: Study) -> dict[str, Any]:
    """The fields of a plan that the search space gives."""
    definition = study.definition

    def grow(stored: Mapping[str, Any], trials: Sequence[TrialCell]) -> Growth:
        enqueue = merged_enqueue(stored, definition.enqueued)
        merged = definition.model_copy(update={"enqueue": enqueue})
        [plan, *_] = study_plans(replace(study, definition=merged))
        return Growth(plan, cells_that_go(study.name, stored, plan.definition, trials))

    if not definition.is_sampled:
        return {"distributions": cell_distributions(definition.cells), "grow": grow}
    if definition.suggests_parameters:
        return {"fixed": definition.fixed, "grow": grow}
    distributions = axis_distributions(definition.grid, definition.axes)
    order = definition.axis_order
    enqueued = [Choice(cell_parameters(c, distributions, order), shape_key(c), {}, {}) for c in definition.enqueued]
    fields = {"distributions": distributions, "enqueued": enqueued, "first_seed": definition.first_seed}
    return {**fields, "grow": grow}


def stored_definitions(study: Study) -> dict[str, dict[str, Any]]:
    """The definitions of a study and of its baselines as JSON, by name."""
    definition = study.definition
    metrics = definition.ranked_metrics(study.metric)
    common = {
        "objective": definition.objective,
        "training": definition.training.as_dict(),
        "corpus_sha256": None if study.corpus is None else study.corpus.sha256,
        # Absent where it is the default, so that a study of an earlier version keeps its definition.
        **({} if metrics == DEFAULT_METRICS else {"metrics": [each.as_dict() for each in metrics]}),
        **({"settings": definition.settings} if definition.settings else {}),
        **({RESERVED: True} if study.corpus is not None and study.corpus.reserved is not None else {}),
    }
    of_study = {study.name: _search_space(definition)}
    if len(study.names) > 1:
        of_study[study.name + BASELINES_SUFFIX] = {"baselines": definition.baselines}
    found: dict[str, dict[str, Any]] = json.loads(
        json.dumps({name: {**axes, **common} for name, axes in of_study.items()})
    )
    return found


def _places(definition: StudyDefinition, cells: Sequence[Cell]) -> Sequence[int]:
    """The places of a grid's cells in the queue of their seed: enqueued ones first.

    A pruner needs the quick cells first (docs/pruning.md), and study files list them in that order. Without a pruner
    the slow cells go first; otherwise the last slow trial would keep one worker busy and leave the others idle.
    """
    order = range(1_000, 1_000 + len(cells))
    if definition.pruner.name == "none":
        order = order[::-1]
    if not definition.enqueue:
        return order
    enqueued = {canonical(cell): 500 + index for index, cell in enumerate(definition.enqueued)}
    return [enqueued.get(canonical(cell), place) for cell, place in zip(cells, order, strict=True)]


def _search_space(definition: StudyDefinition) -> dict[str, Any]:
    # Keys that a study does not use are left out, so that studies of earlier versions continue.
    further = {"when": definition.when, "named": definition.named, "exclude": definition.exclude}
    # What an objective that suggests its parameters is to try first is no part of its study, as in Optuna.
    further |= {} if definition.suggests_parameters else {"enqueue": definition.enqueued}
    used = {key: value for key, value in further.items() if value}
    if not definition.is_sampled:
        return {"grid": definition.grid, **used}
    axes = {name: axis.model_dump() for name, axis in definition.axes.items()}
    sampler = definition.sampler.model_dump()
    return {"grid": definition.grid, "axes": axes, "sampler": sampler, "first_seed": definition.first_seed, **used}


def _slots(definition: StudyDefinition) -> list[PlannedTrial]:
    assert definition.trials is not None
    points = itertools.product(range(definition.trials), range(definition.seeds))
    return [
        # All seeds of a slot before the next slot: the sampler learns from a cell only after its last seed has ended.
        PlannedTrial(slot_text(slot, repetition, definition.first_seed + repetition), {}, "", 1_000 + slot)
        for slot, repetition in points
    ]


def cell_trials(
    cells: Sequence[Cell], seeds: int, first_seed: int, places: Sequence[int] | None = None
) -> Iterable[PlannedTrial]:
    """The trials of cells, seed by seed.

    Args:
        places: The place of each cell in the queue of its seed; by default the order of `cells`.
    """
    places = range(len(cells)) if places is None else places
    distributions = cell_distributions(cells)
    for repetition in range(seeds):
        for cell, place in zip(cells, places, strict=True):
            seed = first_seed + repetition
            parameters = {name: Parameter(value, distributions[name]) for name, value in cell.items()}
            # A range of one value keeps the seed out of Optuna's importances; in a wide range with all seeds at one
            # end it would rank as the most important parameter.
            parameters["seed"] = Parameter(seed, IntDistribution(seed, seed))
            yield PlannedTrial(
                cell=compact_json({**cell, "seed": seed}),
                parameters=parameters,
                shape_key=shape_key(cell),
                priority=repetition * 1_000_000 + place,
            )


def ensure_planned(database: Database, study: Study, plans: Sequence[StudyPlan] | None = None) -> Planned:
    """Plan the trials of a study that the database lacks.

    Args:
        plans: All trials of the study; by default those of the definition.

    Raises:
        UsageError: The database has a study of this name with another definition.
    """
    try:
        return plan(database, study_plans(study) if plans is None else plans)
    except DefinitionChanged as error:
        raise UsageError(_explain_change(error)) from error


def _explain_change(change: DefinitionChanged) -> str:
    step = "choose another name with --name, or another --storage"
    if change.stored is None:
        return f"lm-search did not plan the study {change.study!r} in the database; {step}"
    before, after = flat(change.stored), flat(change.wanted)
    differing = [key for key in {**before, **after} if canonical(before.get(key)) != canonical(after.get(key))]
    changes = "; ".join(
        f"{key} was {printable(before.get(key, 'unset'))}, is {printable(after.get(key, 'unset'))}" for key in differing
    )
    return f"the study {change.study!r} was planned with another definition ({changes}); {change.reason or step}"

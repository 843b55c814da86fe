"""Turns a study definition into the trials that the database must hold."""

from __future__ import annotations

import hashlib
import itertools
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.errors import UsageError
from search.objectives.corpus import Corpus
from search.objectives.language_model.bigram_baseline import bigram_baseline_loss
from search.objectives.settings import TrainingSettings
from search.storage.database import Database
from search.storage.optuna_tables import Parameter
from search.storage.planning import DefinitionChanged, Planned, PlannedTrial, StudyPlan, plan
from search.storage.schema import MAX_SHAPE_KEY
from search.storage.slots import slot_text
from search.storage.texts import printable
from search.storage.values import canonical, compact_json
from search.study.cells import BASELINES_SUFFIX, grid_cells
from search.study.claims import Cell, Scalar
from search.study.definition import StudyDefinition, sections
from search.study.metrics import DEFAULT_METRICS, DEFAULT_NAME
from search.study.search_space import Range

# Axes that do not change the shape of a tensor; trials that differ only in these can train as one stacked model.
SHAPELESS = frozenset({"pe_type", *TrainingSettings.model_fields})


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
        published_left_out: Why its published losses cannot be compared with ours; "" if they can.
    """

    definition: StudyDefinition
    name: str
    corpus: Corpus | None
    with_baselines: bool = True
    modules: Path | None = None
    target: float | None = None
    published_left_out: str = ""
    metric: str = DEFAULT_NAME

    @property
    def names(self) -> list[str]:
        """The names of the study and, if it has one, of its sibling with the baselines."""
        siblings = [self.name + BASELINES_SUFFIX] if self.with_baselines and self.definition.baselines else []
        return [self.name, *siblings]


def axis_distributions(grid: Mapping[str, Sequence[Scalar]], axes: Mapping[str, Range]) -> dict[str, BaseDistribution]:
    """The distributions that a sampler chooses from: the lists of `grid` and the ranges of `axes`."""
    found: dict[str, BaseDistribution] = {name: CategoricalDistribution(values) for name, values in grid.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `unreached_ends` says what Optuna warns of
        for name, axis in axes.items():
            if axis.is_integer:
                step = 1 if axis.step is None else int(axis.step)
                found[name] = IntDistribution(int(axis.low), int(axis.high), log=axis.log, step=step)
            else:
                found[name] = FloatDistribution(float(axis.low), float(axis.high), log=axis.log, step=axis.step)
    return found


def unreached_ends(axes: Mapping[str, Range]) -> list[str]:
    """Sentences about the ranges whose steps do not reach their end."""
    return [
        f"the axis {name}: step = {axes[name].step} from {axes[name].low} does not reach {axes[name].high}; the last "
        f"value that is tried is {last}"
        for name, last in _last_values(axes).items()
        if last != axes[name].high
    ]


def _last_values(axes: Mapping[str, Range]) -> dict[str, int | float]:
    """The highest value of each range that its steps reach."""
    found = axis_distributions({}, axes)
    return {name: each.high for name, each in found.items() if isinstance(each, (IntDistribution, FloatDistribution))}


def edge_cells(definition: StudyDefinition) -> list[Cell]:
    """Cells that a sampler might choose; together they have every listed value and both ends of every range."""
    lasts = _last_values(definition.axes)
    lists: dict[str, list[Scalar]] = {
        **definition.grid,
        **{name: [axis.low, lasts[name]] for name, axis in definition.axes.items()},
    }
    first = {name: values[0] for name, values in lists.items()}
    others = [{**first, name: value} for name, values in lists.items() for value in values[1:]]
    return [first, *others]


def shape_key(cell: Mapping[str, Scalar]) -> str:
    """A key that is equal for cells whose tensors have equal shapes."""
    key = compact_json({name: value for name, value in cell.items() if name not in SHAPELESS}, sort_keys=True)
    return key if len(key) <= MAX_SHAPE_KEY else hashlib.sha256(key.encode()).hexdigest()


def study_plans(study: Study) -> list[StudyPlan]:
    """The planned trials of a study and of its baselines.

    Trials are numbered seed by seed: the whole table with one seed comes first, then the error bars.
    """
    definition = study.definition
    cells = {study.name: [] if definition.is_sampled else grid_cells(definition.grid)}
    if study.with_baselines and definition.baselines:
        # Baselines have other parameters, and Optuna's importances need parameters that all trials share.
        cells[study.name + BASELINES_SUFFIX] = definition.baselines
    metrics = definition.ranked_metrics(study.metric)
    common = {
        "objective": definition.objective,
        "training": definition.training.model_dump(),
        "corpus_sha256": None if study.corpus is None else study.corpus.sha256,
        # Absent where it is the default, so that a study of an earlier version keeps its definition.
        **({} if metrics == DEFAULT_METRICS else {"metrics": [each.as_dict() for each in metrics]}),
        **({"settings": definition.settings} if definition.settings else {}),
    }
    directions = [each.optuna_direction for each in metrics]
    metric_names = [] if metrics == DEFAULT_METRICS else [each.name for each in metrics]
    attrs = {
        "description": definition.description,
        "corpus": None if study.corpus is None else study.corpus.name,
        # A report may be made on a machine without the corpus.
        "bigram_baseline": None if study.corpus is None else bigram_baseline_loss(study.corpus),
        "settings": sections(definition),
        **{key: getattr(study, key) for key in ("target", "published_left_out")},
        **{key: getattr(definition, key) for key in ("first_seed", "seeds", "trials")},
        "published": [published.model_dump() for published in definition.published],
        "claims": [claim.model_dump() for claim in definition.claims],
    }
    plans = []
    for name, study_cells in cells.items():
        is_grid = name == study.name
        axes = _search_space(definition) if is_grid else {"baselines": definition.baselines}
        stored = json.loads(json.dumps({**axes, **common}))
        if is_grid and definition.is_sampled:
            trials = _slots(definition)
        else:
            # Baselines come first of their seed: they are quick, and every later cell can be compared with them.
            places = _places(len(study_cells), definition.pruner.name) if is_grid else range(len(study_cells))
            trials = list(cell_trials(study_cells, definition.seeds, definition.first_seed, places))
        of_grid = {"axis_order": list(definition.axis_order)} if is_grid else {}
        # A study that an earlier version planned keeps its sampler's random start points.
        initial = {"start_points": "halton"} if is_grid and definition.is_sampled else {}
        plans.append(StudyPlan(name, stored, {**attrs, **of_grid}, trials, initial, directions, metric_names))
    return plans


def _places(cells: int, pruner: str) -> range:
    """The places of a grid's cells in the queue of their seed.

    A pruner needs the quick cells first (docs/pruning.md), and study files list them in that order. Without a pruner
    the slow cells go first; otherwise the last slow trial would keep one worker busy and leave the others idle.
    """
    order = range(1_000, 1_000 + cells)
    return order[::-1] if pruner == "none" else order


def _search_space(definition: StudyDefinition) -> dict[str, Any]:
    if not definition.is_sampled:
        return {"grid": definition.grid}
    axes = {name: axis.model_dump() for name, axis in definition.axes.items()}
    sampler = definition.sampler.model_dump()
    return {"grid": definition.grid, "axes": axes, "sampler": sampler, "first_seed": definition.first_seed}


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
    distributions = _distributions(cells)
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


def _distributions(cells: Sequence[Cell]) -> dict[str, BaseDistribution]:
    # By Python's equality, as Optuna finds a choice.
    choices: dict[str, dict[Scalar, None]] = {}
    for cell in cells:
        for name, value in cell.items():
            choices.setdefault(name, {}).setdefault(value)
    return {name: CategoricalDistribution(list(values)) for name, values in choices.items()}


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
    before, after = _flat(change.stored), _flat(change.wanted)
    differing = [key for key in {**before, **after} if canonical(before.get(key)) != canonical(after.get(key))]
    changes = "; ".join(
        f"{key} was {printable(before.get(key, 'unset'))}, is {printable(after.get(key, 'unset'))}" for key in differing
    )
    return f"the study {change.study!r} was planned with another definition ({changes}); {step}"


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat

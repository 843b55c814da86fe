"""From a study definition to the trials that shall exist in the database."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from objectives.corpus import Corpus
from objectives.floor import counted_bigram_loss
from objectives.settings import TrainingSettings
from search.definition import BASELINES_SUFFIX, StudyDefinition, sections
from search.errors import UsageError
from search.own_code import resolve_objective
from search.sayings import Cell, Scalar
from storage.database import Database
from storage.optuna_tables import Parameter
from storage.planning import DefinitionChanged, Planned, PlannedTrial, StudyPlan, plan

# Axes that change no tensor's shape; trials that differ only in these can be trained as one stacked model.
SHAPELESS = frozenset({"pe_type", *TrainingSettings.model_fields})


@dataclass(frozen=True)
class Study:
    """A definition with everything that the command line adds to it.

    Attributes:
        name: The study's name in the database.
        corpus: The text that its trials train on; None where the objective takes none.
        modules: Where its own modules are, besides the Python path.
        with_baselines: Whether the sibling study is planned and trained too.
    """

    definition: StudyDefinition
    name: str
    corpus: Corpus | None
    with_baselines: bool = True
    modules: Path | None = None

    @property
    def names(self) -> list[str]:
        """The names of the study and, if it has one, of its sibling with the baselines."""
        siblings = [self.name + BASELINES_SUFFIX] if self.with_baselines and self.definition.baselines else []
        return [self.name, *siblings]


def canonical(value: Mapping[str, Any]) -> str:
    """One text for one mapping, whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def without_seed(cell: Mapping[str, Any]) -> dict[str, Any]:
    """The cell of a trial: its parameters but for the seed."""
    return {name: value for name, value in cell.items() if name != "seed"}


def grid_cells(grid: Mapping[str, Sequence[Scalar]]) -> list[Cell]:
    """Every point of the grid; the last axis varies fastest."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def study_plans(study: Study) -> list[StudyPlan]:
    """What shall exist for a study and its baselines.

    Trials are numbered seed by seed: a table with one seed of everything comes first, error bars later.
    """
    definition = study.definition
    cells = {study.name: grid_cells(definition.grid)}
    if study.with_baselines and definition.baselines:
        # Baselines differ in their parameters, and importances need parameters that all trials share.
        cells[study.name + BASELINES_SUFFIX] = definition.baselines
    common = {
        "objective": definition.objective,
        "training": definition.training.model_dump(),
        "corpus_sha256": None if study.corpus is None else study.corpus.sha256,
    }
    attrs = {
        "description": definition.description,
        "corpus": None if study.corpus is None else study.corpus.name,
        # A report may be made where the corpus is not.
        "floor": None if study.corpus is None else counted_bigram_loss(study.corpus),
        "settings": sections(definition),
        "published": [published.model_dump() for published in definition.published],
        "claims": [claim.model_dump() for claim in definition.claims],
    }
    plans = []
    for name, its_cells in cells.items():
        is_grid = name == study.name
        axes = {"grid": definition.grid} if is_grid else {"baselines": definition.baselines}
        wanted = json.loads(json.dumps({**axes, **common}))
        trials = list(_trials(its_cells, definition.seeds, definition.first_seed, first=not is_grid))
        plans.append(StudyPlan(name, wanted, attrs, trials))
    return plans


def _trials(cells: Sequence[Cell], seeds: int, first_seed: int, *, first: bool) -> Iterable[PlannedTrial]:
    distributions = _distributions(cells)
    for repetition in range(seeds):
        for index, cell in enumerate(cells):
            seed = first_seed + repetition
            parameters = {name: Parameter(value, distributions[name]) for name, value in cell.items()}
            # A range of one value keeps Optuna's importances free of the seed; in a wide range, which the seeds fill
            # at one spot, it would come out as the most important parameter of all.
            parameters["seed"] = Parameter(seed, IntDistribution(seed, seed))
            yield PlannedTrial(
                cell=canonical({**cell, "seed": seed}),
                parameters=parameters,
                shape_key=canonical({name: value for name, value in cell.items() if name not in SHAPELESS}),
                # Baselines are quick and give every later row something to be compared with: first of their seed.
                priority=repetition * 1_000_000 + (index if first else 1_000 + index),
            )


def _distributions(cells: Sequence[Cell]) -> dict[str, BaseDistribution]:
    choices: dict[str, list[Scalar]] = {}
    for cell in cells:
        for name, value in cell.items():
            if value not in choices.setdefault(name, []):
                choices[name].append(value)
    return {name: CategoricalDistribution(values) for name, values in choices.items()}


def check_cells(study: Study) -> None:
    """Let the objective look at every cell before anything is planned.

    Raises:
        UsageError, ModelError, ObjectiveError: A cell that could never be trained.
    """
    definition = study.definition
    module = definition.objective.partition(":")[0]
    resolve_objective(definition.objective)
    # An objective may leave its cells unchecked: a wrong one then fails as a trial.
    check = getattr(import_module(module), "check_cell", None)
    if check is not None:
        for cell in [*grid_cells(definition.grid), *(definition.baselines if study.with_baselines else [])]:
            check(cell, definition.training, study.corpus)


def ensure_planned(database: Database, study: Study) -> Planned:
    """Plan what is missing of a study.

    Raises:
        UsageError: The database has a study of this name with another definition.
    """
    try:
        return plan(database, study_plans(study))
    except DefinitionChanged as error:
        raise UsageError(_explain_change(error)) from error


def _explain_change(change: DefinitionChanged) -> str:
    step = "give this one another name with --name, or another --storage"
    if change.stored is None:
        return f"the study {change.study!r} in the database was not planned by lm-search; {step}"
    before, after = _flat(change.stored), _flat(change.wanted)
    differing = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    changes = "; ".join(f"{key} was {before.get(key, 'unset')}, is {after.get(key, 'unset')}" for key in differing)
    return f"the study {change.study!r} was planned with another definition ({changes}); {step}"


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat

"""A study that Optuna alone made, in the form of a planned study, for the programs that show results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from search.storage.database import Database
from search.storage.optuna_studies import OptunaStudy, copy_study, plan_copy
from search.storage.schema import DEFINITION
from search.storage.texts import printable
from search.storage.values import canonical, compact_json
from search.study.stored import AXIS_ORDER, MADE_BY_OPTUNA

SEED = "seed"
# Optuna's own prefix of a parameter in a table.
PREFIX = "params_"
# A number with so few values, each tried twice or more on average, is shown as a list of values instead of a range.
MOST_LISTED = 16


def copy_in_memory(database: Database, name: str) -> Database:
    """A copy of a study that Optuna alone made, as a planned study in memory; nothing is written to `database`."""
    copy, study = copy_study(database, name)
    cells = _with_seeds([_cell(trial) for trial in study.trials])
    plan_copy(copy, study, _attributes(study), [compact_json(cell) for cell in cells])
    return copy


def _cell(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters, with names that a cell may have and values that can be compared."""
    return {_axis(name): _scalar(value) for name, value in trial.params.items()}


def _axis(name: str) -> str:
    return PREFIX + name if name == SEED or name.startswith("@") else name


def _scalar(value: Any) -> Any:
    # None too becomes text: a cell without the parameter shows nothing.
    return value if isinstance(value, (bool, int, float, str)) else printable(value)


def _with_seeds(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cells with a seed each: the parameter "seed" if it tells repetitions apart, or else the repetition from 0."""
    seed = PREFIX + SEED
    named = [{SEED if name == seed else name: value for name, value in cell.items()} for cell in cells]
    integers = all(type(cell.get(SEED)) is int for cell in named)
    if named and integers and len(set(map(canonical, named))) == len(named):
        return named
    repetitions: dict[str, int] = {}
    numbered = []
    for cell in cells:
        key = canonical(cell)
        numbered.append({**cell, SEED: repetitions.get(key, 0)})
        repetitions[key] = repetitions.get(key, 0) + 1
    return numbered


def _attributes(study: OptunaStudy) -> dict[str, Any]:
    """The user attributes of the planned study: what is known of its search space, and nothing else."""
    values, distributions = _tried(study.trials)
    grid: dict[str, Sequence[Any]] = {}
    axes: dict[str, Mapping[str, Any]] = {}
    for name, distribution in distributions.items():
        listed = _listed(distribution, values[name])
        if listed is None:
            axes[name] = _range(distribution, values[name])
        else:
            grid[name] = listed
    several = len(study.directions) > 1
    names = study.metric_names or [f"value_{at}" if several else "value" for at in range(len(study.directions))]
    metrics = [{"name": name, "direction": each} for name, each in zip(names, study.directions, strict=True)]
    definition = {"grid": grid, "axes": axes, "metrics": metrics}
    return {
        DEFINITION: json.loads(json.dumps(definition)),
        "description": "",
        AXIS_ORDER: list(distributions),
        MADE_BY_OPTUNA: True,
    }


def _tried(trials: Sequence[FrozenTrial]) -> tuple[dict[str, list[Any]], dict[str, BaseDistribution]]:
    """The values of each parameter, and its newest distribution: a study may change the ends of a range."""
    values: dict[str, list[Any]] = {}
    distributions: dict[str, BaseDistribution] = {}
    for trial in trials:
        for name, value in trial.params.items():
            values.setdefault(_axis(name), []).append(_scalar(value))
            distributions[_axis(name)] = trial.distributions[name]
    return values, distributions


def _listed(distribution: BaseDistribution, tried: Sequence[Any]) -> list[Any] | None:
    """The values of a list; None for a range."""
    if isinstance(distribution, CategoricalDistribution):
        return list({canonical(value): value for value in map(_scalar, distribution.choices)}.values())
    distinct = sorted(set(tried))
    is_list = len(distinct) == 1 or (len(distinct) <= MOST_LISTED and 2 * len(distinct) <= len(tried))
    return distinct if is_list else None


def _range(distribution: BaseDistribution, tried: Sequence[Any]) -> dict[str, Any]:
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    low, high = min([distribution.low, *tried]), max([distribution.high, *tried])
    return {"low": low, "high": high, "log": distribution.log}

"""The Optuna distributions of a study's axes, and the parameters of a cell."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.storage.database import Database
from search.storage.optuna_tables import Parameter
from search.storage.queries import suggested_distributions
from search.study.claims import Cell, Scalar
from search.study.search_space import Range
from search.study.stored import StoredDefinition


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


def study_distributions(database: Database, study: str, definition: StoredDefinition) -> dict[str, BaseDistribution]:
    """The distributions of a planned study: those that its objective suggests, or those of its axes."""
    if definition.suggests_parameters:
        return suggested_distributions(database, study)
    return axis_distributions(definition.grid, definition.axes)


def cell_parameters(
    cell: Mapping[str, Scalar], distributions: Mapping[str, BaseDistribution], order: Sequence[str] = ()
) -> dict[str, Parameter]:
    """The parameters of a cell, those of `order` first."""
    names = [*(name for name in order if name in cell), *(name for name in cell if name not in order)]
    return {name: Parameter(cell[name], distributions[name]) for name in names}


def unreached_ends(axes: Mapping[str, Range]) -> list[str]:
    """Sentences about the ranges whose steps do not reach their end."""
    return [
        f"the axis {name}: step = {axes[name].step} from {axes[name].low} does not reach {axes[name].high}; the last "
        f"value that is tried is {last}"
        for name, last in last_values(axes).items()
        if last != axes[name].high
    ]


def last_values(axes: Mapping[str, Range]) -> dict[str, int | float]:
    """The highest value of each range that its steps reach."""
    found = axis_distributions({}, axes)
    return {name: each.high for name, each in found.items() if isinstance(each, (IntDistribution, FloatDistribution))}


def cell_distributions(cells: Sequence[Cell]) -> dict[str, BaseDistribution]:
    """The distributions of the parameters of cells."""
    # By Python's equality, as Optuna finds a choice.
    choices: dict[str, dict[Scalar, None]] = {}
    for cell in cells:
        for name, value in cell.items():
            choices.setdefault(name, {}).setdefault(value)
    return {name: CategoricalDistribution(list(values)) for name, values in choices.items()}

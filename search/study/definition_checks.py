"""Checks of a study file that concern more than one of its keys."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from search.storage.values import canonical
from search.study.formatting import count_text
from search.study.names import check_axis_name
from search.study.space import check_axes_named, check_enqueued

if TYPE_CHECKING:
    from search.study.definition import StudyDefinition

# More are typing errors.
MAX_TRIALS = 100_000
NO_AXES = "grid is missing: give it at least one axis, or trials = N for an objective that suggests its parameters"


def check_definition(definition: StudyDefinition) -> None:
    """Check a study file whose keys are each right.

    Raises:
        ValueError: Some of them do not go together.
    """
    for check in (_check_sampler, _check_space, check_size, _check_metrics, _check_baselines):
        check(definition)


def _check_sampler(definition: StudyDefinition) -> None:
    for axis in definition.axes:
        check_axis_name(axis)
    if not definition.grid and not definition.axes and not definition.is_sampled:
        raise ValueError(NO_AXES)
    if definition.is_sampled and definition.trials is None:
        raise ValueError(f"sampler = {definition.sampler.name!r} needs trials = N, the number of cells that it chooses")
    if definition.is_sampled and definition.auto_seeds is not None:
        name = definition.sampler.name
        raise ValueError(f'seeds = "auto" works only with the grid, not with sampler = {name!r}; give a number')
    if not definition.is_sampled and definition.axes:
        axis = next(iter(definition.axes))
        raise ValueError(f'the axis {axis} is a range, and the grid needs lists; set a sampler, such as "tpe"')
    if not definition.is_sampled and (definition.trials is not None or definition.sampler.arguments):
        raise ValueError(
            "the grid trains every cell and takes neither trials = N nor arguments; remove them, or set a "
            'sampler, such as "tpe"'
        )


def _check_space(definition: StudyDefinition) -> None:
    if definition.suggests_parameters and definition.exclude:
        raise ValueError(
            "exclude needs axes; an objective that suggests its parameters raises optuna.TrialPruned for those that it "
            "does not want"
        )
    check_axes_named(definition.space)
    # Optuna's ranges, and lists of values by name, cannot have other values; the other lists of a grid can.
    fixed = definition.space.names if definition.is_sampled else [*definition.named]
    if not definition.suggests_parameters:
        check_enqueued(definition.space, definition.enqueue, fixed)
    if definition.trials is not None and len(definition.enqueue) > definition.trials:
        raise ValueError(f"enqueue has {len(definition.enqueue)} cells, and trials = {definition.trials}; raise trials")


def check_size(definition: StudyDefinition) -> None:
    """Check the number of trials before they are made.

    Raises:
        ValueError: There are more than `MAX_TRIALS`.
    """
    lengths = {axis: len(values) for axis, values in definition.grid.items() if len(values) > 1}
    cells = definition.trials if definition.is_sampled else _count_cells(definition)
    total = (cells or 0) * definition.seeds
    if total > MAX_TRIALS:
        product = " x ".join(f"{length} {axis}" for axis, length in lengths.items())
        of = f"trials = {cells}" if definition.is_sampled else f"the grid has {cells} cells ({product}), which"
        raise ValueError(
            f"{of} with {count_text(definition.seeds, 'seed')} each is {total} trials; at most {MAX_TRIALS} are "
            "allowed: give fewer values or seeds" + ("" if definition.is_sampled else ", or a sampler with trials = N")
        )


def _count_cells(definition: StudyDefinition) -> int:
    if not definition.when and not definition.exclude:  # without making the cells, of which there may be too many
        return math.prod(map(len, definition.grid.values())) + len(definition.enqueue)
    return len(definition.cells)


def _check_metrics(definition: StudyDefinition) -> None:
    for one, several in (("metric", definition.metrics), ("direction", definition.directions)):
        if getattr(definition, one) is not None and several:
            raise ValueError(f"{one} and {one}s exclude each other; remove one of them")
    names, directions = definition.metric_names, definition.metric_directions
    if len(set(names)) < len(names):
        raise ValueError(f"metrics = {names} has a name twice")
    if len(names) > 1 and not directions:
        example = ", ".join(['"minimize"', '"maximize"', *['"minimize"'] * len(names)][: len(names)])
        raise ValueError(f"metrics = {names} needs directions, one for each, such as directions = [{example}]")
    if names and directions and len(names) != len(directions):
        raise ValueError(f"metrics = {names} needs as many directions, not {directions}")


def _check_baselines(definition: StudyDefinition) -> None:
    for index, cell in enumerate(definition.baselines):
        if not cell:
            raise ValueError(f"baselines.{index} is empty; give it the keys of a cell")
        for axis in cell:
            check_axis_name(axis)
        if canonical(cell) in map(canonical, definition.baselines[:index]):
            raise ValueError(f"baselines.{index} = {cell} occurs twice; remove one")

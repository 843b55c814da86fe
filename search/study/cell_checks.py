"""Checks of a study's cells before anything is planned."""

from __future__ import annotations

import json
from collections.abc import Sequence

from search.errors import USER_ERRORS, UsageError
from search.objectives.errors import ObjectiveError, UnknownAxesError
from search.objectives.protocol import ChecksStudy, Objective
from search.objectives.settings import TrainingSettings, read_settings
from search.storage.schema import MAX_CELL
from search.storage.values import compact_json
from search.study.cells import objective_values
from search.study.claims import Cell
from search.study.definition import StudyDefinition
from search.study.formatting import describe_cell
from search.study.no_arguments import without_arguments
from search.study.planner import Study, edge_cells
from search.study.user_modules import resolve_objective
from search.study.validation_messages import did_you_mean

# The axis that decides which other axes a cell can have.
MODEL = "model"
# A number as JSON, with what surrounds it.
LONGEST_NUMBER = 30
# The slot, the repetition and the seed.
LONGEST_SLOT = 100


def check_lengths(definition: StudyDefinition) -> None:
    """Check that every cell fits into its column.

    Raises:
        UsageError: A cell can be too long; the message names the longest axis.
    """
    values = {name: max(len(compact_json({name: value})) for value in each) for name, each in definition.grid.items()}
    longest = {**values, **{name: len(name) + LONGEST_NUMBER for name in definition.axes}}
    baselines = [len(compact_json(cell)) for cell in (*definition.baselines, *definition.enqueue)]
    length = max([sum(longest.values()), *baselines]) + LONGEST_SLOT
    if length > MAX_CELL:
        axis = max(longest, key=lambda name: longest[name])
        raise UsageError(
            f"a cell is up to {length} characters long as JSON; at most {MAX_CELL} fit; shorten the values of {axis}"
        )


@without_arguments()
def check_cells(study: Study) -> None:
    """Let the objective check every cell before anything is planned.

    Raises:
        UsageError, ModelError, ObjectiveError: The objective cannot be loaded, or a cell cannot be trained.
    """
    definition = study.definition
    check_lengths(definition)
    objective = resolve_objective(definition.objective)
    training = read_settings(objective.settings_class, definition.objective_settings)
    _check_space(definition, objective)
    if definition.suggests_parameters:
        return
    cells = edge_cells(definition) if definition.is_sampled else definition.cells
    for cell in [*cells, *(definition.baselines if study.with_baselines else [])]:
        try:
            objective.check_cell(objective_values(cell, definition.named), training, study.corpus)
        except UnknownAxesError as error:
            if example := _condition_example(study, objective, training, cell, error.axes):
                raise ObjectiveError(f"{error}; an axis can be given to some models only: {example}") from error
            raise
        except USER_ERRORS:
            raise
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"objective = {definition.objective!r}: the check of the cell {describe_cell(cell)} failed "
                f"({type(error).__name__}: {error}); let it raise ObjectiveError for a cell that cannot be trained"
            ) from error
    if isinstance(objective, ChecksStudy):
        metrics = [each.name for each in definition.ranked_metrics(study.metric)]
        objective.check_study(definition.axis_order, metrics, training)


def check_judged_metric(definition: StudyDefinition, objective: Objective) -> None:
    """Check the metric that the pruner judges by, as far as it is known before a trial runs.

    Raises:
        UsageError: It lacks a direction, or the objective reports no such metric.
        ObjectiveError: As for `read_settings`.
    """
    try:
        judged = definition.pruner.judged(definition.ranked_metrics(objective.metric))
    except ValueError as error:
        raise UsageError(str(error)) from error
    if definition.pruner.metric is None:
        return
    training = read_settings(objective.settings_class, definition.objective_settings)
    names = objective.metric_names(training)
    if names is not None and judged.name not in names:
        raise UsageError(
            f"pruner.metric = {judged.name!r}: the objective does not report it{did_you_mean(judged.name, names)}; "
            f"choices: {', '.join(names)}"
        )


def check_confirm(definition: StudyDefinition, objective: Objective) -> None:
    """Check that the best cell of a study can be confirmed with fresh seeds.

    Raises:
        UsageError: It cannot, because of the objective or of several metrics.
        ObjectiveError: As for `read_settings`.
    """
    if not definition.confirm:
        return
    is_command = definition.command is not None
    subject = "the command" if is_command else f"objective = {definition.objective!r}"
    named, remedy = f"confirm = {definition.confirm}", "remove --confirm, or confirm = N in the study file"
    if len(names := definition.metric_names) > 1:
        raise UsageError(
            f"{named}: with several objectives ({', '.join(names)}) there is no single best cell; {remedy}"
        )
    if objective.suggests_parameters:
        raise UsageError(
            f"{named}: {subject} suggests its parameters itself and takes no seed; {remedy}, "
            "or let the function take params and seed"
        )
    training = read_settings(objective.settings_class, definition.objective_settings)
    if not objective.takes_seed(training):
        what = "{seed} to it" if is_command else "a parameter seed to the function"
        raise UsageError(
            f"{named}: {subject} takes no seed, so fresh seeds would change nothing; add {what}, or {remedy}"
        )


def check_seeds(definition: StudyDefinition, objective: Objective) -> None:
    """Check that a study whose objective suggests its parameters has one seed: `trials` says how many trials there are.

    Raises:
        UsageError: It has several.
    """
    if definition.suggests_parameters and objective.suggests_parameters and definition.seeds > 1:
        raise UsageError(
            f"seeds = {definition.seeds}: objective = {definition.objective!r} suggests its parameters itself and "
            "takes no seed; set seeds = 1"
        )


def _condition_example(
    study: Study, objective: Objective, training: TrainingSettings, cell: Cell, unknown: Sequence[str]
) -> str | None:
    """A line of a study file that gives an axis only to the models that take it; None if no model does."""
    definition = study.definition
    axis = next((axis for axis in unknown if axis in definition.grid), None)
    models = definition.grid.get(MODEL, [])
    if axis is None or axis in definition.when or len(models) < 2:
        return None
    takers = []
    for model in models:
        try:
            objective.check_cell(objective_values({**cell, MODEL: model}, definition.named), training, study.corpus)
        except UnknownAxesError as error:
            if axis in error.axes:
                continue
        except USER_ERRORS:
            pass  # it takes the axis, and lacks something else
        takers.append(model)
    if not takers:
        return None
    # JSON's lists of texts, numbers and booleans are TOML.
    values, when = (json.dumps(each) for each in (definition.grid[axis], takers[0] if len(takers) == 1 else takers))
    return f"{axis} = {{ values = {values}, when = {{ {MODEL} = {when} }} }}"


def _check_space(definition: StudyDefinition, objective: Objective) -> None:
    named = f"objective = {definition.objective!r}"
    if objective.suggests_parameters and not definition.suggests_parameters:
        axis = definition.axis_order[0]
        raise UsageError(
            f"{named} suggests its parameters itself, so the axis {axis} has no effect; remove [grid] and [axes], or "
            "let the function take params"
        )
    if not objective.suggests_parameters and definition.suggests_parameters:
        raise UsageError(f"{named} takes its parameters from the study file, which has none; give it [grid] or [axes]")

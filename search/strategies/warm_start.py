"""`--from STUDY`: a sampler starts with the complete trials of another study as if it had chosen them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from search.errors import UsageError
from search.statistics.ranking import Row, ranked_rows
from search.storage.database import Database
from search.storage.planning import StudyPlan
from search.storage.queries import study_names
from search.study.distributions import axis_distributions
from search.study.planner import Study
from search.study.stored import StoredStudy, planned_study, read_stored_study
from search.study.warm_starts import WARM_START, Observation, WarmStart


def warm_started(database: Database, study: Study, plan: StudyPlan, source: str) -> StudyPlan:
    """The plan of a study with the results of `source` for its sampler.

    A parameter that the source does not vary has the value of its training settings. Cells outside the search space
    are left out.

    Raises:
        UsageError: The study has no sampler; or there is no study `source`, its results cannot be compared with those
            of this study, or no complete cell of it is inside the search space.
    """
    definition = study.definition
    if not definition.is_sampled:
        raise UsageError(
            f"--from {source}: {study.name} trains a grid, which cannot use another study's results; give it a sampler"
        )
    stored = read_stored_study(database, source)
    if stored is None:
        names = ", ".join(study_names(database)) or "none"
        raise UsageError(f"--from {source}: no such study in this database; existing studies: {names}")
    distributions = axis_distributions(definition.grid, definition.axes)
    _check_comparable(source, planned_study(plan), stored, set(distributions))
    rows = [row for row in ranked_rows(database, [source]) if row.rank is not None]
    found = [_observation(row, {**stored.used_training, **stored.definition.user_settings}) for row in rows]
    inside = [restricted for each in found if (restricted := each.restricted(distributions, definition.space))]
    if not inside:
        raise UsageError(
            f"--from {source}: none of its {len(rows)} complete cells is inside the search space of {study.name}; "
            f"finish {source} first, or remove --from"
        )
    warm_start = WarmStart(source, found[0], inside)
    return replace(plan, attrs={**plan.attrs, WARM_START: warm_start.as_attribute()})


def _check_comparable(source: str, target: StoredStudy, origin: StoredStudy, axes: set[str]) -> None:
    """Results can be compared if the objective, its metrics, the corpus and all settings that are no axis are equal."""

    def compared(study: StoredStudy) -> dict[str, Any]:
        definition = study.definition
        training = definition.training.model_dump(exclude={*axes, "sample_chars"})
        of_objective = {f"training.{name}": value for name, value in training.items()}
        of_objective |= {
            f"settings.{name}": each for name, each in definition.user_settings.items() if name not in axes
        }
        metrics = [f"{each.direction} {each.name}" for each in definition.metrics]
        return {
            "objective": definition.objective,
            "metrics": ", ".join(metrics),
            "corpus_sha256": definition.corpus_sha256,
            "the reserved stretch of the corpus": "reserved" if definition.is_reserved else "none",
            **of_objective,
        }

    here, there = compared(target), compared(origin)
    for key in {**here, **there}:
        value = here.get(key)
        if there.get(key) != value:
            raise UsageError(
                f"--from {source}: its results cannot be compared: {key} is {there.get(key)!r} there and {value!r} "
                "here; remove --from"
            )


def _observation(row: Row, settings: Mapping[str, Any]) -> Observation:
    assert row.val_loss is not None, "the cell is complete"
    return Observation({**settings, **row.cell}, row.val_loss, _further(row))


def _further(row: Row) -> list[float]:
    """The values of further objectives."""
    values = [value for value in row.values[1:] if value is not None]
    assert len(values) == len(row.metrics) - 1, "the cell is complete"
    return values

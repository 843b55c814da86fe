"""`--from STUDY`: the complete trials of another study, shown to a sampler as if it had chosen them itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from optuna.distributions import BaseDistribution

from search.errors import UsageError
from search.statistics.ranking import Row, ranked_rows
from search.storage.database import Database
from search.storage.planning import StudyPlan
from search.storage.queries import study_attrs, study_names
from search.study.planner import Study, axis_distributions

FROM = "from"


def warm_started(database: Database, study: Study, plan: StudyPlan, source: str) -> StudyPlan:
    """The plan of a study with the cells of `source` for its sampler to know.

    A parameter that the source does not vary has the value of its training settings. Cells that lie outside of the
    axes are left out.

    Raises:
        UsageError: There is no such study, or its losses are no losses of this study.
    """
    definition = study.definition
    if not definition.is_sampled:
        raise UsageError(f"--from {source}: the grid learns nothing from another study; give {study.name} a sampler")
    attrs = study_attrs(database, source)
    if attrs is None:
        there = ", ".join(study_names(database)) or "none"
        raise UsageError(f"--from {source}: no such study in this database; studies there: {there}")
    theirs, distributions = attrs["definition"], axis_distributions(definition.grid, definition.axes)
    _check_same(source, plan.definition, theirs, set(distributions))
    rows = [row for row in ranked_rows(database, [source]) if row.state == "complete"]
    found = [_observation(row, theirs["training"]) for row in rows]
    inside = [_restricted(each, distributions) for each in found if _lies_within(each["cell"], distributions)]
    if not inside:
        raise UsageError(
            f"--from {source}: {len(rows)} cells of it are complete, none within the axes of {study.name}; "
            "finish it first, or leave out --from"
        )
    news = {"study": source, "best": found[0], "observations": inside}
    return replace(plan, attrs={**plan.attrs, FROM: news})


def _check_same(source: str, mine: Mapping[str, Any], theirs: Mapping[str, Any], axes: set[str]) -> None:
    """Losses can be compared when the objective, the corpus and all settings that are no axis are the same."""

    def compared(definition: Mapping[str, Any]) -> dict[str, Any]:
        training = {f"training.{k}": v for k, v in definition["training"].items() if k not in {*axes, "sample_chars"}}
        return {"objective": definition["objective"], "corpus_sha256": definition["corpus_sha256"], **training}

    here, there = compared(mine), compared(theirs)
    for key, value in here.items():
        if there.get(key) != value:
            raise UsageError(
                f"--from {source}: its losses do not compare, for its {key} is {there.get(key)!r} and here {value!r}; "
                "leave out --from"
            )


def _observation(row: Row, training: Mapping[str, Any]) -> dict[str, Any]:
    return {"cell": {**training, **row.cell}, "val_loss": row.val_loss}


def _restricted(observation: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    cell = {name: observation["cell"][name] for name in distributions}
    return {"cell": cell, "val_loss": observation["val_loss"]}


def _lies_within(cell: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> bool:
    for name, distribution in distributions.items():
        try:
            if name not in cell or not distribution._contains(distribution.to_internal_repr(cell[name])):
                return False
        except ValueError:  # a value that is none of a list's, or no number
            return False
    return True


def beside(attrs: Mapping[str, Any], best: Row) -> str:
    """What the best cell of a sampled study is to be compared with, in words; "" where there is nothing.

    Args:
        attrs: The study's attributes.
        best: Its best complete cell.
    """
    if best.val_loss is None or "sampler" not in attrs["definition"]:
        return ""
    others = {f"best of {attrs[FROM]['study']}": attrs[FROM]["best"]["val_loss"]} if FROM in attrs else {}
    if attrs.get("published"):
        others["published best"] = min(each["val_loss"] for each in attrs["published"])
    return "; ".join(f"{name} {loss:.5f} ({best.val_loss - loss:+.5f})" for name, loss in others.items())

"""What the trials that are left will take if none is pruned, before they are trained."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from search.objectives.operations import CountsOperations
from search.objectives.settings import TrainingSettings, read_settings
from search.storage.database import Database
from search.storage.planned_cells import PlannedCell, planned_cells
from search.study.cells import objective_values
from search.study.planner import Study
from search.study.trial_facts import SPENT_FACTS, TrialFacts, trial_facts
from search.study.user_modules import resolve_objective

log = logging.getLogger("search")

# Of CPUs. A grid of more shapes than can be counted in this time is not counted.
COUNTING_S = 3.0


@dataclass(frozen=True)
class Estimate:
    """What trials will take.

    Attributes:
        trials: How many have not ended.
        flops: Their floating-point operations; None if they are not counted.
        seconds: Of devices; None before a trial is complete.
        timed: How many complete trials the seconds are from.
        price: In `currency`; None without a price of a device or without seconds.
    """

    trials: int
    flops: float | None
    seconds: float | None
    timed: int
    price: float | None = None
    currency: str = ""


def estimate(database: Database, study: Study) -> Estimate:
    """What the trials of a planned study and of its baselines will take that have not ended."""
    cells = planned_cells(database, study.names, SPENT_FACTS)
    left = [each for each in cells if each.left]
    ended = [facts for each in cells for facts in _timed(each)]
    operations = _operations(study, left)
    by_operations: dict[float, list[float]] = {}
    for each in ended:
        if each.flops:
            by_operations.setdefault(each.flops, []).append(each.train_seconds or 0.0)
    times = [_seconds(each, count, by_operations, ended) for each, count in zip(left, operations, strict=True)]
    cost = study.definition.cost
    seconds = _sum(times) if ended else None
    price = None if seconds is None or cost.per_device_hour is None else cost.per_device_hour * seconds / 3600
    of_cells = [None if count is None else each.left * count for each, count in zip(left, operations, strict=True)]
    return Estimate(sum(each.left for each in left), _sum(of_cells), seconds, len(ended), price, cost.currency)


def _sum(numbers: Sequence[float | None]) -> float | None:
    """Their sum; None if one is not known."""
    known = [each for each in numbers if each is not None]
    return sum(known) if len(known) == len(numbers) else None


def _timed(cell: PlannedCell) -> list[TrialFacts]:
    return [each for each in map(trial_facts, cell.ended) if each.train_seconds is not None]


def _seconds(
    cell: PlannedCell, flops: float | None, by_operations: Mapping[float, Sequence[float]], ended: Sequence[TrialFacts]
) -> float | None:
    """Of all its trials: as those of the same cell took, else of as many operations, else by their speed or number."""
    if own := _timed(cell):
        return cell.left * mean(each.train_seconds or 0.0 for each in own)
    if flops in by_operations and flops is not None:
        return cell.left * mean(by_operations[flops])
    total_s = sum(each.train_seconds or 0.0 for each in ended)
    if flops is not None and (counted := sum(each.flops or 0.0 for each in ended)):
        return cell.left * flops * total_s / counted
    return cell.left * total_s / len(ended) if ended else None


def _operations(study: Study, cells: Sequence[PlannedCell]) -> list[float | None]:
    """The operations of a trial of each cell: what one has recorded, or counted if torch is there to do it."""
    recorded = [next((facts.flops for facts in _timed(each) if facts.flops is not None), None) for each in cells]
    objective = resolve_objective(study.definition.objective)
    # Importing torch would take longer than all the rest of planning; checks of new cells have imported it.
    if "torch" not in sys.modules or not isinstance(objective, CountsOperations):
        return recorded
    settings = read_settings(objective.settings_class, study.definition.objective_settings)
    ends = time.process_time() + COUNTING_S
    found: list[float | None] = []
    for each, known in zip(cells, recorded, strict=True):
        values: Mapping[str, Any] = objective_values(each.cell, study.definition.named)
        is_countable = known is None and each.cell and time.process_time() < ends
        found.append(_counted(objective, values, settings, study) if is_countable else known)
    return found


def _counted(
    objective: CountsOperations, cell: Mapping[str, Any], settings: TrainingSettings, study: Study
) -> float | None:
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # many models print their size
            return objective.operations(cell, settings, study.corpus)
    except Exception as error:  # a user's code can raise anything, and a run says it better
        log.debug("cannot count the operations of %s: %s", cell, error)
        return None

"""Ends the trials of a planned study in this process, as a worker would, without any training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from study_files import write_study

from search.storage.database import Database
from search.storage.leases import Report
from search.storage.queue import TrialQueue
from search.storage.slots import parameters_of
from search.strategies.slot_sampling import make_sampling
from search.study.cell_checks import check_cells
from search.study.definition import load_definition
from search.study.planner import Study, ensure_planned
from search.study.stored import read_stored_study


def plan_text(database: Database, folder: Path, text: str, *settings: Any, name: str = "s") -> int:
    """Plan the study of a study file; returns how many trials were added."""
    definition = load_definition(write_study(folder, text, name), settings)
    study = Study(definition, name, None)
    check_cells(study)
    return ensure_planned(database, study).added


def end_trials(
    database: Database, name: str = "s", most: int = 10_000, loss: Callable[[Mapping[str, Any]], float] | None = None
) -> list[dict[str, Any]]:
    """Claim, fill and complete trials one by one.

    Args:
        most: At most so many.
        loss: The value of a cell with its seed; by default the length of its text.

    Returns:
        Their cells with the seeds.
    """
    queue, stored = TrialQueue(database), read_stored_study(database, name)
    assert stored is not None
    sampling = make_sampling(database, stored)
    ended: list[dict[str, Any]] = []
    while len(ended) < most and (leases := queue.claim([name], "ann")):
        [lease] = leases
        lease = lease if sampling is None else sampling.fill(lease)
        cell = parameters_of(lease.cell)
        value = float(len(lease.cell)) if loss is None else loss(cell)
        assert queue.report([Report(lease, 1, value, value)]) == []
        queue.finish(lease, "complete", value)
        ended.append(cell)
    return ended

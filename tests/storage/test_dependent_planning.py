"""A study that is planned after the results of another one."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sample_study import CELLS, STUDY, rows, sample_plan

from search.storage.database import Database
from search.storage.dependent_planning import final_results, plan_after
from search.storage.planning import StudyPlan, plan
from search.storage.queries import counts, study_attrs
from search.storage.queue import TrialQueue

AFTER = "small-after"


def after(attrs: Mapping[str, Any]) -> StudyPlan:
    """The plan of the study that depends on the other; it counts how often it was made."""
    planned = sample_plan(study=AFTER)
    return StudyPlan(AFTER, planned.definition, {"turn": attrs.get("turn", 0) + 1}, planned.trials)


def finish_all(database: Database) -> None:
    queue = TrialQueue(database)
    while leases := queue.claim([STUDY], "worker"):
        for lease in leases:
            queue.finish(lease, "failed", None, {}, "why")


def test_nothing_is_planned_before_every_trial_has_ended(database: Database) -> None:
    assert final_results(database, STUDY) is None
    plan(database, [sample_plan()])
    assert final_results(database, STUDY) is None
    finish_all(database)
    results = final_results(database, STUDY)
    assert results is not None
    assert [cell for cell, _, _ in results.trials] == [row.cell for row in rows(database)]


def test_planners_at_once_make_one_study(database: Database) -> None:
    plan(database, [sample_plan()])
    finish_all(database)
    results = final_results(database, STUDY)
    assert results is not None
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: plan_after(database, results, AFTER, after), range(4)))
    assert counts(database, [AFTER])["waiting"] == CELLS
    attrs = study_attrs(database, AFTER)
    assert attrs is not None
    assert attrs["turn"] == 4  # each has seen what the one before has stored


def test_results_that_have_changed_plan_nothing(database: Database) -> None:
    plan(database, [sample_plan()])
    finish_all(database)
    results = final_results(database, STUDY)
    assert results is not None
    TrialQueue(database).retry_failed([STUDY])
    assert not plan_after(database, results, AFTER, after)
    assert study_attrs(database, AFTER) is None

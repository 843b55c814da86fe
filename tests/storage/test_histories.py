"""Trials over time, on both databases."""

from __future__ import annotations

import math
from typing import Any

from sample_study import STUDY, sample_plan

from search.storage.database import Database
from search.storage.leases import Report
from search.storage.planning import plan
from search.storage.queries import attr_counts
from search.storage.queue import TrialQueue
from search.storage.trial_histories import trial_histories


def test_curve_times_and_attrs(database: Database) -> None:
    plan(database, [sample_plan()])
    queue = TrialQueue(database)
    [first] = queue.claim([STUDY], "one")
    [second] = queue.claim([STUDY], "two")
    for step, loss in ((0, 4.0), (100, 2.5), (50, 3.0)):
        queue.report([Report(first, step, loss, loss)])
    queue.report([Report(second, 0, 4.0, math.inf)])
    queue.finish(first, "complete", 2.5, {"sample": "to be", "tokens": 9})
    found = trial_histories(database, [STUDY], ("sample",))
    assert [run.state for run in found] == ["complete", "running", *["waiting"] * 10]
    done, running, waiting = found[:3]
    assert list(done.curve.items()) == [(0, 4.0), (50, 3.0), (100, 2.5)]
    assert done.attrs == {"sample": "to be"}
    assert done.started is not None
    assert done.ended is not None
    assert done.started <= done.ended
    assert running.curve == {0: math.inf}
    assert running.started is not None
    assert running.ended is None
    assert (waiting.started, waiting.ended, waiting.curve) == (None, None, {})


def test_unknown_study(database: Database) -> None:
    assert trial_histories(database, ["nope"]) == []


def test_how_many_trials_have_each_value_of_an_attribute(database: Database) -> None:
    plan(database, [sample_plan(), sample_plan(study="other")])
    queue = TrialQueue(database)
    ends: list[tuple[Any, str]] = [("complete", "a"), ("pruned", "b"), ("diverged", "a"), ("failed", "a")]
    for turn, (outcome, code) in enumerate(ends):
        [lease] = queue.claim([STUDY], f"worker {turn}")
        queue.finish(lease, outcome, None if outcome == "failed" else 1.0, {"record": {"code": code}, "tokens": 1})
    [running] = queue.claim(["other"], "worker")
    assert sorted(attr_counts(database, [STUDY, "other"], "record"), key=str) == [
        (STUDY, {"code": "a"}, 2),
        (STUDY, {"code": "b"}, 1),
    ]
    queue.finish(running, "complete", 1.0, {"record": {"code": "a"}})
    assert ("other", {"code": "a"}, 1) in attr_counts(database, [STUDY, "other"], "record")
    assert attr_counts(database, [STUDY], "none") == []

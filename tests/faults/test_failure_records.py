"""A failed trial names its error, the end of its traceback, log, host, and the worker's exit status or signal."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from fault_results import by_fault
from scenario import FaultStudy, MakeStudy
from sqlalchemy import update

from search.planning import open_planned
from search.reporting.render import render
from search.reporting.status_text import status_as_json, status_as_text
from search.storage.failures import Failure
from search.storage.queue import TrialQueue
from search.storage.schema import queue_table
from search.web.dashboard_publisher import note
from search.workers.failure_records import last_line, log_since, reported_crash


def recorded(study: FaultStudy, fault: str) -> Failure:
    failure = Failure.from_json(by_fault(study)[fault].failure)
    assert failure is not None
    return failure


def crash(study: FaultStudy, failure: Failure | None) -> None:
    """Let a worker claim a trial and crash."""
    database, planned = open_planned(study.options)
    with database.closing():
        queue = TrialQueue(database, lease_s=60, max_attempts=1)
        [_] = queue.claim(planned.names, "node7/cuda-0/12-ab")
        assert queue.abandon("node7/cuda-0/12-ab", failure) == 1


def test_error(make_study: MakeStudy) -> None:
    study = make_study(grid={"fault": ["error", "memory", "usage"]}, ms=2, max_attempts=2)
    study.repair()
    for fault, error in (("error", "ZeroDivisionError: made up"), ("memory", "MemoryError: made up")):
        failure = recorded(study, fault)
        assert (failure.kind, failure.error, failure.log) == ("error", error, str(study.fork_log))
        assert failure.traceback is not None
        assert failure.traceback.splitlines()[-1] == error
        assert "in _misbehave" in failure.traceback
        assert (failure.host, failure.attempt) == (os.uname().nodename, 2 if fault == "memory" else 1)
    assert recorded(study, "usage").traceback is None  # the message says what to change


def test_what_people_see(make_study: MakeStudy) -> None:
    """Status, report, page and the dashboard's note show the record."""
    study = make_study(grid={"fault": ["none", "error"]}, ms=2, max_attempts=1)
    study.plan()
    crash(study, Failure("worker crashed", "the worker ended with SIGKILL", signal="SIGKILL", log="/logs/w.log"))
    study.repair()
    database, planned = open_planned(study.options)
    with database.closing():
        names = planned.names
        status, report, page, shown = (
            status_as_text(database, names, None),
            render(database, names, "markdown"),
            render(database, names, "html"),
            note(database, names),
        )
        facts = json.loads(status_as_json(database, names, None))
    assert "time limits: trial_timeout_s off, stall_timeout_s 2 h" in status
    for text in (status, report, page, shown):
        assert "worker crashed (SIGKILL), attempt 1" in text
        assert "worker node7/cuda-0/12-ab" in text
        assert "log: /logs/w.log" in text
    assert [trial["failure"]["signal"] for trial in facts["trials"]] == ["SIGKILL"]


def test_traceback_is_shown_where_people_look(make_sqlite_study: MakeStudy) -> None:
    study = make_sqlite_study(grid={"fault": ["error"]}, ms=2)
    study.repair()
    database, planned = open_planned(study.options)
    with database.closing():
        texts = [status_as_text(database, planned.names, None), render(database, planned.names, "markdown")]
        page = render(database, planned.names, "html")
    for text in texts:
        assert re.search(r"^ +\| +raise ZeroDivisionError\(.made up.\)$", text, re.M), text
        assert re.search(rf"^ +log: {study.fork_log}$", text, re.M)
        assert "ZeroDivisionError: made up\n    error, attempt 1" in text.replace("\n      ", "\n    ")
    assert "raise ZeroDivisionError(" in page


@pytest.mark.parametrize(
    ("failure", "shown"),
    [
        (Failure("worker crashed", signal="SIGKILL"), "worker crashed (SIGKILL); another worker can resume it"),
        (Failure("worker crashed", exit_status=7), "worker crashed (exit status 7); another worker can resume it"),
        (None, "worker crashed; another worker can resume it"),
    ],
)
def test_expired_lease(make_sqlite_study: MakeStudy, failure: Failure | None, shown: str) -> None:
    study = make_sqlite_study(1)
    study.plan()
    crash(study, failure)
    database, planned = open_planned(study.options)
    with database.closing():
        status = status_as_text(database, planned.names, None)
        assert shown in status
        # A worker that nothing is known of.
        forget = update(queue_table).values(failure=None, lease_until=database.now() - 7300)
        database.write(lambda connection: connection.execute(forget))
        status = status_as_text(database, planned.names, None)
        assert "lease expired 2 h ago: its worker is silent; another worker can resume it" in status
    assert not re.search(r"\d{6} s", status)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("INFO trial 1\n", None),
        (
            "INFO trial 1\nFatal Python error: Segmentation fault\n\nCurrent thread 0x1:\n  File a\n",
            "Fatal Python error",
        ),
        ("Traceback (most recent call last):\n  File a\nValueError: x\n", "Traceback"),
        ("", None),
    ],
)
def test_reported_crash(tmp_path: Path, text: str, expected: str | None) -> None:
    log, before = tmp_path / "w.log", "Traceback (most recent call last): of an earlier worker\n"
    log.write_text(before + text)
    found = reported_crash(log_since(log, len(before)))
    assert found is None if expected is None else found is not None and found.startswith(expected)
    assert reported_crash(log_since(tmp_path / "missing.log", 0)) is None


def test_last_line_is_of_the_process_that_ended(tmp_path: Path) -> None:
    """A log goes on after a worker is replaced: what killed an earlier one says nothing about this one."""
    crash = "Fatal Python error: Segmentation fault\n\nCurrent thread 0x1:\n  File a\nExtension modules: many\n"
    log = tmp_path / "w.log"
    log.write_text(crash)
    assert last_line(log_since(log, 0)) == "Fatal Python error: Segmentation fault"
    log.write_text(crash + "INFO put trial 0 back into the queue\n")
    assert last_line(log_since(log, len(crash))) == "INFO put trial 0 back into the queue"
    log.write_text(crash)
    assert last_line(log_since(log, len(crash))) == "no output"

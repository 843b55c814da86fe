"""A SQLite file serves one host; a server serves many."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from sample_study import STUDY, sample_plan

from search.storage import hosts
from search.storage.database import Database
from search.storage.errors import StorageError
from search.storage.hosts import check_host, note_host
from search.storage.planning import plan
from search.storage.queue import TrialQueue


def on(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Let this process be on another host."""
    monkeypatch.setattr(hosts.os, "uname", lambda: SimpleNamespace(nodename=host))  # type: ignore[attr-defined]


def test_a_worker_of_another_host_is_refused_until_a_run_starts_there(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(database, [sample_plan()])
    check_host(database, STUDY)  # a study of an earlier version names no host
    on(monkeypatch, "login")
    note_host(database, STUDY)
    check_host(database, STUDY)
    on(monkeypatch, "node-7")
    if not database.dialect.one_host:
        check_host(database, STUDY)
        return
    with pytest.raises(
        StorageError, match="was planned on the host login, and this one is node-7: a SQLite file serves"
    ):
        check_host(database, STUDY)
    [lease] = TrialQueue(database).claim([STUDY], "login/cpu-0/1")
    with pytest.raises(StorageError, match="was planned on the host login"):
        note_host(database, STUDY)
    TrialQueue(database).release(lease)
    note_host(database, STUDY)
    check_host(database, STUDY)

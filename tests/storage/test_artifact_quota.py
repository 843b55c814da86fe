"""The best trials keep their files: exactly, for several workers, in both directions, and after a kill."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from deaths import Death, in_child
from kept_studies import artifacts_by_trial, files_in, finish, rows_left
from optuna.storages._rdb.models import StudyDirectionModel
from optuna.study import StudyDirection
from sample_study import STUDY, sample_plan
from sqlalchemy import update

from search.storage import removals
from search.storage.artifact_quota import ArtifactQuota
from search.storage.artifact_store import FolderStore
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.planning import plan
from search.storage.queries import planned_study
from search.storage.queue import TrialQueue

VALUES = [3.0, 1.0, 2.0, 5.0, 0.5, 4.0]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of the artifacts."""
    return tmp_path / "out"


def planned(database: Database, out: Path, keep: int) -> ArtifactQuota:
    plan(database, [sample_plan()])
    found = planned_study(database, STUDY)
    assert found is not None
    return ArtifactQuota(STUDY, found[0], keep, FolderStore(out / "artifacts"))


def kept(database: Database, out: Path) -> list[int]:
    """The trials with artifacts; every file in the folder is one of theirs, and every one of theirs is there."""
    found = artifacts_by_trial(database, STUDY, out)
    assert sorted(files_in(out).values()) == sorted(each for files in found.values() for each in files.values())
    assert all(len(files) == 2 for files in found.values())
    return sorted(found)


def end(database: Database, out: Path, outcome: str, value: float) -> None:
    [lease] = TrialQueue(database).claim([STUDY], f"worker {outcome} {value}")
    finish(database, out, lease, outcome, value)


@pytest.mark.parametrize(("direction", "best"), [("MINIMIZE", [1, 4]), ("MAXIMIZE", [3, 5])])
def test_the_best_are_kept(database: Database, out: Path, direction: str, best: list[int]) -> None:
    quota = planned(database, out, 2)
    database.write(lambda c: c.execute(update(StudyDirectionModel).values(direction=StudyDirection[direction])))
    for value in VALUES:
        end(database, out, "complete", value)
        quota.apply(database)
        assert len(kept(database, out)) <= 2
    assert kept(database, out) == best
    assert "search_removals" not in rows_left(database)


def test_complete_trials_come_before_others(database: Database, out: Path) -> None:
    quota = planned(database, out, 3)
    for outcome, value in [("failed", 0.0), ("pruned", 0.1), ("diverged", 0.0), ("complete", 9.0), ("pruned", 0.2)]:
        end(database, out, outcome, value)
    quota.apply(database)
    assert kept(database, out) == [1, 3, 4]
    end(database, out, "complete", 9.0)
    end(database, out, "complete", 9.0)
    end(database, out, "complete", 9.0)
    quota.apply(database)
    assert kept(database, out) == [3, 5, 6]


def test_workers_at_the_same_time(database: Database, out: Path) -> None:
    quota = planned(database, out, 3)
    start = threading.Barrier(4)

    def work(first: int) -> None:
        start.wait()
        for value in range(first, 12, 4):
            end(database, out, "complete", float(value))
            quota.apply(database)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    found = artifacts_by_trial(database, STUDY, out)
    assert len(kept(database, out)) == 3
    ends = TrialQueue(database).unfinished([STUDY])
    assert ends == 0
    assert {name for files in found.values() for name in files} == {"record.json", "curve.csv"}


def test_a_slow_worker_forgets_nothing_that_was_recorded_since(
    database: Database, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read what to remove; before it says that this is done, another has done it, and recorded more."""
    quota = planned(database, out, 1)
    end(database, out, "complete", 1.0)
    end(database, out, "complete", 2.0)
    forget, calls = removals._forget, list[Sequence[int]]()

    def slow(database: Database, ids: Sequence[int]) -> None:
        calls.append(ids)
        if len(calls) == 1:
            quota.apply(database)
            end(database, out, "complete", 3.0)
            recorded = removals.Removals(STUDY, quota.uid)
            database.write(lambda connection: quota._record(database, connection, recorded))
        forget(database, ids)

    monkeypatch.setattr(removals, "_forget", slow)
    quota.apply(database)
    monkeypatch.setattr(removals, "_forget", forget)
    quota.apply(database)
    assert kept(database, out) == [0]


DEATHS = [
    Death("search.storage.optuna_tables:remove_artifacts", "before"),
    Death("search.storage.artifact_store:FolderStore.remove", "after", 3),
    Death("search.storage.removals:_forget", "before"),
]


@pytest.mark.parametrize("death", DEATHS, ids=str)
def test_what_a_killed_worker_leaves_is_removed_at_the_next_end(death: Death, tmp_path: Path, out: Path) -> None:
    url, log = f"sqlite:///{tmp_path / 'search.db'}", tmp_path / "log"
    with open_database(url, create=True).closing() as database:
        quota = planned(database, out, 1)
        for value in VALUES[:4]:
            end(database, out, "complete", value)

    def work() -> None:
        with open_database(url, create=True).closing() as database:
            death.prepare()
            quota.apply(database)

    assert in_child(work, log) == -9, log.read_text()
    with open_database(url, create=True).closing() as database:
        assert 1 in artifacts_by_trial(database, STUDY, out)
        end(database, out, "complete", 4.0)
        quota.apply(database)
        assert kept(database, out) == [1]
        assert "search_removals" not in rows_left(database)


def test_more_surplus_than_one_query_takes(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a lower number in the study file."""
    monkeypatch.setattr("search.storage.chunks.CHUNK", 2)
    monkeypatch.setattr("search.storage.removals._CHUNK", 3)
    with open_database(f"sqlite:///{tmp_path / 'search.db'}", create=True).closing() as database:
        quota = planned(database, out, 1)
        for value in VALUES:
            end(database, out, "complete", value)
        quota.apply(database)
        assert kept(database, out) == [4]

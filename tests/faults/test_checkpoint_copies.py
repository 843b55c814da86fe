"""Machines that share the database and a bucket, but no folder."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from unittest.mock import Mock

import pytest
from gates import Gate, wait_until
from scenario import AnyWorker, FaultStudy, MakeStudy
from study_files import opened

from search.storage.artifact_store import BucketStore, artifact_id, open_store
from search.storage.checkpoint_store import checkpoint_store
from search.storage.deletion import delete_studies
from search.storage.removals import of_studies, remove_recorded
from search.study.stored import read_stored_study

STORE = "s3://bucket/search"
# A bucket that answers nothing is tried a few times; the library's own attempts are not what is tested.
ONE_TRY = {"AWS_MAX_ATTEMPTS": "1"}


def worker_of(study: FaultStudy, machine: str) -> AnyWorker:
    """Start a worker with a folder of its own."""
    return study.start_worker_program("--out", str(study.folder / machine), "--artifacts", STORE, environment=ONE_TRY)


def copies(study: FaultStudy, bucket: Mapping[str, bytes]) -> list[bytes]:
    """The copies of the study's checkpoints in the bucket."""
    with opened(study.url).closing() as database:
        stored = read_stored_study(database, study.name)
    assert stored is not None
    ids = [artifact_id(f"{stored.uid} {row.cell}", 0, "checkpoint") for row in study.rows()]
    return [bucket[path] for each in ids if (path := f"/bucket/search/{each}") in bucket]


def held(study: FaultStudy, bucket: Mapping[str, bytes]) -> tuple[Gate, AnyWorker]:
    """A worker whose trial waits after step 7, with a copy of step 6 in the bucket."""
    study.plan()
    gate = study.close_gate(7)
    worker = worker_of(study, "first machine")
    gate.wait()
    wait_until(lambda: any(step_of(each) == 6 for each in copies(study, bucket)), "a copy of step 6")
    return gate, worker


def step_of(content: bytes) -> int:
    """The step in the file of a checkpoint."""
    start = content.index(b"\n") + 1 + 32
    return int.from_bytes(content[start : start + 8], "big")


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_trial_goes_on_on_another_machine(
    make_sqlite_study: MakeStudy, bucket: Mapping[str, bytes], end: signal.Signals
) -> None:
    study = make_sqlite_study(2, lease_s=60)
    gate, worker = held(study, bucket)
    worker.send_signal(end)
    assert study.join() == [75 if end is signal.SIGTERM else -end]
    study.expire_leases()
    gate.open()
    study.workers.clear()
    second = worker_of(study, "second machine")
    assert study.join() == [0]
    step = 7 if end is signal.SIGTERM else 6
    assert "resumes after step 6" in study.log(second), step
    study.check_exactly_once()
    assert copies(study, bucket) == []
    assert not [*(study.folder / "second machine").rglob("checkpoint")]


def test_a_bucket_that_is_away_costs_no_trial(
    make_sqlite_study: MakeStudy, bucket: Mapping[str, bytes], bucket_away: threading.Event
) -> None:
    """It is away while a machine is lost and another one takes over, and when a trial ends."""
    study = make_sqlite_study(2, lease_s=60)
    gate, worker = held(study, bucket)
    bucket_away.set()
    worker.kill()
    study.join()
    study.expire_leases()
    gate.open()
    last = study.close_gate(13)
    study.workers.clear()
    second = worker_of(study, "second machine")
    wait_until(lambda: "attempt" in study.log(second), "the lost trial, claimed")
    bucket_away.clear()
    last.wait()
    bucket_away.set()
    last.open()
    wait_until(lambda: study.rows()[1].state == "done", "the end of the trial that waited")
    bucket_away.clear()
    assert study.join() == [0]
    said = study.log(second)
    assert "resumes after step 6" in said
    assert "cannot store" in said, "files of a trial that ends meanwhile are lost, which is said"
    study.check_exactly_once()
    assert copies(study, bucket) == []


def test_a_deletion_removes_the_copies_or_remembers_them(
    make_sqlite_study: MakeStudy, bucket: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The removal is over before the program says so; what the store refuses is removed by the next call."""
    study = make_sqlite_study(2, lease_s=60)
    _, worker = held(study, bucket)
    worker.kill()
    study.join()
    study.expire_leases()
    files = checkpoint_store(study.folder / "first machine", STORE, open_store(STORE))
    with opened(study.url).closing() as database:
        delete_studies(database, [study.name], files)
        with monkeypatch.context() as patch:
            patch.setattr(BucketStore, "remove", Mock(side_effect=ConnectionError("away")))
            left = remove_recorded(database, of_studies([study.name]), None, files)
        assert left.files == 1
        assert left.why == "ConnectionError: away"
        assert len(bucket) == 1
        assert remove_recorded(database, of_studies([study.name]), None, files).files == 0
        assert dict(bucket) == {}

"""Artifact stores: whole files or none, nothing from outside, and a form that Optuna itself reads."""

from __future__ import annotations

import errno
import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound
from sample_study import STUDY, optuna_storage, sample_plan

from search.storage.artifact_store import FolderStore, artifact_id, open_store, put
from search.storage.database import Database
from search.storage.errors import LeaseLost, StorageError
from search.storage.planning import plan
from search.storage.queue import TrialQueue

ID = artifact_id("a trial", 1, "curve.csv")


def read(store: Any) -> bytes:
    """What the store has under `ID`."""
    with store.open_reader(ID) as file:
        content: bytes = file.read()
        return content


def test_what_was_put_is_there_whole_and_readable_by_optuna(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()
    put(store, ID, "curve.csv", b"old, and longer")
    put(store, ID, "curve.csv", b"new")
    assert read(store) == b"new"
    assert read(FileSystemArtifactStore(tmp_path / "kept")) == b"new"
    assert store.sizes([ID, artifact_id("a trial", 2, "x"), "../kept"]) == {ID: 3}
    store.remove(ID)
    with pytest.raises(ArtifactNotFound, match="no artifact"):
        store.open_reader(ID)
    with pytest.raises(ArtifactNotFound, match="no artifact"):
        store.remove(ID)


def test_ids_differ_by_trial_token_and_name() -> None:
    ids = {artifact_id(trial, token, name) for trial in ("a", "b") for token in (1, 2) for name in ("x", "y")}
    assert len(ids) == 8
    assert artifact_id("a", 1, "x") in ids


@pytest.mark.parametrize("its_id", ["../secret", "..", "", "/etc/passwd", ".parts", f"{ID}/../../secret", ID.upper()])
def test_nothing_but_ids_is_looked_for(tmp_path: Path, its_id: str) -> None:
    (tmp_path / "secret").write_text("secret")
    store = FolderStore(tmp_path / "kept")
    put(store, ID, "curve.csv", b"1")
    with pytest.raises(ArtifactNotFound, match="is not an artifact id"):
        store.open_reader(its_id)
    with pytest.raises(ArtifactNotFound, match="is not an artifact id"):
        store.write(its_id, io.BytesIO(b"1"))
    with pytest.raises(ArtifactNotFound, match="is not an artifact id"):
        store.remove(its_id)
    assert (tmp_path / "secret").read_text() == "secret"


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / ID).symlink_to(tmp_path / "secret")
    with pytest.raises(ArtifactNotFound, match="no artifact"):
        FolderStore(tmp_path / "kept").open_reader(ID)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    class Overlong(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = FolderStore(tmp_path)
    put(store, ID, "curve.csv", b"old")
    with pytest.raises(OSError, match="No space left"):
        store.write(ID, Overlong(b"new"))
    assert read(store) == b"old"
    assert list((tmp_path / ".parts").iterdir()) == []


def test_parts_of_killed_writers_are_removed_when_they_are_old(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    put(store, ID, "curve.csv", b"1")
    old, young = tmp_path / ".parts" / "old", tmp_path / ".parts" / "young"
    for part in (old, young):
        part.write_text("half")
    os.utime(old, (time.time() - 7200,) * 2)
    store.remove_stale_parts()
    assert (old.exists(), young.exists()) == (False, True)


def test_stores_that_there_are_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="is a file; name a folder"):
        open_store(str(tmp_path / "file"))
    for where in ("gs://bucket", "s3://", "http://host/"):
        with pytest.raises(StorageError, match=r"choices are a folder and s3://bucket/prefix"):
            open_store(where)
    for where in ("http://user:secret@host/", "s3://user:secret@bucket/prefix", "s3://secret@bucket"):
        with pytest.raises(StorageError, match=r"others could read a key in the URL; give the keys") as caught:
            open_store(where)
        assert "secret" not in str(caught.value)


def test_a_trial_ends_with_its_artifacts(database: Database, tmp_path: Path) -> None:
    plan(database, [sample_plan()])
    queue, store = TrialQueue(database), open_store(str(tmp_path / "kept"))
    [lease] = queue.claim([STUDY], "worker")
    attrs = put(store, ID, "curve.csv", b"step\n")
    queue.finish(lease, "complete", 1.5, {"device": "cpu"}, None, attrs)
    queue.finish(lease, "complete", 1.5, {"device": "cpu"}, None, attrs)  # the answer to the first was lost
    url = database.engine.url.render_as_string(hide_password=False)
    storage = optuna_storage(url)
    trial = optuna.load_study(study_name=STUDY, storage=storage).trials[lease.number]
    [meta] = optuna.artifacts.get_all_artifact_meta(trial, storage=storage)
    storage.engine.dispose()
    assert (meta.artifact_id, meta.filename, meta.mimetype) == (ID, "curve.csv", "text/csv")
    assert trial.value == 1.5


def test_a_late_worker_adds_no_artifacts(database: Database, tmp_path: Path) -> None:
    plan(database, [sample_plan()])
    queue = TrialQueue(database)
    [late] = queue.claim([STUDY], "late")
    queue.abandon("late")
    [lease] = queue.claim([STUDY], "heir")
    assert lease.number == late.number
    with pytest.raises(LeaseLost):
        queue.finish(late, "complete", 1.0, {}, None, {"artifacts:late": "{}"})
    queue.finish(lease, "complete", 2.0, {}, None, {"artifacts:heir": "{}"})
    url = database.engine.url.render_as_string(hide_password=False)
    storage = optuna_storage(url)
    trial = optuna.load_study(study_name=STUDY, storage=storage).trials[lease.number]
    storage.engine.dispose()
    assert trial.system_attrs == {"artifacts:heir": "{}"}


@pytest.mark.filterwarnings("ignore:unclosed")  # boto3 keeps its connections
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_bucket(bucket: Mapping[str, bytes]) -> None:
    pytest.importorskip("boto3")
    store = open_store("s3://weights/lm/search/")
    put(store, ID, "curve.csv", b"step\n")
    assert bucket == {f"/weights/lm/search/{ID}": b"step\n"}
    assert read(store) == b"step\n"
    with pytest.raises(ArtifactNotFound, match="is not an artifact id"):
        store.open_reader("../../other")
    other = open_store("s3://weights/lm/")
    put(other, ID, "curve.csv", b"another prefix")
    assert store.sizes([ID, "no such id"]) == {ID: 5}
    other.remove(ID)
    store.remove(ID)
    assert bucket == {}
    assert store.sizes([ID]) == {}
    with pytest.raises(ArtifactNotFound, match="was not found"):
        store.open_reader(ID)


def test_any_store_that_fsspec_knows(tmp_path: Path) -> None:
    """The memory of this process stands for gs:// and az://, which only differ in the package that they need."""
    store = open_store("memory://bucket/search")
    assert store.sizes([ID]) == {}
    with pytest.raises(ArtifactNotFound):
        store.open_reader(ID)
    put(store, ID, "curve.csv", b"old, and longer")
    put(store, ID, "curve.csv", b"new")
    assert read(store) == b"new"
    assert store.sizes([ID, artifact_id("a trial", 2, "x")]) == {ID: 3}
    store.remove(ID)
    with pytest.raises(ArtifactNotFound):
        store.remove(ID)
    with pytest.raises(ArtifactNotFound, match="is not an artifact id"):
        store.open_reader("../secret")
    with pytest.raises(
        StorageError, match=r"--artifacts nowhere://…: Protocol not known: nowhere; choices are a folder"
    ):
        open_store("nowhere://bucket")

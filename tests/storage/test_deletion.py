"""A study is deleted with all that belongs to it and nothing else, whenever the process is killed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from deaths import Death, in_child
from kept_studies import BASELINES, NAMES, expire_leases, files_in, make_study, rows_left
from sample_study import STUDY, sample_plan

from search.delete import delete
from search.housekeeping_options import DeleteOptions
from search.storage.artifact_store import FolderStore
from search.storage.checkpoint_store import CheckpointStore
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.deletion import delete_studies
from search.storage.errors import StorageError
from search.storage.planning import plan
from search.storage.queries import study_names
from search.storage.queue import TrialQueue
from search.storage.removals import of_studies, recorded, remove_recorded


def options(url: str, out: Path) -> DeleteOptions:
    return DeleteOptions(study=STUDY, storage=url, out=out, yes=True)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of checkpoints, logs and artifacts."""
    return tmp_path / "out"


def url_of(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)


def test_everything_of_the_study_goes_and_nothing_else(database: Database, tmp_path: Path, out: Path) -> None:
    # A study of the same name in another database, and another study in this one, share the folder.
    with open_database(f"sqlite:///{tmp_path / 'second.db'}", create=True).closing() as second:
        make_study(second, out)
        plan(database, [sample_plan(study="other")])
        theirs, their_rows, kept = files_in(out), rows_left(second), rows_left(database)
        make_study(database, out)
        # The other study's checkpoints lay in the same places; these are ours now.
        theirs = {path: content for path, content in theirs.items() if not path.endswith("checkpoint")}
        expire_leases(database)
        delete(options(url_of(database), out))
        assert rows_left(database) == kept
        assert study_names(database) == ["other"]
        assert files_in(out) == theirs
        assert rows_left(second) == their_rows
        expire_leases(second)
        delete(options(url_of(second), out))
        assert (files_in(out), rows_left(second)) == ({}, {})
        assert [path.name for path in out.iterdir()] == ["artifacts"]


def test_a_checkpoint_of_another_study_stays(database: Database, out: Path) -> None:
    make_study(database, out)
    CheckpointStore(out).write_checkpoint(STUDY, 11, b"of another study", "identity")
    (out / STUDY / "logs" / "more.log").touch()
    expire_leases(database)
    delete(options(url_of(database), out))
    left = {path for path in files_in(out) if "artifacts" not in path}
    assert left == {f"{STUDY}/trial-00011/checkpoint", f"{STUDY}/logs/worker-cpu-0.log", f"{STUDY}/logs/more.log"}


def test_it_refuses_while_workers_train(database: Database, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_study(database, out)
    files, there = files_in(out), rows_left(database)
    with pytest.raises(SystemExit, match="2"):
        delete(options(url_of(database), out))
    message = capsys.readouterr().err
    assert "error: nothing was deleted: workers train trials: host/cpu-0/5 (trial 5 of small); stop them" in message
    assert message.count("\n") == 1
    assert (files_in(out), rows_left(database)) == (files, there)


DEATHS = [
    Death("search.storage.optuna_tables:delete_study", "before"),
    Death("search.storage.optuna_tables:delete_study", "after", 2),
    Death("search.storage.removals:remove_recorded", "before"),
    Death("search.storage.artifact_store:FolderStore.remove", "after", 3),
    Death("search.storage.checkpoint_store:CheckpointStore.remove_leftovers", "after"),
    Death("shutil:rmtree", "before"),
    Death("search.storage.removals:_forget", "before"),
]


def test_killed_half_way_and_repeated(storage_url: str, tmp_path: Path) -> None:
    """After each death the study is whole or gone, and the same command removes what is left."""
    log = tmp_path / "log"
    # What happens to files is the same on both.
    for turn, death in enumerate(DEATHS[:3] if storage_url.startswith("postgresql") else DEATHS):
        out = tmp_path / f"out-{turn}"
        with open_database(storage_url, create=True).closing() as database:
            make_study(database, out)
            expire_leases(database)
            files = files_in(out)

        def work(death: Death = death, out: Path = out) -> None:
            death.prepare()
            delete(options(storage_url, out))

        assert in_child(work, log) == -9, (death, log.read_text())
        with open_database(storage_url, create=False).closing() as database:
            if study_names(database):
                assert study_names(database) == NAMES, death
                assert files_in(out) == files, death
            else:
                assert set(rows_left(database)) <= {"search_removals"}, death
                assert recorded(database, of_studies(NAMES)) > 0, death
            # The name is free again, and what is left of the deleted study belongs to no other.
            delete(options(storage_url, out))
            assert (rows_left(database), files_in(out)) == ({}, {}), death


def test_planned_again_before_the_files_are_gone(database: Database, out: Path) -> None:
    make_study(database, out)
    expire_leases(database)
    delete_studies(database, NAMES, CheckpointStore(out))
    old = files_in(out)
    make_study(database, out)
    new = set(files_in(out)) - set(old)
    remove_recorded(database, of_studies(NAMES), FolderStore(out / "artifacts"), CheckpointStore(out))
    left = set(files_in(out))
    assert new <= left
    assert {path for path in left if path.startswith("artifacts")} == {p for p in new if p.startswith("artifacts")}
    assert len([path for path in left if path.endswith("checkpoint")]) == 2
    assert study_names(database) == NAMES


def test_a_file_that_cannot_be_removed_is_removed_later(
    database: Database, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_study(database, out)
    expire_leases(database)
    with monkeypatch.context() as patch:

        def refuse(self: FolderStore, artifact_id: str) -> None:
            raise PermissionError(13, "Permission denied")

        patch.setattr(FolderStore, "remove", refuse)
        with pytest.raises(SystemExit, match="2"):
            delete(options(url_of(database), out))
        assert "12 of its files could not be removed (PermissionError: [Errno 13]" in capsys.readouterr().err
    delete(options(url_of(database), out))
    assert (rows_left(database), files_in(out)) == ({}, {})


def test_the_wrong_artifact_store_is_noticed(database: Database, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_study(database, out)
    expire_leases(database)
    wrong = DeleteOptions(study=STUDY, storage=url_of(database), out=out / "elsewhere", yes=True)
    with pytest.raises(SystemExit, match="2"):
        delete(wrong)
    assert "none of the 12 artifacts of small is in" in capsys.readouterr().err
    assert study_names(database) == NAMES
    delete(DeleteOptions(study=STUDY, storage=url_of(database), out=out, artifacts="none", yes=True))
    assert "artifacts are left (12)" in capsys.readouterr().out
    assert len(files_in(out)) == 12
    assert rows_left(database) == {}


def test_claims_at_the_same_moment(database: Database, tmp_path: Path) -> None:
    """A worker gets a trial, and the deletion is refused; or the study is gone, and the worker gets none."""
    for turn in range(10):
        plan(database, [sample_plan(), sample_plan(study=BASELINES)])
        start = threading.Barrier(2)
        claimed: list[object] = []

        def work(turn: int = turn, start: threading.Barrier = start, claimed: list[object] = claimed) -> None:
            start.wait()
            claimed += TrialQueue(database).claim([STUDY], f"worker {turn}")

        thread = threading.Thread(target=work)
        thread.start()
        start.wait()
        refused = ""
        try:
            delete_studies(database, NAMES, CheckpointStore(tmp_path))
        except StorageError as error:
            refused = str(error)
        thread.join()
        assert len(claimed) == (1 if refused else 0)
        if refused:
            assert f"worker {turn} (trial" in refused
            assert study_names(database) == NAMES
            expire_leases(database)
            delete_studies(database, NAMES, CheckpointStore(tmp_path))
        assert study_names(database) == []
        remove_recorded(database, of_studies(NAMES), None, CheckpointStore(tmp_path))
        assert rows_left(database) == {}

"""Files of a study have no rights for other users; those of the group follow the umask."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sample_study import sample_plan
from sqlalchemy import text

from search.launchers.local import LocalLauncher
from search.launchers.protocol import Places, WorkerJob
from search.storage.artifact_store import artifact_id, open_store, put
from search.storage.checkpoint_store import CheckpointStore
from search.storage.connect import open_database
from search.storage.planning import plan
from search.storage.private_files import create_private, make_private_folder, open_private


@pytest.fixture(params=[0o022, 0o002, 0o077, 0o000])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """The umask of this process."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """The rights of everything below a folder, by path."""
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in sorted(folder.rglob("*"))}


def test_everything_that_a_run_writes(tmp_path: Path, umask: int) -> None:
    out = tmp_path / "out" / "deep"
    url = f"sqlite:///{tmp_path / 'search.db'}"
    with open_database(url, create=True).closing() as database:
        plan(database, [sample_plan()])
        with database.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            assert {"search.db", "search.db-wal", "search.db-shm"} <= modes(tmp_path).keys()
            found = modes(tmp_path)
        with database.engine.begin() as connection:
            copy = database.dialect.back_up(connection, ".bak")
    assert copy == str(tmp_path / "search.db.bak")
    put(open_store(str(out / "artifacts")), artifact_id("trial", 1, "a.txt"), "a.txt", b"text")
    CheckpointStore(out / "checkpoints").write_checkpoint("small", 0, b"state", "identity")
    if umask == 0o022:
        launcher = LocalLauncher(Places("cpu", "1"))
        launcher.start(1, WorkerJob(["--help"], url, out / "logs", lambda owner, failure=None: False))
        launcher.stop()
    found |= modes(tmp_path)
    assert "out/deep/checkpoints/small/trial-00000/checkpoint" in found
    assert ("out/deep/logs/worker-cpu-0.log" in found) == (umask == 0o022)
    for path, mode in found.items():
        is_folder = (tmp_path / path).is_dir()
        assert mode == (0o770 if is_folder else 0o660) & ~umask, path
    if umask == 0o022:
        assert set(found.values()) == {0o640, 0o750}


def test_what_exists_keeps_its_rights(tmp_path: Path) -> None:
    folder, file = tmp_path / "shared", tmp_path / "shared" / "file"
    folder.mkdir()
    folder.chmod(0o777)
    file.touch()
    file.chmod(0o666)
    make_private_folder(folder)
    create_private(file)
    with open_private(file, "a") as opened:
        opened.write("ä")
    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o777, 0o666)
    assert file.read_text(encoding="utf-8") == "ä"
    with pytest.raises(FileExistsError, match="file"):
        make_private_folder(file)

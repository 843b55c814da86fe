"""Checkpoint files: whole or not there, whatever happened to the disk."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.storage.checkpoint_store import CheckpointStore

PAYLOAD, IDENTITY = b"weights and moments " * 5, "uid cell"


def written(root: Path) -> tuple[CheckpointStore, Path]:
    """A folder with one checkpoint, and that checkpoint's file."""
    folder = CheckpointStore(root)
    folder.write_checkpoint("small", 12, PAYLOAD, IDENTITY)
    return folder, root / "small" / "trial-00012" / "checkpoint"


@given(payload=st.binary(max_size=200), identity=st.text(max_size=20))
@settings(max_examples=30)
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, payload: bytes, identity: str) -> None:
    folder = CheckpointStore(tmp_path_factory.mktemp("out", numbered=True))
    assert folder.read_checkpoint("small", 0, identity) is None
    folder.write_checkpoint("small", 0, b"an older one", identity)
    folder.write_checkpoint("small", 0, payload, identity)
    assert folder.read_checkpoint("small", 0, identity) == payload


def test_every_shorter_file_is_torn(tmp_path: Path) -> None:
    folder, path = written(tmp_path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert folder.read_checkpoint("small", 12, IDENTITY) is None, length
        assert not path.exists()
        assert path.with_suffix(".rejected").read_bytes() == content[:length]
    path.write_bytes(content)
    assert folder.read_checkpoint("small", 12, IDENTITY) == PAYLOAD


@given(data=st.data())
@settings(max_examples=100)
def test_every_flipped_bit_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder, path = written(tmp_path_factory.mktemp("out", numbered=True))
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, 8 * len(content) - 1))
    content[at // 8] ^= 1 << at % 8
    path.write_bytes(content)
    assert folder.read_checkpoint("small", 12, IDENTITY) is None


@pytest.mark.parametrize("identity", ["another uid cell", "uid another cell", "", "uid cell\0"])
def test_another_trials_checkpoint_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, identity: str
) -> None:
    folder, path = written(tmp_path)
    assert folder.read_checkpoint("small", 12, identity) is None
    assert sorted(each.name for each in path.parent.iterdir()) == ["checkpoint.rejected"]
    expected = (
        "it is damaged or belongs to another study; it is kept as checkpoint.rejected, "
        "and the trial restarts from the beginning"
    )
    assert expected in caplog.text


def test_a_checkpoint_that_the_run_refuses_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, path = written(tmp_path)
    folder.set_aside("small", 12, "other shapes")
    assert f"{path} is not used: other shapes" in caplog.text
    assert folder.read_checkpoint("small", 12, IDENTITY) is None
    folder.set_aside("small", 12, "twice")  # by a worker that comes too late
    assert "cannot rename" in caplog.text


def test_a_checkpoint_that_cannot_be_read_is_no_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, path = written(tmp_path)
    path.unlink()
    path.mkdir()
    assert folder.read_checkpoint("small", 12, IDENTITY) is None
    assert "Is a directory" in caplog.text


def test_removing_leaves_nothing_of_killed_workers(tmp_path: Path) -> None:
    folder, path = written(tmp_path)
    path.with_suffix(".4711.tmp").write_bytes(b"half")
    folder.remove_checkpoint("small", 12)
    folder.remove_checkpoint("small", 12)
    folder.remove_checkpoint("small", 13)
    assert list(path.parent.iterdir()) == []


def test_removing_a_study_leaves_files_that_are_no_studys(tmp_path: Path) -> None:
    store, folder = CheckpointStore(tmp_path), tmp_path / "artifacts"  # also the folder of all artifacts
    store.mark_folder("artifacts", "uid")
    for name in ("1b4e28ba", ".parts/part", "logs/worker.log", "trial-00000/checkpoint.tmp", "study-0123/study.toml"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    store.remove_folder("artifacts", "uid")
    assert sorted(path.name for path in folder.iterdir()) == [".parts", "1b4e28ba"]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "small").write_text("a file where the folder should be")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        CheckpointStore(tmp_path).write_checkpoint("small", 12, PAYLOAD, IDENTITY)


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    folder, path = written(tmp_path)
    # The limit on a file's size stands for the end of the disk: the write stops half way in the same manner.
    script = (
        "import pathlib, resource, signal, sys\nfrom search.storage.checkpoint_store import CheckpointStore\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"try: CheckpointStore(pathlib.Path({str(tmp_path)!r})).write_checkpoint('small', 12, bytes(100_000), 'x')\n"
        "except OSError as error: print(error.strerror)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    assert [each.name for each in path.parent.iterdir()] == ["checkpoint"]
    assert folder.read_checkpoint("small", 12, IDENTITY) == PAYLOAD


def test_a_killed_writer_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    folder, path = written(tmp_path)
    # Exceeding the limit kills here, in the middle of the write.
    script = (
        "import pathlib, resource, signal\nfrom search.storage.checkpoint_store import CheckpointStore\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"CheckpointStore(pathlib.Path({str(tmp_path)!r})).write_checkpoint('small', 12, bytes(100_000), 'x')\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGXFSZ
    assert len(list(path.parent.glob("*.tmp"))) == 1
    assert folder.read_checkpoint("small", 12, IDENTITY) == PAYLOAD
    folder.remove_checkpoint("small", 12)
    assert list(path.parent.iterdir()) == []

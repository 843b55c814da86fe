"""The checkpoint folder is full, read-only or not a folder: training continues, and the log names the path."""

from __future__ import annotations

import shutil
import signal
import subprocess

import pytest
from deaths import Death
from scenario import MakeStudy

from search.storage.checkpoint_store import CheckpointStore

# Enters a new mount namespace, runs the shell command argv[1] there with the folder argv[2] as $1, becomes a worker.
IN_NAMESPACE = """
import os, sys
prepare, folder, *arguments = sys.argv[1:]
script = prepare + ' && shift && exec "$@"'
worker = [sys.executable, "-m", "search.worker", *arguments]
os.execvp("unshare", ["unshare", "-m", "sh", "-c", script, "sh", folder, *worker])
"""


def need_mounts() -> None:
    """Skip the test if this process must not mount."""
    mount = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    if shutil.which("unshare") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount in a private namespace (root)")


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        ('mount -t tmpfs -o size=64k none "$1" && ! head -c 1m /dev/zero > "$1/filler"', "No space left on device"),
        ('mount --bind "$1" "$1" && mount -o remount,ro,bind "$1"', "Read-only file system"),
    ],
    ids=["full", "read-only"],
)
def test_disk(make_sqlite_study: MakeStudy, prepare: str, why: str) -> None:
    need_mounts()
    study = make_sqlite_study(3, ms=10)
    study.plan()
    study.out.mkdir()
    # Start it with the study's name, as the launcher does: with the study file it would reject the folder at once.
    worker = study.start_worker_program("--name", study.name, script=["-c", IN_NAMESPACE, prepare, str(study.out)])
    assert study.join() == [0], study.logs()
    folder = study.out / "faulty" / "trial-00000"
    assert f"cannot write a checkpoint in {folder} ({why}); training continues without one" in study.log(worker)
    assert [row.attempts for row in study.check_exactly_once()] == [1, 1, 1]


def test_file_in_place_of_the_folder(make_study: MakeStudy) -> None:
    study = make_study(3, ms=5)
    study.out.mkdir()
    (study.out / "faulty").write_text("not a folder")
    study.repair()
    folder = study.out / "faulty" / "trial-00000"
    assert (
        f"cannot write a checkpoint in {folder} (Not a directory); training continues without one"
        in study.fork_log.read_text()
    )
    assert [row.attempts for row in study.check_exactly_once()] == [1, 1, 1]


def test_no_checkpoints_and_a_death(make_study: MakeStudy) -> None:
    """Without checkpoints the next worker starts from the beginning and gets the same losses."""
    study = make_study(2, ms=5, lease_s=60)
    study.out.mkdir()
    (study.out / "faulty").write_text("not a folder")
    assert study.fork_worker(Death("search.storage.queue:TrialQueue.report", "after", 7), plan=True) == -signal.SIGKILL
    study.expire_leases()
    study.repair()
    assert [row.token for row in study.check_exactly_once()] == [1, 2], "the last cell of the grid is claimed first"


@pytest.mark.parametrize("harm", ["torn", "empty", "rubbish", "foreign", "another trial's"])
def test_bad_checkpoint_is_set_aside(make_sqlite_study: MakeStudy, harm: str) -> None:
    study = make_sqlite_study(2, ms=5, lease_s=60)
    assert study.fork_worker(Death("search.storage.queue:TrialQueue.report", "after", 7), plan=True) == -signal.SIGKILL
    checkpoint = study.out / "faulty" / "trial-00001" / "checkpoint"
    whole = checkpoint.read_bytes()
    if harm == "foreign":
        CheckpointStore(study.out).write_checkpoint("faulty", 1, b"payload", "the same trial of another database")
    elif harm == "another trial's":
        other = study.out / "faulty" / "trial-00000"
        other.mkdir()
        shutil.move(checkpoint, other / "checkpoint")
        checkpoint = other / "checkpoint"
    else:
        checkpoint.write_bytes({"torn": whole[:-20], "empty": b"", "rubbish": whole[:-1] + b"!"}[harm])
    study.expire_leases()
    study.repair()
    study.check_exactly_once()
    rejected = checkpoint.with_name("checkpoint.rejected")
    assert f"checkpoint {checkpoint} is not used" in study.fork_log.read_text()
    assert rejected.exists()

"""A power cut takes what was not synced: a finished trial is never among it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sample_study import CELLS, STUDY, optuna_trials, rows, sample_plan

from search.storage import dialect_sqlite
from search.storage.connect import open_database
from search.storage.leases import Lease
from search.storage.planning import plan
from search.storage.queue import TrialQueue

# Writes a line "path size" for each sync of a file.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
static void note(int fd) {
    char link[64], path[4096];
    struct stat about;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    FILE *log = fopen(getenv("SYNC_LOG"), "a");
    if (length > 0 && log && fstat(fd, &about) == 0) {
        path[length] = 0;
        fprintf(log, "%s %lld\n", path, (long long)about.st_size);
    }
    if (log) fclose(log);
}
int fdatasync(int fd) { note(fd); return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd); }
int fsync(int fd) { note(fd); return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd); }
"""
# Finishes trials, starts one more, and ends without closing the database: the WAL stays as it is.
WORK = """
import os, sys
from sample_study import STUDY, sample_plan
from search.storage.connect import open_database
from search.storage.leases import Report
from search.storage.leases import Lease
from search.storage.planning import plan
from search.storage.queue import TrialQueue

database = open_database(sys.argv[1], create=True)
plan(database, [sample_plan()])
queue = TrialQueue(database)
for number in range(int(sys.argv[2])):
    [lease] = queue.claim([STUDY], f"owner {number}")
    queue.report([Report(lease, 0, 4.0, 4.1)])
    queue.finish(lease, "complete", 2.0 + number, {"n_params": 1})
[lease] = queue.claim([STUDY], "the last")
queue.report([Report(lease, step, 4.0, 4.1) for step in range(50)])
os._exit(0)
"""


def test_a_finished_trial_survives_the_loss_of_all_that_was_not_synced(tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) to build the library that records syncs")
    finished, log, library = CELLS - 1, tmp_path / "syncs", tmp_path / "syncs.so"
    (tmp_path / "syncs.c").write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "syncs.c", "-ldl"], check=True)
    file = tmp_path / "search.db"
    command = [sys.executable, "-c", WORK, f"sqlite:///{file}", str(finished)]
    environment = {**os.environ, "LD_PRELOAD": str(library), "SYNC_LOG": str(log)}
    subprocess.run(command, env=environment, check=True, timeout=100)

    wal = Path(f"{file}-wal")
    syncs = [line.rsplit(" ", 1) for line in log.read_text().splitlines()]
    sizes = [int(size) for path, size in syncs if path == str(wal)]
    assert sizes[-1] < wal.stat().st_size, "something was not synced"
    os.truncate(wal, sizes[-1])
    Path(f"{file}-shm").unlink()

    with open_database(f"sqlite:///{file}", create=False).closing() as database:
        ended = [row for row in rows(database) if row.state == "done"]
        assert [(row.outcome, row.value) for row in ended] == [("complete", 2.0 + n) for n in range(finished)]
    trials = [trial for trial in optuna_trials(f"sqlite:///{file}") if trial.state.is_finished()]
    assert [trial.value for trial in trials] == [2.0 + n for n in range(finished)]
    assert len(sizes) <= finished + 3, "one sync a trial"


def test_a_sync_keeps_no_other_worker_from_writing_and_is_repeated_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/search.db"
    claimed: list[list[Lease]] = []  # by each attempt to sync
    with open_database(url, create=True).closing() as database, open_database(url, create=False).closing() as other:
        plan(database, [sample_plan()])
        queue, further = TrialQueue(database), TrialQueue(other)
        [lease] = queue.claim([STUDY], "ann")

        def sync(file: int) -> None:
            claimed.append(further.claim([STUDY], f"bob {len(claimed)}"))
            if len(claimed) == 1:
                raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(dialect_sqlite, "_sync", sync)
        queue.finish(lease, "complete", 2.0)
        assert [row.state for row in rows(database)][:3] == ["done", "running", "running"]
    assert [len(leases) for leases in claimed] == [1, 1]

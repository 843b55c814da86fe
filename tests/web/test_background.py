"""The dashboard beside a run ends with it, even if the run is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from study_files import sqlite

RUN = """
import sys
from search.web.background import dashboard_process
with dashboard_process(sys.argv[1], "none", 0):
    sys.stdin.read()
"""


def test_dashboard_of_a_killed_run(work_folder: Path) -> None:
    (work_folder / "search.db").touch()
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, sqlite(work_folder)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert run.stderr is not None
    assert "dashboard of sqlite" in run.stderr.readline()
    [dashboard] = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    run.kill()
    run.communicate()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{dashboard}").exists() and "Z" not in state(dashboard):
        assert time.monotonic() < deadline, "the dashboard goes on"
        time.sleep(0.05)


def state(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"

"""Trials of a generator function are killed or stopped in the middle, run again, and get the same losses."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from gates import wait_until
from scenario import AnyWorker
from study_files import all_rows, opened, sqlite, start_program, write_study

from search.storage.queries import trial_summaries, val_curves

# Each call adds a line to `calls`; the call with x = 1 waits after step 6 until the file `open` exists.
OBJECTIVE = """
import os
import random
import time
from pathlib import Path

def loss(params, seed):
    with open("calls", "a") as calls:
        calls.write(f"{os.getpid()} {params['x']}\\n")
    draw = random.Random(f"{seed} {params['x']}")
    value = 0.0
    for step in range(1, 11):
        for _ in range(5):
            value += draw.random()
            yield
        while step == 7 and params["x"] == 1 and not Path("open").exists():
            Path("reached").touch()
            time.sleep(0.005)
            yield
        yield step, value, value + 1
"""

STUDY = """
objective = "interrupted:loss"
first_seed = 3

[grid]
x = [0, 1, 2]

[training]
max_iters = 10

[pruner]
name = "none"

[workers]
lease_s = 5
checkpoint_s = {checkpoint_s}
"""


def expected(x: int) -> list[tuple[int, float]]:
    """The val_loss curve of an undisturbed trial."""
    draw, value, curve = random.Random(f"3 {x}"), 0.0, []
    for step in range(1, 11):
        for _ in range(5):
            value += draw.random()
        curve.append((step, value + 1))
    return curve


def start(folder: Path) -> AnyWorker:
    options = ["--study", "interrupted.toml", "--workers", "1", "--quiet"]
    return start_program("run", *options, cwd=folder, log=folder / "run.log")


def wait_at_step_6(folder: Path) -> None:
    """Wait until the trial of x = 1 has reported step 6 and stands still."""
    wait_until((folder / "reached").exists, "the trial of x = 1 at step 6")


def check(folder: Path, attempts: list[int]) -> None:
    """Check that every trial is complete, with the curve of an undisturbed trial."""
    with opened(sqlite(folder)).closing() as database:
        runs = trial_summaries(database, ["interrupted"])
        assert {run.state for run in runs} == {"complete"}
        assert [run.attempts for run in runs] == attempts
        curves: Any = val_curves(database, [("interrupted", run.number) for run in runs])
    for run in runs:
        assert [tuple(point) for point in curves["interrupted", run.number]] == expected(run.cell["x"])
        assert run.val_loss == expected(run.cell["x"])[-1][1]


def pids(folder: Path) -> list[int]:
    """The process id of the worker of each call, in order."""
    return [int(line.split()[0]) for line in (folder / "calls").read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study of three trials, and its module, found in the study file's folder."""
    (tmp_path / "interrupted.py").write_text(OBJECTIVE)
    return tmp_path


@pytest.mark.parametrize("checkpoint_s", [0, 100], ids=["with-checkpoint", "without"])
def test_killed_worker(folder: Path, checkpoint_s: int) -> None:
    write_study(folder, STUDY.format(checkpoint_s=checkpoint_s), "interrupted")
    run = start(folder)
    try:
        wait_at_step_6(folder)
        os.kill(pids(folder)[-1], signal.SIGKILL)
        (folder / "open").touch()
        assert run.wait(60) == 0, (folder / "run.log").read_text()
    finally:
        run.kill()
    # The killed worker's call and one more: a generator starts again with or without a checkpoint.
    assert len(pids(folder)) == 4
    check(folder, [1, 1, 1])  # the kill does not count: the attempt before it made progress
    logs = "".join(path.read_text() for path in folder.glob("search-out/interrupted/logs/*"))
    assert ("resumes after step" in logs) == (checkpoint_s == 0)
    assert "is not reproducible" not in logs


def test_stopped_run_stops_at_a_bare_yield_and_resumes(folder: Path) -> None:
    write_study(folder, STUDY.format(checkpoint_s=100), "interrupted")
    run = start(folder)
    try:
        wait_at_step_6(folder)
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 130, (folder / "run.log").read_text()
        assert [row["state"] for row in all_rows(sqlite(folder))] == ["waiting", "waiting", "done"]
        (folder / "open").touch()
        run = start(folder)
        assert run.wait(60) == 0, (folder / "run.log").read_text()
    finally:
        run.kill()
    check(folder, [1, 1, 1])
    logs = "".join(path.read_text() for path in folder.glob("search-out/interrupted/logs/*"))
    assert "trial 1 of interrupted resumes after step 6" in logs

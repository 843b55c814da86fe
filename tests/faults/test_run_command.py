"""`python -m search.run` is interrupted, terminated or killed; the same command again finishes the study."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from gates import Gate, wait_until
from scenario import AnyWorker, FaultStudy, MakeStudy, Record
from study_files import program, start_program


def start_run(study: FaultStudy, *arguments: str, workers: int = 2, new: bool = False) -> AnyWorker:
    """Start the command with its stderr in `run.log`; `kill_all` of the study ends it too.

    Args:
        study, arguments, workers: What it runs.
        new: Start new interpreters, and not forks.
    """
    log = study.folder / "run.log"
    command = [*study.arguments, "--workers", str(workers), "--devices", "cpu", "--quiet", *arguments]
    run = start_program("run", *command, cwd=Path.cwd(), log=log, env=study.environment, new=new)
    study.workers.append(run)
    return run


def said(study: FaultStudy) -> str:
    return (study.folder / "run.log").read_text()


def finish(study: FaultStudy, *arguments: str, workers: int = 2) -> None:
    """Run the command to its end."""
    assert start_run(study, *arguments, workers=workers).wait(100) == 0, said(study)


def run_half(study: FaultStudy) -> tuple[AnyWorker, set[int], Gate]:
    """Start the command on a grid of 8; wait until 4 trials are done and both workers are in the middle of another.

    Returns:
        The command, the process ids of its workers, and the gate at which both wait.
    """
    gate = study.close_gate(7, *({"slot": slot} for slot in range(4)))  # the last cells are claimed first
    run = start_run(study, new=True)
    workers = set(gate.wait(2))
    assert study.counts() == {"waiting": 2, "running": 2, "done": 4}
    return run, workers, gate


def is_alive(pid: int) -> bool:
    """Whether a process, perhaps not a child of ours, still runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# Databases differ here only in how a worker releases its trial, which `test_deaths_at_a_line` tests on both.
ON_THE_OTHER = pytest.mark.soak


@pytest.mark.parametrize(
    ("storage_url", "number", "code"),
    [
        pytest.param("sqlite", signal.SIGINT, 130, id="sqlite-SIGINT"),
        pytest.param("postgresql", signal.SIGINT, 130, id="postgresql-SIGINT", marks=ON_THE_OTHER),
        pytest.param("sqlite", signal.SIGTERM, 75, id="sqlite-SIGTERM", marks=pytest.mark.soak),
        pytest.param("postgresql", signal.SIGTERM, 75, id="postgresql-SIGTERM", marks=pytest.mark.soak),
    ],
    indirect=["storage_url"],
)
def test_interrupted(make_study: MakeStudy, number: int, code: int) -> None:
    study = make_study(8, ms=5, lease_s=60)
    run, workers, gate = run_half(study)
    run.send_signal(number)
    assert run.wait(60) == code, said(study)
    assert len(workers) == 2
    assert not any(is_alive(pid) for pid in workers)
    rows = study.rows()
    released = [row for row in rows if row.state == "waiting" and row.started_at is not None]
    assert study.counts()["running"] == 0
    assert len(released) == 2
    for row in released:
        assert (study.out / "faulty" / f"trial-{row.number:05d}" / "checkpoint").exists()
    assert [row.attempts for row in rows] == [1 if row.state == "done" else 0 for row in rows]
    gate.open()
    finish(study)
    assert {row.attempts for row in study.check_exactly_once()} == {1}


@pytest.mark.parametrize("storage_url", [pytest.param("sqlite", marks=ON_THE_OTHER), "postgresql"], indirect=True)
def test_killed(make_study: MakeStudy) -> None:
    study = make_study(8, ms=5, lease_s=60)
    run, workers, gate = run_half(study)
    run.kill()
    run.wait()
    killed_at = time.monotonic()
    wait_until(lambda: not any(is_alive(pid) for pid in workers), "the workers' end")
    print(f"the workers ended {time.monotonic() - killed_at:.1f} s after the launcher")
    assert study.counts()["running"] == 0
    gate.open()
    finish(study)
    assert {row.attempts for row in study.check_exactly_once()} == {1}


def test_killed_while_its_workers_start(make_sqlite_study: MakeStudy) -> None:
    """A worker ends if its launcher died before the worker could look up its parent."""
    study = make_sqlite_study(4, ms=10_000)
    study.plan()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    study.start_worker_program("--parent", str(dead.pid))
    assert study.join() == [75]
    assert study.counts() == {"waiting": 4, "running": 0, "done": 0}


def repeat_grid(folder: Path, repetitions: int) -> list[float]:
    """Train the grid of 36 cells with 4 workers repeatedly; check that every cell is trained once each time."""
    seconds = []
    for repetition in range(repetitions):
        below = folder / str(repetition)
        below.mkdir()
        study = FaultStudy(below, f"sqlite:///{below / 'search.db'}", {"a": list(range(6)), "b": list("uvwxyz")}, 10)
        study.lease_s = 60
        started = time.monotonic()
        try:
            finish(study, workers=4)
        finally:
            study.kill_all()
        seconds.append(time.monotonic() - started)
        rows = study.check_exactly_once()
        assert len({row.cell for row in rows}) == 36
        assert {row.attempts for row in rows} == {1}
        # The launcher warns of every worker that ends with another code than 0.
        assert "ended with" not in said(study)
    return seconds


def test_grid_is_trained_exactly_once(tmp_path: Path) -> None:
    repeat_grid(tmp_path, 1)


@pytest.mark.soak
@pytest.mark.timeout(480)
def test_grid_is_trained_exactly_once_twenty_times(tmp_path: Path, record_property: Record) -> None:
    seconds = repeat_grid(tmp_path, 20)
    record_property("seconds", seconds)
    print(f"\n20 × 36 trials, seconds each: {' '.join(f'{each:.1f}' for each in seconds)}")


def test_finished_study_is_left_alone_and_more_seeds_are_added(make_sqlite_study: MakeStudy) -> None:
    study = make_sqlite_study(4, ms=5)
    finish(study, workers=1)
    before, logs = study.check_exactly_once(), list(study.out.rglob("*.log"))
    texts = [log.read_text() for log in logs]
    finish(study, workers=1)
    assert study.check_exactly_once() == before
    assert [log.read_text() for log in logs] == texts
    study.seeds = 3
    finish(study, "--seeds", "3", workers=1)
    rows = study.check_exactly_once()
    assert len(rows) == 12
    assert rows[:4] == before


def test_killed_in_the_confirmation_and_finished_by_two_commands(make_sqlite_study: MakeStudy) -> None:
    study = make_sqlite_study(3, ms=5, lease_s=60, head="confirm = 3")
    gate = study.close_gate(7, {"seed": 1008})  # the second of the fresh seeds
    run = start_run(study, workers=1)
    [worker] = gate.wait(1)
    before = study.rows()
    assert Counter((row.study, row.state) for row in before) == {
        ("faulty", "done"): 3,
        ("faulty-confirm", "done"): 2,
        ("faulty-confirm", "running"): 1,
        ("faulty-confirm", "waiting"): 3,
    }
    run.kill()
    run.wait()
    wait_until(lambda: not is_alive(worker), "the worker's end")
    gate.open()
    runs = [start_run(study, workers=1) for _ in range(2)]
    assert [each.wait(100) for each in runs] == [0, 0], said(study)
    rows = study.rows()
    assert [row.cell for row in rows] == [row.cell for row in before]
    assert {(row.state, row.outcome, row.attempts) for row in rows} == {("done", "complete", 1)}
    for row in rows:
        assert row.value == study.undisturbed(json.loads(row.cell))[-1].value


def test_a_run_without_workers_of_its_own_watches_those_of_others(make_sqlite_study: MakeStudy) -> None:
    study = make_sqlite_study(3, ms=2)
    options, log = [*study.arguments, "--launcher", "external"], study.folder / "run.log"
    run = start_program("run", *options, cwd=study.folder, log=log)
    waits = "waiting for workers; with SEARCH_STORAGE set, one is started by: "
    wait_until(lambda: log.exists() and waits in log.read_text(), waits)
    study.start_worker()
    assert study.join() == [0]
    assert run.wait(60) == 0, said(study)
    assert "3/3 done" in said(study)
    study.check_exactly_once()
    refused = program("run", *options, "--workers", "2", cwd=study.folder)
    assert refused.returncode == 2
    assert "--workers 2: --launcher external starts none; leave --workers out" in refused.stderr

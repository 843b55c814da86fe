"""How worker processes end: signals, exit codes, and what trials leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from fault_results import by_fault
from gates import wait_until
from scenario import MakeStudy
from study_files import opened

from search.storage.queries import trial_summaries
from search.workers import watchdog
from search.workers.child_processes import processes_of
from search.workers.stop_signals import STOP_SIGNALS
from search.workers.worker_loop import Worker


def is_alive(pid: int) -> bool:
    """Whether a process, perhaps not a child of ours, still runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_every_signal_hands_back_with_a_checkpoint(make_sqlite_study: MakeStudy) -> None:
    """Workers end with 75 while trials are left, and with 0 afterwards."""
    study = make_sqlite_study(len(STOP_SIGNALS), lease_s=60)
    study.plan()
    gate = study.close_gate(7)
    for _ in STOP_SIGNALS:
        study.start_worker_program()
    pids = gate.wait(len(STOP_SIGNALS))
    for number, pid in zip(STOP_SIGNALS, pids, strict=True):
        os.kill(pid, number)
    assert study.join() == [75] * len(STOP_SIGNALS)
    for row in study.rows():
        assert (row.state, row.attempts, row.reason) == ("waiting", 0, None)
        assert (study.out / "faulty" / f"trial-{row.number:05d}" / "checkpoint").exists()
    database = opened(study.url)
    spent = [trial.attrs for trial in trial_summaries(database, ["faulty"], attrs=["train_seconds"])]
    database.engine.dispose()
    assert spent == [{"train_seconds": pytest.approx(7 * 0.001)}] * len(STOP_SIGNALS)
    gate.open()
    study.workers.clear()
    study.start_worker_program(new=True)
    assert study.join() == [0]
    assert {row.attempts for row in study.check_exactly_once()} == {1}


SIGNAL_AT_AN_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ.get("SIGNAL_AT"):
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))

sys.meta_path.insert(0, Finder())
"""
STARTS = {
    "run": ["-m", "search.run"],
    "lm-search": ["-c", "from search.console import main; main()", "run"],
    "lm-search, run assumed": ["-c", "from search.console import main; main()"],
    "worker": ["-m", "search.worker"],
}


@pytest.mark.parametrize(
    ("start", "module", "number", "code"),
    [
        ("run", "typer", signal.SIGTERM, 75),
        ("run", "optuna", signal.SIGINT, 130),
        ("lm-search", "typer", signal.SIGINT, 130),
        ("lm-search, run assumed", "typer", signal.SIGTERM, 75),
        ("worker", "typer", signal.SIGTERM, 75),
        ("worker", "fake_objective", signal.SIGINT, 75),
    ],
)
def test_signal_while_it_starts(
    make_sqlite_study: MakeStudy, tmp_path: Path, start: str, module: str, number: int, code: int
) -> None:
    study = make_sqlite_study(1)
    study.plan()
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(SIGNAL_AT_AN_IMPORT)
    path = os.pathsep.join([str(tmp_path / "hook"), os.environ["PYTHONPATH"]])
    environment = {"PYTHONPATH": path, "SIGNAL_AT": module, "SIGNAL": str(int(number))}
    study.start_worker_program(script=STARTS[start], environment=environment)
    assert study.join() == [code], study.logs()
    assert study.logs() == ("" if start == "worker" else "interrupted; run the same command again to resume\n")
    assert [(row.state, row.attempts) for row in study.rows()] == [("waiting", 0)]


LINGERING = """
import sys, threading, time
from search.workers import process_end
process_end.MAX_EXIT_S = 0.2
threading.Thread(target=time.sleep, args=(1000,), name="of the objective").start()
process_end.end_process(int(sys.argv[1]))
"""


@pytest.mark.parametrize("code", [0, 75])
def test_thread_that_a_trial_leaves(code: int) -> None:
    done = subprocess.run([sys.executable, "-c", LINGERING, str(code)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (code, "the process ends although threads still run: of the objective\n")


@pytest.mark.parametrize("code", [0, 2, 75, 7])
def test_trial_that_ends_the_process(code: int) -> None:
    """No code of its own may tell an engine that nothing is left to do."""
    script = f"import os; from search.workers import process_end as p; p.turn_exits_into_crashes(); os._exit({code})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    said = f"the trial's own code ended the worker with os._exit({code})\n"
    assert (done.returncode, done.stderr) == ((7, "") if code == 7 else (70, said))


LAUNCHER = """
import os, subprocess, sys
worker = [sys.executable, "-m", "search.worker", *sys.argv[1:], "--parent", str(os.getpid())]
subprocess.Popen(worker, start_new_session=True).wait()
"""


@pytest.mark.parametrize("fault", ["child", "child in its own session"])
def test_stop_while_a_trial_waits_for_a_program(
    make_sqlite_study: MakeStudy, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "STOP_GRACE_S", 0.3)
    study = make_sqlite_study(grid={"fault": [fault]}, ms=2, lease_s=60)
    study.plan()
    found = study.folder / "program"

    def stop_once_it_runs(worker: Worker) -> None:
        found.write_text(str(*children(os.getpid())))
        worker.stop.set()

    assert study.fork_worker(meanwhile=stop_once_it_runs) == 75
    assert not is_alive(int(found.read_text()))
    [row] = study.rows()
    assert (row.state, row.attempts, row.owner) == ("waiting", 0, None)


def test_worker_does_not_outlive_a_killed_launcher(make_sqlite_study: MakeStudy) -> None:
    study = make_sqlite_study(grid={"fault": ["child"]}, ms=2, lease_s=60)
    study.plan()
    launcher = study.start_worker_program(script=["-c", LAUNCHER])
    [worker] = children(launcher.pid)
    [program] = children(worker)
    launcher.kill()
    wait_until(lambda: not is_alive(worker) and not is_alive(program), "the end of both", watchdog.STOP_GRACE_S + 10)
    assert [(row.state, row.attempts) for row in study.rows()] == [("waiting", 0)]


def children(pid: int) -> list[int]:
    """The children of a process, once it has any."""

    def found() -> list[int]:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    wait_until(found, f"a child of process {pid}")
    return found()


LIMITS: Mapping[str, tuple[str, str]] = {
    "deadlock": ("stall_timeout_s", "neither stepped nor reported for longer than 1 s (stall_timeout_s)"),
    "child": ("trial_timeout_s", "trained for longer than 1 s (trial_timeout_s)"),
}


@pytest.mark.parametrize("fault", LIMITS)
@pytest.mark.parametrize("fuse", ["off", "2"])
def test_trial_that_never_ends(make_sqlite_study: MakeStudy, fault: str, fuse: str) -> None:
    """It ends its process, is recorded with the reason, and counts as an attempt; other trials of its group do not."""
    name, reason = LIMITS[fault]
    study = make_sqlite_study(
        grid={"fault": [fault, "none"]}, ms=2, max_attempts=2, fuse=fuse, worker_settings=f"{name} = 1"
    )
    study.plan()
    codes = [study.fork_worker()]
    while codes[-1] != 0 and len(codes) < 9:
        codes.append(study.fork_worker())
    assert codes == [70, 70, 0]
    rows = by_fault(study)
    assert (rows[fault].state, rows[fault].outcome, rows[fault].attempts) == ("done", "failed", 2)
    assert rows[fault].reason == f"TrialTimeout: {reason}"
    assert rows["none"].outcome == "complete"
    log = study.fork_log.read_text()
    assert "_misbehave" in log  # where the trial hangs
    assert "retrying in 0.1 s" in log
    assert not any(Path(f"/proc/{pid}/comm").read_text() == "sleep\n" for pid in processes_of(os.getpid()))


def test_time_limits_do_not_end_a_slow_trial(make_sqlite_study: MakeStudy) -> None:
    """A step is a sign of life, and time between trials does not count."""
    limits = "stall_timeout_s = 1.5\ntrial_timeout_s = 3.5"
    study = make_sqlite_study(2, ms=2_000, worker_settings=limits)
    study.repair()
    study.check_exactly_once()


def test_trial_that_is_too_slow_fails(make_sqlite_study: MakeStudy) -> None:
    """It makes progress, so another attempt would be as slow."""
    study = make_sqlite_study(1, ms=6_000, worker_settings="trial_timeout_s = 2")
    study.plan()
    assert study.fork_worker() == 70
    [row] = study.rows()
    assert (row.outcome, row.attempts) == ("failed", 1)
    assert row.reason == "TrialTimeout: trained for longer than 2 s (trial_timeout_s)"

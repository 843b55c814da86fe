"""Worker processes that die, die again, or do not stop."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from study_files import all_rows, sqlite, write_study

from search.errors import WorkersKeepCrashing
from search.launchers.local import MAX_CRASHES_IN_A_ROW, STOP_GRACE_S, LocalLauncher
from search.launchers.protocol import Places, WorkerJob
from search.launchers.registry import make_launcher
from search.options import PlanningOptions
from search.planning import open_planned
from search.storage.database import Database
from search.storage.failures import Failure
from search.storage.queue import TrialQueue
from search.workers.child_processes import processes_of

forked = pytest.mark.usefixtures("forked_workers")


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


@pytest.fixture
def planned(study_file: str, corpus_file: str, work_folder: Path) -> Iterator[Database]:
    """The study of the fake objective, planned in the working folder's database."""
    database, _ = open_planned(PlanningOptions(study=study_file, storage=sqlite(work_folder), corpus=Path(corpus_file)))
    with database.closing():
        yield database


def launcher(workers: int = 1) -> LocalLauncher:
    made = make_launcher("local", Places("cpu", str(workers)))
    assert isinstance(made, LocalLauncher)
    return made


def job(database: Database, folder: Path, arguments: list[str]) -> WorkerJob:
    return WorkerJob(arguments, sqlite(folder), folder / "logs", TrialQueue(database).abandon)


@contextmanager
def started(
    database: Database, folder: Path, *arguments: str, trials: int = 9, grace_s: float = 1.0
) -> Iterator[LocalLauncher]:
    """A launcher that has started its worker; the worker ends with the context."""
    run = launcher()
    try:
        run.start(trials, job(database, folder, list(arguments)))
        yield run
    finally:
        run.stop(grace_s)


def workers_of(run: LocalLauncher) -> list[int]:
    return [process.popen.pid for process in run._processes]


def has_ended(run: LocalLauncher) -> bool:
    """Whether no worker lives, whatever `tend` has seen of it."""
    return all(process.popen.poll() is not None for process in run._processes)


@forked
def test_killed_worker_is_replaced_and_its_trial_goes_on(
    planned: Database,
    corpus_file: str,
    work_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("FAKE_TRIAL_MS", "60000")
    with started(planned, work_folder, "--study", "small", "--corpus", corpus_file) as run:
        until(lambda: any(row["state"] == "running" for row in all_rows(sqlite(work_folder))))
        [killed] = workers_of(run)
        os.kill(killed, signal.SIGKILL)
        until(lambda: has_ended(run))
        assert run.running == 1, "a run that looks now must not end: the trial waits for another worker"
        monkeypatch.setenv("FAKE_TRIAL_MS", "10")
        run.tend()
        [other] = workers_of(run)
        assert other != killed
        until(lambda: has_ended(run))
        run.tend()
    rows = all_rows(sqlite(work_folder))
    assert {row["outcome"] for row in rows} == {"complete"}
    # The lease of ten seconds need not run out: the launcher knows that the worker is dead.
    assert sorted(row["attempts"] for row in rows) == [1] * 8 + [2]
    assert re.search(r"worker cpu-0 ended with SIGKILL \(.*\); restarting it", caplog.text)


def test_workers_that_die_again_and_again(
    planned: Database, corpus_file: str, work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A broken installation: the interpreter itself fails as it starts.
    (work_folder / "sitecustomize.py").write_text(
        'import os, sys\nprint("no libcudart.so.99", file=sys.stderr)\nos._exit(7)\n'
    )
    monkeypatch.setenv("PYTHONPATH", f"{work_folder}{os.pathsep}{os.environ['PYTHONPATH']}")
    run, work = launcher(), job(planned, work_folder, ["--study", "small", "--corpus", corpus_file])
    run.start(9, work)

    def tend() -> bool:
        run.tend()
        return False

    with pytest.raises(
        WorkersKeepCrashing,
        match=r"^worker cpu-0 ended with exit code 7: no libcudart\.so\.99; log: .*worker-cpu-0\.log$",
    ):
        until(tend)
    run.stop(1)
    assert run.running == 0
    log = (work_folder / "logs" / "worker-cpu-0.log").read_text()
    assert log.count("no libcudart") == 3
    assert {row["state"] for row in all_rows(sqlite(work_folder))} == {"waiting"}


FAULTS = """
objective = "fake_objective:start"
grid = {fault = ["%s", "none"]}
training = {max_iters = 20, eval_interval = 10}
pruner = {name = "none"}
workers = {max_attempts = 1}
"""


@forked
def test_end_with_a_trial_is_a_crash_whatever_the_code(
    work_folder: Path, corpus_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A trial's own code can end the process with any code."""
    faults = [f"exit {code}" for code in (0, 2, 75)]
    file = write_study(work_folder, FAULTS % '", "'.join(faults))
    storage = sqlite(work_folder)
    database, _ = open_planned(PlanningOptions(study=file, storage=storage, corpus=Path(corpus_file)))
    with database.closing():
        run, work = launcher(), job(database, work_folder, ["--study", file, "--corpus", corpus_file])
        run.start(2, work)
        until(lambda: tended(run) == 0)
        run.stop(1)
    assert re.findall(r"worker cpu-0 ended with exit code (\d+) \(", caplog.text) == ["75", "2", "0"]
    rows = {row["cell"]["fault"]: row for row in all_rows(storage)}
    assert [(rows[fault]["outcome"], rows[fault]["attempts"]) for fault in faults] == [("failed", 1)] * 3
    assert rows["none"]["outcome"] == "complete"
    failures = [Failure.from_json(rows[fault]["failure"]) for fault in faults]
    log = str((work_folder / "logs" / "worker-cpu-0.log").absolute())
    assert [(each.kind, each.exit_status, each.log) for each in failures if each is not None] == [
        ("worker crashed", code, log) for code in (0, 2, 75)
    ]


def tended(run: LocalLauncher) -> int:
    run.tend()
    return run.running


@forked
def test_worker_that_is_stopped_from_outside_is_named_and_replaced(
    planned: Database,
    corpus_file: str,
    work_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However often; and a worker that gets the signal before it can handle it ends in the same way."""
    monkeypatch.setenv("FAKE_TRIAL_MS", "60000")
    arguments = ("--study", "small", "--corpus", corpus_file)
    with started(planned, work_folder, *arguments, grace_s=STOP_GRACE_S) as run:
        for _ in range(MAX_CRASHES_IN_A_ROW):
            [worker] = workers_of(run)
            os.kill(worker, signal.SIGTERM)
            until(lambda: has_ended(run))
            run.tend()
        until(lambda: any(row["state"] == "running" for row in all_rows(sqlite(work_folder))))
        [worker] = workers_of(run)
        os.kill(worker, signal.SIGHUP)
        until(lambda: has_ended(run))
        run.tend()
    messages = re.findall(r"worker cpu-0 was stopped from outside \((.*)\); starting another one", caplog.text)
    assert len(messages) == MAX_CRASHES_IN_A_ROW + 1
    assert "back into the queue" in messages[-1]
    assert {(row["state"], row["attempts"]) for row in all_rows(sqlite(work_folder))} == {("waiting", 0)}


@forked
def test_programs_of_a_killed_worker_end_with_it(
    work_folder: Path, corpus_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_study(work_folder, FAULTS % "child")
    database, _ = open_planned(PlanningOptions(study=file, storage=sqlite(work_folder), corpus=Path(corpus_file)))
    with database.closing():
        arguments = ("--study", file, "--corpus", corpus_file)
        with started(database, work_folder, *arguments, trials=2, grace_s=0) as run:
            [worker] = workers_of(run)
            until(lambda: bool(processes_of(worker)))
            os.kill(worker, signal.SIGKILL)
            until(lambda: has_ended(run))
            assert processes_of(worker)
            run.tend()
            assert not processes_of(worker)


@forked
def test_worker_with_a_wrong_option_is_not_started_again(planned: Database, work_folder: Path) -> None:
    run, work = launcher(), job(planned, work_folder, ["--study", "small", "--corpus", "no.txt"])
    run.start(9, work)
    until(lambda: has_ended(run))
    with pytest.raises(
        WorkersKeepCrashing, match=r"worker cpu-0 ended with exit code 2: error: corpus 'no\.txt' does not"
    ):
        run.tend()
    run.stop(1)


@forked
def test_stop_kills_what_does_not_end(
    planned: Database, corpus_file: str, work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TRIAL_MS", "60000")
    run, work = launcher(), job(planned, work_folder, ["--study", "small", "--corpus", corpus_file])
    run.start(9, work)
    until(lambda: any(row["state"] == "running" for row in all_rows(sqlite(work_folder))))
    [stuck] = workers_of(run)
    os.kill(stuck, signal.SIGSTOP)  # SIGTERM waits for a stopped process to go on
    run.stop(grace_s=0.2)
    assert run.running == 0
    with pytest.raises(ProcessLookupError, match="No such process"):
        os.kill(stuck, 0)
    # The lease of the dead worker has ended with it: every trial can be claimed at once.
    claims = [TrialQueue(planned).claim(["small", "small-baselines"], f"worker {turn}") for turn in range(9)]
    assert all(claims)


@forked
def test_stop_hands_trials_back(
    planned: Database, corpus_file: str, work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TRIAL_MS", "60000")
    run, work = launcher(2), job(planned, work_folder, ["--study", "small", "--corpus", corpus_file])
    run.start(9, work)
    until(lambda: sum(row["state"] == "running" for row in all_rows(sqlite(work_folder))) == 2)
    run.stop()
    rows = all_rows(sqlite(work_folder))
    assert {row["state"] for row in rows} == {"waiting"}
    assert "back into the queue" in (work_folder / "logs" / "worker-cpu-0.log").read_text()

"""A study of 100,000 trials while everything happens at once: workers train, others plan, people look."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from gates import wait_until
from scenario import FaultStudy, MakeStudy, Record
from study_files import opened, start_program

from benchmarks.scale.studies import end_trials
from search.storage import optuna_queries, optuna_tables

TRIALS, TRAINED = 100_000, 400
GRID, SEEDS = {"slot": list(range(1000))}, 100
WORKERS, PLANNERS, DASHBOARDS, CLIENTS = 20, 3, 2, 3
PATIENCE_S = 600.0
PAUSE_S = 0.1  # of a client


class Clients:
    """What loads the dashboards, and how long each answer took.

    Attributes:
        taken: The seconds of the answers, by path.
    """

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = defaultdict(list)
        self.ended = threading.Event()

    def look(self, port: int, paths: list[str]) -> None:
        """Ask for all paths in turn, until the end, and at least once."""
        while True:
            for path in paths:
                began = time.monotonic()
                assert answer(port, path) == 200, path
                self.taken[path].append(time.monotonic() - began)
            if self.ended.wait(PAUSE_S):
                return

    def __str__(self) -> str:
        return "; ".join(f"{path}: {len(each)} answers, slowest {max(each):.1f} s" for path, each in self.taken.items())


def answer(port: int, path: str) -> int:
    """The status of one answer, read to its end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


@contextmanager
def dashboard(study: FaultStudy, log: Path) -> Iterator[int]:
    """A dashboard that writes a log; yields its port, and checks that it ends as it should."""
    process = start_program("dashboard", "--storage", study.url, "--port", "0", cwd=study.folder, log=log, new=True)
    try:
        wait_until(lambda: re.search(r"http://\S+:\d+/", log.read_text()), "the dashboard")
        yield int(re.findall(r"http://\S+:(\d+)/", log.read_text())[0])
        assert process.poll() is None, log.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def plan_again(study: FaultStudy, log: Path, ended: threading.Event, planned: Callable[[], object]) -> None:
    """Plan the study again and again with the command line."""
    while not ended.is_set():
        process = start_program("run", *study.arguments, "--plan-only", cwd=study.folder, log=log)
        assert process.wait(PATIENCE_S) == 0, log.read_text()
        planned()


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_planners_workers_and_dashboards_at_once(make_study: MakeStudy, record_property: Record) -> None:
    study = make_study(grid=GRID, seeds=SEEDS, ms=100, lease_s=300)
    study.plan()
    with opened(study.url).closing() as database:
        end_trials(database, study.name, TRIALS - TRAINED)
        number = database.read(lambda connection: optuna_tables.study_id(connection, study.name))
    paths = ["/dashboard", "/api/studies", f"/api/studies/{number}"]
    logs = [study.folder / f"{name}.log" for name in ("planner-0", "planner-1", "planner-2", "web-0", "web-1")]
    clients, ended, plans = Clients(), threading.Event(), Counter[Path]()
    began = time.monotonic()
    # No worker goes on before each of the others has once done its work among them.
    gate = study.close_gate(10)
    with (
        ThreadPoolExecutor(PLANNERS + DASHBOARDS * (CLIENTS + 1)) as threads,
        dashboard(study, logs[3]) as first,
        dashboard(study, logs[4]) as second,
    ):
        running: list[Future[None]] = []
        try:
            study.start_workers(WORKERS)
            gate.wait(WORKERS)
            for log in logs[:PLANNERS]:
                running.append(threads.submit(plan_again, study, log, ended, partial(plans.update, [log])))
            for port in (first, second):
                running += [threads.submit(clients.look, port, paths) for _ in range(CLIENTS)]
                running.append(threads.submit(clients.look, port, ["/healthz"]))
            wait_until(
                lambda: any(each.done() for each in running) or (len(plans) == PLANNERS and len(clients.taken) == 4),
                "a plan of each planner, and an answer of each kind",
                PATIENCE_S,
            )
            gate.open()
            codes = study.join(PATIENCE_S)
        finally:
            gate.open()
            ended.set()
            clients.ended.set()
        for each in running:
            each.result()
    seconds = time.monotonic() - began

    assert codes == [0] * WORKERS, study.logs()
    for text in (study.logs(), *(log.read_text() for log in logs)):
        assert "Traceback" not in text, text
        assert "ERROR" not in text, text
    check_once(study)
    record_property("seconds", round(seconds, 1))
    print(f"\n{seconds:.0f} s, {plans.total()} plans; {clients}")


def check_once(study: FaultStudy) -> None:
    """Check that every trial has ended once, and those that were trained with the results of an undisturbed run."""
    rows = study.rows()
    assert len(rows) == TRIALS
    assert Counter((row.state, row.outcome, row.attempts, row.token) for row in rows) == {
        ("done", "complete", 1, 1): TRIALS
    }
    cells = {row.trial_id: json.loads(row.cell) for row in rows if row.number >= TRIALS - TRAINED}
    with opened(study.url).closing() as database:
        trials = database.read(lambda connection: optuna_queries.read_trials(connection, cells))
        states = database.read(lambda connection: optuna_queries.trial_states(connection, 1))
    assert Counter(state.name for state in states.values()) == {"COMPLETE": TRIALS}
    assert len(trials) == TRAINED
    for trial in trials:
        curve = study.undisturbed(cells[trial._trial_id])
        assert trial.intermediate_values == {point.step: point.value for point in curve}

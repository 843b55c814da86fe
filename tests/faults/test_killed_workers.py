"""Workers are killed (SIGKILL) at random moments, and somebody starts new ones."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest
from scenario import PATIENCE_S, FaultStudy


def supervise(study: FaultStudy, workers: int, kills: int, seed: int) -> int:
    """Keep `workers` alive until all trials are done, and kill one after the other in the meantime.

    Each worker is told its last moment when it starts: so long after it was first seen with a trial or, now and
    then, so long after its start, which may be in the middle of planning.

    Returns:
        How many died.
    """
    rng = random.Random(seed)
    doomed: dict[int, float] = {}  # process id -> seconds left once it holds a trial
    deadline: dict[int, float] = {}
    killed = 0
    while True:
        alive = [worker for worker in study.workers if worker.poll() is None]
        if not alive and study.counts()["done"] == len(study.named_cells()):
            return killed
        # Who ends with 0 has found everything done.
        finished = any(worker.poll() == 0 for worker in study.workers)
        for _ in range(0 if finished else workers - len(alive)):
            worker = study.start_worker()
            in_training, at_start = rng.uniform(0, 2 * study.ms / 1000), rng.uniform(0, 0.8)
            if rng.random() < 0.15:
                deadline[worker.pid] = time.monotonic() + at_start
            else:
                doomed[worker.pid] = in_training
        for pid in study.holders() & doomed.keys():
            deadline.setdefault(pid, time.monotonic() + doomed.pop(pid))
        for worker in alive:
            if killed < kills and time.monotonic() >= deadline.get(worker.pid, float("inf")):
                worker.send_signal(signal.SIGKILL)
                worker.wait()
                killed += 1
        time.sleep(0.01)


def run_with_kills(study: FaultStudy, workers: int, kills: int, record_property: Callable[[str, object], None]) -> None:
    study.plan()
    started = time.monotonic()
    killed = supervise(study, workers, kills, seed=kills)
    rows = study.check_exactly_once()
    codes = Counter(study.join())
    assert set(codes) <= {0, -signal.SIGKILL}, study.logs()
    figures = {
        "kills": killed,
        "trials": len(rows),
        "attempts": dict(sorted(Counter(row.attempts for row in rows).items())),
        "seconds": round(time.monotonic() - started, 1),
    }
    print(f"\n{study.url.partition(':')[0]}: {figures}")
    for name, figure in figures.items():
        record_property(name, figure)
    assert killed == kills


def test_random_kills(make_study, record_property):
    study = make_study(60, ms=40)
    run_with_kills(study, workers=3, kills=15, record_property=record_property)


@pytest.mark.soak
@pytest.mark.timeout(480)
def test_two_hundred_random_kills(make_study, record_property):
    study = make_study(240, ms=150)
    run_with_kills(study, workers=4, kills=200, record_property=record_property)


def test_every_attempt_counts_a_death(make_study):
    """With one attempt allowed, the trial of a killed worker is failed for good, and says why."""
    study = make_study(2, ms=400, max_attempts=1, lease_s=0.5)
    study.plan()
    worker = study.start_worker()
    deadline = time.monotonic() + PATIENCE_S
    while study.holders() != {worker.pid}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    worker.kill()
    study.ms = 5
    study.repair()
    second, first = study.rows()  # the last cell of the grid goes first
    assert (first.outcome, first.value, first.attempts) == ("failed", None, 1)
    assert first.reason.startswith("1 workers crashed while they trained it; the last was ")
    assert (second.outcome, second.attempts) == ("complete", 1)

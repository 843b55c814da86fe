"""Workers are killed (SIGKILL) at random places, and new ones are started."""

from __future__ import annotations

import math
import random
import signal
import time
from collections import Counter

import pytest
from gates import Gate
from scenario import AnyWorker, FaultStudy, MakeStudy, Record
from sqlalchemy import func, select
from study_files import opened

from search.storage.queue import TrialQueue
from search.storage.schema import queue_table


def supervise(study: FaultStudy, workers: int, kills: int, seed: int) -> int:
    """Keep `workers` alive until all trials are done, and kill one after another meanwhile.

    Each victim stops at a step of its first or second trial. It is killed there, or up to 20 ms after its gate opened,
    when it may be reporting, saving or claiming; some are killed earlier, in their first second.

    Returns:
        The number of killed workers.
    """
    rng = random.Random(seed)
    victims: list[tuple[AnyWorker, Gate, float]] = []
    killed = 0
    while True:
        alive = sum(worker.poll() is None for worker in study.workers)
        if not alive and study.counts()["done"] == len(study.named_cells()):
            return killed
        for _ in range(min(workers - alive, kills - killed - len(victims))):
            gate = study.close_gate(rng.randrange(20), after=rng.randrange(2))
            kill_at = rng.uniform(0, 0.8) if rng.random() < 0.15 else math.inf
            victims.append((study.start_worker(), gate, time.monotonic() + kill_at))
            study.gates = ()
        if killed == kills and not any(worker.poll() == 0 for worker in study.workers):
            study.start_workers(workers - alive)
        for worker, gate, kill_at in list(victims):
            if gate.reached() or time.monotonic() >= kill_at:
                if rng.random() < 0.5:
                    gate.open()
                    time.sleep(rng.uniform(0, 0.02))
                worker.kill()
                worker.wait()
                victims.remove((worker, gate, kill_at))
                killed += 1
        time.sleep(0.01)


def run_with_kills(study: FaultStudy, workers: int, kills: int, record_property: Record) -> None:
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


def test_random_kills(make_study: MakeStudy, record_property: Record) -> None:
    study = make_study(60, ms=20)
    run_with_kills(study, workers=3, kills=15, record_property=record_property)


@pytest.mark.soak
@pytest.mark.timeout(480)
def test_two_hundred_random_kills(make_study: MakeStudy, record_property: Record) -> None:
    study = make_study(240, ms=150)
    run_with_kills(study, workers=4, kills=200, record_property=record_property)


def kill_after_progress(study: FaultStudy, workers: int, kills: int) -> None:
    """Kill a worker whenever its attempt has made progress, as long as there are kills left, and replace it."""
    rng, killed = random.Random(kills), 0
    progressed = func.coalesce(queue_table.c.highest_step, 0) > func.coalesce(queue_table.c.step_at_claim, 0)
    held = select(queue_table.c.owner).where(queue_table.c.state == "running", progressed)
    with opened(study.url).closing() as database:
        queue = TrialQueue(database)
        while queue.unfinished([study.name]):
            alive = {worker.pid: worker for worker in study.workers if worker.poll() is None}
            study.start_workers(workers - len(alive))
            owners = database.read(lambda connection: connection.execute(held).scalars().all())
            victims = [owner for owner in owners if process_id(owner) in alive]
            if victims and killed < kills:
                victim = rng.choice(victims)
                alive[process_id(victim)].kill()
                alive[process_id(victim)].wait()
                queue.abandon(victim)  # as a launcher does
                killed += 1
            time.sleep(0.01)
    assert killed == kills


def process_id(owner: str) -> int:
    return int(owner.rsplit("/", 1)[1].split("-")[0])


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_five_hundred_kills_after_progress(make_study: MakeStudy, record_property: Record) -> None:
    """With three attempts allowed, no trial fails: each attempt reached a step that none before it had reached."""
    study, started = make_study(240, ms=150, max_attempts=3, lease_s=60), time.monotonic()
    study.plan()
    kill_after_progress(study, workers=4, kills=500)
    rows = study.check_exactly_once()
    study.join()
    claims, seconds = sum(row.token for row in rows), round(time.monotonic() - started)
    record_property("seconds", seconds)
    print(f"\n{study.url.partition(':')[0]}: 500 kills, {claims} claims of {len(rows)} trials, {seconds} s")
    assert claims >= 240 + 490


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("lease_s", [0.05, 0.3])
def test_leases_far_too_short_for_the_load(make_study: MakeStudy, lease_s: float) -> None:
    """Workers are late all the time, and alive: no trial fails, and none is trained twice to its end."""
    study, started = make_study(60, ms=100, max_attempts=3, lease_s=lease_s), time.monotonic()
    study.plan()
    study.start_workers(12)
    assert set(study.join(500)) == {0}, study.logs()
    rows = study.check_exactly_once()
    claims, lost = sum(row.token for row in rows), study.logs().count("lost the lease")
    seconds = round(time.monotonic() - started)
    print(f"\n{study.url.partition(':')[0]}: {claims} claims of {len(rows)} trials, {lost} leases lost, {seconds} s")


def test_every_attempt_counts_a_death(make_study: MakeStudy) -> None:
    """With one attempt allowed, a trial whose worker is killed before any progress fails for good, with the reason."""
    study = make_study(2, ms=5, max_attempts=1, lease_s=60)
    study.plan()
    gate = study.close_gate(1, {"slot": 1})
    worker = study.start_worker()
    assert gate.wait() == [worker.pid]
    worker.kill()
    worker.wait()
    study.expire_leases()
    study.repair()
    second, first = study.rows()  # the last cell of the grid is claimed first
    assert (first.outcome, first.value, first.attempts) == ("failed", None, 1)
    assert first.reason.startswith("1 worker crashed while training this trial; last: ")
    assert (second.outcome, second.attempts) == ("complete", 1)

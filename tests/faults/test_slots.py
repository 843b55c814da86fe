"""A sampler's trials are exactly as many as were asked for, whatever happens to the workers."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from multiprocessing.process import BaseProcess

import optuna
import pytest
from optuna.trial import TrialState
from scenario import PATIENCE_S, Death, FaultStudy
from swarm import start_worker

from search.storage.slots import REPETITION, SLOT, canonical, parameters_of
from search.storage.url import parse_url
from search.study.cells import without_seed

TPE = """sampler = { name = "tpe", n_startup_trials = 4 }
trials = %d

[axes]
learning_rate = { low = 1e-4, high = 1.0, log = true }
"""
GRID = {"pe_type": ["randn", "sinpe", "rope"], "n_embd": [8, 16]}


def check_slots(study: FaultStudy, slots: int) -> None:
    """Every slot ended complete, once a repetition, with the losses that an undisturbed run of its cell gives."""
    rows = study.rows()
    named = [json.loads(row.cell) for row in rows]
    wanted = {(slot, repetition) for slot in range(slots) for repetition in range(study.seeds)}
    assert Counter((each[SLOT], each[REPETITION]) for each in named) == Counter(dict.fromkeys(wanted, 1))
    assert {(row.state, row.outcome) for row in rows} == {("done", "complete")}
    storage = optuna.storages.RDBStorage(parse_url(study.url).render_as_string(hide_password=False))
    try:
        trials = optuna.load_study(study_name=study.name, storage=storage).get_trials(deepcopy=False)
    finally:
        storage.engine.dispose()
    assert [trial._trial_id for trial in trials] == [row.trial_id for row in rows]
    for trial, row in zip(trials, rows, strict=True):
        cell = parameters_of(row.cell)
        assert trial.state is TrialState.COMPLETE
        assert trial.params == cell
        curve = study.undisturbed(cell)
        assert trial.intermediate_values == {point.step: point.val_loss for point in curve}
        assert trial.value == row.value == curve[-1].val_loss
    chosen = {(json.loads(row.cell)[SLOT], canonical(without_seed(parameters_of(row.cell)))) for row in rows}
    assert len(chosen) == slots, "one slot, one cell"


def tend(study: FaultStudy, workers: list[BaseProcess], until_done: int, kills: int, rng: random.Random) -> int:
    """Keep 8 workers alive until so many trials are done, and kill some that hold a trial.

    Returns:
        How many were killed.
    """
    killed, deadline = 0, time.monotonic() + PATIENCE_S
    while study.counts()["done"] < until_done:
        assert time.monotonic() < deadline, study.counts()
        workers[:] = [worker for worker in workers if worker.is_alive()]
        workers += [start_worker(study.options, study.ms) for _ in range(8 - len(workers))]
        holders = study.holders()
        victims = [worker for worker in workers if worker.pid in holders]
        if killed < kills and victims:
            victim = rng.choice(victims)
            victim.kill()
            victim.join()
            workers.remove(victim)
            killed += 1
        time.sleep(rng.uniform(0.02, 0.1))
    return killed


def restart(workers: list[BaseProcess]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(PATIENCE_S)
        # Who had not begun yet dies of the signal.
        assert worker.exitcode in (0, -signal.SIGTERM)


def test_sixty_slots_two_restarts_five_kills(make_study):
    study = make_study(grid=GRID, head=TPE % 60, ms=100, lease_s=0.7)
    study.plan()
    rng, workers = random.Random(5), []
    try:
        killed = tend(study, workers, until_done=15, kills=3, rng=rng)
        restart(workers)
        killed += tend(study, workers, until_done=35, kills=2, rng=rng)
        restart(workers)
        tend(study, workers, until_done=60, kills=0, rng=rng)
    finally:
        for worker in workers:
            worker.join(PATIENCE_S)
            worker.kill()
    assert killed == 5
    check_slots(study, 60)
    assert max(row.attempts for row in study.rows()) > 1, "a killed worker's trial was tried again"


def test_seeds_of_a_slot_share_its_cell(make_study):
    study = make_study(grid=GRID, head=TPE % 6, seeds=3, ms=5)
    study.plan()
    study.repair()
    check_slots(study, 6)


DEATHS = [
    Death("search.strategies.slot_sampling:ask", "before", 3),
    Death("search.strategies.slot_sampling:ask", "after", 3),
    Death("search.storage.slots:_store", "before", 3),
    Death("search.storage.slots:_store", "after", 3),
    Death("search.storage.optuna_tables:write_parameters", "after", 3),
    Death("search.strategies.slot_sampling:fill", "after", 3),
]


@pytest.mark.parametrize("death", DEATHS, ids=str)
def test_death_at_the_choice(make_study, death):
    """A choice is stored or was never made: the slot whose worker dies gets the cell that it would have got."""
    study = make_study(grid=GRID, head=TPE % 10, ms=5, lease_s=0.3)
    study.plan()
    assert study.fork_worker(death) == -signal.SIGKILL, study.fork_log.read_text()
    time.sleep(2 * study.lease_s)  # or the next worker would fill the next slot before this one
    study.repair()
    check_slots(study, 10)
    # One worker at a time: what was chosen depends on nothing but the seed and what was known.
    assert {row.cell for row in study.rows()} == undisturbed_cells(study)


def undisturbed_cells(study: FaultStudy) -> set[str]:
    """The cells that a worker chooses to whom nothing happens."""
    folder = study.folder / "undisturbed"
    folder.mkdir()
    other = FaultStudy(folder, f"sqlite:///{folder / 'search.db'}", study.grid, ms=0, head=study.head)
    other.plan()
    other.repair()
    return {row.cell for row in other.rows()}

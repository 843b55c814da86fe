"""A sampler gets exactly the requested number of trials, whatever happens to the workers."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Sequence
from typing import Any

import optuna
import pytest
from deaths import Death
from gates import PATIENCE_S
from optuna.trial import TrialState
from scenario import AnyWorker, FaultStudy, MakeStudy

from search.storage.slots import REPETITION, SLOT, parameters_of
from search.storage.url import parse_url
from search.storage.values import canonical
from search.study.cells import without_seed

TPE = """sampler = { name = "tpe", n_startup_trials = 4 }
trials = %d

[axes]
learning_rate = { low = 1e-4, high = 1.0, log = true }
"""
GRID: dict[str, Sequence[Any]] = {"pe_type": ["randn", "sinpe", "rope"], "n_embd": [8, 16]}


def check_slots(study: FaultStudy, slots: int) -> None:
    """Check that every slot is complete once per repetition, with the losses of an undisturbed run of its cell."""
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
        assert trial.intermediate_values == {point.step: point.value for point in curve}
        assert trial.value == row.value == curve[-1].value
    chosen = {(json.loads(row.cell)[SLOT], canonical(without_seed(parameters_of(row.cell)))) for row in rows}
    assert len(chosen) == slots, "one slot, one cell"


def kill_in_a_trial(study: FaultStudy, workers: int, step: int) -> None:
    """Start workers and kill each in its first trial after `step`."""
    gate = study.close_gate(step)
    victims = start(study, workers)
    gate.wait(workers)
    for victim in victims:
        victim.kill()
        victim.wait()
    study.expire_leases()


def stop_in_third_trial(study: FaultStudy, workers: int, step: int) -> None:
    """Start workers, let each finish two trials, and stop all of them in another after `step`.

    Trials that resume from a checkpoint after `step` never wait there: choose a step above those of earlier deaths.
    """
    gate = study.close_gate(step, after=2)
    stopped = start(study, workers)
    gate.wait(workers)
    for worker in stopped:
        worker.send_signal(signal.SIGTERM)
    assert {worker.wait(PATIENCE_S) for worker in stopped} == {0}, study.logs()


def start(study: FaultStudy, workers: int) -> list[AnyWorker]:
    """Start workers; workers that start later do not stop at their gates."""
    started = [study.start_worker() for _ in range(workers)]
    study.gates = ()
    return started


@pytest.mark.timeout(240)
def test_thirty_slots_two_restarts_five_kills(make_study: MakeStudy) -> None:
    study = make_study(grid=GRID, head=TPE % 30, ms=40, lease_s=60)
    study.plan()
    kill_in_a_trial(study, 3, step=7)
    stop_in_third_trial(study, 5, step=9)
    kill_in_a_trial(study, 2, step=13)
    stop_in_third_trial(study, 5, step=15)
    assert study.counts()["done"] == 2 * 5 * 2
    assert {worker.wait(PATIENCE_S) for worker in start(study, 5)} == {0}, study.logs()
    check_slots(study, 30)
    assert max(row.token for row in study.rows()) > 1, "a killed worker's trial was retried"


def test_seeds_of_a_slot_share_its_cell(make_study: MakeStudy) -> None:
    study = make_study(grid=GRID, head=TPE % 6, seeds=3, ms=5)
    study.plan()
    study.repair()
    check_slots(study, 6)


DEATHS = [
    Death("search.strategies.slot_sampling:ask", "before", 3),
    Death("search.strategies.slot_sampling:ask", "after", 3),
    Death("search.storage.slot_filling:_store", "before", 3),
    Death("search.storage.slot_filling:_store", "after", 3),
    Death("search.storage.optuna_tables:write_parameters", "after", 3),
    Death("search.strategies.slot_sampling:fill", "after", 3),
]


@pytest.fixture(scope="module")
def undisturbed_cells(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The cells that an undisturbed worker chooses."""
    folder = tmp_path_factory.mktemp("undisturbed")
    study = FaultStudy(folder, f"sqlite:///{folder / 'search.db'}", GRID, ms=0, head=TPE % 10)
    study.plan()
    study.repair()
    return {row.cell for row in study.rows()}


@pytest.mark.parametrize("death", DEATHS, ids=str)
def test_death_at_the_choice(make_study: MakeStudy, death: Death, undisturbed_cells: set[str]) -> None:
    """A choice is stored or never made: the slot of a dead worker gets the cell that it would have got anyway."""
    study = make_study(grid=GRID, head=TPE % 10, ms=5, lease_s=60)
    study.plan()
    assert study.fork_worker(death) == -signal.SIGKILL, study.fork_log.read_text()
    study.expire_leases()  # otherwise the next worker would fill the next slot first
    study.repair()
    check_slots(study, 10)
    # With one worker at a time a choice depends only on the seed and on the trials that have ended.
    assert {row.cell for row in study.rows()} == undisturbed_cells

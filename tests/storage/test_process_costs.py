"""What whole processes have taken, on every database."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_study import STUDY, sample_plan
from sqlalchemy import update

from search.storage.checkpoint_store import CheckpointStore
from search.storage.database import Database
from search.storage.deletion import delete_studies
from search.storage.planning import plan
from search.storage.process_costs import NO_DEVICE, ProcessCost, RunCost, run_cost, store_process
from search.storage.queries import study_uids
from search.storage.schema import processes_table, schema_info


def planned(database: Database) -> str:
    plan(database, [sample_plan()])
    return study_uids(database, [STUDY])[STUDY]


def test_processes_add_up(database: Database) -> None:
    uid = planned(database)
    assert run_cost(database, [STUDY]) is None
    for cpu_s in (1.0, 10.0):  # each writes again and again
        store_process(database, uid, ProcessCost("a", "here/cpu-0/1-a", "cpu", cpu_s, 2 * cpu_s))
    store_process(database, uid, ProcessCost("b", "here/cpu-1/2-b", "cpu", 20.0, 30.0))
    # A worker that was started again under its name.
    store_process(database, uid, ProcessCost("c", "here/cpu-1/2-b", "cpu", 1.0, 3.0))
    store_process(database, uid, ProcessCost("d", "here/run/3-c", NO_DEVICE, 5.0, 99.0))
    assert run_cost(database, [STUDY]) == RunCost(3, 53.0, 36.0, None, False)
    assert run_cost(database, ["another"]) is None


def test_workers_that_share_a_card_count_once(database: Database) -> None:
    uid = planned(database)
    at = {"a": (100.0, 50.0, 5000.0), "b": (110.0, 50.0, 4000.0), "c": (200.0, 20.0, 1000.0)}
    for name, (_, wall_s, joules) in at.items():
        store_process(database, uid, ProcessCost(name, f"here/cuda-0/{name}", "cuda:0", 1.0, wall_s, joules))
    store_process(database, uid, ProcessCost("d", "there/cuda-0/d", "cuda:0", 1.0, 10.0))
    with database.engine.begin() as connection:
        for name, (counted_at, _, _) in at.items():
            row = processes_table.c.process == name
            connection.execute(update(processes_table).where(row).values(counted_at=counted_at))
    found = run_cost(database, [STUDY])
    assert found is not None
    # From 50 to 110 and from 180 to 200, and 10 s of the other machine's card.
    assert found.device_s == pytest.approx(60 + 20 + 10)
    # Each has measured the whole card: its mean power, for as long as any used it.
    assert found.energy_j == pytest.approx(10_000 / 120 * 80)
    assert not found.is_all_energy


def test_nothing_remains_of_a_deleted_study(database: Database, tmp_path: Path) -> None:
    uid = planned(database)
    store_process(database, uid, ProcessCost("a", "here/cpu-0/1-a", "cpu", 1.0, 2.0))
    delete_studies(database, [STUDY], CheckpointStore(tmp_path))
    store_process(database, uid, ProcessCost("a", "here/cpu-0/1-a", "cpu", 3.0, 4.0))
    plan(database, [sample_plan()])
    assert run_cost(database, [STUDY]) is None


def test_an_older_database_has_none(database: Database) -> None:
    uid = planned(database)
    store_process(database, uid, ProcessCost("a", "here/cpu-0/1-a", "cpu", 1.0, 2.0))
    with database.engine.begin() as connection:
        connection.execute(update(schema_info).values(version=6))
    assert run_cost(database, [STUDY]) is None

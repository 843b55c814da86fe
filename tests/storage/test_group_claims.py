"""Claims of several trials of any shapes, on every database."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from sample_study import CELLS, STUDY, change, rows, sample_plan
from sqlalchemy import Row

from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.group_claims import claim_chosen, live_workers, waiting_cells
from search.storage.leases import Lease
from search.storage.planning import plan
from search.storage.queue import TrialQueue


def all_of(found: Sequence[Row[Any]]) -> list[int]:
    return [row.id for row in found]


def test_what_can_join_is_listed_by_priority(database: Database, queue: TrialQueue) -> None:
    plan(database, [sample_plan(study="other")])
    change(database, 5, priority=-1)
    change(database, 6, attempts=1)  # it failed before: it trains alone
    change(database, 7, shape_key="")  # a slot, or what cannot be stacked
    change(database, 8, not_before=4e9)
    queue.claim([STUDY], "ann", limit=2)
    listed = waiting_cells(queue, [STUDY, "other"])
    cells = [row.cell for row in rows(database)]
    assert [cell for study, cell in listed if study == STUDY] == [cells[i] for i in (1, 2, 3, 4, 9, 10, 11)]
    assert sum(study == "other" for study, _ in listed) == CELLS
    assert waiting_cells(queue, ["not planned"]) == []


def test_chosen_trials_of_several_studies_are_claimed_in_one_transaction(database: Database, queue: TrialQueue) -> None:
    plan(database, [sample_plan(study="other")])
    held = queue.claim([STUDY], "ann")
    leases = claim_chosen(queue, [STUDY, "other"], held, lambda found: [row.id for row in found][::5])
    assert {lease.study for lease in leases} == {STUDY, "other"}
    assert all((lease.owner, lease.token, lease.attempt) == ("ann", 1, 1) for lease in leases)
    assert len(leases) == 5
    left = claim_chosen(queue, [STUDY, "other"], [*held, *leases], all_of)
    assert len(held) + len(leases) + len(left) == 2 * CELLS
    assert claim_chosen(queue, [STUDY], [*held, *leases, *left], all_of) == []


def test_a_claim_whose_answer_was_lost_is_made_again(queue: TrialQueue) -> None:
    held = queue.claim([STUDY], "ann")
    lost = claim_chosen(queue, [STUDY], held, lambda found: all_of(found)[:3])
    again = claim_chosen(queue, [STUDY], held, lambda found: [row.id for row in found if row.owner == "ann"])
    assert [(lease.number, lease.token, lease.attempt) for lease in again] == [
        (lease.number, lease.token + 1, 1) for lease in lost
    ]


def test_live_workers_are_those_with_a_valid_lease(database: Database, queue: TrialQueue) -> None:
    assert live_workers(queue, [STUDY]) == 0
    for owner in ("ann", "bob", "cid"):
        [lease] = queue.claim([STUDY], owner)
        claim_chosen(queue, [STUDY], [lease], lambda found: all_of(found)[:2])
    assert live_workers(queue, [STUDY]) == 3
    for row in rows(database):
        if row.owner == "bob":
            change(database, row.number, lease_until=0.0)
    assert live_workers(queue, [STUDY]) == 2


def test_workers_that_claim_at_once_get_different_trials(storage_url: str, database: Database) -> None:
    plan(database, [sample_plan(seeds=4)])
    # Each gets a first trial before any takes more: one that comes late would wait for a lease to expire.
    all_hold_one = Barrier(4)

    def work(name: int) -> list[int]:
        with open_database(storage_url, create=False).closing() as own:
            queue = TrialQueue(own)
            held: list[Lease] = []
            while not held:  # another claim may have locked all of them for a moment
                held = queue.claim([STUDY], f"worker {name}")
            all_hold_one.wait()
            while more := claim_chosen(queue, [STUDY], held, lambda found: all_of(found)[:5]):
                held += more
            return [lease.number for lease in held]

    with ThreadPoolExecutor(4) as threads:
        claimed = [number for numbers in threads.map(work, range(4)) for number in numbers]
    assert sorted(claimed) == list(range(4 * CELLS))

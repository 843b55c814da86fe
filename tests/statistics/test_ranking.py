"""The ranked table's rows: means over seeds, states, ranks and differences."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from study_files import sqlite, write_study

from search.objectives.corpus import encode
from search.statistics.ranking import ranked_rows
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.leases import Lease, Report
from search.storage.queue import TrialQueue
from search.study.definition import load_definition
from search.study.planner import Study, ensure_planned

STUDY = """
objective = "fake_objective:start"
grid.n_embd = [1, 2, 3, 4, 5, 6]

[[published]]
cell = { n_embd = 3 }
val_loss = 2.0
"""
# n_embd and seed to how the trial ends: outcome, train loss, validation loss, step.
ENDS: dict[tuple[int, int], tuple[str, float, float, int]] = {
    (1, 0): ("complete", 2.3, 2.5, 100),
    (1, 1): ("complete", 2.4, 2.7, 100),
    (2, 0): ("complete", 2.0, 2.1, 100),
    (2, 1): ("pruned", 3.0, 9.0, 20),
    (3, 0): ("complete", 2.1, 2.25, 100),
    (3, 1): ("complete", 2.1, 2.25, 100),
    (4, 0): ("failed", 2.0, 1.0, 10),
    (4, 1): ("complete", 2.0, 1.5, 100),
    (6, 0): ("pruned", 2.8, 2.9, 50),
    (6, 1): ("pruned", 4.1, 4.2, 0),
}


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[Database]:
    """A study of 6 cells and 2 seeds whose trials ended as told; those of the fifth cell wait."""
    definition = load_definition(write_study(tmp_path, STUDY)).model_copy(update={"seeds": 2, "first_seed": 0})
    with open_database(sqlite(tmp_path), create=True).closing() as database:
        ensure_planned(database, Study(definition, "small", encode("text", "to be")))
        queue = TrialQueue(database)
        held = [lease for turn in range(12) for lease in queue.claim(["small"], f"worker {turn}")]
        for lease in held:
            cell = json.loads(lease.cell)
            end = ENDS.get((cell["n_embd"], cell["seed"]))
            if end is None:
                queue.release(lease)
            else:
                finish(queue, lease, *end)
        yield database


def finish(queue: TrialQueue, lease: Lease, outcome: Any, train_loss: float, val_loss: float, step: int) -> None:
    queue.report([Report(lease, step, train_loss, val_loss)])
    facts = {"n_params": 7, "train_seconds": float(step)}
    queue.finish(lease, outcome, val_loss, facts, "why" if outcome == "failed" else None)


def test_rows(ended: Database) -> None:
    rows = ranked_rows(ended, ["small"])
    assert [(row.rank, row.cell["n_embd"], row.state) for row in rows] == [
        (1, 3, "complete"),
        (2, 1, "complete"),
        (None, 2, "pruned"),
        (None, 6, "pruned"),
        (None, 5, "waiting"),
        (None, 4, "failed"),
    ]
    assert all("seed" not in row.cell for row in rows)


def test_means_over_seeds(ended: Database) -> None:
    by_cell = {row.cell["n_embd"]: row for row in ranked_rows(ended, ["small"])}
    both = by_cell[1]
    assert both.val_loss == pytest.approx(2.6)
    assert both.train_loss == pytest.approx(2.35)
    assert (both.trials, both.step, both.n_params, both.seconds) == ((2, 2), 100, 7, 100.0)
    # A loss at pruning has no common mean with a final one.
    assert (by_cell[2].val_loss, by_cell[2].trials, by_cell[2].step) == (2.1, (1, 2), 100)
    # Nor have losses at different prunings.
    assert (by_cell[6].val_loss, by_cell[6].train_loss, by_cell[6].trials, by_cell[6].step) == (2.9, 2.8, (1, 2), 50)
    assert (by_cell[4].val_loss, by_cell[4].trials) == (1.5, (1, 2))
    assert (by_cell[5].val_loss, by_cell[5].trials, by_cell[5].n_params) == (None, (0, 2), None)


def test_difference_to_the_published_loss(ended: Database) -> None:
    by_cell = {row.cell["n_embd"]: row for row in ranked_rows(ended, ["small"])}
    assert by_cell[3].published == 2.0
    assert by_cell[3].difference == pytest.approx(0.25)
    assert by_cell[1].published is None
    assert by_cell[1].difference is None

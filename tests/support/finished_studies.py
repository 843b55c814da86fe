"""Studies whose trials have given ends, without any training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text
from study_files import FAKE_GRID, sqlite, write_study

from search.objectives.corpus import Corpus, encode
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.leases import Report
from search.storage.queue import TrialQueue
from search.study.definition import load_definition
from search.study.planner import Study, ensure_planned

GRID = f"""
description = "A study for tests"
{FAKE_GRID}
[[published]]
cell = {{ pe_type = "rope", n_embd = 64, block_size = 16 }}
val_loss = 2.0
"""
CORPUS = "to be, or not to be: that is the question. " * 20
SAMPLE = 'Morrow <b>& "sun"</b>\nLord:'


@dataclass(frozen=True)
class End:
    """How a trial ends: its outcome, and its validation losses by step."""

    outcome: Any
    curve: Mapping[int, float]


def loss_of(cell: Mapping[str, Any]) -> float:
    """A made-up final loss: rope, narrow and long are better; a little noise of the seed."""
    wide, short = cell.get("n_embd", 64) / 640, 1 / cell["block_size"]
    loss: float = 2.0 + wide + short - 0.2 * (cell.get("pe_type") == "rope") + 0.01 * (cell["seed"] % 3)
    return loss


def completed(cell: Mapping[str, Any]) -> End | None:
    """Every trial is complete."""
    return End("complete", {step: loss_of(cell) + 2 / (1 + step) for step in (0, 10, 20, 30, 40)})


def pruned(cell: Mapping[str, Any]) -> End | None:
    """Every trial is pruned at step 20."""
    return End("pruned", {0: 4.0, 10: 3.0, 20: loss_of(cell) + 0.5})


def failed(cell: Mapping[str, Any]) -> End | None:
    """Every trial fails before its first evaluation."""
    return End("failed", {})


def half(cell: Mapping[str, Any]) -> End | None:
    """Trials of the wide cells wait."""
    return completed(cell) if cell.get("n_embd") == 64 else None


def nothing(cell: Mapping[str, Any]) -> End | None:
    """No trial was claimed."""
    return None


def mixed(cell: Mapping[str, Any]) -> End | None:
    """Some trials are pruned, some complete and the others failed."""
    return {128: pruned(cell), 64: completed(cell)}.get(cell.get("n_embd", 0), failed(cell))


@contextmanager
def ended_study(
    folder: Path,
    end: Callable[[Mapping[str, Any]], End | None],
    seeds: int = 3,
    study: str = GRID,
    corpus: str | Corpus = CORPUS,
    name: str = "small",
    **of_study: Any,
) -> Iterator[Database]:
    """The study `name` and its baselines in a database of `folder`; trials for which `end` returns None wait.

    Args:
        of_study: Further attributes of the planned study, such as its target.
    """
    definition = load_definition(write_study(folder, study)).model_copy(update={"seeds": seeds})
    with open_database(sqlite(folder), create=True).closing() as database:
        planned = Study(definition, name, encode("text", corpus) if isinstance(corpus, str) else corpus, **of_study)
        ensure_planned(database, planned)
        queue = TrialQueue(database)
        # A worker holds one claim at a time: a second claim returns the trials that it holds.
        total = queue.unfinished(planned.names) if end is not nothing else 0
        for lease in [lease for turn in range(total) for lease in queue.claim(planned.names, f"worker {turn}")]:
            cell = json.loads(lease.cell)
            how = end(cell)
            if how is None:
                queue.release(lease)
                continue
            for step, loss in how.curve.items():
                queue.report([Report(lease, step, loss - 0.05, loss)])
            facts: dict[str, Any] = {"n_params": 7, "train_seconds": 1.5, "tokens": 640}
            if how.outcome == "complete":
                by_position = [3.0 - 0.05 * at for at in range(cell["block_size"])]
                facts |= {"sample": SAMPLE, "val_loss_by_position": by_position}
            value = list(how.curve.values())[-1] if how.curve else None
            queue.finish(lease, how.outcome, value, facts, "why" if how.outcome == "failed" else None)
        yield database


def record_code(database: Database, codes: Sequence[str]) -> None:
    """Give each trial that has none a record with one of `codes`, in turn, as its worker does."""
    with database.engine.begin() as connection:
        for place, code in enumerate(codes):
            connection.execute(
                text(
                    "INSERT INTO trial_user_attributes (trial_id, key, value_json)"
                    " SELECT trial_id, 'record', :record FROM trials WHERE trial_id % :turns = :place AND trial_id"
                    " NOT IN (SELECT trial_id FROM trial_user_attributes WHERE key = 'record')"
                ),
                {"record": json.dumps({"code": code, "lm-search": "9"}), "turns": len(codes), "place": place},
            )


@contextmanager
def large_study(folder: Path) -> Iterator[Database]:
    """2,000 cells of 5 seeds, all complete, each with 11 evaluations; written in bulk."""
    study = 'objective = "fake_objective:start"\n[grid]\nn_embd = [{}]\nblock_size = [{}]\npe_type = [{}]\n'
    axes = (range(1, 26), range(8, 28), ("randn", "sinpe", "rope", "none"))
    filled = study.format(*(", ".join(json.dumps(value) for value in axis) for axis in axes))
    with ended_study(folder, nothing, seeds=5, study=filled) as database:
        with database.engine.begin() as connection:
            connection.execute(text("UPDATE search_runs SET state = 'done', outcome = 'complete', step = 5000"))
            connection.execute(text("UPDATE search_runs SET value = 2 + (id * 37 % 1000) / 1000.0"))
            connection.execute(text("UPDATE search_runs SET val_loss = value, train_loss = value, started_at = id"))
            connection.execute(
                text(
                    "UPDATE trials SET state = 'COMPLETE', datetime_start = datetime(1000000 + trial_id, 'unixepoch')"
                    " || '.000000', datetime_complete = datetime(1000009 + trial_id, 'unixepoch') || '.000000'"
                )
            )
            for step in range(0, 5001, 500):
                connection.execute(
                    text(
                        "INSERT INTO trial_intermediate_values"
                        " (trial_id, step, intermediate_value, intermediate_value_type)"
                        f" SELECT trial_id, {step}, 2 + (trial_id * 37 % 1000) / 1000.0, 'FINITE' FROM trials"
                    )
                )
            positions = json.dumps([2.5] * 64)
            connection.execute(
                text(
                    "INSERT INTO trial_user_attributes (trial_id, key, value_json)"
                    " SELECT trial_id, 'val_loss_by_position', :losses FROM trials"
                ),
                {"losses": positions},
            )
        yield database

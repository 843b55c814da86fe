"""Numbered slots: trials of the queue whose cell a sampler chooses when the first worker claims them.

A slot has one trial per repetition. One transaction gives all of them the same cell, each with its own seed. After that
they are ordinary trials: if a worker crashes, its trial resumes with the same parameters, seed and checkpoint. A worker
that crashes between asking the sampler and storing the choice has changed nothing.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, Row, select, update

from search.storage import optuna_queries, optuna_tables
from search.storage.database import Database
from search.storage.errors import LeaseLost
from search.storage.leases import Lease, held_by, row_of
from search.storage.optuna_tables import Parameter
from search.storage.schema import queue_table, studies_table
from search.storage.values import canonical, compact_json

# No axis can have these names: they are not identifiers.
SLOT = "@slot"
REPETITION = "@repetition"
# The last choice is accepted even if another slot was filled in the meantime.
_ATTEMPTS = 3


def slot_text(slot: int, repetition: int, seed: int) -> str:
    """The column `cell` of a slot's trial that has no cell yet."""
    return compact_json({SLOT: slot, REPETITION: repetition, "seed": seed})


def identity(text: str) -> str:
    """The trial's identity in its study: cell and seed, or slot and repetition, whether filled or not.

    Args:
        text: The column `cell`; 1 and 1.0 in it give the same identity.
    """
    named = json.loads(text)
    return canonical({SLOT: named[SLOT], REPETITION: named[REPETITION]} if SLOT in named else named)


def parameters_of(text: str) -> dict[str, Any]:
    """A trial's cell with its seed; the seed alone until its slot is filled."""
    return {name: value for name, value in json.loads(text).items() if name not in (SLOT, REPETITION)}


def cell_and_seed(text: str) -> tuple[dict[str, Any], int]:
    """A trial's cell, empty until its slot is filled, and its seed."""
    cell = parameters_of(text)
    return cell, cell.pop("seed")


def slot_of(text: str) -> int:
    """The slot of a trial; 0 for a trial of a grid.

    Args:
        text: The column `cell`.
    """
    return int(json.loads(text).get(SLOT, 0))


@dataclass(frozen=True)
class SlotTrial:
    """A trial of a filled slot.

    Attributes:
        cell: Its parameters, without the seed.
        state: waiting, running, complete, pruned, diverged or failed.
        trial: The Optuna trial.
    """

    slot: int
    cell: Mapping[str, Any]
    state: str
    trial: FrozenTrial


@dataclass(frozen=True)
class SlotHistory:
    """What a sampler sees: the trials of the filled slots, in the order of slots, and its notes on the study."""

    trials: Sequence[SlotTrial]
    notes: Mapping[str, Any]


@dataclass(frozen=True)
class Choice:
    """A cell that a sampler has chosen.

    Attributes:
        parameters: The cell's parameters with their distributions; without the seed.
        shape_key: Equal for cells whose tensors have equal shapes.
        trial_notes: What the sampler stores on the trial for its later calls.
        study_notes: The same on the study.
    """

    parameters: Mapping[str, Parameter]
    shape_key: str
    trial_notes: Mapping[str, Any]
    study_notes: Mapping[str, Any]


def is_unfilled(lease: Lease) -> bool:
    """Whether a sampler must choose a cell before the leased trial can be trained."""
    return is_empty_slot(lease.cell)


def is_empty_slot(text: str) -> bool:
    """Whether a trial has no cell: none was chosen yet, or its objective suggests its parameters.

    Args:
        text: The column `cell`.
    """
    return SLOT in text and set(json.loads(text)) == {SLOT, REPETITION, "seed"}


def fill(
    database: Database,
    lease: Lease,
    first_seed: int,
    ask: Callable[[int, SlotHistory], Choice],
    choice_of: Callable[[Mapping[str, Any]], Choice],
) -> Lease:
    """Fill the slot of a lease unless it is filled.

    Args:
        first_seed: The seed of a cell's first repetition.
        ask: Chooses a cell for a slot, given the history; called outside any transaction, because it can be slow.
        choice_of: The choice of a cell, for a repetition that was added after its slot was filled.

    Returns:
        The lease with its cell and shape.

    Raises:
        LeaseLost: The lease is no longer valid.
    """
    slot = json.loads(lease.cell)[SLOT]
    for attempt in itertools.count(1):
        history, cell = database.read(lambda connection: _read(connection, lease, slot))
        choice = choice_of(cell) if cell is not None else ask(slot, history)
        # The choice ignores slots that were filled since; knowing them, the sampler could choose differently.
        seen = None if attempt >= _ATTEMPTS or cell is not None else len(history.trials)
        if database.write(_storing(database, lease, slot, first_seed, choice, seen)):
            break
    row = database.read(lambda connection: connection.execute(select(queue_table).where(held_by(lease))).first())
    if row is None:
        raise LeaseLost(f"trial {lease.number} of {lease.study}")
    return replace(lease, cell=row.cell, shape_key=row.shape_key)


def _storing(
    database: Database, lease: Lease, slot: int, first_seed: int, choice: Choice, seen: int | None
) -> Callable[[Connection], bool]:
    return lambda connection: _store(database, connection, lease, slot, first_seed, choice, seen)


def _rows(connection: Connection, uid: str) -> list[tuple[Row[Any], dict[str, Any]]]:
    of_study = select(queue_table).where(queue_table.c.study_uid == uid).order_by(queue_table.c.id)
    rows = connection.execute(of_study).all()
    return [(row, json.loads(row.cell)) for row in rows]


def _study_id(connection: Connection, lease: Lease) -> int | None:
    planned = select(studies_table.c.study_id).where(studies_table.c.uid == lease.study_uid)
    return connection.execute(planned).scalar()


def _cell(named: Mapping[str, Any]) -> dict[str, Any] | None:
    return {name: value for name, value in named.items() if name not in (SLOT, REPETITION, "seed")} or None


def _read(connection: Connection, lease: Lease, slot: int) -> tuple[SlotHistory, dict[str, Any] | None]:
    filled = [
        (row, named, cell) for row, named in _rows(connection, lease.study_uid) if (cell := _cell(named)) is not None
    ]
    trials = {
        each._trial_id: each for each in optuna_queries.read_trials(connection, [r.trial_id for r, _, _ in filled])
    }
    found = [
        SlotTrial(named[SLOT], cell, row.outcome if row.state == "done" else row.state, trials[row.trial_id])
        for row, named, cell in filled
        if row.trial_id in trials  # another program can have deleted it
    ]
    study_id = _study_id(connection, lease)
    notes = {} if study_id is None else optuna_tables.study_system_attrs(connection, study_id)
    chosen = next((cell for _, named, cell in filled if named[SLOT] == slot), None)
    return SlotHistory(sorted(found, key=lambda each: each.slot), notes), chosen


def _store(
    database: Database,
    connection: Connection,
    lease: Lease,
    slot: int,
    first_seed: int,
    choice: Choice,
    seen: int | None,
) -> bool:
    """Fill every empty trial of the slot.

    Args:
        seen: How many filled trials the choice was made from; None to accept it in any case.

    Returns:
        False when the choice is out of date.
    """
    database.lock(connection, f"search plan {lease.study}")
    if connection.execute(select(queue_table.c.id).where(held_by(lease))).first() is None:
        raise LeaseLost(f"trial {lease.number} of {lease.study}")
    rows = _rows(connection, lease.study_uid)
    of_slot = [(row, named) for row, named in rows if named[SLOT] == slot]
    empty = [(row, named) for row, named in of_slot if _cell(named) is None]
    if not any(row.id == lease.queue_id for row, _ in empty):
        return True  # another worker of the same slot was first, or the answer to this transaction was lost
    if len(empty) < len(of_slot) and seen is not None:
        return False
    filled = [named for _, named in rows if _cell(named) is not None]
    if seen is not None and len(filled) != seen:
        return False
    cell = {name: parameter.value for name, parameter in choice.parameters.items()}
    # A cell that was chosen before gets further seeds: repeating a seed would repeat its losses.
    taken = {named["seed"] for named in filled if canonical(_cell(named)) == canonical(cell)}
    free = (seed for seed in itertools.count(first_seed) if seed not in taken)
    for (row, named), seed in zip(sorted(empty, key=lambda each: each[1][REPETITION]), free, strict=False):
        text = compact_json({**cell, "seed": seed, SLOT: slot, REPETITION: named[REPETITION]})
        same = row_of(row.id, lease.study_uid)
        changed = update(queue_table).where(same).values(cell=text, shape_key=choice.shape_key)
        connection.execute(changed)
        optuna_tables.write_parameters(connection, row.trial_id, {**choice.parameters, "seed": _seed(seed)})
        optuna_tables.write_system_attrs(connection, row.trial_id, choice.trial_notes)
    study_id = _study_id(connection, lease)
    assert study_id is not None
    optuna_tables.write_study_system_attrs(connection, study_id, choice.study_notes)
    return True


def _seed(seed: int) -> Parameter:
    return Parameter(seed, IntDistribution(seed, seed))

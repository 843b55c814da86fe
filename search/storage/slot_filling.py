"""Fills slots: with the cells that a sampler chooses, and with those that are enqueued."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, Row, select, update

from search.storage import optuna_queries, optuna_tables
from search.storage.database import Database
from search.storage.errors import LeaseLost
from search.storage.leases import Lease, held_by, row_of
from search.storage.optuna_tables import Parameter
from search.storage.schema import DEFINITION, queue_table, studies_table
from search.storage.slots import REPETITION, SLOT, is_empty_slot
from search.storage.values import canonical, compact_json

# The last choice is accepted even if another slot was filled in the meantime.
_ATTEMPTS = 3


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
    """What a sampler sees.

    Attributes:
        trials: The trials of the filled slots, in the order of slots.
        notes: What the sampler stored on the study.
        definition: The study's definition, to which values may have been added.
        chosen: The cell of the slot, if it is only for a repetition that was added after its slot was filled.
    """

    trials: Sequence[SlotTrial]
    notes: Mapping[str, Any]
    definition: Mapping[str, Any] = field(default_factory=dict)
    chosen: Mapping[str, Any] | None = None


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


def fill(
    database: Database,
    lease: Lease,
    first_seed: int,
    ask: Callable[[int, SlotHistory], Choice],
) -> Lease:
    """Fill the slot of a lease unless it is filled.

    Args:
        first_seed: The seed of a cell's first repetition.
        ask: Chooses a cell for a slot, given the history; called outside any transaction, because it can be slow.

    Returns:
        The lease with its cell and shape.

    Raises:
        LeaseLost: The lease is no longer valid.
    """
    slot = json.loads(lease.cell)[SLOT]
    for attempt in itertools.count(1):
        history = database.read(lambda connection: _read(connection, lease, slot))
        # The choice ignores slots that were filled since; knowing them, the sampler could choose differently.
        is_last = attempt >= _ATTEMPTS or history.chosen is not None
        made = _Made(ask(slot, history), history.definition, None if is_last else len(history.trials))
        if database.write(_storing(database, lease, slot, first_seed, made)):
            break
    row = database.read(lambda connection: connection.execute(select(queue_table).where(held_by(lease))).first())
    if row is None:
        raise LeaseLost(f"trial {lease.number} of {lease.study}")
    return replace(lease, cell=row.cell, shape_key=row.shape_key)


@dataclass(frozen=True)
class _Made:
    """A choice, and what it was made from.

    Attributes:
        definition: The definition of the study.
        seen: The number of filled trials; None to accept the choice in any case.
    """

    choice: Choice
    definition: Mapping[str, Any]
    seen: int | None


def _storing(database: Database, lease: Lease, slot: int, first_seed: int, made: _Made) -> Callable[[Connection], bool]:
    return lambda connection: _store(database, connection, lease, slot, first_seed, made)


def _rows(connection: Connection, uid: str) -> list[tuple[Row[Any], dict[str, Any]]]:
    of_study = select(queue_table).where(queue_table.c.study_uid == uid).order_by(queue_table.c.id)
    rows = connection.execute(of_study).all()
    return [(row, json.loads(row.cell)) for row in rows]


def _study_id(connection: Connection, lease: Lease) -> int | None:
    planned = select(studies_table.c.study_id).where(studies_table.c.uid == lease.study_uid)
    return connection.execute(planned).scalar()


def _cell(named: Mapping[str, Any]) -> dict[str, Any] | None:
    return {name: value for name, value in named.items() if name not in (SLOT, REPETITION, "seed")} or None


def _read(connection: Connection, lease: Lease, slot: int) -> SlotHistory:
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
    return SlotHistory(sorted(found, key=lambda each: each.slot), notes, _definition(connection, study_id), chosen)


def _definition(connection: Connection, study_id: int | None) -> Mapping[str, Any]:
    found = None if study_id is None else optuna_tables.study_attrs(connection, study_id).get(DEFINITION)
    return found if isinstance(found, dict) else {}


def _store(database: Database, connection: Connection, lease: Lease, slot: int, first_seed: int, made: _Made) -> bool:
    """Fill every empty trial of the slot.

    Returns:
        False when the choice is out of date.
    """
    database.lock(connection, f"search plan {lease.study}")
    if connection.execute(select(queue_table.c.id).where(held_by(lease))).first() is None:
        raise LeaseLost(f"trial {lease.number} of {lease.study}")
    study_id = _study_id(connection, lease)
    assert study_id is not None
    rows, seen = _rows(connection, lease.study_uid), made.seen
    of_slot = [(row, named) for row, named in rows if named[SLOT] == slot]
    empty = [(row, named) for row, named in of_slot if _cell(named) is None]
    if not any(row.id == lease.queue_id for row, _ in empty):
        return True  # another worker of the same slot was first, or the answer to this transaction was lost
    if _definition(connection, study_id) != made.definition or (len(empty) < len(of_slot) and seen is not None):
        return False
    filled = [named for _, named in rows if _cell(named) is not None]
    if seen is not None and len(filled) != seen:
        return False
    _fill_rows(connection, empty, filled, made.choice, first_seed)
    optuna_tables.write_study_system_attrs(connection, study_id, made.choice.study_notes)
    return True


_Rows = Sequence[tuple[Row[Any], Mapping[str, Any]]]


def _fill_rows(
    connection: Connection, empty: _Rows, filled: Sequence[Mapping[str, Any]], choice: Choice, first_seed: int
) -> None:
    """Give the empty trials of a slot a cell, each with a seed that no filled trial of the cell has."""
    cell = {name: parameter.value for name, parameter in choice.parameters.items()}
    # A cell that was chosen before gets further seeds: repeating a seed would repeat its losses.
    taken = {named["seed"] for named in filled if canonical(_cell(named)) == canonical(cell)}
    free = (seed for seed in itertools.count(first_seed) if seed not in taken)
    for (row, named), seed in zip(sorted(empty, key=lambda each: each[1][REPETITION]), free, strict=False):
        text = compact_json({**cell, "seed": seed, SLOT: named[SLOT], REPETITION: named[REPETITION]})
        same = row_of(row.id, row.study_uid)
        changed = update(queue_table).where(same).values(cell=text, shape_key=choice.shape_key)
        connection.execute(changed)
        optuna_tables.write_parameters(connection, row.trial_id, {**choice.parameters, "seed": _seed(seed)})
        optuna_tables.write_system_attrs(connection, row.trial_id, choice.trial_notes)


def fill_first(connection: Connection, uid: str, choices: Sequence[Choice], first_seed: int) -> list[Choice]:
    """Give the first slots that no worker has claimed the cells of `choices` which no slot has.

    Args:
        uid: The planning of the study; the caller holds the planning lock.
        first_seed: The seed of a cell's first repetition.

    Returns:
        The choices for which no slot is left.
    """
    rows = _rows(connection, uid)
    filled = [named for _, named in rows if _cell(named) is not None]
    present = {canonical(_cell(named)) for named in filled}
    slots: dict[int, list[tuple[Row[Any], dict[str, Any]]]] = {}
    for row, named in rows:
        slots.setdefault(named[SLOT], []).append((row, named))
    free = iter(
        trials
        for _, trials in sorted(slots.items())
        if all(row.state == "waiting" and row.token == 0 and _cell(named) is None for row, named in trials)
    )
    left = []
    for choice in choices:
        cell = {name: parameter.value for name, parameter in choice.parameters.items()}
        if canonical(cell) in present:
            continue
        trials = next(free, None)
        if trials is None:
            left.append(choice)
        else:
            _fill_rows(connection, trials, filled, choice, first_seed)
    return left


def _seed(seed: int) -> Parameter:
    return Parameter(seed, IntDistribution(seed, seed))

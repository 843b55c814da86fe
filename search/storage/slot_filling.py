"""Fills slots: with the cells that a sampler chooses, and with those that are enqueued."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import IntDistribution
from sqlalchemy import Connection, Row, func, select, update

from search.storage import optuna_queries, optuna_tables
from search.storage.errors import LeaseLost
from search.storage.growth import UNBEGUN
from search.storage.leases import Lease, held_by, row_of
from search.storage.left_out import STUDY_STOPPED
from search.storage.optuna_tables import ENQUEUED, FIXED, Parameter
from search.storage.schema import queue_table
from search.storage.slot_history import SlotHistory, SlotRow
from search.storage.slots import REPETITION, SLOT, cell_and_seed, is_empty_slot, slot_of
from search.storage.values import canonical, compact_json

# The last choice is accepted even if another slot was filled in the meantime.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Choice:
    """A cell that a sampler has chosen.

    Attributes:
        parameters: The cell's parameters with their distributions; without the seed.
        shape_key: Equal for cells whose tensors have equal shapes.
        trial_notes: What the sampler stores on the trial for its later calls.
        study_notes: The same on the study.
        sees_trials: Whether it can depend on the other trials.
    """

    parameters: Mapping[str, Parameter]
    shape_key: str
    trial_notes: Mapping[str, Any]
    study_notes: Mapping[str, Any]
    sees_trials: bool = True


def is_unfilled(lease: Lease) -> bool:
    """Whether a sampler must choose a cell before the leased trial can be trained."""
    return is_empty_slot(lease.cell)


def fill(history: SlotHistory, lease: Lease, first_seed: int, ask: Callable[[int, SlotHistory], Choice]) -> Lease:
    """Fill the slot of a lease unless it is filled.

    Args:
        history: The slots of the study.
        first_seed: The seed of a cell's first repetition.
        ask: Chooses a cell for a slot, given the history; called outside any transaction, because it can be slow.

    Returns:
        The lease with its cell and shape.

    Raises:
        LeaseLost: The lease is no longer valid.
    """
    slot = json.loads(lease.cell)[SLOT]
    for attempt in itertools.count(1):
        history.database.snapshot(history.refresh)
        definition, cell, n_filled = history.definition, history.cell_of(slot), history.n_filled
        choice = ask(slot, history)
        # The choice ignores slots that were filled since; knowing them, the sampler could choose differently.
        can_be_outdated = choice.sees_trials and attempt < _ATTEMPTS
        made = _Made(choice, definition, cell, n_filled if can_be_outdated else None)
        if history.database.write(_storing(history, lease, slot, first_seed, made)):
            break
    stored = select(queue_table.c.cell, queue_table.c.shape_key).where(held_by(lease))
    row = history.database.read(lambda connection: connection.execute(stored).first())
    if row is None:
        raise LeaseLost(f"trial {lease.number} of {lease.study}")
    return replace(lease, cell=row.cell, shape_key=row.shape_key)


@dataclass(frozen=True)
class _Made:
    """A choice, and what it was made from.

    Attributes:
        definition: The JSON of the study's definition.
        cell: What the slot had already, if only a repetition was added.
        seen: The number of filled trials; None accepts any choice.
    """

    choice: Choice
    definition: str | None
    cell: Mapping[str, Any] | None
    seen: int | None


def _storing(
    history: SlotHistory, lease: Lease, slot: int, first_seed: int, made: _Made
) -> Callable[[Connection], bool]:
    return lambda connection: _store(history, connection, lease, slot, first_seed, made)


def _store(history: SlotHistory, connection: Connection, lease: Lease, slot: int, first_seed: int, made: _Made) -> bool:
    """Fill every empty trial of the slot.

    Returns:
        False when the choice is out of date.
    """
    history.database.lock(connection, f"search plan {lease.study}")
    text = connection.execute(select(queue_table.c.cell).where(held_by(lease))).scalar()
    if text is None:
        raise LeaseLost(f"trial {lease.number} of {lease.study}")
    if not is_empty_slot(text):
        return True  # another worker of the same slot was first, or the answer to this transaction was lost
    history.refresh(connection)
    if (history.definition, history.cell_of(slot)) != (made.definition, made.cell):
        return False
    if made.seen not in (None, history.n_filled):
        return False
    taken = history.seeds_of(cell_of(made.choice))
    _fill_rows(connection, lease.study_uid, history.empty_trials(slot), taken, made.choice, first_seed)
    assert history.study_id is not None
    optuna_tables.write_study_system_attrs(connection, history.study_id, made.choice.study_notes)
    return True


def cell_of(choice: Choice) -> dict[str, Any]:
    """The parameters of a choice."""
    return {name: parameter.value for name, parameter in choice.parameters.items()}


def _fill_rows(
    connection: Connection,
    uid: str,
    empty: Sequence[SlotRow],
    taken: Collection[int],
    choice: Choice,
    first_seed: int,
) -> None:
    """Give the empty trials of a slot a cell, each with a seed that is not taken.

    Args:
        empty: By repetition.
        taken: The seeds of the cell in other slots: repeating a seed would repeat its losses.
    """
    free = (seed for seed in itertools.count(first_seed) if seed not in taken)
    for each, seed in zip(empty, free, strict=False):
        text = compact_json({**cell_of(choice), "seed": seed, SLOT: each.slot, REPETITION: each.repetition})
        same = row_of(each.queue_id, uid)
        changed = update(queue_table).where(same).values(cell=text, shape_key=choice.shape_key)
        if connection.execute(changed).rowcount:  # another program can have deleted it
            optuna_tables.write_parameters(connection, each.trial_id, {**choice.parameters, "seed": _seed(seed)})
            optuna_tables.write_system_attrs(connection, each.trial_id, choice.trial_notes)


def fill_first(connection: Connection, uid: str, choices: Sequence[Choice], first_seed: int) -> list[Choice]:
    """Give the first slots that no worker has claimed the cells of `choices` which no slot has.

    Args:
        uid: The planning of the study; the caller holds the planning lock.
        first_seed: The seed of a cell's first repetition.

    Returns:
        The choices for which no slot is left.
    """
    of_study = select(queue_table).where(queue_table.c.study_uid == uid).order_by(queue_table.c.id)
    rows = connection.execute(of_study).all()
    present = {canonical(cell_and_seed(row.cell)[0]) for row in rows if not is_empty_slot(row.cell)}
    slots: dict[int, list[Row[Any]]] = {}
    for row in rows:
        slots.setdefault(slot_of(row.cell), []).append(row)
    # A larger budget puts back what a spent one left out; what the objective stopped may never be put back.
    stopped = {slot for slot, trials in slots.items() if all(row.reason == STUDY_STOPPED for row in trials)}
    free = iter(
        sorted(map(SlotRow.of, slots[slot]), key=lambda each: each.repetition)
        for slot in sorted(slots, key=lambda slot: (slot in stopped, slot))
        if all(row.state in UNBEGUN and row.token == 0 and is_empty_slot(row.cell) for row in slots[slot])
    )
    left = []
    for choice in choices:
        if canonical(cell_of(choice)) in present:
            continue
        trials = next(free, None)
        if trials is None:
            left.append(choice)
        else:
            _fill_rows(connection, uid, trials, (), choice, first_seed)
    return left


def fix_first(connection: Connection, uid: str, study_id: int, cells: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Give the first trials that no worker has claimed the parameters of `cells`, as Optuna's `enqueue_trial` does.

    Args:
        uid: The planning of the study, whose objective suggests its parameters; the caller holds the planning lock.
        cells: Those that a trial has already are left out.

    Returns:
        The cells for which no trial is left.
    """
    if not cells:
        return []
    given = optuna_queries.read_system_attr(connection, study_id, ENQUEUED)
    present = set(map(canonical, given.values()))
    rows = queue_table.c
    unclaimed = (rows.study_uid == uid, rows.state.in_(UNBEGUN), rows.token == 0)
    stopped = func.coalesce(rows.reason, "") == STUDY_STOPPED  # these last, as in `fill_first`
    query = select(rows.trial_id).where(*unclaimed).order_by(stopped, rows.priority, rows.id)
    # A worker may be claiming one.
    ids = connection.execute(query.with_for_update(skip_locked=True)).scalars().all()
    free = (trial_id for trial_id in ids if trial_id not in given)
    left = []
    for cell in cells:
        if canonical(cell) in present:
            continue
        if (trial_id := next(free, None)) is None:
            left.append(cell)
        else:
            optuna_tables.write_system_attrs(connection, trial_id, {FIXED: cell, ENQUEUED: cell})
            # The lease shows it, so that no other trial has to be read when it begins.
            marked = update(queue_table).where(queue_table.c.trial_id == trial_id).values(shape_key=ENQUEUED)
            connection.execute(marked)
    return left


def _seed(seed: int) -> Parameter:
    return Parameter(seed, IntDistribution(seed, seed))

"""What a worker knows of a study whose cells a sampler chooses; each look reads only what has changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial
from sqlalchemy import Connection, Row, Select, bindparam, func, select, union_all

from search.storage import optuna_queries, optuna_tables
from search.storage.chunks import chunks
from search.storage.database import Database
from search.storage.schema import DEFINITION, LATE_COMMIT_S, queue_table, studies_table
from search.storage.slots import REPETITION, SLOT, is_empty_slot
from search.storage.values import canonical

# How the cell of a trial without one begins, and how no cell begins that was chosen in this version.
_NO_CELL = '{"@'

_queue = queue_table.c
_ROW = (_queue.id, _queue.trial_id, _queue.cell, _queue.state, _queue.finished_at)
_of_study = _queue.study == bindparam("study", type_=_queue.study.type)
_of_uid = _queue.study_uid == bindparam("uid", type_=_queue.study_uid.type)
# Each part has its own index. Built once: building a statement takes longer than running it.
_CHANGED = union_all(
    select(*_ROW).where(_of_study, _queue.state == "running"),
    select(*_ROW).where(_of_study, _queue.state == "done", _queue.finished_at >= bindparam("since")),
    select(*_ROW).where(_of_uid, _queue.id > bindparam("last_id")),
)
_planned = select(studies_table.c.study_id).where(studies_table.c.uid == bindparam("uid"))
_count = select(func.count()).select_from(queue_table).where(_of_study)
_STUDY: Select[Any] = select(
    _planned.scalar_subquery().label("study_id"),
    optuna_queries.study_attr(_planned.scalar_subquery(), DEFINITION).scalar_subquery().label("definition"),
    # Both count in an index, without reading any row.
    _count.where(~_queue.cell.startswith(_NO_CELL)).scalar_subquery().label("filled"),
    _count.where(_queue.state == "done").scalar_subquery().label("ended"),
)


@dataclass(frozen=True)
class SlotTrial:
    """A trial of a filled slot.

    Attributes:
        state: waiting, running, complete, pruned, diverged or failed.
        trial: The Optuna trial.
    """

    slot: int
    state: str
    trial: FrozenTrial


@dataclass(frozen=True)
class SlotRow:
    """Where a trial of a slot is stored."""

    queue_id: int
    trial_id: int
    slot: int
    repetition: int

    @classmethod
    def of(cls, row: Row[Any]) -> SlotRow:
        """That of a row of the queue."""
        named = json.loads(row.cell)
        return cls(row.id, row.trial_id, named[SLOT], named[REPETITION])


class SlotHistory:
    """The slots of one planning of a study, as they were at the last `refresh`.

    Args:
        uid: The planning.
        merge: Makes one trial of those of a slot; it is called again only when one of them has changed.
    """

    def __init__(
        self, database: Database, study: str, uid: str, merge: Callable[[Sequence[SlotTrial]], FrozenTrial]
    ) -> None:
        self.database = database
        self._study, self._uid, self._merge = study, uid, merge
        self._clear()

    def _clear(self) -> None:
        # The JSON of the study's definition, to which values may have been added.
        self.definition: str | None = None
        # Of Optuna's study.
        self.study_id: int | None = None
        self._rows: dict[int, SlotRow] = {}
        self._of_slot: dict[int, list[SlotRow]] = {}
        self._cells: dict[int, dict[str, Any]] = {}
        self._seeds: dict[str, set[int]] = {}
        self._filled: set[int] = set()
        self._n_counted = 0  # of the filled rows, as `_STUDY` counts them
        self._ended_at: dict[int, float] = {}
        self._seen_until, self._last_id = 0.0, 0
        self._merged: dict[int, FrozenTrial] = {}
        self._changed: set[int] = set()  # slots that are to be merged again

    @property
    def n_filled(self) -> int:
        """How many trials have a cell."""
        return len(self._filled)

    def cell_of(self, slot: int) -> Mapping[str, Any] | None:
        """The cell of a slot; None until it is filled."""
        return self._cells.get(slot)

    def empty_trials(self, slot: int) -> list[SlotRow]:
        """The trials of a slot that have no cell yet, by repetition."""
        empty = [each for each in self._of_slot.get(slot, ()) if each.queue_id not in self._filled]
        return sorted(empty, key=lambda each: each.repetition)

    def seeds_of(self, cell: Mapping[str, Any]) -> Collection[int]:
        """The seeds with which a cell is trained in any slot."""
        return self._seeds.get(canonical(cell), frozenset())

    def refresh(self, connection: Connection) -> None:
        """Read what has changed since the last call.

        If the transaction is repeated, so can be this.
        """
        names = {"study": self._study, "uid": self._uid}
        since = self._seen_until
        # Counts show whether anything is missing: a late commit, or a failed trial that is back in the queue.
        for late_s in (0.0, LATE_COMMIT_S) if self._rows else ():
            changed = {**names, "since": since - late_s, "last_id": self._last_id}
            self._note(connection, connection.execute(_CHANGED, changed))
            if self._is_all(connection.execute(_STUDY, names).one()):
                return
        self._clear()
        self._note(connection, connection.execute(select(*_ROW).where(_of_uid).order_by(_queue.id), names))
        study = connection.execute(_STUDY, names).one()
        self.definition, self.study_id = study.definition, study.study_id

    def _is_all(self, study: Row[Any]) -> bool:
        known = (self.study_id, self.definition, self._n_counted, len(self._ended_at))
        return known == (study.study_id, study.definition, study.filled, study.ended)

    def _note(self, connection: Connection, rows: Iterable[Row[Any]]) -> None:
        filled = {slot for row in rows if (slot := self._note_row(row)) is not None}
        # Their other trials have a cell too, but may be waiting.
        others = [each.queue_id for slot in filled for each in self.empty_trials(slot)]
        for chunk in chunks(others):
            of_chunk: Select[Any] = select(*_ROW).where(_queue.id.in_(chunk), _of_uid)
            for row in connection.execute(of_chunk, {"uid": self._uid}):
                self._note_row(row)

    def _note_row(self, row: Row[Any]) -> int | None:
        """Note one row; returns its slot if its cell is new."""
        if row.id not in self._rows:
            known = self._rows[row.id] = SlotRow.of(row)
            self._of_slot.setdefault(known.slot, []).append(known)
            self._last_id = max(self._last_id, row.id)
        slot = self._rows[row.id].slot
        ended_at = row.finished_at if row.state == "done" else None
        if ended_at != self._ended_at.get(row.id):
            self._changed.add(slot)
            if ended_at is None:
                del self._ended_at[row.id]  # it had failed, and was put back into the queue
            else:
                self._ended_at[row.id] = ended_at
                self._seen_until = max(self._seen_until, ended_at)
        if row.id in self._filled or is_empty_slot(row.cell):
            return None
        self._changed.add(slot)
        self._filled.add(row.id)
        self._n_counted += not row.cell.startswith(_NO_CELL)
        named = json.loads(row.cell)
        seed = named.pop("seed")
        cell = {name: value for name, value in named.items() if name not in (SLOT, REPETITION)}
        self._cells.setdefault(slot, cell)
        self._seeds.setdefault(canonical(cell), set()).add(seed)
        return slot

    def shown(self) -> tuple[dict[int, FrozenTrial], dict[str, Any]]:
        """What a sampler sees: a trial for each filled slot, in their order, and what it stored on the study."""
        found, notes = self.database.snapshot(self._read_changed)
        for slot in self._changed:
            self._merged.pop(slot, None)
        slots: dict[int, list[SlotTrial]] = {}
        for each in found:
            slots.setdefault(each.slot, []).append(each)
        self._merged |= {slot: self._merge(seeds) for slot, seeds in slots.items()}
        self._changed = set()
        return dict(sorted(self._merged.items())), notes

    def _read_changed(self, connection: Connection) -> tuple[list[SlotTrial], dict[str, Any]]:
        notes = {} if self.study_id is None else optuna_tables.study_system_attrs(connection, self.study_id)
        ids = sorted(
            each.queue_id
            for slot in self._changed
            for each in self._of_slot.get(slot, ())
            if each.queue_id in self._filled
        )
        rows: list[Row[Any]] = []
        for chunk in chunks(ids):
            of_chunk = select(_queue.id, _queue.state, _queue.outcome).where(_queue.id.in_(chunk))
            rows += connection.execute(of_chunk.order_by(_queue.id))
        trial_ids = [self._rows[row.id].trial_id for row in rows]
        trials = {each._trial_id: each for each in optuna_queries.read_trials(connection, trial_ids)}
        found = [
            SlotTrial(known.slot, row.outcome if row.state == "done" else row.state, trials[known.trial_id])
            for row in rows
            if (known := self._rows[row.id]).trial_id in trials  # another program can have deleted it
        ]
        return found, notes

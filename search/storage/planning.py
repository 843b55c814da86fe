"""Planning gives each trial of a study one row in the queue and one Optuna trial, even if several processes plan."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from sqlalchemy import Connection, Row, delete, insert, select

from search.storage import optuna_tables
from search.storage.database import Database
from search.storage.errors import StorageError
from search.storage.growth import TrialCell, refuse_while_leased, remove_trials, rewrite_distributions, trial_cells
from search.storage.optuna_tables import Parameter
from search.storage.repair import repair
from search.storage.schema import DEFINITION, UID, queue_table, studies_table
from search.storage.slot_filling import Choice, cell_of, fill_first, fix_first
from search.storage.slots import cell_and_seed, identity
from search.storage.values import canonical


@dataclass(frozen=True)
class PlannedTrial:
    """A trial to create.

    Attributes:
        cell: JSON of the cell with its seed; one trial for each `search.storage.slots.identity` of it.
        parameters: The parameters of the Optuna trial, with their distributions.
        shape_key: Equal for trials whose tensors have equal shapes.
        priority: Lower values are claimed first.
    """

    cell: str
    parameters: Mapping[str, Parameter]
    shape_key: str
    priority: int


@dataclass(frozen=True)
class StudyPlan:
    """All trials of one study.

    Attributes:
        definition: What changes only as `grow` allows.
        attrs: User attributes, written each time that it is planned.
        initial_attrs: User attributes that a study keeps as they were when it was created.
        directions: One for each objective.
        metric_names: What Optuna calls the objectives; empty for the default.
        distributions: Of the parameters of all trials, those included that a sampler will choose.
        enqueued: Cells for the first slots, before the sampler chooses any.
        first_seed: The seed of a cell's first repetition, for `enqueued`.
        fixed: Parameters for the first trials of an objective that suggests its parameters.
        grow: Makes the plan that continues the study as it is stored; None refuses any other definition.
    """

    study: str
    definition: Mapping[str, Any]
    attrs: Mapping[str, Any]
    trials: Sequence[PlannedTrial]
    initial_attrs: Mapping[str, Any] = field(default_factory=dict)
    directions: Sequence[StudyDirection] = (StudyDirection.MINIMIZE,)
    metric_names: Sequence[str] = ()
    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict)
    enqueued: Sequence[Choice] = ()
    first_seed: int = 0
    fixed: Sequence[Mapping[str, Any]] = ()
    grow: Callable[[Mapping[str, Any], Sequence[TrialCell]], Growth] | None = None


@dataclass(frozen=True)
class Growth:
    """How a planned study continues with another definition.

    Attributes:
        plan: All its trials.
        removed: Cells whose trials the study loses; no worker has ever claimed one.
    """

    plan: StudyPlan
    removed: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Planned:
    """How many trials were added, and how many repaired after a crash or an external change."""

    added: int
    repaired: int


@dataclass(frozen=True)
class StoredTrial:
    """A trial as the queue has it.

    Attributes:
        cell: Its parameters, without the seed.
        outcome: complete, pruned, diverged or failed; before its end "waiting" or "running".
        value: The last value; None without one.
        seconds: From its last claim to its end; None before it.
    """

    cell: Mapping[str, Any]
    seed: int
    outcome: str
    value: float | None
    seconds: float | None = None


@dataclass(frozen=True)
class Extension:
    """What a study gets where no trial waits: further trials, and user attributes that say why."""

    trials: Sequence[PlannedTrial]
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _PlannedStudy:
    name: str
    uid: str
    study_id: int


_HALF_A_STUDY = (
    "the study {study!r} is in Optuna's tables but not in those of lm-search: it was copied or renamed, or rows were "
    "deleted; give another --name, or delete it with: optuna delete-study --study-name {study} --storage URL"
)


class DefinitionChanged(StorageError):
    """A study of this name exists with another definition.

    Args:
        reason: Why it cannot continue with the definition that is wanted, with what to do; "" if there is no rule.
    """

    def __init__(
        self, study: str, stored: Mapping[str, Any] | None, wanted: Mapping[str, Any], reason: str = ""
    ) -> None:
        super().__init__(f"the study {study!r} exists with another definition")
        self.study, self.stored, self.wanted, self.reason = study, stored, wanted, reason


def plan(database: Database, plans: Sequence[StudyPlan]) -> Planned:
    """Create the missing trials of `plans` in one transaction, so that a crash leaves no partial plan.

    Raises:
        DefinitionChanged: A study was planned with another definition; nothing was changed.
    """

    def work(connection: Connection) -> Planned:
        database.dialect.cascade_deletions(connection)
        done = []
        for each in sorted(plans, key=lambda each: each.study):
            # In the order of names; otherwise two planners could deadlock, each holding a lock that the other needs.
            database.lock(connection, f"search plan {each.study}")
            done.append(plan_one(database, connection, each))
        return Planned(sum(p.added for p in done), sum(p.repaired for p in done))

    planned = database.write(work)
    database.update_statistics([queue_table, *optuna_tables.PLANNED_TABLES], planned.added)
    return planned


def plan_one(database: Database, connection: Connection, one: StudyPlan) -> Planned:
    """Create the missing trials of one study in a transaction that has locked it."""
    planned = connection.execute(select(studies_table).where(studies_table.c.name == one.study)).first()
    study_id = optuna_tables.study_id(connection, one.study)
    if planned is not None and planned.study_id != study_id:
        # Optuna's study is gone or was replaced, by a program that the database could not follow.
        connection.execute(delete(queue_table).where(queue_table.c.study_uid == planned.uid))
        connection.execute(delete(studies_table).where(studies_table.c.uid == planned.uid))
        planned = None
    if study_id is None:
        uid = uuid.uuid4().hex
        attrs = {**one.attrs, **one.initial_attrs, DEFINITION: one.definition, UID: uid}
        study_id = optuna_tables.create_study(connection, one.study, attrs, one.directions, one.metric_names)
        connection.execute(insert(studies_table).values(uid=uid, name=one.study, study_id=study_id))
    else:
        stored = optuna_tables.study_attrs(connection, study_id).get(DEFINITION)
        if stored is not None and planned is None:
            raise StorageError(_HALF_A_STUDY.format(study=one.study))
        if planned is None or stored is None:
            raise DefinitionChanged(one.study, stored, one.definition)
        uid = planned.uid
        one = _continued(database, connection, one, _PlannedStudy(one.study, uid, study_id), stored)
        optuna_tables.write_study_attrs(connection, study_id, one.attrs)
    study = _PlannedStudy(one.study, uid, study_id)
    rows = _rows(connection, uid)
    repaired = repair(database, connection, study_id, rows, [trial.parameters for trial in one.trials])
    added = _insert_missing(connection, study, rows, one.trials)
    left = [cell_of(each) for each in fill_first(connection, uid, one.enqueued, one.first_seed)] if one.enqueued else []
    if left := left or fix_first(connection, uid, study_id, one.fixed):
        raise StorageError(
            f"the cell {left[0]} cannot be enqueued: the cells of all trials of {one.study!r} are chosen; raise "
            "trials = N"
        )
    return Planned(added, repaired)


def _continued(
    database: Database, connection: Connection, one: StudyPlan, study: _PlannedStudy, stored: Mapping[str, Any]
) -> StudyPlan:
    """The plan that continues a study, after changing what is stored of the study where its definition has grown."""
    if canonical(stored) == canonical(one.definition):
        return one
    if one.grow is None:
        raise DefinitionChanged(one.study, stored, one.definition)
    rows = _rows(connection, study.uid)
    growth = one.grow(stored, trial_cells(rows))
    # What was added to the plan since it was made, such as the results of another study, holds for this one too.
    continued = replace(growth.plan, attrs={**one.attrs, **growth.plan.attrs})
    if canonical(stored) == canonical(continued.definition):
        return continued
    refuse_while_leased(database, connection, one.study, rows)
    removed = set(map(canonical, growth.removed))
    gone = [row.trial_id for row in rows if canonical(cell_and_seed(row.cell)[0]) in removed]
    remove_trials(connection, one.study, gone)
    rewrite_distributions(connection, study.study_id, continued.distributions)
    optuna_tables.write_study_attrs(connection, study.study_id, {DEFINITION: continued.definition})
    return continued


def _rows(connection: Connection, uid: str) -> Sequence[Row[Any]]:
    return connection.execute(select(queue_table).where(queue_table.c.study_uid == uid)).all()


def extend(
    database: Database, study: str, uid: str, choose: Callable[[Sequence[StoredTrial], Mapping[str, Any]], Extension]
) -> int:
    """Add trials to a study in which no trial waits.

    Args:
        uid: Which planning of the study is meant.
        choose: Chooses the new trials, given all others and the study's user attributes.

    Returns:
        The number of new trials; 0 if another worker has added some that wait.
    """

    def work(connection: Connection) -> int:
        database.lock(connection, f"search plan {study}")
        planned = connection.execute(select(studies_table.c.study_id).where(studies_table.c.uid == uid)).first()
        rows = _rows(connection, uid)
        if planned is None or any(row.state == "waiting" for row in rows):
            return 0
        extension = choose(_stored(rows), optuna_tables.study_attrs(connection, planned.study_id))
        optuna_tables.write_study_attrs(connection, planned.study_id, extension.attrs)
        return _insert_missing(connection, _PlannedStudy(study, uid, planned.study_id), rows, extension.trials)

    return database.write(work)


def stored_trials(database: Database, uid: str) -> list[StoredTrial]:
    """The trials of a planning of a study."""
    return _stored(database.read(lambda connection: _rows(connection, uid)))


def _stored(rows: Sequence[Row[Any]]) -> list[StoredTrial]:
    return [
        StoredTrial(
            *cell_and_seed(row.cell),
            row.outcome if row.state == "done" else "waiting" if row.state == "waiting" else "running",
            row.value,
            None if None in (row.finished_at, row.started_at) else row.finished_at - row.started_at,
        )
        for row in rows
    ]


def _insert_missing(
    connection: Connection, study: _PlannedStudy, rows: Sequence[Row[Any]], trials: Sequence[PlannedTrial]
) -> int:
    existing = {identity(row.cell) for row in rows}
    missing = [trial for trial in trials if identity(trial.cell) not in existing]
    created = optuna_tables.insert_waiting_trials(connection, study.study_id, [trial.parameters for trial in missing])
    values = [
        {
            "study": study.name,
            "study_uid": study.uid,
            "cell": trial.cell,
            "trial_id": trial_id,
            "number": number,
            "shape_key": trial.shape_key,
            "priority": trial.priority,
        }
        for trial, (trial_id, number) in zip(missing, created, strict=True)
    ]
    if values:
        connection.execute(insert(queue_table), values)
    return len(missing)

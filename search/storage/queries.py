"""Reads studies and trials in a few queries, independent of the number of trials."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution
from sqlalchemy import Connection, case, func, null, select, tuple_

from search.storage import optuna_queries, optuna_tables
from search.storage.chunks import CHUNK
from search.storage.database import Database
from search.storage.failures import Failure
from search.storage.left_out import BUDGET_SPENT, OVER_BUDGET
from search.storage.schema import DEFINITION, NOT_RUN, queue_table, stored_version, studies_table
from search.storage.slots import is_empty_slot, parameters_of

UNFINISHED = ("waiting", "running", NOT_RUN)
STATES = (*UNFINISHED, "complete", "pruned", "diverged", "failed")
COUNTED = (*UNFINISHED, OVER_BUDGET, "complete", "pruned", "diverged", "failed")
_SUMMARY_COLUMNS = tuple(
    queue_table.c[name]
    for name in (
        *("study", "trial_id", "number", "cell", "state", "attempts", "owner", "step", "train_loss", "val_loss"),
        *("outcome", "value", "reason", "started_at", "finished_at"),
    )
)


@dataclass(frozen=True, slots=True)
class TrialSummary:
    """A trial's row in the queue, with facts that its worker recorded.

    Attributes:
        cell: The parameters with the seed; the seed alone until a sampler has chosen them.
        state: One of `STATES`.
        lease_left_s: Seconds until the lease expires, negative once it has; None unless running.
        seconds: From the last claim to the end; None before the end.
        attrs: The requested user attributes.
        failure: What last went wrong with it, if anything did.
        finished_at: When it ended, in seconds since 1970; None before.
        has_seed: Whether its seed has a meaning: not for an objective that suggests its parameters.
    """

    study: str
    number: int
    cell: Mapping[str, Any]
    state: str
    attempts: int
    owner: str | None
    lease_left_s: float | None
    step: int | None
    train_loss: float | None
    val_loss: float | None
    value: float | None
    reason: str | None
    seconds: float | None
    attrs: Mapping[str, Any]
    failure: Failure | None = None
    finished_at: float | None = None
    has_seed: bool = True

    @property
    def seed(self) -> int:
        """The trial's seed."""
        return int(self.cell["seed"])

    @property
    def shown_cell(self) -> Mapping[str, Any]:
        """The parameters, with the seed if it has a meaning."""
        return self.cell if self.has_seed else {name: each for name, each in self.cell.items() if name != "seed"}


def planned_study(database: Database, study: str) -> tuple[str, Mapping[str, Any]] | None:
    """A planned study: the uid of its planning ("" in a database that was not upgraded), and its user attributes.

    Returns:
        None if the study does not exist: both our tables and Optuna's must have it.
    """

    def work(connection: Connection) -> tuple[str, Mapping[str, Any]] | None:
        if not _has_uids(connection):
            study_id = optuna_tables.study_id(connection, study)
            attrs = {} if study_id is None else optuna_tables.study_attrs(connection, study_id)
            return ("", attrs) if DEFINITION in attrs else None
        query = select(studies_table.c.uid, studies_table.c.study_id).where(studies_table.c.name == study)
        row = connection.execute(query).first()
        attrs = {} if row is None else optuna_tables.study_attrs(connection, row.study_id)
        # In a database whose reads are no snapshot the study can have been deleted and planned again meanwhile.
        same = row is not None and connection.execute(query).first() == row
        return (row.uid, attrs) if row is not None and same and DEFINITION in attrs else None

    return database.read(work)


def study_attrs(database: Database, study: str) -> Mapping[str, Any] | None:
    """The user attributes of a study, including its definition; None if the study was not planned."""
    found = planned_study(database, study)
    return None if found is None else found[1]


def study_attr(database: Database, study: str, key: str) -> Any:
    """One user attribute of a planned study; None without it."""

    def work(connection: Connection) -> Any:
        query = select(studies_table.c.study_id).where(studies_table.c.name == study)
        study_id = connection.execute(query).scalar() if _has_uids(connection) else None
        return None if study_id is None else optuna_tables.study_attr(connection, study_id, key)

    return database.read(work)


def suggested_distributions(database: Database, study: str) -> dict[str, BaseDistribution]:
    """A distribution of each parameter that the trials of a planned study have, by name."""

    def work(connection: Connection) -> dict[str, BaseDistribution]:
        query = select(studies_table.c.study_id).where(studies_table.c.name == study)
        return optuna_queries.distributions(connection, connection.execute(query).scalar_one())

    return database.read(work)


def study_uids(database: Database, studies: Sequence[str]) -> dict[str, str]:
    """The uids of those of `studies` that are planned, by name."""
    query = select(studies_table.c.name, studies_table.c.uid).where(studies_table.c.name.in_(studies))
    return database.read(lambda connection: {row.name: row.uid for row in connection.execute(query)})


def study_names(database: Database) -> list[str]:
    """The names of all planned studies, sorted."""

    def work(connection: Connection) -> list[str]:
        names = studies_table.c.name if _has_uids(connection) else queue_table.c.study
        return list(connection.execute(select(names).distinct().order_by(names)).scalars())

    return database.read(work)


def _has_uids(connection: Connection) -> bool:
    """Whether the tables have what revision 0003 added."""
    return stored_version(connection) >= 3


def counts(database: Database, studies: Sequence[str]) -> dict[str, int]:
    """The number of trials in each of `STATES`, and apart from those `OVER_BUDGET`; both "not run" only if any are."""
    reason = case((queue_table.c.state == NOT_RUN, queue_table.c.reason), else_=None)
    columns = (queue_table.c.state, queue_table.c.outcome, reason)
    query = select(*columns, func.count()).where(queue_table.c.study.in_(studies)).group_by(*columns)
    found: Counter[str] = Counter()
    for state, outcome, why, count in database.read(lambda connection: connection.execute(query).all()):
        left_out = OVER_BUDGET if why == BUDGET_SPENT else state
        found[outcome if state == "done" else left_out] += count
    return {state: found[state] for state in COUNTED if state not in (NOT_RUN, OVER_BUDGET) or found[state]}


def attr_counts(database: Database, studies: Sequence[str], key: str) -> list[tuple[str, Any, int]]:
    """How many trials that ended with losses have each value of a user attribute: study, value and number of trials.

    The database counts, so that attributes of which there are a few different ones cost little for many trials.
    """
    query = optuna_queries.count_user_attr(key, queue_table.c.trial_id, queue_table.c.study)
    query = query.where(queue_table.c.study.in_(studies), queue_table.c.outcome.in_(("complete", "pruned", "diverged")))
    return [
        (study, json.loads(value), count)
        for study, value, count in database.read(lambda connection: connection.execute(query).all())
    ]


def trial_summaries(
    database: Database, studies: Sequence[str], states: Sequence[str] = STATES, attrs: Sequence[str] = ()
) -> list[TrialSummary]:
    """The trials of `studies` in any of `states`, ordered by study and number.

    Args:
        attrs: Names of the user attributes to include.
    """
    unfinished = [state for state in UNFINISHED if state in states]
    query = (
        select(*_SUMMARY_COLUMNS, (queue_table.c.lease_until - database.now()).label("lease_left_s"))
        .where(
            queue_table.c.study.in_(studies),
            queue_table.c.state.in_(unfinished)
            | queue_table.c.outcome.in_([state for state in states if state not in unfinished]),
        )
        .order_by(queue_table.c.study, queue_table.c.number)
    )

    def work(connection: Connection) -> list[TrialSummary]:
        failure = queue_table.c.failure if _has_uids(connection) else null().label("failure")
        summaries: list[TrialSummary] = []
        for rows in connection.execute(query.add_columns(failure)).partitions(CHUNK):
            found = optuna_queries.read_user_attrs(connection, [row.trial_id for row in rows], attrs)
            cells = cells_of(connection, rows)
            summaries += [_summary(row, cells[row.trial_id], found.get(row.trial_id, _NONE)) for row in rows]
        return summaries

    return database.read(work)


_NONE: Mapping[str, Any] = {}


def cells_of(connection: Connection, rows: Sequence[Any]) -> dict[int, dict[str, Any]]:
    """The parameters with the seed of many trials, by trial_id.

    Args:
        rows: Rows of the queue with `trial_id`, `cell` and `state`.
    """
    cells = {row.trial_id: parameters_of(row.cell) for row in rows}
    suggested = [row.trial_id for row in rows if row.state not in ("waiting", NOT_RUN) and is_empty_slot(row.cell)]
    for trial_id, parameters in optuna_queries.read_parameters(connection, suggested).items():
        cells[trial_id] = {**parameters, **cells[trial_id]}
    return cells


def _summary(row: Any, cell: Mapping[str, Any], attrs: Mapping[str, Any]) -> TrialSummary:
    ended = row.finished_at is not None and row.started_at is not None
    return TrialSummary(
        study=row.study,
        number=row.number,
        cell=cell,
        state=row.outcome if row.state == "done" else row.state,
        attempts=row.attempts,
        owner=row.owner if row.state == "running" else None,
        lease_left_s=row.lease_left_s if row.state == "running" else None,
        step=row.step,
        train_loss=row.train_loss,
        # An objective can return another value than it reported last.
        val_loss=row.value if row.outcome == "complete" else row.val_loss,
        value=row.value,
        reason=row.reason,
        seconds=row.finished_at - row.started_at if ended else None,
        attrs=attrs,
        failure=Failure.from_json(row.failure),
        has_seed=not is_empty_slot(row.cell),
        finished_at=row.finished_at,
    )


def cell_texts(database: Database, study: str, numbers: Sequence[int] | None = None) -> dict[int, str]:
    """The canonical cells of trials, by number; of all trials without `numbers`."""
    query = select(queue_table.c.number, queue_table.c.cell).where(queue_table.c.study == study)
    if numbers is not None:
        query = query.where(queue_table.c.number.in_(numbers))
    return database.read(lambda connection: {row.number: row.cell for row in connection.execute(query)})


def has_cell(database: Database, study: str, cell: str) -> bool:
    """Whether a study has a trial of a cell.

    Args:
        cell: JSON of the cell with its seed, as planned.
    """
    query = select(queue_table.c.id).where(queue_table.c.study == study, queue_table.c.cell == cell)
    return database.read(lambda connection: connection.execute(query).first()) is not None


def val_curves(database: Database, trials: Sequence[tuple[str, int]]) -> dict[tuple[str, int], list[tuple[int, float]]]:
    """The validation losses of a few trials: (study, number) to (step, loss) pairs, NaN and infinite losses omitted."""
    wanted = tuple_(queue_table.c.study, queue_table.c.number).in_(trials)
    query = select(queue_table.c.study, queue_table.c.number, queue_table.c.trial_id).where(wanted)

    def work(connection: Connection) -> dict[tuple[str, int], list[tuple[int, float]]]:
        owners = {row.trial_id: (row.study, row.number) for row in connection.execute(query)} if trials else {}
        curves = optuna_queries.read_curves(connection, list(owners))
        return {
            owner: [(step, value) for step, value in curves.get(trial_id, {}).items() if math.isfinite(value)]
            for trial_id, owner in owners.items()
        }

    return database.read(work)

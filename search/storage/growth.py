"""A planned study whose definition grows: the trials that it has stay as they are, and new ones join them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    distribution_to_json,
    json_to_distribution,
)
from sqlalchemy import Connection, Row, Table, delete, func, select, update

from search.storage import optuna_layout
from search.storage.database import Database
from search.storage.errors import StorageError
from search.storage.schema import NOT_RUN, queue_table
from search.storage.slots import cell_and_seed

_trials: Table = optuna_layout.trials
_params: Table = optuna_layout.trial_params


# States of a trial that no worker has begun.
UNBEGUN = ("waiting", NOT_RUN)


@dataclass(frozen=True)
class TrialCell:
    """The cell of a trial that a study has.

    Attributes:
        was_claimed: Whether a worker has ever claimed the trial.
    """

    cell: Mapping[str, Any]
    was_claimed: bool


def trial_cells(rows: Sequence[Row[Any]]) -> list[TrialCell]:
    """The cells of the trials that have one."""
    found = [TrialCell(cell_and_seed(row.cell)[0], row.state not in UNBEGUN or row.token > 0) for row in rows]
    return [each for each in found if each.cell]


def refuse_while_leased(database: Database, connection: Connection, study: str, rows: Sequence[Row[Any]]) -> None:
    """Check that no worker trains a study, since its workers know only the definition that they started with.

    Raises:
        StorageError: A lease of it is valid.
    """
    now = database.time(connection)
    leased = [row for row in rows if row.state == "running" and row.lease_until is not None and row.lease_until > now]
    if leased:
        owners = sorted({str(row.owner) for row in leased})
        raise StorageError(
            f"the definition of the study {study!r} can change only while no worker trains it, and {owners[0]}"
            + (f" and {len(owners) - 1} more do" if len(owners) > 1 else " does")
            + "; stop the workers, or wait until they have ended, then start again"
        )


def remove_trials(connection: Connection, study: str, trial_ids: Sequence[int]) -> None:
    """Delete trials that no worker has ever claimed, with their rows in the queue.

    Raises:
        StorageError: A worker has claimed one meanwhile.
    """
    for trial_id in trial_ids:
        unclaimed = (queue_table.c.trial_id == trial_id, queue_table.c.state.in_(UNBEGUN), queue_table.c.token == 0)
        if connection.execute(delete(queue_table).where(*unclaimed)).rowcount == 0:
            raise StorageError(f"a worker has just begun a trial that {study!r} would lose; stop the workers first")
        connection.execute(delete(_params).where(_params.c.trial_id == trial_id))
        connection.execute(delete(_trials).where(_trials.c.trial_id == trial_id))


def rewrite_distributions(connection: Connection, study_id: int, distributions: Mapping[str, BaseDistribution]) -> None:
    """Give all trials of a study the same distributions; Optuna refuses trials with different choices of a parameter.

    Args:
        distributions: By parameter; each has all values that trials have of it.
    """
    of_study = _params.c.trial_id.in_(select(_trials.c.trial_id).where(_trials.c.study_id == study_id))
    for name, distribution in distributions.items():
        new = distribution_to_json(distribution)
        same = (of_study, _params.c.param_name == name, _params.c.distribution_json != new)
        olds = connection.execute(select(_params.c.distribution_json).where(*same).distinct()).scalars().all()
        for old in olds:
            before = json_to_distribution(old)
            is_old = (of_study, _params.c.param_name == name, _params.c.distribution_json == old)
            if not isinstance(before, CategoricalDistribution) or not isinstance(distribution, CategoricalDistribution):
                connection.execute(update(_params).where(*is_old).values(distribution_json=new))
                continue
            # A choice is stored as its place in the list.
            for place, choice in enumerate(before.choices):
                if choice in distribution.choices:
                    changed = {"distribution_json": new, "param_value": distribution.to_internal_repr(choice)}
                    is_choice = func.abs(_params.c.param_value - place) < 0.5
                    connection.execute(update(_params).where(*is_old, is_choice).values(changed))

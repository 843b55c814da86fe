"""Leases of trials, and the reports that workers make under them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, literal

from search.storage.schema import queue_table

# A lease lasts twice as long for each one that a living worker has lost since the trial's last progress: leases that
# are too short for the load must not keep the trial from progress.
LEASE_FACTOR: ColumnElement[int] = literal(1).bitwise_lshift(queue_table.c.lost_leases)
MAX_LOST_LEASES = 6  # that are counted: the longest lease is 64 times as long


@dataclass(frozen=True)
class Lease:
    """A worker's time-limited right to one trial.

    Attributes:
        study_uid: Identifies one planning of the study; planned anew after its deletion, it has another uid.
        token: Counts the claims of the trial.
        attempt: How many attempts in a row, this one included, have made no progress.
        shape_key: Trials of a study with the same text can be trained as one stacked model; "" trains alone.
    """

    queue_id: int
    study: str
    study_uid: str
    cell: str
    trial_id: int
    number: int
    owner: str
    token: int
    attempt: int
    shape_key: str = ""


@dataclass(frozen=True)
class Report:
    """One evaluation of a leased trial.

    Attributes:
        train_loss: The training loss for the display of running trials; None without one.
        value: The study's metric.
        metrics: What is stored besides the value, by name.
    """

    lease: Lease
    step: int
    train_loss: float | None
    value: float
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class ExpiredLease:
    """A lease that had expired when another worker claimed its trial, with the row's columns at that time."""

    queue_id: int
    study_uid: str
    owner: str
    attempts: int
    step: int | None
    failure: str | None


@dataclass(frozen=True)
class ClaimedNow:
    """What one statement has claimed.

    Attributes:
        expired: The leases of other workers that had expired.
        exhausted: How many expired trials were skipped because they have no attempts left.
    """

    leases: Sequence[Lease]
    expired: Sequence[ExpiredLease]
    exhausted: int


def new_owner_name(label: str) -> str:
    """Return a unique name for a holder of leases: host, label, process id and random digits."""
    return f"{os.uname().nodename}/{label}/{os.getpid()}-{os.urandom(3).hex()}"


def row_of(queue_id: int, study_uid: str) -> ColumnElement[bool]:
    """The row of a trial; an older copy of the database may have given its id to a trial of another study."""
    return and_(queue_table.c.id == queue_id, queue_table.c.study_uid == study_uid)


def held_by(lease: Lease) -> ColumnElement[bool]:
    """The trial of a lease that is still valid."""
    return and_(claimed_by(lease), queue_table.c.state == "running")


# As `held_by`, for a statement that is built once: building it takes longer than running it.
held = and_(
    queue_table.c.id == bindparam("held_id"),
    queue_table.c.study_uid == bindparam("held_uid", type_=queue_table.c.study_uid.type),
    queue_table.c.owner == bindparam("held_owner"),
    queue_table.c.token == bindparam("held_token"),
    queue_table.c.state == "running",
)


def held_values(lease: Lease) -> dict[str, Any]:
    """The values of the parameters of `held`."""
    return {
        "held_id": lease.queue_id,
        "held_uid": lease.study_uid,
        "held_owner": lease.owner,
        "held_token": lease.token,
    }


def claimed_by(lease: Lease) -> ColumnElement[bool]:
    """The trial of a lease that no other worker has claimed since.

    The token alone does not show that: in a restored backup two workers can hold the same token of the same row.
    """
    row = row_of(lease.queue_id, lease.study_uid)
    return and_(row, queue_table.c.owner == lease.owner, queue_table.c.token == lease.token)

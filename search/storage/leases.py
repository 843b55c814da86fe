"""Leases of trials, and the reports that workers make under them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_

from search.storage.schema import queue_table


@dataclass(frozen=True)
class Lease:
    """A worker's time-limited right to one trial.

    Attributes:
        shape_key: Trials of a study with the same text can be trained as one stacked model; "" trains alone.
    """

    queue_id: int
    study: str
    cell: str
    trial_id: int
    number: int
    owner: str
    token: int
    attempt: int
    shape_key: str = ""


@dataclass(frozen=True)
class Report:
    """One evaluation of a leased trial: its losses after `step` training steps."""

    lease: Lease
    step: int
    train_loss: float
    val_loss: float


def held_by(lease: Lease) -> ColumnElement[bool]:
    """The trial of a lease that is still valid: its token is the newest."""
    return and_(
        queue_table.c.id == lease.queue_id, queue_table.c.token == lease.token, queue_table.c.state == "running"
    )

"""A worker's right to a trial, and what it reports under it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_

from search.storage.schema import queue_table


@dataclass(frozen=True)
class Lease:
    """A worker's time-limited right to one trial.

    Attributes:
        shape_key: Trials of a study with the same text may be trained as one stacked model; "" is trained alone.
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
    """One evaluation of a leased trial: losses in nats per character after `step` training steps."""

    lease: Lease
    step: int
    train_loss: float
    val_loss: float


def held_by(lease: Lease) -> ColumnElement[bool]:
    """The trial of a lease, if it is still in force: its token is the newest."""
    return and_(
        queue_table.c.id == lease.queue_id, queue_table.c.token == lease.token, queue_table.c.state == "running"
    )

"""What went wrong with a trial: one record per row of the queue, which status, page and dashboard show."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from sqlalchemy import Connection, select

from search.storage.schema import queue_table
from search.storage.texts import storable_json

if TYPE_CHECKING:
    from search.storage.leases import Lease

FailureKind = Literal[
    "error", "worker crashed", "lease lost", "host gone", "preempted", "timeout", "stalled", "failed from outside"
]

MAX_ERROR = 500  # characters of `Failure.error`
MAX_TRACEBACK = 4000  # characters of `Failure.traceback`; its end is kept


@dataclass(frozen=True)
class Failure:
    """What last went wrong with a trial; None where it is not known.

    Attributes:
        kind: "error" of the objective; "worker crashed": its process ended while it trained the trial; "lease lost":
            the worker is alive, but renewed its lease too late; "host gone": the lease expired and nothing was heard
            of the worker; "preempted": asked to stop; "timeout", "stalled": stopped by a limit of the study;
            "failed from outside": ended by another program, such as the dashboard.
        error: One line.
        traceback: Its last lines.
        exit_status: The worker's exit status, if it exited by itself.
        signal: The signal that ended the worker, such as "SIGKILL".
        host: The worker's host.
        worker: The worker's unique name, the owner of its leases.
        log: The path of the log of the worker, or of the program that it ran, on its host.
        artifact: The name and the id of the trial's artifact with that log, if it was kept.
        attempt: The number of the attempt.
        step: The last step that was reported.
        at: Seconds since 1970, by the database's clock.
    """

    kind: FailureKind
    error: str | None = None
    traceback: str | None = None
    exit_status: int | None = None
    signal: str | None = None
    host: str | None = None
    worker: str | None = None
    log: str | None = None
    artifact: str | None = None
    attempt: int | None = None
    step: int | None = None
    at: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """What is known, as JSON values."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def to_json(self) -> str:
        """The text that the database stores: ASCII, so that every database takes it, and of bounded length."""
        error = None if self.error is None else "".join(self.error.splitlines()[:1])[:MAX_ERROR]
        traceback = None if self.traceback is None else self.traceback[-MAX_TRACEBACK:]
        return storable_json(replace(self, error=error, traceback=traceback).as_dict())

    @staticmethod
    def from_json(text: str | None) -> Failure | None:
        """The record of a row; None without one. Fields and kinds of a later version are left out."""
        stored = {} if text is None else json.loads(text)
        known = {name: value for name, value in stored.items() if name in Failure.__dataclass_fields__}
        return Failure(**known) if known.get("kind") in get_args(FailureKind) else None

    def of_attempt(self, owner: str | None, attempt: int, step: int | None, at: float) -> Failure:
        """This failure with the facts of the row that it happened to, where they are not given."""
        host = None if owner is None or "/" not in owner else owner.split("/")[0]
        facts: dict[str, Any] = {"worker": owner, "host": host, "attempt": attempt, "step": step, "at": at}
        return replace(self, **{name: value for name, value in facts.items() if getattr(self, name) is None})


def of_lease(failure: Failure, lease: Lease, connection: Connection, now: float) -> Failure:
    """A failure with the facts of a leased trial's row."""
    step = connection.execute(select(queue_table.c.step).where(queue_table.c.id == lease.queue_id)).scalar()
    return failure.of_attempt(lease.owner, lease.attempt, step, now)

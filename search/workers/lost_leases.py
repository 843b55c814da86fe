"""What a worker does with a trial whose lease it has lost."""

from __future__ import annotations

import logging

from search.storage.crashes import TAKEN_OVER
from search.storage.errors import LeaseLost
from search.storage.leases import Lease
from search.workers.failure_records import preemption
from search.workers.leased_trial import WorkerContext, WorkerStudy
from search.workers.user_trial import TrialInterrupted

log = logging.getLogger("search.worker")


def end_interrupted(context: WorkerContext, lease: Lease, study: WorkerStudy, interrupted: TrialInterrupted) -> None:
    """Put a trial whose user code was interrupted back into the queue, unless its lease was lost.

    Raises:
        StorageUnavailable: The database is the reason.
    """
    if interrupted.error is None:
        context.queue.release(lease, failure=preemption())
        log.info("put trial %d of %s back into the queue", lease.number, lease.study)
    elif isinstance(interrupted.error, LeaseLost):
        drop_lost(context, lease, study)
    else:
        raise interrupted.error from interrupted


def drop_lost(context: WorkerContext, lease: Lease, study: WorkerStudy) -> None:
    """Say why the lease was lost, and remove the checkpoint of a trial that no worker will resume.

    Args:
        study: The study of the lease.
    """
    why = context.queue.note_alive(lease)
    log.warning("lost the lease of trial %d of %s; discarding its work: %s", lease.number, lease.study, why)
    if why != TAKEN_OVER:
        identity = study.identity(lease.cell)
        context.checkpoints.remove_leftovers(lease.study, lease.number, identity)
        context.checkpoints.remove_copy_soon(identity)

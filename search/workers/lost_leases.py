"""What a worker does with a trial whose lease it has lost."""

from __future__ import annotations

import logging

from search.storage.crashes import TAKEN_OVER
from search.storage.leases import Lease
from search.workers.leased_trial import WorkerContext, WorkerStudy

log = logging.getLogger("search.worker")


def drop_lost(context: WorkerContext, lease: Lease, study: WorkerStudy) -> None:
    """Say why the lease was lost, and remove the checkpoint of a trial that no worker will resume.

    Args:
        study: The study of the lease.
    """
    why = context.queue.note_alive(lease)
    log.warning("lost the lease of trial %d of %s; discarding its work: %s", lease.number, lease.study, why)
    if why != TAKEN_OVER:
        context.checkpoints.remove_leftovers(lease.study, lease.number, study.identity(lease.cell))

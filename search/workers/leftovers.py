"""Removes files of workers that were killed, or stopped for long, after the end of a trial and before their removal."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from search.storage.artifact_store import bucket_errors
from search.storage.errors import StorageError
from search.storage.queries import cell_texts
from search.workers.leased_trial import WorkerContext, WorkerStudy

log = logging.getLogger("search.worker")


def remove_leftovers(context: WorkerContext, studies: Mapping[str, WorkerStudy]) -> None:
    """Remove what is left of the ended trials of finished studies, copies of checkpoints included.

    Args:
        studies: By name.
    """
    for name, study in studies.items():
        study.artifact_writer.remove_stale_parts()
        study.trim_artifacts()
        _remove_checkpoints(context, name, study)
    if not context.checkpoints.flush_copies():
        log.warning("some copies of checkpoints are not removed yet: the artifact store does not answer")


def _remove_checkpoints(context: WorkerContext, name: str, study: WorkerStudy) -> None:
    checkpoints = context.checkpoints
    numbers = set(checkpoints.with_leftovers(name))
    # Only the database knows which trials may have a copy.
    cells = cell_texts(context.queue.database, name, sorted(numbers) if checkpoints.copies is None else None)
    identities = {number: study.identity(cell) for number, cell in cells.items()}
    try:
        with bucket_errors():
            numbers |= set(checkpoints.with_copies(identities))
    except (StorageError, OSError) as error:
        log.warning("cannot look for copies of checkpoints: %s", error)
    for number in sorted(numbers & identities.keys()):
        checkpoints.remove_leftovers(name, number, identities[number])

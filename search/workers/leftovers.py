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
    checkpoints, database = context.checkpoints, context.queue.database
    for number, cell in cell_texts(database, name, checkpoints.with_leftovers(name)).items():
        checkpoints.remove_leftovers(name, number, study.identity(cell))
    if (copies := checkpoints.copies) is None:
        return
    try:
        with bucket_errors():
            for identity in copies.existing([study.identity(cell) for cell in cell_texts(database, name).values()]):
                copies.remove(identity)
    except (StorageError, OSError) as error:  # a deletion of the study finds them
        log.warning("cannot remove the copies of checkpoints: %s", error)

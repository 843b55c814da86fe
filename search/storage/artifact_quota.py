"""Keeps the files of a study's best trials only: those of the others are removed with the attributes that name them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.study import StudyDirection
from sqlalchemy import Connection, Row, select

from search.storage import optuna_queries, optuna_tables
from search.storage.artifact_store import ArtifactStore
from search.storage.chunks import chunks
from search.storage.database import Database
from search.storage.removals import Removals, remove_recorded
from search.storage.schema import queue_table, studies_table

log = logging.getLogger("storage")

_ORDER = ("complete", "pruned", "diverged", "failed")


@dataclass(frozen=True)
class ArtifactQuota:
    """How many trials of one planning of a study keep their files.

    Attributes:
        keep: The number of trials: the best complete ones, then the best pruned ones, then the others by number.
        store: Where the files are.
    """

    study: str
    uid: str
    keep: int
    store: ArtifactStore

    def apply(self, database: Database) -> None:
        """Remove the files beyond the quota, those included that a killed worker has left.

        Any number of workers may call it at the same time, each after it has ended a trial.
        """
        removals = Removals(self.study, self.uid)
        database.write(lambda connection: self._record(database, connection, removals))
        left = remove_recorded(database, removals.condition, self.store)
        if left.files:
            log.warning("cannot remove %d artifacts of %s yet: %s", left.files, self.study, left.why)

    def _record(self, database: Database, connection: Connection, removals: Removals) -> None:
        # The lock makes one worker see what another has removed already.
        database.lock(connection, f"search artifacts {self.uid}")
        planned = select(studies_table.c.study_id).where(studies_table.c.uid == self.uid)
        study_id = connection.execute(planned).scalar()
        artifacts = {} if study_id is None else optuna_queries.read_artifacts(connection, study_id)
        if study_id is None or len(artifacts) <= self.keep:
            return
        is_better_high = optuna_tables.directions(connection, study_id)[0] is StudyDirection.MAXIMIZE
        ended = sorted(_ended(connection, self.uid, list(artifacts)), key=lambda row: _place(row, is_better_high))
        surplus = [row.trial_id for row in ended[self.keep :]]
        removals.record_artifacts(connection, (each for trial_id in surplus for each in artifacts[trial_id]))
        for chunk in chunks(surplus):
            optuna_tables.remove_artifacts(connection, chunk)


def _ended(connection: Connection, uid: str, trial_ids: Sequence[int]) -> list[Row[Any]]:
    found: list[Row[Any]] = []
    for chunk in chunks(trial_ids):
        of_chunk = queue_table.c.trial_id.in_(chunk)
        ended = select(queue_table).where(queue_table.c.study_uid == uid, queue_table.c.state == "done", of_chunk)
        found += connection.execute(ended).all()
    return found


def _place(row: Row[Any], is_better_high: bool) -> tuple[int, float, int]:
    """What ranks a trial: the lowest is the best."""
    value = math.inf if row.value is None else -row.value if is_better_high else row.value
    return _ORDER.index(row.outcome), value, row.number

"""Files whose database rows are gone: recorded in the transaction that deletes the rows, removed after it.

A process that is killed in between leaves the record, and the next one that looks removes the rest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, literal, not_, or_, select

from search.storage.artifact_store import ArtifactStore
from search.storage.checkpoint_store import CheckpointStore
from search.storage.database import Database
from search.storage.schema import removals_table
from search.storage.texts import error_text

_CHUNK = 500


@dataclass(frozen=True)
class Removals:
    """The recorded files of one planning of a study."""

    study: str
    uid: str

    def record_artifacts(self, connection: Connection, artifact_ids: Iterable[str]) -> None:
        """Record artifacts."""
        self._insert(connection, [{"artifact_id": each} for each in artifact_ids])

    def record_checkpoints(self, connection: Connection, identities: Mapping[int, str]) -> None:
        """Record the checkpoints of trials.

        Args:
            identities: What each checkpoint was written with, by the trial's number.
        """
        self._insert(connection, [{"number": number, "identity": each} for number, each in identities.items()])

    def record_folder(self, connection: Connection) -> None:
        """Record the study's folder; record it last, because it is removed in that order."""
        self._insert(connection, [{}])

    def forget(self, connection: Connection) -> int:
        """Forget all recorded files, because rows of the database name them again; returns their number."""
        return connection.execute(delete(removals_table).where(self.condition)).rowcount

    @property
    def condition(self) -> ColumnElement[bool]:
        """Which rows of the table are meant."""
        return removals_table.c.study_uid == self.uid

    def _insert(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        empty = {"study": self.study, "study_uid": self.uid, "artifact_id": None, "number": None, "identity": None}
        if rows:
            connection.execute(insert(removals_table), [{**empty, **row} for row in rows])


def of_studies(studies: Sequence[str]) -> ColumnElement[bool]:
    """The recorded files of all plannings of studies of these names."""
    return removals_table.c.study.in_(studies)


def recorded(database: Database, which: ColumnElement[bool]) -> int:
    """How many files are recorded."""
    query = select(func.count()).select_from(removals_table).where(which)
    return database.read(lambda connection: connection.execute(query).scalar_one())


@dataclass(frozen=True)
class Left:
    """Recorded files that could not be removed: how many, and what kept one of them."""

    files: int = 0
    why: str | None = None


def remove_recorded(
    database: Database,
    which: ColumnElement[bool],
    store: ArtifactStore | None,
    checkpoints: CheckpointStore | None = None,
) -> Left:
    """Remove recorded files, those first that were recorded first; a file that is not there is removed.

    Args:
        store: Where the artifacts are; None leaves them recorded.
        checkpoints: Where checkpoints and the studies' folders are; None leaves them recorded.
    """
    is_artifact = removals_table.c.artifact_id.is_not(None)
    meant = or_(
        and_(is_artifact, literal(store is not None)), and_(not_(is_artifact), literal(checkpoints is not None))
    )
    left, last = Left(), 0
    while True:
        query = select(removals_table).where(which, meant, removals_table.c.id > last)
        rows = _rows(database, query.order_by(removals_table.c.id).limit(_CHUNK))
        if not rows:
            break
        last, gone = rows[-1].id, []
        for row in rows:
            try:
                _remove(row, store, checkpoints)
                gone.append(row.id)
            except Exception as error:  # of the file system, or of the library of a bucket
                left = Left(left.files + 1, error_text(error))
        _forget(database, gone)
    return left


def _rows(database: Database, query: Any) -> Sequence[Row[Any]]:
    return database.read(lambda connection: connection.execute(query).all())


def _forget(database: Database, ids: Sequence[int]) -> None:
    database.write(lambda connection: connection.execute(delete(removals_table).where(removals_table.c.id.in_(ids))))


def _remove(row: Row[Any], store: ArtifactStore | None, checkpoints: CheckpointStore | None) -> None:
    if row.artifact_id is not None:
        from optuna.artifacts.exceptions import ArtifactNotFound  # late, as in `artifact_store`

        assert store is not None
        with contextlib.suppress(ArtifactNotFound):
            store.remove(row.artifact_id)
        return
    assert checkpoints is not None
    if row.number is not None:
        checkpoints.remove_leftovers(row.study, row.number, row.identity)
        if checkpoints.copies is not None:
            checkpoints.copies.remove(row.identity)
    else:
        checkpoints.remove_folder(row.study, row.study_uid)

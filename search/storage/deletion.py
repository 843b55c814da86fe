"""Deletes studies with all that belongs to them: rows, Optuna's trials, artifacts, checkpoints and logs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from search.storage import optuna_queries, optuna_tables
from search.storage.artifact_store import ATTR_PREFIX, bucket_errors
from search.storage.checkpoint_store import CheckpointStore
from search.storage.database import Database
from search.storage.errors import StorageError
from search.storage.removals import Removals
from search.storage.schema import UID, queue_table, studies_table

MAX_NAMED = 5  # workers in a message


def artifacts_of(database: Database, studies: Sequence[str]) -> list[str]:
    """The ids of all artifacts of studies and of their trials."""

    def work(connection: Connection) -> list[str]:
        planned = _planned(connection, studies)
        return [each for study in planned for each in _artifact_ids(connection, study.study_id)]

    return database.read(work)


def delete_studies(
    database: Database, studies: Sequence[str], checkpoints: CheckpointStore, *, with_artifacts: bool = True
) -> int:
    """Delete studies in one transaction, and record their files; `search.storage.removals` removes these.

    Args:
        checkpoints: Where the checkpoints of their trials are.
        with_artifacts: Whether to record their artifacts.

    Returns:
        How many of the studies there were.

    Raises:
        StorageError: Workers hold trials of them; nothing was changed.
    """
    with_files = _with_checkpoints(database, studies, checkpoints)

    def work(connection: Connection) -> int:
        for study in sorted(studies):
            database.lock(connection, f"search plan {study}")
        planned = _planned(connection, studies)
        _refuse_while_leased(database, connection, planned)
        for each in planned:
            removals = Removals(each.name, each.uid)
            if with_artifacts:
                removals.record_artifacts(connection, _artifact_ids(connection, each.study_id))
            removals.record_checkpoints(connection, _identities(connection, each, with_files[each.name]))
            removals.record_folder(connection)
            optuna_tables.delete_study(connection, each.study_id)
        return len(planned)

    # Durable: a power cut must not bring back a study whose files are removed next.
    return database.write(work, durable=True)


def _planned(connection: Connection, studies: Sequence[str]) -> Sequence[Row[Any]]:
    named = select(studies_table).where(studies_table.c.name.in_(studies)).order_by(studies_table.c.name)
    return connection.execute(named).all()


def _artifact_ids(connection: Connection, study_id: int) -> list[str]:
    of_trials = optuna_queries.read_artifacts(connection, study_id).values()
    of_study = [key for key in optuna_tables.study_system_attrs(connection, study_id) if key.startswith(ATTR_PREFIX)]
    return [*(each for ids in of_trials for each in ids), *(key.removeprefix(ATTR_PREFIX) for key in of_study)]


def _with_checkpoints(
    database: Database, studies: Sequence[str], checkpoints: CheckpointStore
) -> dict[str, Sequence[int]]:
    """The numbers of the trials that have a checkpoint or a copy of one, by study."""
    found: dict[str, Sequence[int]] = {study: checkpoints.with_leftovers(study) for study in studies}
    if (copies := checkpoints.copies) is None:
        return found

    def identities(connection: Connection) -> dict[str, dict[int, str]]:
        return {each.name: _identities(connection, each) for each in _planned(connection, studies)}

    for study, by_number in database.read(identities).items():
        with bucket_errors():
            copied = copies.existing(by_number.values())
        found[study] = [*found[study], *(number for number, identity in by_number.items() if identity in copied)]
    return found


def _identities(connection: Connection, study: Row[Any], numbers: Sequence[int] | None = None) -> dict[int, str]:
    """What the checkpoints of trials were written with, by number; of all trials without `numbers`."""
    uid = optuna_tables.study_attrs(connection, study.study_id).get(UID, "")
    cells = select(queue_table.c.number, queue_table.c.cell).where(queue_table.c.study_uid == study.uid)
    wanted = None if numbers is None else set(numbers)
    return {number: f"{uid} {cell}" for number, cell in connection.execute(cells) if wanted is None or number in wanted}


def _refuse_while_leased(database: Database, connection: Connection, planned: Sequence[Row[Any]]) -> None:
    table = queue_table.c
    # With the rows locked no worker claims one of them until they are deleted.
    of_studies = table.study_uid.in_([each.uid for each in planned])
    connection.execute(select(table.id).where(of_studies).order_by(table.id).with_for_update()).all()
    held = of_studies & (table.state == "running") & (table.lease_until > database.now())
    rows = connection.execute(select(table.owner, table.study, table.number).where(held).order_by(table.id)).all()
    if rows:
        named = ", ".join(f"{row.owner} (trial {row.number} of {row.study})" for row in rows[:MAX_NAMED])
        more = f" and {len(rows) - MAX_NAMED} more" if len(rows) > MAX_NAMED else ""
        raise StorageError(
            f"nothing was deleted: workers train trials: {named}{more}; stop them, then run the same command again"
        )

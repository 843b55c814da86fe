"""Reads an exported archive into a database: all of it or nothing, and never over files that are there.

Files are written first, recorded as files to remove, and the transaction that creates the studies forgets that record.
An imported study is another one: it has its own uid, and so its own artifacts and checkpoints.
"""

from __future__ import annotations

import itertools
import json
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from sqlalchemy import Connection, insert, select

from search.storage import optuna_records, optuna_tables
from search.storage.artifact_store import ATTR_PREFIX, ArtifactStore, bucket_errors
from search.storage.checkpoint_store import CheckpointStore
from search.storage.database import Database
from search.storage.errors import StorageError
from search.storage.hosts import HOST, this_host
from search.storage.optuna_records import Record
from search.storage.process_costs import insert_processes
from search.storage.removals import Removals, of_studies, remove_recorded
from search.storage.schema import NOT_RUN, SCHEMA_VERSION, TRIAL_TABLES, UID, queue_table, studies_table
from search.storage.spending import Spent, import_spending
from search.storage.study_archive import ARTIFACTS, CHECKPOINTS, ArchiveReader
from search.storage.texts import printable

log = logging.getLogger("storage")

_CHUNK = 500
# Of archives: schema 6 added what trials took, and schema 7 what processes took.
_SCHEMAS = (5, 6, SCHEMA_VERSION)
_NAMESPACE = uuid.UUID("0d6a1f5e-3c1b-4c68-9f0e-7f5f5b1f2b51")
# In the keys under which a genetic sampler of Optuna keeps the parents of a generation.
_PARENTS = ":parent:"
_WAITING: dict[str, Any] = {"state": "waiting", "not_before": 0.0}


@dataclass(frozen=True)
class _NewStudy:
    """A study that is being imported: its place in the archive, its name here and its new uid."""

    index: int
    name: str
    head: Mapping[str, Any]
    uid: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def removals(self) -> Removals:
        return Removals(self.name, self.uid)

    def artifact_id(self, old: str) -> str:
        """The id of a file in this study."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.uid} {old}"))


@dataclass(frozen=True)
class ImportedFiles:
    """Where the files of an imported study go; None leaves that kind out."""

    store: ArtifactStore | None
    checkpoints: CheckpointStore


def import_studies(database: Database, archive: ArchiveReader, names: Sequence[str], files: ImportedFiles) -> None:
    """Create the studies of an archive.

    Args:
        names: Their names here, in the order of the archive.

    Raises:
        StorageError: A study of one of these names exists, or an older version of lm-search wrote the archive.
        OSError: A file cannot be written. Nothing is imported then.
    """
    schema = archive.head.get("schema")
    if schema not in _SCHEMAS:
        raise StorageError(
            f"the file was exported from schema {schema}, and this version imports schema {SCHEMA_VERSION}: import it "
            "with the version of lm-search that exported it, then upgrade that database"
        )
    studies = [_NewStudy(index, *each) for index, each in enumerate(zip(names, archive.head["studies"], strict=True))]
    database.read(lambda connection: _check_free(connection, names))
    remove_recorded(database, of_studies(names), files.store, files.checkpoints)  # of an import that was killed
    try:
        expected = {study.uid: _write_files(database, archive, study, files) for study in studies}
        trials = database.write(
            lambda connection: _create(database, connection, archive, studies, files, expected), durable=True
        )
        database.update_statistics([queue_table, *optuna_tables.TRIAL_TABLES, *TRIAL_TABLES], trials)
    except BaseException as error:
        for study in studies:
            remove_recorded(database, study.removals.condition, files.store, files.checkpoints)
        if isinstance(error, (LookupError, TypeError, AttributeError, ValueError)):
            why = f"its content is not that of a study: {type(error).__name__}: {error}"
            raise StorageError(
                f"the file is damaged ({printable(why)}); nothing was imported: export it again"
            ) from error
        raise


def _check_free(connection: Connection, names: Sequence[str]) -> None:
    for name in names:
        if optuna_tables.study_id(connection, name) is not None:
            raise StorageError(f"the study {name!r} exists; nothing was imported: give another --name")


def _write_files(database: Database, archive: ArchiveReader, study: _NewStudy, files: ImportedFiles) -> int:
    """Write the files of a study; returns how many were recorded."""
    artifacts = _artifacts(archive, study) if files.store is not None else []
    unfinished = _unfinished(archive, study)

    def note(connection: Connection) -> int:
        study.removals.forget(connection)  # if the answer to this transaction was lost
        study.removals.record_artifacts(connection, [study.artifact_id(each) for each in artifacts])
        study.removals.record_checkpoints(connection, unfinished)
        study.removals.record_folder(connection)
        return len(artifacts) + len(unfinished) + 1

    count = database.write(note, durable=True)
    for each in artifacts:
        assert files.store is not None
        with bucket_errors(), archive.open(ARTIFACTS + each) as content:
            files.store.write(study.artifact_id(each), cast(BinaryIO, content))
    for number, identity in unfinished.items():
        if files.checkpoints.has_checkpoint(study.name, number):
            log.warning("trial %d of %s starts again: another study has a checkpoint in its place", number, study.name)
            continue
        files.checkpoints.mark_folder(study.name, study.uid)
        with archive.open(f"{CHECKPOINTS}{study.index}/{number}") as content:
            files.checkpoints.write_checkpoint(study.name, number, content.read(), identity)
    return count


def _artifacts(archive: ArchiveReader, study: _NewStudy) -> list[str]:
    named = itertools.chain([study.head], archive.records(study.index))
    found = (key.removeprefix(ATTR_PREFIX) for each in named for key in each["system_attrs"] if _is_artifact(key))
    return [each for each in found if ARTIFACTS + each in archive.names]


def _is_artifact(key: str) -> bool:
    return key.startswith(ATTR_PREFIX)


def _unfinished(archive: ArchiveReader, study: _NewStudy) -> dict[int, str]:
    """The trials with a checkpoint, and what it is written with."""
    return {
        record["number"]: f"{study.uid} {record['run']['cell']}"
        for record in archive.records(study.index)
        if record["run"] is not None and f"{CHECKPOINTS}{study.index}/{record['number']}" in archive.names
    }


def _create(
    database: Database,
    connection: Connection,
    archive: ArchiveReader,
    studies: Sequence[_NewStudy],
    files: ImportedFiles,
    expected: Mapping[str, int],
) -> int:
    """Create all rows; returns the number of trials."""
    database.dialect.cascade_deletions(connection)
    for study in sorted(studies, key=lambda each: each.name):
        database.lock(connection, f"search plan {study.name}")
    uids = select(studies_table.c.uid).where(studies_table.c.uid.in_(list(expected)))
    if connection.execute(uids).first() is not None:
        return 0  # the answer to this transaction was lost
    _check_free(connection, [study.name for study in studies])
    trials = 0
    for study in studies:
        if study.removals.forget(connection) < expected[study.uid]:
            raise StorageError(f"another program removed files of {study.name!r}; nothing was imported: try again")
        trials += _create_one(connection, archive, study, has_artifacts=files.store is not None)
        spent = Spent(**study.head.get("spent", {}))
        import_spending(connection, study.uid, spent, database.time(connection))
    return trials


def _create_one(connection: Connection, archive: ArchiveReader, study: _NewStudy, *, has_artifacts: bool) -> int:
    there = archive.names if has_artifacts else frozenset()
    head = dict(study.head, system_attrs=_moved(study, study.head["system_attrs"], there))
    here = {HOST: this_host()} if HOST in head["user_attrs"] else {}
    head["user_attrs"] = {**head["user_attrs"], UID: study.uid, **here}
    study_id = optuna_records.insert_study(connection, study.name, head)
    connection.execute(insert(studies_table).values(uid=study.uid, name=study.name, study_id=study_id))
    insert_processes(connection, study.uid, study.head.get("processes", ()))
    trials = 0
    for chunk in _chunks(archive.records(study.index)):
        records = [_waiting(dict(each, system_attrs=_moved(study, each["system_attrs"], there))) for each in chunk]
        ids = optuna_records.insert_trials(connection, study_id, records)
        trials += len(ids)
        own = {"study": study.name, "study_uid": study.uid}
        rows = [
            {**each["run"], **own, "trial_id": trial_id, "number": each["number"]}
            for trial_id, each in zip(ids, records, strict=True)
            if each["run"] is not None
        ]
        if rows:
            connection.execute(insert(queue_table), rows)
        for table in TRIAL_TABLES:
            more = [
                {**values, "trial_id": trial_id}
                for trial_id, each in zip(ids, records, strict=True)
                for values in each["tables"].get(table.name, ())
            ]
            if more:
                connection.execute(insert(table), more)
    return trials


def _chunks(records: Iterator[Record]) -> Iterator[list[Record]]:
    while chunk := list(itertools.islice(records, _CHUNK)):
        yield chunk


def _moved(study: _NewStudy, attrs: Mapping[str, Any], there: frozenset[str]) -> Record:
    """Attributes with the ids that artifacts have here; those of artifacts that were not exported are left out."""
    moved: Record = {}
    for key, value in attrs.items():
        if _PARENTS in key:
            continue  # they name trials by their ids there; the sampler chooses them anew
        if not _is_artifact(key):
            moved[key] = value
        elif ARTIFACTS + key.removeprefix(ATTR_PREFIX) in there:
            new = study.artifact_id(key.removeprefix(ATTR_PREFIX))
            moved[ATTR_PREFIX + new] = json.dumps({**json.loads(value), "artifact_id": new})
    return moved


def _waiting(record: Record) -> Record:
    """A trial that a worker of the other database trains waits here."""
    run = record["run"]
    if run is None or run["state"] in ("done", NOT_RUN):
        return record
    attempts = run["attempts"] - (1 if run["state"] == "running" else 0)
    state = "WAITING" if record["state"] == "RUNNING" else record["state"]
    return {**record, "state": state, "run": {**run, **_WAITING, "attempts": max(0, attempts)}}

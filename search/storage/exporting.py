"""Writes studies of a database to an archive that another database can import."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from optuna.artifacts.exceptions import ArtifactNotFound
from sqlalchemy import Connection, select

from search.storage import optuna_records
from search.storage.artifact_store import ATTR_PREFIX, ArtifactStore, bucket_errors
from search.storage.checkpoint_store import CheckpointStore
from search.storage.database import Database
from search.storage.optuna_records import Record
from search.storage.process_costs import process_records
from search.storage.schema import SCHEMA_VERSION, TRIAL_TABLES, UID, queue_table, studies_table
from search.storage.spending import spent_in
from search.storage.study_archive import ARTIFACTS, CHECKPOINTS, ArchiveWriter

# What a row says of this database and its workers.
_LOCAL = frozenset({"id", "study", "study_uid", "trial_id", "number", "owner", "lease_until"})
_COLUMNS = [column for column in queue_table.c if column.name not in _LOCAL]
_FILE_LINE = re.compile(r'(File ")[^"]*[/\\](?=[^"/\\]*")')


@dataclass
class Exported:
    """What an archive holds.

    Attributes:
        trials: The number of trials.
        artifacts: The number of artifacts, and their bytes.
        missing: Artifacts that trials name and the store does not have.
        checkpoints: The number of checkpoints.
    """

    trials: int = 0
    artifacts: int = 0
    size: int = 0
    missing: int = 0
    checkpoints: int = 0
    _artifact_ids: list[str] = field(default_factory=list)
    _unfinished: list[tuple[int, int, str]] = field(default_factory=list)  # the study's index, number, identity


def export_studies(
    database: Database,
    studies: Sequence[str],
    path: Path,
    store: ArtifactStore | None,
    checkpoints: CheckpointStore | None,
) -> Exported:
    """Write studies, as they are at one moment, to an archive; workers may go on.

    Args:
        path: The file; an existing one is replaced. It has no checksums, so cannot be imported, until it is complete.
        store: Where their artifacts are; None leaves them out.
        checkpoints: Where the checkpoints of their unfinished trials are; None leaves them out.

    Raises:
        OSError: The file cannot be written.
    """

    def work(connection: Connection) -> tuple[ArchiveWriter, Exported]:
        writer, exported = ArchiveWriter(path), Exported()
        try:
            planned = [_planned(connection, study) for study in studies]
            heads = [
                {
                    "name": name,
                    **optuna_records.study_record(connection, study_id),
                    "spent": asdict(spent_in(database, connection, [uid])),
                    "processes": process_records(connection, uid),
                }
                for name, (uid, study_id) in zip(studies, planned, strict=True)
            ]
            writer.write_head({"schema": SCHEMA_VERSION, "studies": heads})
            for index, (head, (uid, study_id)) in enumerate(zip(heads, planned, strict=True)):
                exported._artifact_ids += _artifact_ids(head)
                lines = _lines(connection, index, uid, head["user_attrs"].get(UID, ""), study_id, exported)
                writer.write(f"{index}/trials.jsonl", lines)
        except BaseException:
            writer.close(complete=False)
            raise
        return writer, exported

    writer, exported = database.snapshot(work)
    is_complete = False
    try:
        _write_files(writer, exported, studies, store, checkpoints)
        is_complete = True
    finally:
        writer.close(complete=is_complete)
    return exported


def _planned(connection: Connection, study: str) -> tuple[str, int]:
    row = connection.execute(select(studies_table).where(studies_table.c.name == study)).one()
    return row.uid, row.study_id


def _lines(
    connection: Connection, index: int, planning: str, uid: str, study_id: int, exported: Exported
) -> Iterator[bytes]:
    for chunk in optuna_records.trial_records(connection, study_id):
        of_chunk = queue_table.c.trial_id.in_([trial_id for trial_id, _ in chunk])
        query = select(queue_table.c.trial_id, *_COLUMNS).where(queue_table.c.study_uid == planning, of_chunk)
        rows = {row["trial_id"]: dict(row) for row in connection.execute(query).mappings()}
        more = _rows_of_trials(connection, [trial_id for trial_id, _ in chunk])
        for trial_id, record in chunk:
            row = rows.get(trial_id)
            exported.trials += 1
            exported._artifact_ids += _artifact_ids(record)
            if row is not None:
                del row["trial_id"]
                if row["state"] != "done":
                    exported._unfinished.append((index, record["number"], f"{uid} {row['cell']}"))
            yield json.dumps(_impersonal({**record, "run": row, "tables": more[trial_id]})).encode() + b"\n"


def _rows_of_trials(connection: Connection, trial_ids: Sequence[int]) -> dict[int, dict[str, list[Record]]]:
    """The rows of our other tables, by trial and table."""
    found: dict[int, dict[str, list[Record]]] = {trial_id: {} for trial_id in trial_ids}
    for table in TRIAL_TABLES:
        query = select(table).where(table.c.trial_id.in_(trial_ids)).order_by(*table.primary_key)
        for row in connection.execute(query).mappings():
            values = {name: value for name, value in row.items() if name != "trial_id"}
            found[row["trial_id"]].setdefault(table.name, []).append(values)
    return found


def _artifact_ids(record: Mapping[str, Any]) -> list[str]:
    return [key.removeprefix(ATTR_PREFIX) for key in record["system_attrs"] if key.startswith(ATTR_PREFIX)]


def _impersonal(record: Record) -> Record:
    """The record without paths of this machine: the log of a failure, and the folders of its traceback."""
    if isinstance(failure := record["user_attrs"].get("failure"), dict):
        record["user_attrs"]["failure"] = _without_paths(failure)
    if record["run"] is not None and record["run"]["failure"] is not None:
        record["run"]["failure"] = json.dumps(_without_paths(json.loads(record["run"]["failure"])))
    return record


def _without_paths(failure: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in failure.items() if name != "log"}
    if isinstance(kept.get("traceback"), str):
        kept["traceback"] = _FILE_LINE.sub(r"\1", kept["traceback"])
    return kept


def _write_files(
    writer: ArchiveWriter,
    exported: Exported,
    studies: Sequence[str],
    store: ArtifactStore | None,
    checkpoints: CheckpointStore | None,
) -> None:
    for artifact_id in exported._artifact_ids if store is not None else ():
        assert store is not None
        try:
            with bucket_errors(), store.open_reader(artifact_id) as source:
                exported.size += writer.copy(ARTIFACTS + artifact_id, source)
        except ArtifactNotFound:
            exported.missing += 1
            continue
        exported.artifacts += 1
    for index, number, identity in exported._unfinished if checkpoints is not None else ():
        assert checkpoints is not None
        payload = checkpoints.valid_checkpoint(studies[index], number, identity)
        if payload is not None:
            writer.write(f"{CHECKPOINTS}{index}/{number}", [payload])
            exported.checkpoints += 1

"""A study with every kind of trial, its artifacts, checkpoints and logs; and what programs and Optuna show of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from sample_study import STUDY, sample_plan
from sqlalchemy import Connection, insert, select, update

from search.storage import optuna_tables
from search.storage.artifact_store import FolderStore, artifact_id, put
from search.storage.checkpoint_store import CheckpointStore
from search.storage.database import Database
from search.storage.failures import Failure
from search.storage.leases import Lease, Report
from search.storage.planning import plan
from search.storage.queries import planned_study, trial_summaries
from search.storage.queue import TrialQueue
from search.storage.schema import UID, metrics_table, queue_table
from search.storage.trial_histories import trial_histories

BASELINES = f"{STUDY}-baselines"
NAMES = [STUDY, BASELINES]
FILES = ("record.json", "curve.csv")
LOG = "/home/someone/search-out/small/logs/worker-cpu-0.log"
TRACEBACK = 'File "/home/someone/work/train.py", line 3, in loss\n'
FAILURE = Failure("error", error="ValueError: no", traceback=TRACEBACK, log=LOG)


def identity(database: Database, lease: Lease) -> str:
    """What the checkpoint of a trial is written with."""
    found = planned_study(database, lease.study)
    assert found is not None
    return f"{found[1][UID]} {lease.cell}"


def make_study(database: Database, out: Path) -> None:
    """Plan the small study and its baselines; end some trials in every way, release one, and leave one running."""
    plan(database, [sample_plan(), sample_plan(study=BASELINES)])
    queue, checkpoints = TrialQueue(database), CheckpointStore(out)
    for name in NAMES:
        uid = planned_study(database, name)
        assert uid is not None
        checkpoints.mark_folder(name, uid[0])
    (out / STUDY / "logs").mkdir(exist_ok=True)
    (out / STUDY / "logs" / "worker-cpu-0.log").write_text("a line\n")
    for turn, how in enumerate(("complete", "complete", "pruned", "diverged", "failed", "running", "released")):
        [lease] = queue.claim([STUDY], f"host/cpu-0/{turn}")
        losses = [4.0, math.nan] if how == "diverged" else [4.0 - turn, 0.1 * turn + 2**-60]
        queue.report([Report(lease, step, loss, loss) for step, loss in zip((0, 10), losses, strict=True)])
        if how in ("released", "running"):
            checkpoints.write_checkpoint(lease.study, lease.number, b"payload %d" % turn, identity(database, lease))
        if how == "released":
            queue.release(lease)
        elif how != "running":
            finish(database, out, lease, how, losses[-1])
    [lease] = queue.claim([BASELINES], "host/cpu-0/last")
    finish(database, out, lease, "complete", 2.5)

    def add_notes(connection: Connection) -> None:
        study_id = optuna_tables.study_id(connection, STUDY)
        assert study_id is not None
        optuna_tables.write_study_system_attrs(connection, study_id, {"dashboard:note_ver": 1, "note": "ü\x01 text"})
        first = connection.execute(select(queue_table.c.trial_id).where(queue_table.c.study == STUDY)).scalars().first()
        connection.execute(insert(metrics_table).values(trial_id=first, step=10, metrics='{"accuracy": 0.1}'))
        optuna_tables.insert_waiting_trials(connection, study_id, [{}])  # of another program: it has no row

    database.write(add_notes)


def finish(database: Database, out: Path, lease: Lease, outcome: Any, value: float) -> None:
    """End a trial with its artifacts."""
    store, attrs = FolderStore(out / "artifacts"), dict[str, str]()
    for name in FILES:
        content = f"{lease.study} {lease.number} {name}".encode()
        attrs |= put(store, artifact_id(identity(database, lease), lease.token, name), name, content)
    reason = None if outcome == "complete" else f"it is {outcome}"
    facts = {"n_params": 7, "nested": {"a": [1, 2.5, None]}, "train_seconds": 1.5}
    TrialQueue(database).finish(lease, outcome, value, facts, reason, attrs, FAILURE if outcome == "failed" else None)


def expire_leases(database: Database) -> None:
    """End all leases."""
    database.write(lambda connection: connection.execute(update(queue_table).values(lease_until=0.0)))


def shown(database: Database, names: Mapping[str, str]) -> dict[str, Any]:
    """What the programs show of studies, as comparable text; their leases have expired.

    Args:
        names: The names in the database, each with the name to show it by.
    """
    attrs = ("n_params", "nested", "train_seconds", "outcome", "reason")
    summaries = [asdict(each) for each in trial_summaries(database, list(names), attrs=attrs)]
    for each in summaries:
        each["study"] = names[each["study"]]
        if each["state"] == "running":
            each |= {"state": "waiting", "attempts": each["attempts"] - 1, "owner": None, "lease_left_s": None}
        if each["failure"] is not None:
            traceback = (each["failure"]["traceback"] or "").replace("/home/someone/work/", "") or None
            each["failure"] = {**each["failure"], "log": None, "traceback": traceback}
    histories = [repr((names[each.study], each.curve, each.started, each.ended, each.attrs)) for each in
                 trial_histories(database, list(names), attrs)]  # fmt: skip
    return {"summaries": json.loads(json.dumps(summaries, default=str)), "histories": histories}


def shown_by_optuna(database: Database, name: str) -> list[str]:
    """What Optuna reads of a study and of its trials, artifacts aside."""
    storage = optuna.storages.RDBStorage(database.engine.url.render_as_string(hide_password=False))
    try:
        study = optuna.load_study(study_name=name, storage=storage, sampler=optuna.samplers.RandomSampler())
        user_attrs = {key: value for key, value in study.user_attrs.items() if key != UID}
        system_attrs = storage.get_study_system_attrs(study._study_id)
        lines = [repr((study.directions, sorted(user_attrs.items()), sorted(system_attrs.items())))]
        for trial in study.trials:
            system = {key: value for key, value in trial.system_attrs.items() if not key.startswith("artifacts:")}
            user = {key: value for key, value in trial.user_attrs.items() if key != "failure"}
            state = "WAITING" if trial.state.name == "RUNNING" else trial.state.name
            values = (trial.number, state, trial.values, trial.datetime_start, trial.datetime_complete)
            parts = (trial.params, trial.distributions, trial.intermediate_values, user, system)
            lines.append(repr((values, *(sorted(part.items()) for part in parts))))
        return lines
    finally:
        storage.engine.dispose()


def artifacts_by_trial(database: Database, name: str, out: Path) -> dict[int, dict[str, bytes]]:
    """The content of the artifacts that Optuna finds, by trial and file name."""
    storage = optuna.storages.RDBStorage(database.engine.url.render_as_string(hide_password=False))
    store = FolderStore(out / "artifacts")
    try:
        found: dict[int, dict[str, bytes]] = {}
        for trial in optuna.load_study(study_name=name, storage=storage).trials:
            for meta in optuna.artifacts.get_all_artifact_meta(trial, storage=storage):
                with store.open_reader(meta.artifact_id) as file:
                    found.setdefault(trial.number, {})[meta.filename] = file.read()
        return found
    finally:
        storage.engine.dispose()


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_left(database: Database) -> dict[str, int]:
    """How many rows each table has that a study fills; tables without any are left out."""
    tables = [*optuna.storages._rdb.models.BaseModel.metadata.sorted_tables, *queue_table.metadata.sorted_tables]
    names = [each for each in tables if each.name not in ("version_info", "alembic_version", "search_schema")]

    def count(connection: Connection) -> dict[str, int]:
        return {each.name: len(connection.execute(each.select()).all()) for each in names}

    return {name: number for name, number in database.read(count).items() if number}

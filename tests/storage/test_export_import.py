"""A study as one file: what was exported is imported, all of it or nothing, into each kind of database."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from deaths import Death, in_child
from kept_studies import (
    BASELINES,
    NAMES,
    artifacts_by_trial,
    expire_leases,
    files_in,
    make_study,
    rows_left,
    shown,
    shown_by_optuna,
)
from postgres import PASSWORD, PostgresServer
from sample_study import STUDY, sample_plan

from search.storage.artifact_store import FolderStore
from search.storage.checkpoint_store import CheckpointStore
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.errors import StorageError
from search.storage.exporting import export_studies
from search.storage.importing import ImportedFiles, import_studies
from search.storage.optuna_storage import SearchStorage
from search.storage.planning import plan
from search.storage.queries import counts, planned_study, study_names, study_uids
from search.storage.queue import TrialQueue
from search.storage.schema import UID
from search.storage.spending import Spent, count_spending, spent_on
from search.storage.study_archive import open_archive

_names = itertools.count()
SPENT = Spent(12.5, 3e9)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of the exported study."""
    return tmp_path / "out"


@contextmanager
def sqlite_database(folder: Path) -> Iterator[Database]:
    with open_database(f"sqlite:///{folder / f'{next(_names)}.db'}", create=True).closing() as database:
        yield database


@contextmanager
def postgres_database(server: PostgresServer) -> Iterator[Database]:
    url = server.create_schema(f"import_{os.getpid()}_{next(_names)}")
    with open_database(url, create=True).closing() as database:
        yield database


def exported(database: Database, out: Path, file: Path) -> Path:
    """The study of `make_study` as a file."""
    make_study(database, out)
    count_spending(database, study_uids(database, NAMES)[STUDY], "host/cpu-0/0", SPENT, busy_s=None)
    export_studies(database, NAMES, file, FolderStore(out / "artifacts"), CheckpointStore(out))
    expire_leases(database)
    return file


def imported(database: Database, file: Path, out: Path, name: str = STUDY) -> list[str]:
    names = [name, f"{name}-baselines"]
    with open_archive(file) as archive:
        import_studies(database, archive, names, ImportedFiles(FolderStore(out / "artifacts"), CheckpointStore(out)))
    return names


def test_everything_is_the_same(database: Database, out: Path, tmp_path: Path, postgres: PostgresServer) -> None:
    """From each kind of database into each kind, under the same name and under another, and once more from there."""
    file = exported(database, out, tmp_path / "study.zip")
    assert spent_on(database, NAMES) == SPENT
    theirs = shown(database, dict(zip(NAMES, NAMES, strict=True)))
    by_optuna = [shown_by_optuna(database, name) for name in NAMES]
    artifacts = [artifacts_by_trial(database, name, out) for name in NAMES]
    assert len(artifacts[0]) == 5
    with sqlite_database(tmp_path) as second, postgres_database(postgres) as third:
        for target, name in [(database, "again"), (second, STUDY), (third, "third")]:
            target_out = tmp_path / f"out-{next(_names)}"
            names = imported(target, file, target_out, name)
            assert shown(target, dict(zip(names, NAMES, strict=True))) == theirs
            assert [shown_by_optuna(target, each) for each in names] == by_optuna
            assert [artifacts_by_trial(target, each, target_out) for each in names] == artifacts
            assert spent_on(target, names) == SPENT
            there = rows_left(target)
            assert "search_removals" not in there
            assert there["search_metrics"] == (2 if target is database else 1)
            if name == "third":
                back = tmp_path / "back.zip"
                store, checkpoints = FolderStore(target_out / "artifacts"), CheckpointStore(target_out)
                export_studies(target, names, back, store, checkpoints)
        names = imported(second, back, tmp_path / "out-back", "back")
        assert shown(second, dict(zip(names, NAMES, strict=True))) == theirs
        assert [shown_by_optuna(second, each) for each in names] == by_optuna
        assert spent_on(second, names) == SPENT


def test_an_archive_of_schema_5_has_not_said_what_was_spent(out: Path, tmp_path: Path) -> None:
    def older(content: dict[str, bytes]) -> None:
        studies = json.loads(content["study.json"])["studies"]
        for each in studies:
            del each["spent"]
        head(schema=5, studies=studies)(content)

    with sqlite_database(tmp_path) as database:
        file = changed(exported(database, out, tmp_path / "study.zip"), older)
        names = imported(database, file, tmp_path / "new", "again")
        assert spent_on(database, names) == Spent()


def test_a_study_with_all_its_siblings(database: Database, out: Path, tmp_path: Path) -> None:
    names = [*NAMES, f"{STUDY}-confirm"]
    plan(database, [sample_plan(study=name) for name in names])
    # Parents that a genetic sampler has chosen are named by ids, which are others there.
    storage = SearchStorage(database)
    keys = ("NSGAIISampler:parent:1", "note")
    for key in keys:
        storage.set_study_system_attr(storage.get_study_id_from_name(STUDY), key, [1, 2])
    file, files = tmp_path / "study.zip", ImportedFiles(None, CheckpointStore(out))
    export_studies(database, names, file, None, None)
    with sqlite_database(tmp_path) as target, open_archive(file) as archive:
        import_studies(target, archive, names, files)
        assert counts(target, names) == counts(database, names)
        assert study_names(target) == names
        storage = SearchStorage(target)
        notes = storage.get_study_system_attrs(storage.get_study_id_from_name(STUDY))
        assert {key: notes[key] for key in keys if key in notes} == {"note": [1, 2]}


def test_unfinished_trials_wait_with_their_checkpoints(out: Path, tmp_path: Path) -> None:
    with sqlite_database(tmp_path) as database:
        file = exported(database, out, tmp_path / "study.zip")
        before = planned_study(database, STUDY)
    with sqlite_database(tmp_path) as target:
        new = tmp_path / "new"
        imported(target, file, new)
        after = planned_study(target, STUDY)
        assert before is not None
        assert after is not None
        assert after[0] == after[1][UID] != before[0]
        queue, checkpoints = TrialQueue(target), CheckpointStore(new)
        payloads = []
        for turn in range(queue.unfinished([STUDY])):
            [lease] = queue.claim([STUDY], f"here {turn}")
            assert lease.attempt == 1
            payloads.append(checkpoints.read_checkpoint(STUDY, lease.number, f"{after[0]} {lease.cell}"))
            queue.finish(lease, "complete", 1.0)
        assert payloads == [b"payload 5", b"payload 6", None, None, None, None, None]
        assert plan(target, [sample_plan(), sample_plan(study=BASELINES)]).added == 0


def test_a_checkpoint_in_the_same_place_is_not_replaced(
    out: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite_database(tmp_path) as database, sqlite_database(tmp_path) as target:
        file = exported(database, out, tmp_path / "study.zip")
        before = {path: content for path, content in files_in(out).items() if path.endswith("checkpoint")}
        imported(target, file, out)
        assert {path: files_in(out)[path] for path in before} == before
        assert len(before) == 2
        assert "trial 5 of small starts again: another study has a checkpoint in its place" in caplog.text


def test_artifacts_that_are_missing_or_left_out(out: Path, tmp_path: Path) -> None:
    with sqlite_database(tmp_path) as database, sqlite_database(tmp_path) as target:
        make_study(database, out)
        next((out / "artifacts").glob("*-*")).unlink()
        file = tmp_path / "study.zip"
        done = export_studies(database, NAMES, file, FolderStore(out / "artifacts"), None)
        assert (done.artifacts, done.missing, done.checkpoints) == (11, 1, 0)
        imported(target, file, tmp_path / "new")
        found = [artifacts_by_trial(target, name, tmp_path / "new") for name in NAMES]
        assert sum(len(files) for trials in found for files in trials.values()) == 11
        export_studies(database, NAMES, file, None, None)
        imported(target, file, tmp_path / "new", "bare")
        assert artifacts_by_trial(target, "bare", tmp_path / "new") == {}


def test_nothing_of_the_machine_is_in_the_file(database: Database, out: Path, tmp_path: Path) -> None:
    file = exported(database, out, tmp_path / "study.zip")
    with zipfile.ZipFile(file) as content:
        texts = {name: content.read(name).decode("utf-8", "replace") for name in content.namelist()}
    for name, text in texts.items():
        for secret in (str(tmp_path), "/home/someone", PASSWORD, "sqlite:", "postgresql", "search-out"):
            assert secret not in text, name
    assert "train.py" in texts["0/trials.jsonl"]


def changed(file: Path, change: Callable[[dict[str, bytes]], object], *, sums: bool = True) -> Path:
    """A copy of an archive with other content; its checksums are made anew if `sums`."""
    with zipfile.ZipFile(file) as content:
        entries = {name: content.read(name) for name in content.namelist()}
    change(entries)
    if sums:
        lines = [
            f"{hashlib.sha256(each).hexdigest()}  {name}\n" for name, each in entries.items() if name != "SHA256SUMS"
        ]
        entries["SHA256SUMS"] = "".join(lines).encode()
    path = file.with_name(f"changed-{next(_names)}.zip")
    with zipfile.ZipFile(path, "w") as content:
        for name, each in entries.items():
            content.writestr(name, each)
    return path


def head(**values: Any) -> Callable[[dict[str, bytes]], object]:
    return lambda entries: entries.update(
        {"study.json": json.dumps({**json.loads(entries["study.json"]), **values}).encode()}
    )


def test_wrong_files_are_refused(out: Path, tmp_path: Path) -> None:
    with sqlite_database(tmp_path) as database:
        good = exported(database, out, tmp_path / "study.zip")
    (tmp_path / "text.zip").write_text("no zip")
    wrong: list[tuple[Path, str]] = [
        (tmp_path / "none.zip", "cannot read .*No such file"),
        (tmp_path, "cannot read"),
        (tmp_path / "text.zip", "is damaged or no exported study"),
        (changed(good, lambda entries: entries.pop("SHA256SUMS"), sums=False), "is damaged"),
        (changed(good, lambda entries: entries.pop("1/trials.jsonl"), sums=False), "missing or too many"),
        (changed(good, lambda entries: entries.update(more=b"1"), sums=False), "missing or too many"),
        (changed(good, head(format="another")), "its format is another"),
        (changed(good, head(format=None)), "its format is None"),
        (changed(good, head(version=2)), r"written by a newer lm-search \(format 2, here 1\); update with"),
        (changed(good, head(schema=99)), "exported from schema 99, and this version imports schema"),
        (changed(good, head(studies=[{}, {}])), "is damaged"),
        (changed(good, lambda entries: entries.update({"0/trials.jsonl": b'{"number": 0}\n'})), "is damaged"),
        (changed(good, lambda entries: entries.update({"0/trials.jsonl": b"[1, 2"})), "is damaged"),
    ]
    with sqlite_database(tmp_path) as target:
        for path, message in wrong:
            with pytest.raises(StorageError, match=message) as caught:
                imported(target, path, tmp_path / "new")
            assert "\n" not in str(caught.value)
            assert rows_left(target) == {}, path
            assert files_in(tmp_path / "new") == {}, path


def test_damage_anywhere_is_noticed(out: Path, tmp_path: Path) -> None:
    """A cut, or a changed byte; one that no reader looks at, such as one of a date, may change."""
    with sqlite_database(tmp_path) as database:
        good = exported(database, out, tmp_path / "study.zip")
    content, path = good.read_bytes(), tmp_path / "bad.zip"
    draw = random.Random(3)
    with open_archive(good) as archive:
        records = [list(archive.records(index)) for index in range(2)]
    unnoticed = 0
    for _ in range(150):
        at = draw.randrange(len(content))
        path.write_bytes(content[:at])
        with pytest.raises(StorageError, match="is damaged or no exported study"), open_archive(path):
            pass
        path.write_bytes(content[:at] + bytes([content[at] ^ draw.randrange(1, 256)]) + content[at + 1 :])
        try:
            with open_archive(path) as archive:
                assert [list(archive.records(index)) for index in range(2)] == records
                unnoticed += 1
        except StorageError:
            continue
    assert unnoticed < 50


def test_a_name_that_exists_is_refused(database: Database, out: Path, tmp_path: Path) -> None:
    file = exported(database, out, tmp_path / "study.zip")
    before, files = rows_left(database), files_in(out)
    with pytest.raises(StorageError, match=r"the study 'small' exists; nothing was imported: give another --name"):
        imported(database, file, out)
    plan(database, [sample_plan(study="free-baselines")])
    more = rows_left(database)
    with pytest.raises(StorageError, match="the study 'free-baselines' exists"):
        imported(database, file, out, "free")
    assert rows_left(database) == more != before
    assert files_in(out) == files


DEATHS = [
    Death("search.storage.artifact_store:FolderStore.write", "before"),
    Death("search.storage.artifact_store:FolderStore.write", "after", 7),
    Death("search.storage.checkpoint_store:CheckpointStore.write_checkpoint", "after"),
    Death("search.storage.optuna_records:insert_trials", "after"),
    Death("search.storage.importing:_create_one", "after", 2),
]


def test_killed_half_way_and_repeated(out: Path, tmp_path: Path) -> None:
    with sqlite_database(tmp_path) as database:
        file = exported(database, out, tmp_path / "study.zip")
        theirs = shown(database, dict(zip(NAMES, NAMES, strict=True)))
    for death in DEATHS:
        new, log = tmp_path / f"new-{next(_names)}", tmp_path / "log"
        url = f"sqlite:///{tmp_path / f'{next(_names)}.db'}"

        def work(death: Death = death, url: str = url, new: Path = new) -> None:
            with open_database(url, create=True).closing() as target:
                death.prepare()
                imported(target, file, new)

        assert in_child(work, log) == -9, (death, log.read_text())
        with open_database(url, create=True).closing() as target:
            assert study_names(target) == [], death
            imported(target, file, new)
            assert shown(target, dict(zip(NAMES, NAMES, strict=True))) == theirs
            assert "search_removals" not in rows_left(target)
        files = files_in(new)
        assert len([path for path in files if path.startswith("artifacts")]) == 12, death
        assert len([path for path in files if path.endswith("checkpoint")]) == 2, death


def test_a_full_disk_leaves_nothing(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = itertools.count()
    write = FolderStore.write

    def limited(self: FolderStore, artifact_id: str, content: Any) -> None:
        if next(writes) >= 4:
            raise OSError(28, "No space left on device")
        write(self, artifact_id, content)

    with sqlite_database(tmp_path) as database, sqlite_database(tmp_path) as target:
        file = exported(database, out, tmp_path / "study.zip")
        monkeypatch.setattr(FolderStore, "write", limited)
        with pytest.raises(OSError, match="No space left"):
            imported(target, file, tmp_path / "new")
        assert (rows_left(target), files_in(tmp_path / "new")) == ({}, {})


def test_an_export_sees_one_moment(
    database: Database, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that ends while the file is written is in it as running, with all that belongs to that."""
    make_study(database, out)
    records = importlib.import_module("search.storage.optuna_records")
    read = records._read_parts
    ended: list[bool] = []

    def end_meanwhile(connection: Any, found: Any) -> None:
        if not ended:
            ended.append(True)
            [lease] = TrialQueue(database).claim([STUDY], "host/cpu-0/5")
            assert lease.number == 5
            TrialQueue(database).finish(lease, "complete", 0.5, {"late": True}, None, {"artifacts:late": "{}"})
        read(connection, found)

    monkeypatch.setattr(records, "_read_parts", end_meanwhile)
    file = tmp_path / "study.zip"
    export_studies(database, NAMES, file, None, None)
    assert ended
    with open_archive(file) as archive:
        trial = list(archive.records(0))[5]
    assert (trial["state"], trial["run"]["state"], trial["values"]) == ("RUNNING", "running", [])
    assert "late" not in trial["user_attrs"]
    assert "artifacts:late" not in trial["system_attrs"]

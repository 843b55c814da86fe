"""The log of a program is an artifact of its trial, however the trial ends."""

from __future__ import annotations

import errno
import gzip
import json
import logging
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta
from study_files import opened, sqlite

from search.errors import UsageError
from search.objectives.command.output import END_BYTES, HEAD_BYTES, LOG
from search.options import PlanningOptions
from search.planning import open_planned
from search.reporting.failure_text import failure_lines
from search.reporting.render import render
from search.storage.artifact_store import FolderStore
from search.storage.queries import TrialSummary, trial_summaries
from search.storage.queue import TrialQueue
from search.workers.setup import open_worker
from search.workers.trial_errors import TrialTimeout
from search.workers.watchdog import Watchdog
from search.workers.worker_loop import Worker

PROGRAM = """
import pathlib, sys
kind = sys.argv[1]
print("begins", flush=True)
if kind == "long":
    print("\\n".join(f"line {at} of many, with a number" for at in range(60_000)))
print("step=1 val_loss=0.5", flush=True)
print("the last words", flush=True)
if kind != "fine" and not pathlib.Path("corrected").exists():
    sys.exit(3)
"""


def plan(folder: Path, *kinds: str) -> PlanningOptions:
    (folder / "program.py").write_text(PROGRAM)
    file = folder / "logs.toml"
    command = json.dumps([sys.executable, "program.py", "{kind}"])
    file.write_text(f"command = {command}\n[grid]\nkind = {json.dumps(kinds)}\n[pruner]\nname = 'none'\n")
    chosen = PlanningOptions(study=str(file), storage=sqlite(folder), out=folder / "out")
    database, _ = open_planned(chosen)
    database.engine.dispose()
    return chosen


def worker_of(chosen: PlanningOptions) -> Worker:
    return open_worker(str(chosen.study), chosen.storage, "cpu", out=chosen.out)


def work(chosen: PlanningOptions) -> dict[str, TrialSummary]:
    """Train all trials in this process; what became of them, by kind."""
    worker = worker_of(chosen)
    try:
        worker.run()
        return {trial.cell["kind"]: trial for trial in trial_summaries(worker.queue.database, ["logs"])}
    finally:
        worker.queue.database.engine.dispose()


def test_a_worker_that_cannot_write_takes_no_trial(tmp_path: Path) -> None:
    chosen = plan(tmp_path, "fine")
    chosen.out.touch()  # a file in the place of the folder
    with pytest.raises(
        UsageError, match=rf"^cannot write to {chosen.out}/logs \(Not a directory\); give another --out$"
    ):
        worker_of(chosen)
    with opened(chosen.storage).closing() as database:
        assert [trial.attempts for trial in trial_summaries(database, ["logs"])] == [0]
    chosen.out.unlink()
    assert work(chosen)["fine"].state == "complete"


def kept(chosen: PlanningOptions) -> dict[int, Mapping[str, str]]:
    """The artifacts of each trial as Optuna finds them: id by file name."""
    storage = optuna.storages.RDBStorage(chosen.storage)
    try:
        trials = optuna.load_study(study_name="logs", storage=storage).trials
        return {
            trial.number: {each.filename: each.artifact_id for each in get_all_artifact_meta(trial, storage=storage)}
            for trial in trials
        }
    finally:
        storage.engine.dispose()


def test_a_failed_program_leaves_its_log(tmp_path: Path) -> None:
    chosen = plan(tmp_path, "fine", "short", "long")
    ended = work(chosen)
    assert {kind: trial.state for kind, trial in ended.items()} == {
        "fine": "complete", "short": "failed", "long": "failed",
    }  # fmt: skip
    found = kept(chosen)
    names = {kind: set(found[trial.number]) for kind, trial in ended.items()}
    assert names == {"fine": {"record.json", "curve.csv", LOG}, "short": {LOG}, "long": {"output.log.gz"}}
    store = chosen.out / "artifacts"
    short = found[ended["short"].number][LOG]
    assert (store / short).read_text().splitlines()[1:] == ["begins", "step=1 val_loss=0.5", "the last words"]
    packed = found[ended["long"].number]["output.log.gz"]
    text = gzip.decompress((store / packed).read_bytes()).decode()
    assert HEAD_BYTES + END_BYTES < len(text) < HEAD_BYTES + END_BYTES + 1_000
    assert text.splitlines()[1] == "begins"
    assert text.splitlines()[-1] == "the last words"
    assert "bytes are left out here" in text
    assert (store / packed).stat().st_size < len(text) / 5
    # A person reads where it is beside the path, in the failure's text, the page and the status.
    line = f"log, as an artifact of the trial: output.log ({short})"
    assert line in failure_lines(ended["short"])
    with opened(chosen.storage).closing() as database:
        assert all(line in render(database, ["logs"], form) for form in ("markdown", "html"))


def test_an_attempt_that_succeeds_replaces_the_log_of_the_failed_one(tmp_path: Path) -> None:
    chosen = plan(tmp_path, "short", "long")
    work(chosen)
    failed = {each for files in kept(chosen).values() for each in files.values()}
    with opened(chosen.storage).closing() as database:
        TrialQueue(database).retry_failed(["logs"])
    (tmp_path / "corrected").touch()
    assert {trial.state for trial in work(chosen).values()} == {"complete"}
    now = {each for files in kept(chosen).values() for each in files.values()}
    assert {path.name for path in (chosen.out / "artifacts").iterdir() if path.is_file()} == now
    assert len(failed) == 2


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("no such bucket")])
def test_a_store_that_is_full_or_gone_costs_the_log_alone(
    tmp_path: Path, fault: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: FolderStore, artifact_id: str, content_body: BinaryIO) -> None:
        raise fault

    monkeypatch.setattr(FolderStore, "write", refuse)
    chosen = plan(tmp_path, "short", "fine")
    with caplog.at_level(logging.WARNING, "search.worker"):
        ended = work(chosen)
    assert (ended["short"].state, ended["fine"].state) == ("failed", "complete")
    assert ended["short"].reason == "CommandFailed: the program ended with exit status 3: the last words"
    assert ended["short"].failure is not None
    assert ended["short"].failure.artifact is None
    assert "trial 0 of logs: cannot store its log: " in caplog.text
    assert set(kept(chosen)[0]) == set()


def test_a_program_that_takes_too_long_leaves_its_log(tmp_path: Path) -> None:
    chosen = plan(tmp_path, "short")
    worker = worker_of(chosen)
    try:
        [lease] = worker.queue.claim(["logs"], worker.owner)
        path = worker.studies["logs"].program_log
        assert path is not None
        path(lease).parent.mkdir(parents=True)
        path(lease).write_text("as far as it came\n")
        watchdog: Any = Watchdog(worker.context, worker.studies, threading.Event(), lambda: [lease])
        watchdog._fail_all(TrialTimeout("timeout", "too long", may_retry=False, stack=""))
        [trial] = trial_summaries(worker.queue.database, ["logs"])
    finally:
        worker.queue.database.engine.dispose()
    assert (trial.state, trial.reason) == ("failed", "TrialTimeout: too long")
    [(name, file)] = kept(chosen)[0].items()
    assert (name, (chosen.out / "artifacts" / file).read_text()) == (LOG, "as far as it came\n")
